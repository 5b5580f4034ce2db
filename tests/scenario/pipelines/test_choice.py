"""The choice among many points is made once: a run with nothing to do does not read every point's manifest again."""

from __future__ import annotations

from typing import Any

import pytest

from rdv.backends import select
from rdv.backends.artifacts import ArtifactStore
from rdv.manifest import Manifest

POINTS = 40


def test_a_choice_is_kept(sums: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run takes the kept choice and reads a few models' manifests; without it, it chooses the same again."""
    read: list[str] = []
    manifest = ArtifactStore.manifest

    def noted(self: ArtifactStore, name: str) -> Manifest | None:
        read.append(name)
        return manifest(self, name)

    monkeypatch.setattr(ArtifactStore, "manifest", noted)
    first = sums.train(f"offset=1..{POINTS}")
    store = select.artifacts(sums.project())
    (kept,) = store.names("choice/")
    read.clear()
    again = sums.train(f"offset=1..{POINTS}")
    assert (again.record.trained, again.record.best) == (0, first.record.best)
    assert sum(name.startswith("train/") for name in read) < 5
    store.delete(kept)
    assert sums.train(f"offset=1..{POINTS}").record.best == first.record.best
    assert store.names("choice/") == {kept}


def test_a_choice_that_is_none_of_the_points_is_not_believed(sums: Any) -> None:
    """What was kept counts only when it names one of the points and its artifact."""
    first = sums.train(f"offset=1..{POINTS}")
    store = select.artifacts(sums.project())
    (kept,) = store.names("choice/")
    store.delete(kept)
    wrong = Manifest(
        name=kept, kind="choice", attempt="a", files=(), task="", extra={"point": "offset=99.0", "artifact": "x"}
    )
    store.publish(wrong, sums.folder)
    assert sums.train(f"offset=1..{POINTS}").record.best == first.record.best
