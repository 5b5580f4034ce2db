"""Vault: secrets and certificates."""
