"""Publication: a version is written once, the same one again is fine, another one under its name never is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.errors import Exit, LostRace, NotFound
from rdv.manifest import FileEntry, Manifest
from rdv.pipelines.names import Key, artifact_name
from rdv.pipelines.periods import period_of
from rdv.pipelines.publish import (
    champion_artifact,
    champion_version,
    publish_version,
    published_version,
    version_record,
)
from rdv.records import Pointer, encode, pointer_key

DAY = period_of(datetime(2024, 11, 22, tzinfo=UTC), "day")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[SqliteRegistry]:
    """An empty registry."""
    made = SqliteRegistry(tmp_path / "registry.sqlite")
    yield made
    made.close()


def manifest(sha: str = "a") -> Manifest:
    """A model's manifest whose one file has a digest."""
    key = Key(
        task="rdv.x:T", family="train", scope="m", period=DAY.text(), parameters={}, upstream={}, code="c"
    )  # fmt: skip
    entry = FileEntry("model.txt", 1, sha * 64)
    return Manifest(
        name=artifact_name(key), kind="train", attempt="x", files=(entry,), task=key.task,
        metrics={"validation_auc": 0.7}, created="2024-11-22T00:00:00+00:00",
    )  # fmt: skip


def test_a_version_is_written_once(registry: SqliteRegistry) -> None:
    """The first write makes it, the same one again changes nothing, and the first run stays named in it."""
    record = version_record("m", manifest(), DAY, {"test_auc": 0.6}, "run1")
    assert publish_version(registry, record)
    assert not publish_version(registry, replace(record, run="run2", metrics={}))
    assert published_version(registry, "m", record.version) == record
    assert record.metrics == {"validation_auc": 0.7, "test_auc": 0.6}


def test_another_artifact_under_the_same_name_loses(registry: SqliteRegistry) -> None:
    """A version that is there with other bytes is a lost race, exit code 8, and stays as it is."""
    record = version_record("m", manifest(), DAY, {}, "run1")
    publish_version(registry, record)
    other = version_record("m", manifest("b"), DAY, {}, "run2")
    assert other.version == record.version
    with pytest.raises(LostRace) as lost:
        publish_version(registry, other)
    assert lost.value.exit_code == Exit.LOST_RACE
    assert published_version(registry, "m", record.version) == record


def test_the_champion_is_where_the_pointer_leads(registry: SqliteRegistry) -> None:
    """No pointer, no champion; a pointer to a version that is not there is told."""
    assert (champion_version(registry, "m"), champion_artifact(registry, "m")) == ("", "")
    record = version_record("m", manifest(), DAY, {}, "run1")
    registry.put(pointer_key("m"), encode(Pointer(version=record.version)))
    with pytest.raises(NotFound, match=record.version):
        champion_artifact(registry, "m")
    publish_version(registry, record)
    assert champion_artifact(registry, "m") == record.artifact
