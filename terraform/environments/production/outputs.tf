output "rdv_toml" {
  description = "The environment's section for rdv.toml: terraform output -raw rdv_toml >> rdv.toml."
  value       = module.production.rdv_toml
}

output "policies" {
  description = "The policies that people and CI get tokens with, by server."
  value       = module.production.policies
}

output "gitlab_variables" {
  description = "For .gitlab-ci.yml, with no secret in them; none without a GitLab."
  value       = module.production.gitlab_variables
}
