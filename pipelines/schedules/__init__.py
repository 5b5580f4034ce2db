"""Schedules: which model is trained when, and what came of it."""
