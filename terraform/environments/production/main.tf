module "production" {
  source = "../../modules/environment"

  environment     = "production"
  addresses       = var.addresses
  s3_region       = var.s3_region
  bucket          = var.bucket
  noncurrent_days = var.noncurrent_days
  driver          = var.driver
  tokens          = var.tokens
  gitlab          = var.gitlab

  providers = {
    aws            = aws
    consul         = consul
    vault          = vault
    nomad.batch    = nomad.batch
    nomad.services = nomad.services
  }
}
