"""From a hyperparameter to an answer in production."""

__version__ = "0.1.0"
