variable "environment" {
  description = "The environment's name, as rdv.toml has it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*$", var.environment))
    error_message = "Small letters, digits and -, beginning with a letter."
  }
}
