output "rdv_toml" {
  description = "The environment's section for rdv.toml."
  value = join("\n", concat(
    ["[environments.${var.environment}]"],
    [for port, place in local.places : "${port} = \"${place}\""],
    [""],
  ))
}

output "policies" {
  description = "The policies that people and CI get tokens with, by server."
  value = {
    consul   = module.consul.policies
    vault    = module.vault.policies
    batch    = module.batch.policies
    services = module.services.policies
  }
}

output "gitlab_variables" {
  description = "What a pipeline's variables say of the environment; none without a GitLab."
  value = var.gitlab == null ? null : merge(
    {
      for port, place in local.gitlab_places :
      "RDV_ENVIRONMENTS_${upper(var.environment)}_${upper(port)}" => place if place != local.places[port]
    },
    { "RDV_CI_TOKENS_${upper(var.environment)}" = local.gitlab.tokens },
  )
}
