# All of one environment, on all servers.

module "rights" {
  source      = "../rights"
  environment = var.environment
}

module "consul" {
  source      = "../consul"
  environment = var.environment
  gitlab      = var.gitlab
}

module "vault" {
  source      = "../vault"
  environment = var.environment
  gitlab      = var.gitlab
}

module "batch" {
  source      = "../nomad"
  environment = var.environment
  gitlab      = var.gitlab
  cluster     = "batch"

  providers = {
    nomad = nomad.batch
  }
}

module "services" {
  source      = "../nomad"
  environment = var.environment
  gitlab      = var.gitlab
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
  folder = "${path.module}/../../rights"
  at = merge(module.rights.names, var.addresses, {
    env       = var.environment
    bucket    = module.storage.bucket
    s3_region = var.s3_region
    driver    = var.driver
  })

  places = jsondecode(templatefile("${local.folder}/places.json", merge(local.at, { tokens = var.tokens })))

  # a pipeline's own, where they are others than a person's
  gitlab        = jsondecode(templatefile("${local.folder}/gitlab-places.json", local.at))
  gitlab_tokens = "${local.gitlab.folder}/${var.environment}"
  gitlab_places = merge(
    jsondecode(templatefile("${local.folder}/places.json", merge(local.at, { tokens = local.gitlab_tokens }))),
    { secrets = local.gitlab.secrets },
  )
}
