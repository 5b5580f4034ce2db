"""A rollout: the canary deployment of a version, from its plan to its promotion or its end.

One row a model says how its rollout stands. Every move of it is one check-and-set, so of two deployers, or of a
promotion and a rollback, one wins; and everything that follows from a move can be done again by whoever comes next.
A promotion is decided in the row first (`judged`), then the pointer moves, then the row says `promoted`. A rollback of
one that is decided, whose pointer has not moved, uses up the release that it had in mind, so that a promoter that was
only slow finds it taken. The row is copied below its number when everything that its end asks for is done (`close`):
until then a second `rdv promote` or `rdv rollback` finishes what the first one began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from rdv.backends.ports import Entry, Registry
from rdv.clock import Clock
from rdv.errors import LostRace, NotFound, Refused
from rdv.records import Pointer, Release, Rollout, RolloutState, Verdict, decode, encode, rollout_key
from rdv.releases import pointer

_TRIES = 5
MOVES: Mapping[RolloutState, frozenset[RolloutState]] = {
    RolloutState.PLANNED: frozenset({RolloutState.CANARY, RolloutState.ROLLED_BACK}),
    RolloutState.CANARY: frozenset({RolloutState.JUDGED, RolloutState.ROLLED_BACK}),
    RolloutState.JUDGED: frozenset({RolloutState.PROMOTED, RolloutState.ROLLED_BACK}),
    RolloutState.PROMOTED: frozenset(),
    RolloutState.ROLLED_BACK: frozenset(),
}


def planned(
    number: int, at: Pointer | None, model: str, version: str, canaries: int, share: float, when: str, by: str
) -> Rollout:
    """A new rollout; pure. Refused when the version is served already, or nothing is that it could stand beside."""
    if at is None:
        raise Refused(f"nothing of {model} is served that a canary could stand beside", f"`rdv deploy {model}` first")
    if at.version == version:
        raise Refused(f"version {version} of {model} is served already", f"see `rdv models list {model}`")
    return Rollout(
        model=model, number=number, version=version, serial=at.serial + 1, instead_of=at.version, canaries=canaries,
        share=share, at=when, by=by, changed=when, changed_by=by,
    )  # fmt: skip


def moved(row: Rollout, state: RolloutState, when: str, by: str, reason: str = "") -> Rollout:
    """A rollout after a move; pure. Refused when its state allows no such move."""
    if state not in MOVES[row.state]:
        raise Refused(f"the rollout of {row.version} of {row.model} is {row.state}, not to become {state}", hint(row))
    return msgspec.structs.replace(row, state=state, changed=when, changed_by=by, reason=reason)


def judged(row: Rollout, verdict: Verdict, when: str, by: str, reason: str = "") -> Rollout:
    """A rollout after a verdict on it; pure. No data means `hold`, and that changes nothing.

    Refused unless its canaries answer: one that is only planned has shown nothing yet.
    """
    if verdict is Verdict.HOLD:
        return row
    return msgspec.structs.replace(moved(row, RolloutState.JUDGED, when, by, reason), verdict=verdict)


def met(row: Rollout, at: Pointer | None, release: Release | None, when: str, by: str) -> Rollout:
    """What a rollout is, considering the pointer; pure. release: the one with the rollout's serial, if any.

    A decided one whose release is there is promoted; one whose serial another release has taken is over.
    """
    if not row.on or at is None or at.serial < row.serial:
        return row
    if row.state is RolloutState.JUDGED and release is not None and release.version == row.version:
        return moved(row, RolloutState.PROMOTED, when, by)
    taken = release or pointer.release_of(at)
    return moved(row, RolloutState.ROLLED_BACK, when, by, f"overtaken by release {taken.serial}, {taken.version}")


def hint(row: Rollout) -> str:
    """What to type about a rollout."""
    if row.state is RolloutState.PLANNED:
        return f"`rdv deploy {row.model} --canary {row.canaries} --version {row.version}` goes on with it"
    return f"`rdv promote {row.model}` or `rdv rollback {row.model}` ends it" if row.on else "see `rdv rollouts`"


def current(registry: Registry, model: str) -> Rollout | None:
    """The model's newest rollout, on or ended; None when there never was one."""
    return _read(registry, model)[0]


def history(registry: Registry, model: str) -> list[Rollout]:
    """All rollouts of a model, the oldest first, the newest one as it stands."""
    rows = {
        row.number: row
        for key, entry in registry.list(rollout_key(model).removesuffix("current")).items()
        if key.count("/") == rollout_key(model).count("/")
        for row in [decode(Rollout, entry.value, key)]
        if row.model == model
    }
    now = current(registry, model)
    if now is not None:
        rows[now.number] = now
    return [row for _, row in sorted(rows.items())]


def is_closed(registry: Registry, row: Rollout) -> bool:
    """Whether everything that a rollout's end asks for is done."""
    return registry.get(rollout_key(row.model, row.number)) is not None


def close(registry: Registry, row: Rollout) -> None:
    """Note that everything that a rollout's end asks for is done; again is fine."""
    try:
        registry.put(rollout_key(row.model, row.number), encode(row), expect=0)
    except LostRace:
        return


def start(
    registry: Registry,
    model: str,
    version: str,
    by: str,
    clock: Clock,
    canaries: int | None = None,
    share: float | None = None,
) -> Rollout:
    """Take the model's row for a rollout of a version, or go on with the one of this version that is on.

    canaries, share: None: as it is, or 1 and 0.1 for a new one. LostRace: a rollout of another version is on, whose
    owner is named. NotFound: no such version. Refused: see `planned`.
    """
    pointer.require_version(registry, model, version)
    for _ in range(_TRIES):
        row, entry = _settled(registry, model, by, clock)
        if row is not None and row.on:
            if row.version != version:
                raise _held(row)
            after = _resized(row, canaries, share)
            if after == row:
                return row
        else:
            if row is not None:
                close(registry, row)
            number = max([one.number for one in history(registry, model)], default=0) + 1
            at, when = pointer.current(registry, model), pointer.stamp(clock)
            after = planned(number, at, model, version, canaries or 1, 0.1 if share is None else share, when, by)
        try:
            return _put(registry, after, entry)
        except LostRace:
            continue
    raise _lost(model)


def begin(registry: Registry, row: Rollout, by: str, clock: Clock) -> Rollout:
    """Have the canaries of a planned rollout answer; one that does so already stays as it is."""

    def change(now: Rollout, when: str) -> Rollout:
        return moved(now, RolloutState.CANARY, when, by)

    return _step(registry, row, by, clock, (RolloutState.PLANNED,), change)


def marked(registry: Registry, row: Rollout, mark: str, by: str, clock: Clock) -> Rollout:
    """Note what the canaries are called by whatever runs them."""

    def change(now: Rollout, when: str) -> Rollout:
        return msgspec.structs.replace(now, mark=mark)

    return _step(registry, row, by, clock, (RolloutState.PLANNED, RolloutState.CANARY), change)


def decide(registry: Registry, model: str, by: str, clock: Clock) -> Rollout:
    """Decide that the model's rollout is to be promoted, and move the pointer; again is fine.

    Returned is the row: `judged`, or what came after it. NotFound: no rollout is on, nor one promoted that is not
    closed. Refused: its canaries do not answer yet, or it was judged to deserve another end. LostRace: it was ended
    otherwise meanwhile.
    """
    row, _ = _settled(registry, model, by, clock)
    if row is None or (not row.on and (row.state is not RolloutState.PROMOTED or is_closed(registry, row))):
        raise NotFound(f"no rollout of {model} is on", f"`rdv deploy {model} --canary 1` begins one")
    if row.state is RolloutState.PROMOTED:
        return row
    if row.state is RolloutState.PLANNED:
        raise Refused(f"the canaries of {model} have not answered yet, so nothing is known of them", hint(row))
    if row.state is RolloutState.JUDGED and row.verdict is not Verdict.PROMOTE:
        raise Refused(f"{row.version} of {model} was judged: {row.verdict}, {row.reason}", f"`rdv rollback {model}`")

    def change(now: Rollout, when: str) -> Rollout:
        return judged(now, Verdict.PROMOTE, when, by)

    try:
        row = _step(registry, row, by, clock, (RolloutState.CANARY,), change)
        pointer.end_rollout(registry, row, True, by, clock)
    except LostRace:  # to another promoter, a rollback, or somebody who knows nothing of rollouts
        now, _ = _settled(registry, model, by, clock)
        if now is None or now.number != row.number or now.state is not RolloutState.PROMOTED:
            raise _lost(model) from None
        return now
    return row


def promoted(registry: Registry, row: Rollout, by: str, clock: Clock) -> Rollout:
    """Note that a decided rollout's version is what the model's workers serve; again is fine."""
    now, _ = _settled(registry, row.model, by, clock)
    if now is None or now.number != row.number or now.state is not RolloutState.PROMOTED:
        raise _lost(row.model)
    return now


def roll_back(registry: Registry, model: str, by: str, clock: Clock, reason: str = "") -> Rollout | None:
    """End the model's rollout, and return its row; None when there is none to end, nor one whose end is not closed.

    One whose pointer has moved is promoted: it is closed here, and is for `pointer.rollback` to undo.
    """
    for _ in range(_TRIES):
        row, entry = _settled(registry, model, by, clock)
        if row is None or is_closed(registry, row):
            return None
        if row.state is RolloutState.PROMOTED or (not row.on and _overtaken(registry, row)):
            close(registry, row)
            return None
        if not row.on:
            return row
        try:
            if row.state is RolloutState.JUDGED and row.verdict is Verdict.PROMOTE:
                pointer.end_rollout(registry, row, False, by, clock)
            return _put(registry, moved(row, RolloutState.ROLLED_BACK, pointer.stamp(clock), by, reason), entry)
        except LostRace:
            continue
    raise _lost(model)


def _overtaken(registry: Registry, row: Rollout) -> bool:
    """Whether releases have gone on since a rollout was rolled back, so that nobody waits for its end any more."""
    at = pointer.current(registry, row.model)
    if at is None or at.serial < row.serial:
        return False
    return at.serial > row.serial or at.kind != "rollback" or at.version != row.instead_of


def _resized(row: Rollout, canaries: int | None, share: float | None) -> Rollout:
    if row.state not in (RolloutState.PLANNED, RolloutState.CANARY):
        return row
    return msgspec.structs.replace(row, canaries=canaries or row.canaries, share=row.share if share is None else share)


def _held(row: Rollout) -> LostRace:
    told = f"a rollout of version {row.version} of {row.model} is on, begun by {row.by} at {row.at}"
    return LostRace(told, hint(row))


def _lost(model: str) -> LostRace:
    return LostRace(
        f"somebody else changed the rollout of {model} meanwhile; theirs stands", f"see `rdv rollouts {model}`"
    )


def _step(
    registry: Registry,
    row: Rollout,
    by: str,
    clock: Clock,
    states: tuple[RolloutState, ...],
    change: Callable[[Rollout, str], Rollout],
) -> Rollout:
    """Change a rollout that is on and in one of some states; in another state it stays as it is."""
    for _ in range(_TRIES):
        now, entry = _settled(registry, row.model, by, clock)
        if now is None or now.number != row.number or not now.on:
            raise _lost(row.model)
        after = change(now, pointer.stamp(clock)) if now.state in states else now
        if after == now:
            return now
        try:
            return _put(registry, after, entry)
        except LostRace:
            continue
    raise _lost(row.model)


def _put(registry: Registry, row: Rollout, entry: Entry | None) -> Rollout:
    registry.put(rollout_key(row.model), encode(row), expect=entry.index if entry else 0)
    return row


def _read(registry: Registry, model: str) -> tuple[Rollout | None, Entry | None]:
    key = rollout_key(model)
    entry = registry.get(key)
    return (decode(Rollout, entry.value, key) if entry else None), entry


def _settled(registry: Registry, model: str, by: str, clock: Clock) -> tuple[Rollout | None, Entry | None]:
    """The row and its entry, after what the pointer makes of it has been written into it."""
    for _ in range(_TRIES):
        row, entry = _read(registry, model)
        at = pointer.current(registry, model) if row is not None and row.on else None
        if row is None or at is None:
            return row, entry
        release = pointer.released(registry, model, row.serial) if at.serial >= row.serial else None
        after = met(row, at, release, pointer.stamp(clock), by)
        if after == row:
            return row, entry
        try:
            _put(registry, after, entry)
        except LostRace:
            continue
    raise _lost(model)
