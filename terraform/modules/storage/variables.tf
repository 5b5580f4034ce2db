variable "environment" {
  description = "The environment's name, as rdv.toml has it."
  type        = string
}

variable "bucket" {
  description = "The bucket's name, where the usual one is taken: names are unique among all customers of a provider."
  type        = string
  default     = ""
}

variable "noncurrent_days" {
  description = "How long what was deleted stays to be brought back; 0: for ever, for servers without lifecycle rules."
  type        = number
  default     = 30
}
