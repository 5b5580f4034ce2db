"""Which dispatches are ended: those that nobody waits for, and those that do not end by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from rdv.backends.nomad.reaper import GRACE_S, WALL_GRACE_S, why

NOW_S = 100_000.0
LEFT: dict[str, Any] = {"purged": False, "ended_s": None, "left_s": None, "late_s": 0.0}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, ""),
        ({"purged": True}, "its parent job was purged"),
        ({"ended_s": NOW_S - GRACE_S}, ""),
        ({"ended_s": NOW_S - GRACE_S - 1}, "its run is over"),
        ({"left_s": NOW_S - GRACE_S}, ""),
        ({"left_s": NOW_S - GRACE_S - 1}, "the pipeline that dispatched it is gone"),
        ({"late_s": WALL_GRACE_S}, ""),
        ({"late_s": WALL_GRACE_S + 1}, "it is 61 s past its wall clock limit and does not end by itself"),
    ],
)
def test_what_is_ended(found: dict[str, Any], reason: str) -> None:
    """A dispatch is left alone unless something about it is known to be over, and has been for its time."""
    assert why(**{**LEFT, **found}, now_s=NOW_S) == reason
