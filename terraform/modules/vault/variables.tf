variable "environment" {
  description = "The environment's name, as rdv.toml has it."
  type        = string
}

variable "gitlab" {
  description = "Whose jobs may log in to Vault, and for whom GitLab signs their id_tokens; null: nobody's."
  type = object({
    projects = list(string)
    audience = optional(string, "rdv")
  })
  default = null
}
