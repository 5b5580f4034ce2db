"""Consul: registry and catalog."""
