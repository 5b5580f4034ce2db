"""The rdv command: parse, one call, print."""
