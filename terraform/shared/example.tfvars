addresses = {
  consul = "https://consul.example:8501"
  vault  = "https://vault.example:8200"
}

nomads = {
  batch    = "https://nomad-batch.example:4646"
  services = "https://nomad-services.example:4646"
}
