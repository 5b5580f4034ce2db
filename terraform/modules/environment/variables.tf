variable "environment" {
  description = "The environment's name, as rdv.toml has it."
  type        = string
}

variable "addresses" {
  description = "Where people and CI reach the servers: consul, vault, batch, services and s3, as URLs."
  type = object({
    consul   = string
    vault    = string
    batch    = string
    services = string
    s3       = string
  })
}

variable "s3_region" {
  description = "The region of the bucket."
  type        = string
}

variable "bucket" {
  description = "The bucket's name, where the usual one is taken."
  type        = string
  default     = ""
}

variable "noncurrent_days" {
  description = "How long what was deleted from the bucket stays to be brought back; 0: for ever."
  type        = number
  default     = 30
}

variable "driver" {
  description = "What runs the steps of pipelines on the nodes: docker, exec or raw_exec."
  type        = string
  default     = "docker"
}

variable "tokens" {
  description = "The folder with the token files of whoever uses the printed section of rdv.toml."
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
