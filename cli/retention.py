"""Which artifacts nobody needs any more. Pure: manifests in, names out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdv.manifest import Manifest
    from rdv.records import Pointer, Rollout


def released(pointers: Mapping[str, Pointer]) -> set[tuple[str, str]]:
    """The (model, version) pairs that may be served at once: each model's current and previous version.

    A canary model is a model like any other here: what it serves is its current version.
    """
    pairs = {(model, version) for model, one in pointers.items() for version in (one.version, one.previous)}
    return {(model, version) for model, version in pairs if version}


def tried(rollouts: Iterable[Rollout]) -> set[tuple[str, str]]:
    """The (model, version) pairs that canaries serve."""
    return {(row.model, row.version) for row in rollouts if row.on}


def lineage(manifests: Mapping[str, Manifest], names: Collection[str]) -> set[str]:
    """The named artifacts and everything that they were made from, as far as it is there."""
    by_digest: dict[str, list[str]] = {}
    for name, manifest in manifests.items():
        by_digest.setdefault(manifest.digest(), []).append(name)
    kept, todo = set(), [name for name in names if name in manifests]
    while todo:
        name = todo.pop()
        if name not in kept:
            kept.add(name)
            todo += [one for digest in manifests[name].upstream.values() for one in by_digest.get(digest, ())]
    return kept


def collectable(
    manifests: Mapping[str, Manifest], keep: Collection[str], now: datetime, older_than_days: float
) -> list[str]:
    """The artifacts that may go: not in the lineage of one to keep, and made longer ago than so many days.

    One without a readable date stays. Sorted by name.
    """
    kept = lineage(manifests, keep)
    return sorted(
        name
        for name, manifest in manifests.items()
        if name not in kept and age_days(manifest.created, now) >= older_than_days
    )


def age_days(created: str, now: datetime) -> float:
    """Days since an ISO 8601 moment with its offset; below zero for one that cannot be read."""
    try:
        return (now - datetime.fromisoformat(created)).total_seconds() / 86_400
    except (ValueError, TypeError):
        return -1.0
