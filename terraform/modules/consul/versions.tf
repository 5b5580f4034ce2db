terraform {
  required_version = ">= 1.10"

  required_providers {
    consul = {
      source  = "hashicorp/consul"
      version = "2.22.1"
    }
  }
}
