namespace "${services}" {
  # with a reload by restart, a release restarts instances one by one
  capabilities = ["list-jobs", "read-job", "submit-job", "parse-job", "read-logs", "alloc-lifecycle"]
}
