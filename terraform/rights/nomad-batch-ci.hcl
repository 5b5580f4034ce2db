namespace "${steps}" {
  capabilities = ["list-jobs", "read-job", "submit-job", "dispatch-job", "parse-job", "read-logs", "read-fs"]
}
namespace "${pipelines}" {
  capabilities = ["list-jobs", "read-job", "submit-job", "dispatch-job", "parse-job", "read-logs", "read-fs"]
}
node {
  policy = "read"
}
