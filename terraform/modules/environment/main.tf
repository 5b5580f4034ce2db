# All of one environment, on all servers.

module "rights" {
  source      = "../rights"
  environment = var.environment
}

module "consul" {
  source      = "../consul"
  environment = var.environment
}

module "vault" {
  source      = "../vault"
  environment = var.environment
}

module "batch" {
  source      = "../nomad"
  environment = var.environment
  cluster     = "batch"

  providers = {
    nomad = nomad.batch
  }
}

module "services" {
  source      = "../nomad"
  environment = var.environment
  cluster     = "services"

  providers = {
    nomad = nomad.services
  }
}

module "storage" {
  source          = "../storage"
  environment     = var.environment
  bucket          = var.bucket
  noncurrent_days = var.noncurrent_days
}

locals {
  places = jsondecode(templatefile("${path.module}/../../rights/places.json", merge(
    module.rights.names,
    var.addresses,
    {
      env       = var.environment
      bucket    = module.storage.bucket
      s3_region = var.s3_region
      driver    = var.driver
      tokens    = var.tokens
    },
  )))
}
