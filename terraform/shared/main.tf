# What all environments of the same servers have in common. Applied once, before terraform/environments.

provider "consul" {
  address = var.addresses.consul
}

provider "vault" {
  address = var.addresses.vault
}

locals {
  folder           = "${path.module}/../rights"
  authority_life_s = 315360000
  names            = jsondecode(templatefile("${local.folder}/names.json", { env = "" }))

  logins = {
    for cluster, address in var.nomads : cluster => jsondecode(templatefile("${local.folder}/login.json", {
      cluster  = cluster
      jwks_url = "${address}/.well-known/jwks.json"
    }))
  }

  gitlab = var.gitlab == null ? [] : [jsondecode(templatefile("${local.folder}/gitlab-login.json", {
    issuer   = var.gitlab.issuer
    jwks_url = coalesce(var.gitlab.jwks_url, "${trimsuffix(var.gitlab.issuer, "/")}/oauth/discovery/keys")
  }))]

  binding_rules = merge([
    for cluster, login in local.logins : {
      for number, rule in login.consul.binding_rules : "${cluster}-${number}" => rule
    }
  ]...)
}

# its tokens are for the agents' own configuration; workloads use their own identities
resource "consul_acl_policy" "agents" {
  name  = "nomad-agents"
  rules = file("${local.folder}/consul-agents.hcl")
}

resource "consul_acl_auth_method" "nomad" {
  for_each = local.logins

  name        = each.value.consul.method.Name
  type        = each.value.consul.method.Type
  config_json = jsonencode(each.value.consul.method.Config)
}

resource "consul_acl_binding_rule" "role" {
  for_each = local.binding_rules

  auth_method = each.value.AuthMethod
  bind_type   = each.value.BindType
  bind_name   = each.value.BindName
  selector    = each.value.Selector

  depends_on = [consul_acl_auth_method.nomad]
}

resource "vault_mount" "secrets" {
  path    = local.names.secret_mount
  type    = "kv"
  options = { version = "2" }
}

# certifies both ends of every environment's bus; its key is made in Vault and never leaves it
resource "vault_mount" "pki" {
  path                  = local.names.pki_mount
  type                  = "pki"
  max_lease_ttl_seconds = local.authority_life_s
}

resource "vault_pki_secret_backend_root_cert" "this" {
  backend     = vault_mount.pki.path
  type        = "internal"
  common_name = "rdv"
  key_type    = "ec"
  key_bits    = 256
  ttl         = local.authority_life_s
}

resource "vault_jwt_auth_backend" "nomad" {
  for_each = local.logins

  path               = each.value.name
  jwks_url           = each.value.vault.config.jwks_url
  jwt_supported_algs = each.value.vault.config.jwt_supported_algs
  default_role       = each.value.vault.config.default_role
}

# for workloads that name no role: good for nothing
resource "vault_jwt_auth_backend_role" "default" {
  for_each = local.logins

  backend                 = vault_jwt_auth_backend.nomad[each.key].path
  role_name               = each.value.vault.config.default_role
  role_type               = each.value.vault.role.role_type
  bound_audiences         = each.value.vault.role.bound_audiences
  user_claim              = each.value.vault.role.user_claim
  user_claim_json_pointer = each.value.vault.role.user_claim_json_pointer
  claim_mappings          = each.value.vault.role.claim_mappings
  token_type              = each.value.vault.role.token_type
  token_period            = each.value.vault.role.token_period
}

# the roles of the pipelines are each environment's
resource "vault_jwt_auth_backend" "gitlab" {
  for_each = { for login in local.gitlab : login.name => login }

  path               = each.key
  jwks_url           = each.value.config.jwks_url
  bound_issuer       = each.value.config.bound_issuer
  jwt_supported_algs = each.value.config.jwt_supported_algs
}
