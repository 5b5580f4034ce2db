output "policies" {
  description = "The policies on this cluster that people and CI get tokens with."
  value       = keys(nomad_acl_policy.this)
}
