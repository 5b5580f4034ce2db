"""`rdv report`: what happened to a goal's requests, as a page or as Markdown."""
