# One parameterized job per task class of a project: input artifacts, hyperparameters and the output's name come with
# the dispatch, which may be a person's: nomad job dispatch -meta input=... -meta output=... JOB params.json
# The job's id is set by who registers it: a label cannot be a variable.
variable "namespace" {
  type = string
}
variable "driver" {
  type = string
}
# of the driver docker, empty for the others
variable "image" {
  type = string
}
variable "python" {
  type = string
}
# the role in Vault that the task's identity logs in with, empty for none
variable "vault" {
  type = string
}
variable "cpu_mhz" {
  type = number
}
variable "memory_mb" {
  type = number
}
# where the project lies on the nodes or in the image
variable "folder" {
  type = string
}
# what the task's runner is told, as JSON
variable "told" {
  type = string
}
variable "about" {
  type = string
}
variable "wall_s" {
  type = number
}
variable "restarts" {
  type = number
}

job "rdv-task" {
  type      = "batch"
  namespace = var.namespace
  meta {
    rdv_kind      = "task"
    rdv_about     = var.about
    rdv_memory_mb = var.memory_mb
    rdv_wall_s    = var.wall_s
  }
  parameterized {
    payload       = "optional"
    meta_required = ["output"]
    meta_optional = ["input", "period"]
  }
  group "task" {
    # then a person looks, and dispatches it again
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
    task "task" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "10s"
      dispatch_payload {
        file = "parameters.json"
      }
      dynamic "vault" {
        for_each = var.vault == "" ? [] : [var.vault]
        content {
          role        = vault.value
          env         = false
          change_mode = "noop"
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [var.python]
        content {
          command = config.value
          args    = ["-P", "-m", "rdv.backends.nomad.task_child", var.folder, var.told, "${NOMAD_TASK_DIR}/parameters.json"]
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [var.image] : []
        content {
          image        = config.value
          force_pull   = false
          init         = true
          network_mode = "host"
          command      = var.python
          args         = ["-P", "-m", "rdv.backends.nomad.task_child", var.folder, var.told, "${NOMAD_TASK_DIR}/parameters.json"]
        }
      }
      logs {
        max_files     = 10
        max_file_size = 10
      }
      resources {
        cpu    = var.cpu_mhz
        memory = var.memory_mb
      }
    }
  }
}
