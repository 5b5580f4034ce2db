path "${pki_mount}/issue/${policy}" {
  capabilities = ["create", "update"]
}
