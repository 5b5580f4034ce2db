"""`rdv demo`: the whole life of a model on real data."""
