namespace "${services}" {
  capabilities = ["list-jobs", "read-job", "submit-job", "dispatch-job", "parse-job", "read-logs", "read-fs", "alloc-lifecycle", "scale-job", "read-job-scaling", "list-scaling-policies", "read-scaling-policy"]
}
node {
  policy = "read"
}
