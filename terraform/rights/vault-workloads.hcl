path "${secret_mount}/data/${secrets}/*" {
  capabilities = ["read"]
}
