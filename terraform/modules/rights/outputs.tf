output "names" {
  description = "What the environment's things are called."
  value       = local.names
}

output "consul_policies" {
  description = "Rules of each policy in Consul."
  value       = { for name, file in local.consul_policies : name => templatefile("${local.folder}/${file}", local.holes) }
}

output "consul_roles" {
  description = "The policies of each role in Consul."
  value       = merge(values(local.consul.roles)...)
}

output "consul_binding_rules" {
  description = "Binding rules in Consul, by Nomad cluster and number."
  value = merge([
    for cluster, rules in local.consul.binding_rules : { for number, rule in rules : "${cluster}-${number}" => rule }
  ]...)
}

output "vault_policies" {
  description = "Rules of each policy in Vault."
  value       = { for name, file in local.vault_policies : name => templatefile("${local.folder}/${file}", local.holes) }
}

output "vault_certificates" {
  description = "Roles of Vault's PKI engine, which certify both ends of the environment's bus."
  value       = local.vault.certificates
}

output "vault_roles" {
  description = "Roles of workloads in Vault, by the login of their Nomad cluster and name."
  value = merge([
    for cluster, roles in local.vault.roles : {
      for name, own in roles : "${local.logins[cluster].name}/${name}" => merge(local.logins[cluster].vault.role, own, {
        login = local.logins[cluster].name
        name  = name
      })
    }
  ]...)
}

output "nomad_namespaces" {
  description = "Namespaces on each Nomad cluster."
  value       = local.nomad.namespaces
}

output "nomad_policies" {
  description = "On each Nomad cluster, the rules of each policy, and the namespace whose jobs have it (empty: nobody's)."
  value = {
    for cluster, policies in local.nomad_policies : cluster => {
      for name, told in policies : name => {
        rules         = templatefile("${local.folder}/${told.rules}", local.holes)
        job_namespace = told.job_namespace
      }
    }
  }
}

output "gitlab_roles" {
  description = "Roles of GitLab's pipelines in Vault, by name; none without a GitLab."
  value = {
    for told in local.gitlab : local.names.ci => merge(told.vault.role, {
      login        = local.gitlab_login
      bound_claims = told.vault.bound_claims[var.environment]
    })
  }
}
