"""Ports and their adapters; the only room that knows a vendor."""
