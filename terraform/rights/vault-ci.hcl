# tokens that can release lie apart: what runs in the environment cannot read them
path "${secret_mount}/data/${ci_secrets}/*" {
  capabilities = ["read"]
}
path "${secret_mount}/data/${secrets}/*" {
  capabilities = ["read"]
}
