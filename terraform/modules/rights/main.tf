# What the files of terraform/rights say of one environment. No resources: `rdv dev-cluster` reads the same files.

locals {
  folder = "${path.module}/../../rights"
  names  = jsondecode(templatefile("${local.folder}/names.json", { env = var.environment }))
  holes  = merge(local.names, { env = var.environment })

  consul = jsondecode(templatefile("${local.folder}/consul.json", local.holes))
  vault  = jsondecode(templatefile("${local.folder}/vault.json", local.holes))
  nomad  = jsondecode(templatefile("${local.folder}/nomad.json", local.holes))

  # no GitLab, no rights for one
  gitlab = var.gitlab == null ? [] : [jsondecode(templatefile("${local.folder}/gitlab.json", merge(local.holes, {
    projects = jsonencode(var.gitlab.projects)
    audience = var.gitlab.audience
  })))]

  consul_policies = merge(local.consul.policies, local.gitlab[*].consul.policies...)
  vault_policies  = merge(local.vault.policies, local.gitlab[*].vault.policies...)
  nomad_policies = {
    for cluster, policies in local.nomad.policies :
    cluster => merge(policies, [for told in local.gitlab : told.nomad.policies[cluster]]...)
  }

  gitlab_login = jsondecode(templatefile("${local.folder}/gitlab-login.json", { issuer = "", jwks_url = "" })).name

  logins = {
    for cluster in ["batch", "services"] : cluster => jsondecode(templatefile("${local.folder}/login.json", {
      cluster  = cluster
      jwks_url = ""
    }))
  }
}
