"""Circuit breakers: what fails again and again is not asked for a while, so that nobody waits for it.

A breaker is closed (calls go through), open (they are refused at once) or half open (one call tries whether it works
again). While it is closed a call costs an attribute's look-up: no lock is taken and no clock is read.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How a breaker stands. Allowed moves: closed -> open -> half_open -> closed | open."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    failures: so many in a row open it. It stays open for first_s, after each trial that fails `factor` times as long,
    up to ceiling_s; longer when failing is dear: a trial takes at most the share trial_share of the time, up to
    dear_s. A trial that has not ended after trial_s is given up, and another one may try.
    """

    failures: int = 5
    first_s: float = 0.5
    factor: float = 2.0
    ceiling_s: float = 3.0
    trial_share: float = 0.5
    dear_s: float = 60.0
    trial_s: float = 60.0

    def open_s(self, trials: int, cost_s: float) -> float:
        """How long to stay open after so many trials that failed, the last of which took cost_s."""
        usual = min(self.ceiling_s, self.first_s * self.factor ** min(trials, 32))
        return max(usual, min(self.dear_s, cost_s * (1 / self.trial_share - 1)))


USUAL = BreakerPolicy()


class Breaker:
    """One breaker; safe over threads. name: what it protects, for people and metrics."""

    __slots__ = (
        "_failures", "_lock", "_policy", "_trials", "_until", "name", "opened", "reason", "refused", "state",
    )  # fmt: skip

    def __init__(self, name: str, policy: BreakerPolicy = BreakerPolicy()) -> None:  # frozen
        self.name, self.state, self.reason = name, State.CLOSED, ""
        self.opened = self.refused = 0
        self._policy, self._lock = policy, threading.Lock()
        self._failures = self._trials = 0
        self._until = -math.inf

    def allows(self, clock: Callable[[], float]) -> bool:
        """Whether a call may be made now; whoever is told so says afterwards how it ended."""
        if self.state is State.CLOSED:
            return True
        with self._lock:
            now = clock()
            if not self._failures:  # closed by another thread meanwhile
                return True
            if now < self._until:
                self.refused += 1
                return False
            self.state, self._until = State.HALF_OPEN, now + self._policy.trial_s
            return True

    def succeeded(self) -> None:
        """A call was answered, be it with a refusal: what is protected works."""
        if not self._failures:
            return
        with self._lock:
            self.state, self.reason = State.CLOSED, ""
            self._failures = self._trials = 0

    def failed(self, reason: str, now: float, cost_s: float = 0.0, weight: int = 1) -> None:
        """A call failed. cost_s: how long that took; weight: as how many failures it counts."""
        with self._lock:
            self._failures += weight
            if self.state is State.OPEN:
                return  # a call that began before it opened
            if self.state is State.HALF_OPEN:
                self._trials += 1
            elif self._failures < self._policy.failures:
                return
            self.state, self.reason = State.OPEN, reason
            self.opened += 1
            self._until = now + self._policy.open_s(self._trials, cost_s)

    def undecided(self, now: float) -> None:
        """A call ended without telling anything (it was interrupted): if it was the trial, another one may try."""
        with self._lock:
            if self.state is State.HALF_OPEN:
                self.state, self._until = State.OPEN, now

    def view(self) -> dict[str, Any]:
        """Name, state, reason and counts, for status and metrics."""
        return {
            "name": self.name,
            "state": str(self.state),
            "reason": self.reason,
            "opened": self.opened,
            "refused": self.refused,
        }


class BreakerBook:
    """The breakers of a process by name, so that all who ask one server learn from each other's failures."""

    def __init__(self) -> None:
        self._breakers: dict[str, Breaker] = {}
        self._lock = threading.Lock()

    def named(self, name: str, policy: BreakerPolicy = BreakerPolicy()) -> Breaker:  # frozen
        """The breaker of a name, made when it is asked for first."""
        with self._lock:
            return self._breakers.setdefault(name, Breaker(name, policy))

    def views(self) -> list[dict[str, Any]]:
        """All breakers, by name."""
        with self._lock:
            every = sorted(self._breakers.items())
        return [one.view() for _, one in every]

    def renew(self) -> None:
        """Forget all: a forked process has seen no failure, and must not wait for a lock of its parent's threads."""
        self._breakers, self._lock = {}, threading.Lock()


BOOK = BreakerBook()
"""The breakers of this process."""
os.register_at_fork(after_in_child=BOOK.renew)
