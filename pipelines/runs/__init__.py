"""Runs: begun here, in a process of their own or as a job; recorded, followed and ended."""
