"""Nomad: steps, pipelines, schedules and serving jobs."""
