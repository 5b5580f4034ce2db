output "rdv_toml" {
  description = "The environment's section for rdv.toml: terraform output -raw rdv_toml >> rdv.toml."
  value       = module.production.rdv_toml
}

output "policies" {
  description = "The policies that people and CI get tokens with, by server."
  value       = module.production.policies
}
