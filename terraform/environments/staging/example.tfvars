addresses = {
  consul   = "https://consul.example:8501"
  vault    = "https://vault.example:8200"
  batch    = "https://nomad-batch.example:4646"
  services = "https://nomad-services.example:4646"
  s3       = "https://s3.eu-central-1.amazonaws.com"
}

s3_region = "eu-central-1"
tokens    = "/home/me/.rdv-tokens/staging"
