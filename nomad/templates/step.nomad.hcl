# One parameterized job per resource class; every step of a pipeline is a dispatch of it.
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
# the role in Vault that the step's identity logs in with, empty for none
variable "vault" {
  type = string
}
variable "cpu_mhz" {
  type = number
}
variable "memory_mb" {
  type = number
}

job "rdv-step" {
  type      = "batch"
  namespace = var.namespace
  meta {
    rdv_kind      = "step"
    rdv_memory_mb = var.memory_mb
  }
  parameterized {
    payload       = "required"
    meta_required = ["rdv_run", "rdv_step"]
    meta_optional = ["rdv_by", "rdv_wall_s"]
  }
  group "step" {
    # whether a failed step is worth another try is the pipeline's decision
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    task "step" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "10s"
      dispatch_payload {
        file = "spec"
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
          args    = ["-P", "-m", "rdv.backends.nomad.step_child", "${NOMAD_TASK_DIR}", "${NOMAD_ALLOC_DIR}"]
        }
      }
      # init: as process 1 a step could not be killed by most signals; the network is the node's, as for the others
      dynamic "config" {
        for_each = var.driver == "docker" ? [var.image] : []
        content {
          image        = config.value
          force_pull   = false
          init         = true
          network_mode = "host"
          command      = var.python
          args         = ["-P", "-m", "rdv.backends.nomad.step_child", "${NOMAD_TASK_DIR}", "${NOMAD_ALLOC_DIR}"]
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
