"""What a worker does about its model's pointer: swap, load, or wait. Pure; the shell is `rdv.serving.worker.worker`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from rdv.records import Pointer

QUIET_S = 0.5
LONGEST_S = 20.0
_FIRST_S = {True: 0.5, False: 60.0}
_CEILING_S = {True: 30.0, False: 3600.0}


@dataclass(frozen=True, slots=True)
class Swap:
    """Serve a version that is loaded already."""

    version: str


@dataclass(frozen=True, slots=True)
class Load:
    """Load a version."""

    version: str


@dataclass(frozen=True, slots=True)
class FallBack:
    """Nothing is served and the pointer does not help: load what served last."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something changes, or this moment comes (None: it never does)."""

    until: float | None = None


Step = Swap | Load | FallBack | Wait


@dataclass(frozen=True, slots=True)
class Failure:
    """A release that could not be served.

    transient: another try may go better. at: time of the last try; count: of tries.
    """

    version: str
    serial: int
    reason: str
    transient: bool
    at: float
    count: int

    def next_try(self) -> float:
        """When it is tried again: soon for a transient cause, an hour at most; each time later than the last."""
        wait_s = _FIRST_S[self.transient] * 2.0 ** min(self.count - 1, 16)
        return self.at + min(wait_s, _CEILING_S[self.transient])


@dataclass(slots=True)
class Pursuit:
    """What the pointer says, what has been tried, and so what comes next. Times: seconds of one monotonic clock.

    A single move of the pointer is followed at once. One that follows another within QUIET_S waits until the pointer
    stands still for that long, at most LONGEST_S, so that a flood of moves costs few loads and ends on the last one.
    """

    wanted: Pointer | None = None
    failure: Failure | None = None
    fell_back: bool = False
    _moved: float = field(default=float("-inf"))
    _due: float = field(default=float("-inf"))
    _latest: float = field(default=float("-inf"))

    def moved(self, pointer: Pointer, now: float) -> None:
        """The pointer says something now; saying the same again changes nothing."""
        if pointer == self.wanted:
            return
        if now - self._moved >= QUIET_S:
            self._due, self._latest = now, now + LONGEST_S
        else:
            self._due = min(now + QUIET_S, self._latest)
        self.wanted, self._moved = pointer, now

    def loading(self, now: float) -> None:
        """A load has begun; moves that follow soon are measured from here."""
        self._latest = now + LONGEST_S

    def failed(self, version: str, reason: str, transient: bool, now: float) -> None:
        """The version could not be served."""
        serial = self.wanted.serial if self.wanted is not None and self.wanted.version == version else 0
        before = self.failure
        count = before.count + 1 if before and (before.version, before.serial) == (version, serial) else 1
        self.failure = Failure(version, serial, reason, transient, now, count)

    def step(self, serving: str, loaded: Collection[str], now: float) -> Step:
        """What to do now. serving: the version that answers, empty for none. loaded: versions that could at once."""
        wanted = self.wanted
        if wanted is None:
            return Wait() if serving or self.fell_back else FallBack()
        if wanted.version == serving:
            return Wait()
        if wanted.version in loaded:
            return Swap(wanted.version)
        failure = self.failure
        if failure is not None and (failure.version, failure.serial) == (wanted.version, wanted.serial):
            if not serving and not self.fell_back:
                return FallBack()
            if now < failure.next_try():
                return Wait(failure.next_try())
        elif now < self._due:
            return Wait(self._due)
        return Load(wanted.version)
