# A whole pipeline as a job: parameterized, dispatched once a run, or, with a cron expression, periodic.
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
variable "cpu_mhz" {
  type = number
}
variable "memory_mb" {
  type = number
}
variable "restarts" {
  type = number
}
variable "vault_role" {
  type = string
}
variable "consul" {
  type = bool
}
variable "crons" {
  type = list(string)
}
variable "enabled" {
  type = bool
}
variable "request" {
  type = string
}

job "rdv-pipeline" {
  type      = "batch"
  namespace = var.namespace
  meta {
    rdv_kind      = "pipeline"
    rdv_memory_mb = var.memory_mb
    # a dispatch says which; that of a moment of the clock has its own by the job's id
    rdv_run = ""
  }
  dynamic "parameterized" {
    for_each = length(var.crons) == 0 ? ["once a run"] : []
    content {
      payload       = "required"
      meta_required = ["rdv_run"]
    }
  }
  dynamic "periodic" {
    for_each = length(var.crons) == 0 ? [] : ["by the clock"]
    content {
      crons            = var.crons
      time_zone        = "UTC"
      prohibit_overlap = true
      enabled          = var.enabled
    }
  }
  group "pipeline" {
    # what is done stays done: another start goes on where the one before it ended
    restart {
      attempts = var.restarts
      interval = "24h"
      delay    = "5s"
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    task "pipeline" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"
      # which token of Nomad it dispatches with: a file, which Nomad renews, and no environment variable
      identity {
        env  = false
        file = true
      }
      dynamic "consul" {
        for_each = var.consul ? ["own identity"] : []
        content {}
      }
      dynamic "vault" {
        for_each = var.vault_role == "" ? [] : [var.vault_role]
        content {
          role        = vault.value
          change_mode = "noop"
          env         = false
        }
      }
      dynamic "dispatch_payload" {
        for_each = length(var.crons) == 0 ? ["the run's"] : []
        content {
          file = "request"
        }
      }
      dynamic "template" {
        for_each = length(var.crons) == 0 ? [] : ["every run's"]
        content {
          data        = var.request
          destination = "local/request"
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [var.python]
        content {
          command = config.value
          args = [
            "-P", "-m", "rdv.backends.nomad.pipeline_child", "rdv.pipelines.on_cluster:main",
            "${NOMAD_TASK_DIR}/request", "${NOMAD_ALLOC_DIR}/state", "${NOMAD_JOB_ID}", "${NOMAD_META_rdv_run}",
          ]
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
          args = [
            "-P", "-m", "rdv.backends.nomad.pipeline_child", "rdv.pipelines.on_cluster:main",
            "${NOMAD_TASK_DIR}/request", "${NOMAD_ALLOC_DIR}/state", "${NOMAD_JOB_ID}", "${NOMAD_META_rdv_run}",
          ]
        }
      }
      logs {
        max_files     = 3
        max_file_size = 10
      }
      resources {
        cpu    = var.cpu_mhz
        memory = var.memory_mb
      }
    }
  }
}
