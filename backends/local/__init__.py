"""The embedded cluster: steps as processes of this machine."""
