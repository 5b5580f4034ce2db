variable "addresses" {
  description = "Where Consul and Vault answer, as URLs."
  type = object({
    consul = string
    vault  = string
  })
}

variable "nomads" {
  description = "Where Consul and Vault reach the servers of the Nomad clusters batch and services, as URLs."
  type = object({
    batch    = string
    services = string
  })
}

variable "gitlab" {
  description = "The GitLab whose id_tokens Vault takes: who signs them, and where its keys are; null: none."
  type = object({
    issuer   = string
    jwks_url = optional(string)
  })
  default = null
}
