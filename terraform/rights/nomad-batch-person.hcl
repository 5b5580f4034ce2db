namespace "${steps}" {
  capabilities = ["list-jobs", "read-job", "submit-job", "dispatch-job", "parse-job", "read-logs", "read-fs", "alloc-lifecycle"]
}
namespace "${pipelines}" {
  capabilities = ["list-jobs", "read-job", "submit-job", "dispatch-job", "parse-job", "read-logs", "read-fs", "alloc-lifecycle"]
}
node {
  policy = "read"
}
