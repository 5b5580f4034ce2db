# An environment's policies in Vault, and the roles that its workloads log in to. Secrets are in no state.

module "rights" {
  source      = "../rights"
  environment = var.environment
  gitlab      = var.gitlab
}

resource "vault_policy" "this" {
  for_each = module.rights.vault_policies

  name   = each.key
  policy = each.value
}

# the engine and its authority are in terraform/shared
resource "vault_pki_secret_backend_role" "this" {
  for_each = module.rights.vault_certificates

  backend          = module.rights.names.pki_mount
  name             = each.key
  allowed_domains  = each.value.allowed_domains
  allow_subdomains = each.value.allow_subdomains
  allow_ip_sans    = each.value.allow_ip_sans
  key_type         = each.value.key_type
  key_bits         = each.value.key_bits
  max_ttl          = each.value.max_ttl
  no_store         = each.value.no_store
}

# the logins themselves are in terraform/shared
resource "vault_jwt_auth_backend_role" "this" {
  for_each = module.rights.vault_roles

  backend                 = each.value.login
  role_name               = each.value.name
  role_type               = each.value.role_type
  bound_audiences         = each.value.bound_audiences
  bound_claims            = { for claim, values in each.value.bound_claims : claim => join(",", values) }
  user_claim              = each.value.user_claim
  user_claim_json_pointer = each.value.user_claim_json_pointer
  claim_mappings          = each.value.claim_mappings
  token_type              = each.value.token_type
  token_period            = each.value.token_period
  token_policies          = each.value.token_policies

  depends_on = [vault_policy.this]
}

# pipelines of GitLab, whose login is in terraform/shared, too
resource "vault_jwt_auth_backend_role" "gitlab" {
  for_each = module.rights.gitlab_roles

  backend         = each.value.login
  role_name       = each.key
  role_type       = each.value.role_type
  bound_audiences = each.value.bound_audiences
  bound_claims    = { for claim, values in each.value.bound_claims : claim => join(",", values) }
  user_claim      = each.value.user_claim
  token_type      = each.value.token_type
  token_ttl       = each.value.token_ttl
  token_max_ttl   = each.value.token_max_ttl
  token_policies  = each.value.token_policies

  depends_on = [vault_policy.this]
}
