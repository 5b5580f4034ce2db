output "policies" {
  description = "The policies that people and CI get tokens with."
  value       = keys(consul_acl_policy.this)
}
