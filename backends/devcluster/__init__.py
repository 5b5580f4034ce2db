"""The real servers, started as children: the same code for a developer and for the tests."""
