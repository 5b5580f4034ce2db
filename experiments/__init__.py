"""Pure statistics: assignment, bandits, sequential tests, off-policy estimates, drift digests."""
