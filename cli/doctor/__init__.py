"""`rdv doctor`: what can be wrong here, each with its remedy."""
