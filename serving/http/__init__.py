"""The HTTP edge, the one place that knows the protocol."""
