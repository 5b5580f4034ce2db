"""`rdv load`: requests at a steady rate, held against a budget."""
