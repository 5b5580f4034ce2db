"""The processes that serve a project: which, where, started, watched and stopped."""
