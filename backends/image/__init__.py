"""The one image of a service project: trainer, gateway and worker are commands of it."""
