key_prefix "${keys}/" {
  policy = "write"
}
service_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
# a gateway that runs on a machine, not as a job, announces itself with its person's token
service_prefix "${env}-" {
  policy = "write"
}
# reading policies shows `rdv doctor` what is missing, and no secret
acl = "read"
