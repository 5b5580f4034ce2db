"""The entry of CatBoost's training steps: importing it imports CatBoost, which a fork server does once."""

from __future__ import annotations

from contextlib import suppress

from rdv.pipelines.entry import run

with suppress(ImportError):  # the step says what is missing and how to get it
    import catboost  # noqa: F401

__all__ = ["run"]
