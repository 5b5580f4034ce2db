variable "environment" {
  description = "The environment's name, as rdv.toml has it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*$", var.environment))
    error_message = "Small letters, digits and -, beginning with a letter."
  }
}

variable "gitlab" {
  description = "Whose jobs may log in to Vault, and for whom GitLab signs their id_tokens; null: nobody's."
  type = object({
    projects = list(string)
    audience = optional(string, "rdv")
  })
  default = null
}
