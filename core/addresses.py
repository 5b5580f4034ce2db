"""How hosts and ports are written."""

from __future__ import annotations


def address(host: str, port: int) -> str:
    """A host and a port as one text; a host of the sixth version stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
