# One parameterized job per resource class; every step of a pipeline is a dispatch of it.
# The job's id is set by who registers it: a label cannot be a variable.
variable "namespace" {
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

job "rdv-step" {
  type      = "batch"
  namespace = var.namespace
  parameterized {
    payload       = "required"
    meta_required = ["rdv_run", "rdv_step"]
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
      driver       = "raw_exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "10s"
      dispatch_payload {
        file = "spec"
      }
      config {
        command = var.python
        args    = ["-P", "-m", "rdv.backends.cluster_nomad_child", "${NOMAD_TASK_DIR}", "${NOMAD_ALLOC_DIR}"]
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
