"""The entry of LightGBM's training steps: importing it costs half a second, which a fork server spends once."""

from __future__ import annotations

from contextlib import suppress

from rdv.pipelines.entry import run

with suppress(ImportError):  # the step says what is missing and how to get it
    import lightgbm  # noqa: F401

__all__ = ["run"]
