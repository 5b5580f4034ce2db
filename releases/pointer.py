"""A model's pointer: which version is served, moved by check-and-set, and the log of every move.

The pointer is written first, for it is the truth that workers follow, and its check-and-set decides races: a log row
written before it could tell of a move that never happened. The row is written after it, from what the pointer itself
says about the move. A crash in between leaves a move without a row: `history` shows it all the same, and the next
move writes the missing row before its own, so that none is ever lost.
"""

from __future__ import annotations

from datetime import UTC, datetime

from rdv.backends.ports import Entry, Registry
from rdv.clock import Clock
from rdv.errors import ConfigError, LostRace, NotFound, Refused
from rdv.records import (
    Pointer,
    Release,
    Rollout,
    Version,
    decode,
    encode,
    pointer_key,
    release_key,
    rollout_key,
    version_key,
)


def deployed(at: Pointer | None, version: str, when: str = "", by: str = "") -> Pointer:
    """The pointer after a deploy of a version; pure. Deploying what is served already changes nothing."""
    if at is None:
        return Pointer(version=version, kind="deploy", at=when, by=by)
    if at.version == version:
        return at
    return Pointer(version=version, previous=at.version, serial=at.serial + 1, kind="deploy", at=when, by=by)


def rolled_back(at: Pointer | None, model: str, when: str = "", by: str = "") -> Pointer:
    """The pointer after a rollback: the two versions change places, so that a second rollback returns; pure."""
    if at is None:
        raise NotFound(f"nothing of model {model} was ever deployed", f"see `rdv deploy {model}`")
    if not at.previous:
        raise Refused(f"model {model} has served no other version than {at.version}", f"see `rdv models list {model}`")
    return Pointer(version=at.previous, previous=at.version, serial=at.serial + 1, kind="rollback", at=when, by=by)


def release_of(at: Pointer) -> Release:
    """The log row of the move that a pointer is the result of; pure."""
    return Release(serial=at.serial, kind=at.kind, version=at.version, previous=at.previous, at=at.at, by=at.by)


def current(registry: Registry, model: str) -> Pointer | None:
    """The model's pointer, None when nothing of it was ever deployed."""
    return _read(registry, model)[0]


def versions(registry: Registry, model: str) -> list[Version]:
    """All published versions of a model, oldest name first; ConfigError when one stands under another's key."""
    found = []
    for key, entry in registry.list(version_key(model)).items():
        version = decode(Version, entry.value, key)
        if key != version_key(version.model, version.version):
            raise ConfigError(f"registry key {key} holds {version.version} of {version.model}", "see `rdv doctor`")
        found.append(version)
    return found


def history(registry: Registry, model: str) -> list[Release]:
    """All moves of the model's pointer, oldest first, the last one even when its row is not written yet."""
    at = current(registry, model)
    rows = [decode(Release, entry.value, key) for key, entry in registry.list(release_key(model)).items()]
    if at is not None and at.serial not in {row.serial for row in rows}:
        rows.append(release_of(at))
    return sorted(rows, key=lambda row: row.serial)


def deploy(registry: Registry, model: str, version: str, by: str, clock: Clock) -> Release:
    """Make a published version the one that is served, and return the move.

    Of a version that is served already the move that brought it is returned. NotFound: no such version. Refused: a
    rollout of the model is on. LostRace: somebody else moved the pointer meanwhile; theirs stands.
    """
    require_version(registry, model, version)
    _refuse_during_rollout(registry, model)
    at, entry = _read(registry, model)
    after = deployed(at, version, stamp(clock), by)
    return release_of(at) if at is not None and after == at else _move(registry, model, at, entry, after)


def rollback(registry: Registry, model: str, by: str, clock: Clock) -> Release:
    """Serve the version that was served before, and return the move; a second rollback returns to this one.

    NotFound: nothing was ever deployed, or the version before is no longer published. Refused: there was none before,
    or a rollout of the model is on. LostRace: somebody else moved the pointer meanwhile; theirs stands.
    """
    _refuse_during_rollout(registry, model)
    at, entry = _read(registry, model)
    after = rolled_back(at, model, stamp(clock), by)
    require_version(registry, model, after.version)
    return _move(registry, model, at, entry, after)


def end_rollout(registry: Registry, rollout: Rollout, promote: bool, by: str, clock: Clock) -> Release:
    """Make a rollout's version, or else again the one before it, the release that it had in mind; that release.

    The second keeps anybody from promoting it afterwards: its serial is used up. LostRace: that serial is used already.
    """
    at, entry = _read(registry, rollout.model)
    if at is None or at.serial != rollout.serial - 1:
        raise LostRace(f"{rollout.model} is at release {at.serial if at else 0} by now", "see `rdv status`")
    kind, when = ("promote" if promote else "rollback"), stamp(clock)
    version, previous = (rollout.version, at.version) if promote else (at.version, at.previous)
    after = Pointer(version=version, previous=previous, serial=rollout.serial, kind=kind, at=when, by=by)
    return _move(registry, rollout.model, at, entry, after)


def released(registry: Registry, model: str, serial: int) -> Release | None:
    """The release with a serial; None when there is none yet."""
    at = current(registry, model)
    if at is not None and at.serial == serial:
        return release_of(at)
    key = release_key(model, serial)
    entry = registry.get(key)
    return decode(Release, entry.value, key) if entry is not None else None


def _refuse_during_rollout(registry: Registry, model: str) -> None:
    key = rollout_key(model)
    entry = registry.get(key)
    row = decode(Rollout, entry.value, key) if entry is not None else None
    if row is not None and row.on:
        raise Refused(
            f"a rollout of version {row.version} of {model} is on, begun by {row.by}",
            f"`rdv promote {model}` or `rdv rollback {model}` ends it",
        )


def require_version(registry: Registry, model: str, version: str) -> None:
    """Raise NotFound when a model has no such version."""
    if registry.get(version_key(model, version)) is None:
        raise NotFound(f"model {model} has no version {version}", f"see `rdv models list {model}`")


def _read(registry: Registry, model: str) -> tuple[Pointer | None, Entry | None]:
    key = pointer_key(model)
    entry = registry.get(key)
    return (decode(Pointer, entry.value, key) if entry else None), entry


def _move(registry: Registry, model: str, at: Pointer | None, entry: Entry | None, after: Pointer) -> Release:
    if at is not None:
        _log(registry, model, release_of(at))
    try:
        registry.put(pointer_key(model), encode(after), expect=entry.index if entry else 0)
    except LostRace:
        told = f"somebody else moved the pointer of model {model} meanwhile; theirs stands"
        raise LostRace(told, "`rdv status` shows what is served now") from None
    _log(registry, model, release_of(after))
    return release_of(after)


def _log(registry: Registry, model: str, row: Release) -> None:
    """Write a row unless its serial has one."""
    key = release_key(model, row.serial)
    if registry.get(key) is None:
        try:
            registry.put(key, encode(row), expect=0)
        except LostRace:  # written meanwhile, from the same pointer
            return


def stamp(clock: Clock) -> str:
    """This moment, as it is written into rows: UTC, ISO 8601, milliseconds."""
    return datetime.fromtimestamp(clock.now(), UTC).isoformat(timespec="milliseconds")
