# What the files of terraform/rights say of one environment. No resources: `rdv dev-cluster` reads the same files.

locals {
  folder = "${path.module}/../../rights"
  names  = jsondecode(templatefile("${local.folder}/names.json", { env = var.environment }))
  holes  = merge(local.names, { env = var.environment })

  consul = jsondecode(templatefile("${local.folder}/consul.json", local.holes))
  vault  = jsondecode(templatefile("${local.folder}/vault.json", local.holes))
  nomad  = jsondecode(templatefile("${local.folder}/nomad.json", local.holes))

  logins = {
    for cluster in ["batch", "services"] : cluster => jsondecode(templatefile("${local.folder}/login.json", {
      cluster  = cluster
      jwks_url = ""
    }))
  }
}
