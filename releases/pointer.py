"""A model's pointer: which version is served, moved by check-and-set, and the log of every move.

The pointer is written first, for it is the truth that workers follow; its log row is written after it. A crash in
between leaves a move without a row: the next move writes the missing one from the pointer before its own, and
`history` shows it meanwhile, without a time or a name.
"""

from __future__ import annotations

from datetime import UTC, datetime

from rdv.backends.ports import Entry, Registry
from rdv.clock import Clock
from rdv.errors import LostRace, NotFound, Refused
from rdv.records import Pointer, Release, Version, decode, encode, pointer_key, release_key, version_key


def deployed(at: Pointer | None, version: str) -> Pointer:
    """The pointer after a deploy of a version; pure. Deploying what is served already changes nothing."""
    if at is None:
        return Pointer(version=version)
    if at.version == version:
        return at
    return Pointer(version=version, previous=at.version, serial=at.serial + 1)


def rolled_back(at: Pointer | None, model: str) -> Pointer:
    """The pointer after a rollback: the two versions change places, so that a second rollback returns; pure."""
    if at is None:
        raise NotFound(f"nothing of model {model} was ever deployed", f"see `rdv deploy {model}`")
    if not at.previous:
        raise Refused(
            f"model {model} has served no other version than {at.version}", f"see `rdv models list {model}`"
        )
    return Pointer(version=at.previous, previous=at.version, serial=at.serial + 1)


def current(registry: Registry, model: str) -> Pointer | None:
    """The model's pointer, None when nothing of it was ever deployed."""
    return _read(registry, model)[0]


def versions(registry: Registry, model: str) -> list[Version]:
    """All published versions of a model, oldest name first."""
    return [decode(Version, entry.value, key) for key, entry in registry.list(version_key(model)).items()]


def history(registry: Registry, model: str) -> list[Release]:
    """All moves of the model's pointer, oldest first."""
    rows = [decode(Release, entry.value, key) for key, entry in registry.list(release_key(model)).items()]
    at = current(registry, model)
    if at is not None and (not rows or rows[-1].serial < at.serial):
        rows.append(_row_of(at))
    return rows


def deploy(registry: Registry, model: str, version: str, by: str, clock: Clock) -> Release:
    """Make a published version the one that is served, and return the move.

    Of a version that is served already the move that brought it is returned. NotFound: no such version. LostRace:
    somebody else moved the pointer meanwhile; theirs stands.
    """
    if registry.get(version_key(model, version)) is None:
        raise NotFound(f"model {model} has no version {version}", f"see `rdv models list {model}`")
    at, entry = _read(registry, model)
    after = deployed(at, version)
    if after == at:
        return history(registry, model)[-1]
    return _move(registry, model, entry, at, after, "deploy", by, clock)


def rollback(registry: Registry, model: str, by: str, clock: Clock) -> Release:
    """Serve the version that was served before, and return the move; a second rollback returns to this one.

    NotFound: nothing was ever deployed. Refused: there was no version before. LostRace: somebody else moved it.
    """
    at, entry = _read(registry, model)
    after = rolled_back(at, model)
    return _move(registry, model, entry, at, after, "rollback", by, clock)


def _read(registry: Registry, model: str) -> tuple[Pointer | None, Entry | None]:
    key = pointer_key(model)
    entry = registry.get(key)
    return (decode(Pointer, entry.value, key) if entry else None), entry


def _move(
    registry: Registry,
    model: str,
    entry: Entry | None,
    at: Pointer | None,
    after: Pointer,
    kind: str,
    by: str,
    clock: Clock,
) -> Release:
    if at is not None:
        _log(registry, model, _row_of(at))
    try:
        registry.put(pointer_key(model), encode(after), expect=entry.index if entry else 0)
    except LostRace:
        raise LostRace(
            f"somebody else moved the pointer of model {model} meanwhile; theirs stands", f"see `rdv status`"
        ) from None
    when = datetime.fromtimestamp(clock.now(), UTC).isoformat(timespec="seconds")
    row = Release(serial=after.serial, kind=kind, version=after.version, previous=after.previous, at=when, by=by)
    _log(registry, model, row)
    return row


def _log(registry: Registry, model: str, row: Release) -> None:
    """Write a row unless its serial has one."""
    try:
        registry.put(release_key(model, row.serial), encode(row), expect=0)
    except LostRace:
        return


def _row_of(at: Pointer) -> Release:
    """The row of a move whose own row was lost."""
    return Release(serial=at.serial, kind="deploy", version=at.version, previous=at.previous, at="", by="")
