# Tokens come from CONSUL_HTTP_TOKEN, VAULT_TOKEN, the two variables below and the usual places for S3 keys.

provider "consul" {
  address = var.addresses.consul
}

provider "vault" {
  address = var.addresses.vault
}

provider "nomad" {
  alias     = "batch"
  address   = var.addresses.batch
  region    = "batch"
  secret_id = var.nomad_batch_token
}

provider "nomad" {
  alias     = "services"
  address   = var.addresses.services
  region    = "services"
  secret_id = var.nomad_services_token
}

# works with Amazon and with other S3 servers
provider "aws" {
  region                      = var.s3_region
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
  max_retries                 = 3

  endpoints {
    s3 = var.addresses.s3
  }
}
