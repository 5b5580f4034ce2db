"""The gateway: from a request's bytes to the answer's, by way of mailbox, policy and bus."""
