terraform {
  required_version = ">= 1.10"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
    consul = {
      source  = "hashicorp/consul"
      version = "2.22.1"
    }
    nomad = {
      source  = "hashicorp/nomad"
      version = "2.5.2"
    }
    vault = {
      source  = "hashicorp/vault"
      version = "5.6.0"
    }
  }
}
