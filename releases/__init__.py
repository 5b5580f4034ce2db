"""Plan, rollout, judging, rollback."""
