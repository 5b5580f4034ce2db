output "policies" {
  description = "The policies that people and CI get tokens with, and that workloads get by their role."
  value       = keys(vault_policy.this)
}
