"""Names, policies, roles and logins on the servers, as package data: Terraform and `rdv dev-cluster` read these."""
