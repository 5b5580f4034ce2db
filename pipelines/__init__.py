"""Luigi tasks, artifact names, targets, dispatch, sweeps, validation, publication."""
