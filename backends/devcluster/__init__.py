"""The real servers, started as children: the same code for `rdv dev-cluster` and for the tests."""
