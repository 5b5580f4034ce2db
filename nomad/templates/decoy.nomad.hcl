# The decoy of a project: it keeps what the models saw, and each goal's events. Every instance keeps all of it.
# The job's id is set by who registers it: a label cannot be a variable.
variable "namespace" {
  type = string
}
variable "driver" {
  type = string
}
variable "image" {
  type = string
}
variable "python" {
  type = string
}
variable "vault" {
  type = string
}
variable "consul" {
  type = bool
}
variable "cpu_mhz" {
  type = number
}
variable "memory_mb" {
  type = number
}
variable "disk_mb" {
  type = number
}
variable "count" {
  type = number
}
variable "most" {
  type = number
}
variable "meta" {
  type = map(string)
}
# what each instance is told: the project, as JSON
variable "told" {
  type = string
}
variable "kill_s" {
  type = string
}
variable "service" {
  type = string
}

job "rdv-decoy" {
  type      = "service"
  namespace = var.namespace
  meta      = var.meta
  group "decoy" {
    count = var.count
    scaling {
      enabled = true
      min     = 1
      max     = var.most
    }
    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "3s"
      healthy_deadline  = "60s"
      # the first instance that is not well in time ends the change, instead of being placed again and again
      progress_deadline = "0s"
      auto_revert       = true
    }
    restart {
      attempts = 3
      interval = "5m"
      delay    = "1s"
      mode     = "fail"
    }
    reschedule {
      delay          = "5s"
      delay_function = "exponential"
      max_delay      = "2m"
      unlimited      = true
    }
    # what an instance keeps stays on its node, over restarts and updates
    ephemeral_disk {
      size   = var.disk_mb
      sticky = true
    }
    network {
      port "ops" {}
    }
    task "decoy" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = var.kill_s
      dynamic "consul" {
        for_each = var.consul ? ["own identity"] : []
        content {}
      }
      dynamic "vault" {
        for_each = var.vault == "" ? [] : [var.vault]
        content {
          role        = vault.value
          env         = false
          change_mode = "noop"
        }
      }
      template {
        data            = var.told
        destination     = "local/project.json"
        left_delimiter  = "<<[rdv"
        right_delimiter = "rdv]>>"
        change_mode     = "noop"
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [var.python]
        content {
          command = config.value
          args    = ["-P", "-m", "rdv.backends.nomad.services_child", "rdv.serving.on_cluster:main", "decoy"]
        }
      }
      # init: as process 1 Python would not see the signal that ends it; the network is the node's, as for the others
      dynamic "config" {
        for_each = var.driver == "docker" ? [var.image] : []
        content {
          image        = config.value
          force_pull   = false
          init         = true
          network_mode = "host"
          command      = var.python
          args         = ["-P", "-m", "rdv.backends.nomad.services_child", "rdv.serving.on_cluster:main", "decoy"]
        }
      }
      service {
        name     = var.service
        provider = "consul"
        port     = "ops"
        meta {
          instance = "${NOMAD_SHORT_ALLOC_ID}"
        }
        # its journals take rows; three failures in a row, that is 6 s, and it is started again
        check {
          name     = "its journals take rows"
          type     = "http"
          path     = "/health"
          interval = "2s"
          timeout  = "2s"
          check_restart {
            limit = 3
            grace = "30s"
          }
        }
      }
      logs {
        max_files     = 5
        max_file_size = 10
      }
      resources {
        cpu    = var.cpu_mhz
        memory = var.memory_mb
      }
    }
  }
}
