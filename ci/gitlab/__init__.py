"""The stages of a service project on GitLab, as package data: `rdv init` copies them."""
