path "${secret_mount}/data/${secrets}/*" {
  capabilities = ["create", "read", "update"]
}
path "${secret_mount}/metadata/${secrets}/*" {
  capabilities = ["read", "list"]
}
path "sys/policies/acl/${policy}" {
  capabilities = ["read", "list"]
}
path "sys/policies/acl/${policy}-workloads" {
  capabilities = ["read", "list"]
}
path "auth/nomad-batch/role/${policy}" {
  capabilities = ["read", "list"]
}
path "auth/nomad-services/role/${policy}" {
  capabilities = ["read", "list"]
}
path "sys/policies/acl/${policy}-services" {
  capabilities = ["read", "list"]
}
path "${pki_mount}/roles/${policy}" {
  capabilities = ["read", "list"]
}
path "${pki_mount}/issue/${policy}" {
  capabilities = ["create", "update"]
}
