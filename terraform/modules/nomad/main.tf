# An environment's namespaces and policies on one Nomad cluster. Jobs are rdv's: no nomad_job here.

module "rights" {
  source      = "../rights"
  environment = var.environment
  gitlab      = var.gitlab
}

resource "nomad_namespace" "this" {
  for_each = toset(module.rights.nomad_namespaces[var.cluster])

  name = each.key
}

resource "nomad_acl_policy" "this" {
  for_each = module.rights.nomad_policies[var.cluster]

  name      = each.key
  rules_hcl = each.value.rules

  dynamic "job_acl" {
    for_each = each.value.job_namespace == "" ? [] : [each.value.job_namespace]

    content {
      namespace = job_acl.value
      job_id    = "" # every job of the namespace
    }
  }

  depends_on = [nomad_namespace.this]
}
