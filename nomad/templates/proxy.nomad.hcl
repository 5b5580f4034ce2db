# The proxies of a project: nginx, which hands requests to the gateways that pass their checks, in turn.
# The job's id is set by who registers it: a label cannot be a variable.
variable "namespace" {
  type = string
}
variable "driver" {
  type = string
}
# of the driver docker: an image with nginx in it, empty for the others
variable "image" {
  type = string
}
variable "nginx" {
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
variable "count" {
  type = number
}
variable "most" {
  type = number
}
variable "meta" {
  type = map(string)
}
# where clients find it; 0: any free one, told by the catalog
variable "port" {
  type = number
}
variable "body_bytes" {
  type = number
}
variable "service" {
  type = string
}
variable "data_service" {
  type = string
}

job "rdv-proxy" {
  type      = "service"
  namespace = var.namespace
  meta      = var.meta
  group "proxy" {
    count = var.count
    scaling {
      enabled = true
      min     = 0
      max     = var.most
    }
    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "2s"
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
    network {
      dynamic "port" {
        for_each = var.port == 0 ? ["http"] : []
        labels   = [port.value]
        content {}
      }
      dynamic "port" {
        for_each = var.port == 0 ? [] : ["http"]
        labels   = [port.value]
        content {
          static = var.port
        }
      }
    }
    task "proxy" {
      driver = var.driver
      # nginx's word for: answer what has come, then end
      kill_signal    = "SIGQUIT"
      kill_timeout   = "20s"
      shutdown_delay = "1s"
      dynamic "consul" {
        for_each = var.consul ? ["own identity"] : []
        content {}
      }
      # where none passes its checks, all are asked: a default is better than nothing.
      # a score changes nothing, so a request may be asked of the next gateway when one has gone away in the middle
      template {
        data          = <<-CONF
          daemon off;
          pid {{ env "NOMAD_TASK_DIR" }}/nginx.pid;
          error_log stderr warn;
          worker_processes 2;
          worker_shutdown_timeout 10s;
          events {
            worker_connections 8192;
          }
          http {
            access_log off;
            server_tokens off;
            client_body_temp_path {{ env "NOMAD_TASK_DIR" }}/body;
            proxy_temp_path {{ env "NOMAD_TASK_DIR" }}/proxy;
            fastcgi_temp_path {{ env "NOMAD_TASK_DIR" }}/fastcgi;
            uwsgi_temp_path {{ env "NOMAD_TASK_DIR" }}/uwsgi;
            scgi_temp_path {{ env "NOMAD_TASK_DIR" }}/scgi;
            client_max_body_size ${var.body_bytes};
            client_body_buffer_size ${var.body_bytes};
            proxy_max_temp_file_size 0;
            keepalive_requests 1000000;
            upstream gateways {
              {{- range service "${var.data_service}" }}
              server {{ .Address }}:{{ .Port }} max_fails=1 fail_timeout=1s;
              {{- else }}
              {{- range service "${var.data_service}|any" }}
              server {{ .Address }}:{{ .Port }} max_fails=1 fail_timeout=1s;
              {{- else }}
              server 127.0.0.1:1 down;
              {{- end }}
              {{- end }}
              keepalive 64;
              keepalive_requests 1000000;
            }
            server {
              listen {{ env "NOMAD_IP_http" }}:{{ env "NOMAD_PORT_http" }} backlog=4096;
              location = /proxy-health {
                return 200 "ok\n";
              }
              location / {
                proxy_pass http://gateways;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header X-Forwarded-For $remote_addr;
                proxy_connect_timeout 500ms;
                proxy_next_upstream error timeout http_503 non_idempotent;
                proxy_next_upstream_tries 3;
              }
            }
          }
        CONF
        destination   = "local/nginx.conf"
        # no signal of Nomad's: one that comes before nginx can take it ends it, and one without a process fails the task
        change_mode = "script"
        change_script {
          command = "/bin/sh"
          args = [
            "-c",
            "for i in 1 2 3 4 5 6 7 8; do p=$(cat $NOMAD_TASK_DIR/nginx.pid) && grep -q nginx /proc/$p/comm && exec kill -HUP $p; sleep 0.5; done; exit 1",
          ]
          timeout       = "10s"
          fail_on_error = false
        }
        splay = "0s"
        wait {
          min = "50ms"
          max = "500ms"
        }
      }
      # read once more when it has begun, for what has changed between its reading and Nomad's knowing that it runs
      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [var.nginx]
        content {
          command = "/bin/sh"
          args    = ["-c", "trap '' HUP; (sleep 3; kill -HUP $$) & exec ${config.value} -e stderr -c $NOMAD_TASK_DIR/nginx.conf"]
        }
      }
      dynamic "config" {
        for_each = var.driver == "docker" ? [var.image] : []
        content {
          image        = config.value
          force_pull   = false
          init         = true
          network_mode = "host"
          command      = "/bin/sh"
          args         = ["-c", "trap '' HUP; (sleep 3; kill -HUP $$) & exec ${var.nginx} -e stderr -c $NOMAD_TASK_DIR/nginx.conf"]
        }
      }
      service {
        name     = var.service
        provider = "consul"
        port     = "http"
        check {
          name     = "it answers"
          type     = "http"
          path     = "/proxy-health"
          interval = "2s"
          timeout  = "2s"
          check_restart {
            limit = 3
            grace = "10s"
          }
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
