"""The worker: a model that is loaded, swapped and asked."""
