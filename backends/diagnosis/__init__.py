"""What is wrong with the servers of an environment, found by asking them."""
