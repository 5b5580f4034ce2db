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
