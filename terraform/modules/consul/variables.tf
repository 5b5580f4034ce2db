variable "environment" {
  description = "The environment's name, as rdv.toml has it."
  type        = string
}
