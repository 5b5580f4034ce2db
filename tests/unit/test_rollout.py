"""Rollouts: one at a time, decided once, and finished by whoever comes next, whatever ended the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rdv.backends.ports import Entry
from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.clock import ManualClock
from rdv.errors import LostRace, NotFound, RdvError, Refused, Unreachable
from rdv.records import (
    Pin,
    Pointer,
    Rollout,
    RolloutState,
    Verdict,
    Version,
    decode,
    encode,
    pointer_key,
    rollout_key,
    version_key,
)
from rdv.releases import pointer, rollout
from rdv.releases.rollout import MOVES, judged, planned

MODEL = "churn/lightgbm"
VERSIONS = ("v1", "v2", "v3")
CLOCK = ManualClock()
ENDED = (RolloutState.PROMOTED, RolloutState.ROLLED_BACK)


def publish(registry: SqliteRegistry | MemoryRegistry) -> None:
    for version in VERSIONS:
        value = Version(model=MODEL, version=version, artifact=f"a-{version}", digest="0" * 64)
        registry.put(version_key(MODEL, version), encode(value), expect=0)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[SqliteRegistry]:
    """A registry with three versions of a model, the first of them served."""
    made = SqliteRegistry(tmp_path / "registry.sqlite")
    publish(made)
    pointer.deploy(made, MODEL, "v1", "ann", CLOCK)
    yield made
    made.close()


def answering(registry: SqliteRegistry, version: str = "v2") -> Rollout:
    """A rollout whose canaries answer."""
    return rollout.begin(registry, rollout.start(registry, MODEL, version, "ann", CLOCK), "ann", CLOCK)


def served(registry: SqliteRegistry) -> str:
    at = pointer.current(registry, MODEL)
    assert at is not None
    return at.version


def test_a_rollout_that_is_promoted_moves_the_pointer_to_its_serial(registry: SqliteRegistry) -> None:
    """Planned, canary, judged, promoted: the pointer moves once, by the release that the canaries were pinned to."""
    row = rollout.start(registry, MODEL, "v2", "ann", CLOCK, 2, 0.25)
    assert (row.pin, row.instead_of, row.canaries, row.share) == (Pin("v2", 2), "v1", 2, 0.25)
    assert row.on
    assert not row.answers
    assert rollout.begin(registry, row, "ann", CLOCK).answers
    assert served(registry) == "v1"
    row = rollout.decide(registry, MODEL, "bob", CLOCK)
    assert (row.state, row.changed_by, row.answers, served(registry)) == (RolloutState.JUDGED, "bob", True, "v2")
    row = rollout.promoted(registry, row, "bob", CLOCK)
    rollout.close(registry, row)
    assert [(one.serial, one.kind, one.version) for one in pointer.history(registry, MODEL)] == [
        (1, "deploy", "v1"), (2, "promote", "v2"),
    ]  # fmt: skip
    with pytest.raises(NotFound, match="no rollout"):
        rollout.decide(registry, MODEL, "bob", CLOCK)
    assert pointer.rollback(registry, MODEL, "bob", CLOCK).version == "v1"


def test_a_rollout_that_is_rolled_back_moves_nothing(registry: SqliteRegistry) -> None:
    """The pointer stays, a second rollback finishes the first one, and a third is about the last release."""
    answering(registry)
    row = rollout.roll_back(registry, MODEL, "bob", CLOCK, "slow")
    assert row is not None
    assert (row.state, row.reason, served(registry)) == (RolloutState.ROLLED_BACK, "slow", "v1")
    assert rollout.roll_back(registry, MODEL, "bob", CLOCK) == row
    rollout.close(registry, row)
    assert rollout.roll_back(registry, MODEL, "bob", CLOCK) is None
    assert [one.number for one in rollout.history(registry, MODEL)] == [1]
    again = answering(registry, "v3")
    assert (again.number, again.serial) == (2, 2)


def test_the_second_deployer_is_told_who_was_first(registry: SqliteRegistry) -> None:
    """Another version meanwhile is a lost race; the same one goes on with the rollout that is on."""
    row = rollout.start(registry, MODEL, "v2", "ann", CLOCK)
    with pytest.raises(LostRace, match="v2 of churn/lightgbm is on, begun by ann"):
        rollout.start(registry, MODEL, "v3", "bob", CLOCK)
    assert rollout.start(registry, MODEL, "v2", "bob", CLOCK) == row
    assert rollout.start(registry, MODEL, "v2", "bob", CLOCK, share=0.5).share == 0.5
    for version in ("v1", "v3"):
        with pytest.raises(Refused, match="begun by ann.*rdv promote"):
            pointer.deploy(registry, MODEL, version, "bob", CLOCK)


def test_what_cannot_be_a_rollout_is_refused(registry: SqliteRegistry) -> None:
    """An unknown version, the one that is served, and a canary beside nothing."""
    with pytest.raises(NotFound, match="v9"):
        rollout.start(registry, MODEL, "v9", "ann", CLOCK)
    with pytest.raises(Refused, match="served already"):
        rollout.start(registry, MODEL, "v1", "ann", CLOCK)
    with pytest.raises(Refused, match="nothing of m is served"):
        planned(1, None, "m", "v", 1, 0.1, "", "")
    with pytest.raises(NotFound, match="no rollout"):
        rollout.decide(registry, MODEL, "ann", CLOCK)
    rollout.start(registry, MODEL, "v2", "ann", CLOCK)
    with pytest.raises(Refused, match="nothing is known"):
        rollout.decide(registry, MODEL, "ann", CLOCK)


def test_no_data_holds_and_a_bad_verdict_stands(registry: SqliteRegistry) -> None:
    """`hold` changes nothing; what was judged to be rolled back is not promoted, and its canaries answer nobody."""
    row = answering(registry)
    assert judged(row, Verdict.HOLD, "", "judge") == row
    bad = judged(row, Verdict.ROLL_BACK, "now", "judge", "answers worse")
    assert (bad.state, bad.answers, bad.on) == (RolloutState.JUDGED, False, True)
    registry.put(rollout_key(MODEL), encode(bad))
    with pytest.raises(Refused, match="answers worse"):
        rollout.decide(registry, MODEL, "ann", CLOCK)
    ended = rollout.roll_back(registry, MODEL, "ann", CLOCK)
    assert ended is not None
    assert served(registry) == "v1"


def test_a_decided_rollout_can_still_be_rolled_back_before_its_pointer_moves(registry: SqliteRegistry) -> None:
    """The release that it had in mind is used up by the version before, so that its promoter finds it taken."""
    row = answering(registry)
    registry.put(rollout_key(MODEL), encode(judged(row, Verdict.PROMOTE, "now", "ann")))
    ended = rollout.roll_back(registry, MODEL, "bob", CLOCK)
    assert ended is not None
    assert ended.state is RolloutState.ROLLED_BACK
    assert (served(registry), len(pointer.history(registry, MODEL))) == ("v1", 2)
    with pytest.raises(LostRace):
        pointer.end_rollout(registry, row, True, "ann", CLOCK)


def test_a_pointer_that_others_moved_ends_the_rollout(registry: SqliteRegistry) -> None:
    """A writer that knows nothing of rollouts is noticed: its release stands, the rollout is over and says why."""
    row = answering(registry)
    registry.put(pointer_key(MODEL), encode(Pointer(version="v3", previous="v1", serial=2)))
    with pytest.raises(NotFound, match="no rollout"):
        rollout.decide(registry, MODEL, "ann", CLOCK)
    now = rollout.current(registry, MODEL)
    assert now is not None
    assert (now.number, now.state, now.reason) == (row.number, RolloutState.ROLLED_BACK, "overtaken by release 2, v3")
    assert rollout.roll_back(registry, MODEL, "ann", CLOCK) is None


class Killed(BaseException):
    """The command line was killed."""


class MemoryRegistry:
    """Check-and-set over a dict. before: called with each write that is about to be made."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.before: Callable[[str], None] = lambda key: None
        self.states: dict[int, list[RolloutState]] = {}
        self._index = 0

    def get(self, key: str) -> Entry | None:
        return self.entries.get(key)

    def put(self, key: str, value: bytes, expect: int | None = None) -> Entry:
        self.before(key)
        there = self.entries.get(key)
        if expect is not None and expect != (there.index if there else 0):
            raise LostRace("another index")
        self._index += 1
        self.entries[key] = Entry(value, self._index)
        if key == rollout_key(MODEL):
            row = decode(Rollout, value, key)
            self.states.setdefault(row.number, []).append(row.state)
        return self.entries[key]

    def delete(self, key: str, expect: int | None = None) -> None:
        raise NotImplementedError

    def list(self, prefix: str) -> dict[str, Entry]:
        return {key: entry for key, entry in sorted(self.entries.items()) if key.startswith(prefix)}

    def watch(self, key: str, index: int, wait_s: float) -> Entry | None:
        raise NotImplementedError


def deploy_canary(registry: MemoryRegistry, by: str, version: str) -> None:
    row = rollout.start(registry, MODEL, version, by, CLOCK)
    rollout.begin(registry, row, by, CLOCK)


def promote(registry: MemoryRegistry, by: str, version: str) -> None:
    row = rollout.decide(registry, MODEL, by, CLOCK)
    rollout.close(registry, rollout.promoted(registry, row, by, CLOCK))


def roll_back(registry: MemoryRegistry, by: str, version: str) -> None:
    row = rollout.roll_back(registry, MODEL, by, CLOCK)
    if row is None:
        pointer.rollback(registry, MODEL, by, CLOCK)
    else:
        rollout.close(registry, row)


def deploy(registry: MemoryRegistry, by: str, version: str) -> None:
    pointer.deploy(registry, MODEL, version, by, CLOCK)


COMMANDS = (deploy_canary, promote, roll_back, deploy)
commands = st.tuples(st.sampled_from(COMMANDS), st.sampled_from(["ann", "bob"]), st.sampled_from(VERSIONS))


@pytest.mark.parametrize("at", range(1, 8))
@pytest.mark.parametrize("error", [LostRace, Unreachable])
def test_a_promotion_whose_answer_was_lost_is_one(at: int, error: type[RdvError]) -> None:
    """A write that was done and told to have failed is found to be ours, or else gone on with by the same command.

    Whichever write it is, nobody is refused (7) what has happened, and the pointer has moved once.
    """
    registry = MemoryRegistry()
    publish(registry)
    pointer.deploy(registry, MODEL, "v1", "ann", CLOCK)
    deploy_canary(registry, "ann", "v2")
    put, count = registry.put, 0

    def lossy(key: str, value: bytes, expect: int | None = None) -> Entry:
        nonlocal count
        entry = put(key, value, expect)
        count += 1
        if count == at:
            raise error("the answer was lost")
        return entry

    registry.put = lossy  # type: ignore[method-assign]
    try:
        promote(registry, "ann", "")
    except Unreachable:
        with suppress(NotFound):  # all was done, closing it included
            promote(registry, "ann", "")
    row = rollout.current(registry, MODEL)
    assert row is not None
    assert (row.state, rollout.is_closed(registry, row)) == (RolloutState.PROMOTED, True)
    assert [one.version for one in pointer.history(registry, MODEL)] == ["v1", "v2"]


@pytest.mark.parametrize("at", range(1, 6))
def test_of_two_promoters_both_are_told_that_it_is_promoted(at: int) -> None:
    """Whichever write of the one the other comes before with all of its own, there is one release and no lost race."""
    registry = MemoryRegistry()
    publish(registry)
    pointer.deploy(registry, MODEL, "v1", "ann", CLOCK)
    deploy_canary(registry, "ann", "v2")
    count = 0

    def meanwhile(key: str) -> None:
        nonlocal count
        count += 1
        if count == at:
            promote(registry, "bob", "")

    registry.before = meanwhile
    promote(registry, "ann", "")
    assert count >= at
    row = rollout.current(registry, MODEL)
    assert row is not None
    assert (row.state, rollout.is_closed(registry, row)) == (RolloutState.PROMOTED, True)
    assert [one.version for one in pointer.history(registry, MODEL)] == ["v1", "v2"]


class RolloutMachine(RuleBasedStateMachine):
    """Commands of two people, one in the middle of another, each killed before any of its writes, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = MemoryRegistry()
        publish(self.registry)
        pointer.deploy(self.registry, MODEL, "v1", "ann", CLOCK)

    def run(self, command: tuple[Callable[..., None], str, str]) -> None:
        do, by, version = command
        try:
            do(self.registry, by, version)
        except (Killed, RdvError):
            return

    @rule(outer=commands, at=st.integers(0, 6), inner=commands, killed_at=st.integers(0, 8), outer_killed=st.booleans())
    def one_in_the_middle_of_another(
        self,
        outer: tuple[Callable[..., None], str, str],
        at: int,
        inner: tuple[Callable[..., None], str, str],
        killed_at: int,
        outer_killed: bool,
    ) -> None:
        count = 0

        def counted(key: str) -> None:
            nonlocal count
            count += 1
            if count == at:
                self.registry.before = killer(killed_at)
                self.run(inner)
                self.registry.before = counted
                if outer_killed:
                    raise Killed

        def killer(after: int) -> Callable[[str], None]:
            left = after or 1_000

            def before(key: str) -> None:
                nonlocal left
                left -= 1
                if not left:
                    raise Killed

            return before

        self.registry.before = counted
        self.run(outer)
        self.registry.before = lambda key: None

    @rule(version=st.sampled_from(VERSIONS))
    def a_canary_answers(self, version: str) -> None:
        self.run((deploy_canary, "ann", version))

    @rule(at=st.integers(1, 6), inner=commands)
    def a_promotion_is_disturbed(self, at: int, inner: tuple[Callable[..., None], str, str]) -> None:
        self.one_in_the_middle_of_another((promote, "ann", ""), at, inner, 0, False)

    @rule()
    def whatever_is_on_can_be_ended(self) -> None:
        roll_back_again = [roll_back, roll_back]
        for command in roll_back_again:
            row = rollout.current(self.registry, MODEL)
            if row is not None and row.on:
                self.run((command, "ann", ""))
        row = rollout.current(self.registry, MODEL)
        assert row is None or not row.on

    @invariant()
    def rows_move_as_the_table_says(self) -> None:
        for states in self.registry.states.values():
            assert states[0] is RolloutState.PLANNED
            for before, after in zip(states, states[1:], strict=False):
                assert after is before or after in MOVES[before], states

    @invariant()
    def a_rollout_is_promoted_when_and_only_when_its_release_is(self) -> None:
        releases = {one.serial: one for one in pointer.history(self.registry, MODEL)}
        assert sorted(releases) == list(range(1, len(releases) + 1))
        promotions = {serial: one.version for serial, one in releases.items() if one.kind == "promote"}
        for row in rollout.history(self.registry, MODEL):
            if row.state is RolloutState.PROMOTED:
                assert promotions.pop(row.serial) == row.version
            elif row.state is RolloutState.JUDGED:
                promotions.pop(row.serial, None)  # decided, and the row does not say so yet
        assert not promotions

    @invariant()
    def what_is_closed_stays_as_it_was(self) -> None:
        for number in self.registry.states:
            entry = self.registry.entries.get(rollout_key(MODEL, number))
            if entry is not None:
                row = decode(Rollout, entry.value, "")
                assert row.state in ENDED
                assert row.state is self.registry.states[number][-1]


TestRollouts = RolloutMachine.TestCase
TestRollouts.settings = settings(max_examples=150, stateful_step_count=20, deadline=None)
