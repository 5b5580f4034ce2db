# An environment's policies and roles in Consul, and how services of its namespaces become tokens.
# Keys below rdv/ENV/ are rdv's: no consul_keys here, and never consul_key_prefix.

module "rights" {
  source      = "../rights"
  environment = var.environment
  gitlab      = var.gitlab
}

resource "consul_acl_policy" "this" {
  for_each = module.rights.consul_policies

  name  = each.key
  rules = each.value
}

resource "consul_acl_role" "this" {
  for_each = module.rights.consul_roles

  name     = each.key
  policies = [for name in each.value : consul_acl_policy.this[name].id]
}

# the login itself is in terraform/shared
resource "consul_acl_binding_rule" "this" {
  for_each = module.rights.consul_binding_rules

  auth_method = each.value.AuthMethod
  bind_type   = each.value.BindType
  bind_name   = each.value.BindName
  selector    = each.value.Selector
}
