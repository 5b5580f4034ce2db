"""What garbage collection keeps, and what it may take."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rdv.cli.retention import age_days, collectable, lineage, released, tried
from rdv.manifest import FileEntry, Manifest
from rdv.records import Pointer, Rollout, RolloutState

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def made(name: str, *upstream: Manifest, days: float = 100) -> Manifest:
    """An artifact of its own bytes, made from others so many days ago."""
    return Manifest(
        name=name, kind="model", attempt="a", files=(FileEntry(name, 1, name),), task="t:T",
        upstream={one.name: one.digest() for one in upstream}, created=(NOW - timedelta(days=days)).isoformat(),
    )  # fmt: skip


def by_name(*manifests: Manifest) -> dict[str, Manifest]:
    """Manifests by their names."""
    return {one.name: one for one in manifests}


def test_current_and_previous_versions_are_kept() -> None:
    """Both versions that a rollback moves between are released; a model without a previous one has one."""
    pointers = {"a": Pointer(version="v2", previous="v1"), "canary": Pointer(version="v0")}
    assert released(pointers) == {("a", "v2"), ("a", "v1"), ("canary", "v0")}


def test_what_canaries_serve_is_kept() -> None:
    """The version of a rollout stays for as long as it is on."""
    row = Rollout(model="a", number=1, version="v3", serial=3, instead_of="v2")
    assert tried([row, replace(row, model="b", state=RolloutState.ROLLED_BACK)]) == {("a", "v3")}


def test_what_a_kept_version_was_made_from_is_kept() -> None:
    """The whole lineage of a kept artifact stays, and nothing beside it."""
    data, other = made("data"), made("other")
    features = made("features", data)
    model, loser = made("model", features), made("loser", features)
    every = by_name(data, other, features, model, loser)
    assert lineage(every, ["model"]) == {"data", "features", "model"}
    assert collectable(every, ["model"], NOW, 30) == ["loser", "other"]


@given(st.sets(st.sampled_from("abcdef")), st.floats(0, 200))
def test_nothing_young_and_nothing_kept_is_taken(keep: set[str], older_than_days: float) -> None:
    """Whatever the limit, a collected artifact is old enough and in no kept one's lineage."""
    every = by_name(*(made(name, days=20.0 * place) for place, name in enumerate("abcdef")))
    for name in collectable(every, keep, NOW, older_than_days):
        assert name not in keep
        assert age_days(every[name].created, NOW) >= older_than_days


def test_an_artifact_without_a_date_stays() -> None:
    """What cannot be dated cannot be too old."""
    odd = [
        Manifest(name=text, kind="x", attempt="a", files=(), task="t", created=text) for text in ("", "x", "2026-01-01")
    ]
    assert collectable(by_name(*odd), [], NOW, 0) == []
