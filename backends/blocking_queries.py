"""The rules of Consul's blocking queries, as values in and values out."""

from __future__ import annotations

from dataclasses import dataclass

# Looks that may follow each other at once, and how often more of them come: an index that moves without our key
# changing (a busy neighbour, a restart) must not turn a watch into a loop.
_BURST = 2.0
_LOOKS_PER_S = 4.0
# One look blocks this long at most, so that a frozen server is found out.
MAX_BLOCK_S = 30.0


def next_index(asked: int, told: int) -> int:
    """The index to block on next. asked: the one blocked on (0: none); told: the server's. 0: read without blocking.

    An index that goes back means that the server's state is another one, so nothing is known of it.
    """
    return 0 if told < asked else max(1, told)


def block_s(left_s: float) -> float:
    """How long to ask the server to hold a query when left_s remain: it adds up to a sixteenth by itself."""
    return max(0.001, min(left_s, MAX_BLOCK_S) * 16 / 17)


@dataclass(slots=True)
class Pace:
    """A token bucket over the looks of one watch, on a monotonic clock."""

    tokens: float = _BURST
    at: float | None = None

    def pause_s(self, now: float, chance: float) -> float:
        """How long to pause before a look at `now`; chance in [0, 1) spreads those of many watchers."""
        if self.at is not None:
            self.tokens = min(_BURST, self.tokens + max(0.0, now - self.at) * _LOOKS_PER_S)
        self.at = now
        self.tokens -= 1.0
        return 0.0 if self.tokens >= 0 else (-self.tokens + chance) / _LOOKS_PER_S
