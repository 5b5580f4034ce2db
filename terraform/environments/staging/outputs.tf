output "rdv_toml" {
  description = "The environment's section for rdv.toml: terraform output -raw rdv_toml >> rdv.toml."
  value       = module.staging.rdv_toml
}

output "policies" {
  description = "The policies that people and CI get tokens with, by server."
  value       = module.staging.policies
}

output "gitlab_variables" {
  description = "For .gitlab-ci.yml, with no secret in them; none without a GitLab."
  value       = module.staging.gitlab_variables
}
