"""`rdv ci`: the stages of a service's way into production."""
