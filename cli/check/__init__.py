"""`rdv check`: a look at a project before it is committed."""
