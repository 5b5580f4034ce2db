"""Load on a running gateway: requests at fixed arrival times, and what became of them."""
