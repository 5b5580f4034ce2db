"""Models in one store and what leads to them in another: a training, and what lists, verifies and collects it."""

from __future__ import annotations

from typing import Any

from rdv.backends.artifacts import ArtifactStore
from rdv.backends.blobs_dir import DirBlobs
from rdv.cli.collecting import collect, garbage
from rdv.cli.stored import artifact_records, damage
from rdv.errors import Exit


def test_a_training_over_two_stores(sums: Any) -> None:
    """Models go to one store, the rest to the other; done is done over both; list, verify and gc see both."""
    with (sums.folder / "rdv.toml").open("a") as file:
        file.write('[environments.local]\nartifacts = "dir:models"\nintermediate = "dir:between"\n')
    first, again = sums.train("offset=1..3"), sums.train("offset=1..3")
    assert (first.exit, first.record.trained, again.exit, again.record.trained) == (Exit.OK, 3, Exit.OK, 0)
    state = sums.project().state
    models, between = (ArtifactStore(DirBlobs(state / name)) for name in ("models", "between"))
    assert {name.split("/")[0] for name in models.names()} == {"train"}
    assert {name.split("/")[0] for name in between.names()} == {"config", "dataset", "features", "evaluate", "validate"}
    assert {one["artifact"] for one in artifact_records(sums.project(), "")} == models.names() | between.names()
    for store in ("models", "between"):
        damaged = next(path for path in sorted((state / store).rglob("*")) if path.parent.parent.name == "attempts")
        damaged.chmod(0o644)
        damaged.write_bytes(b"damaged")
    checked, problems = damage(sums.project(), "")
    assert checked == len(models.names()) + len(between.names())
    assert len(problems) == 2
    found = garbage(sums.project(), 0.0)
    assert collect(sums.project(), found) == checked
    assert models.names() | between.names() == set()
