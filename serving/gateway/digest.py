"""Latencies in log-scaled bins: bounded, mergeable, with quantiles to within 3 %.

Digests are merged and then asked for quantiles; quantiles are never averaged.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping

STEPS = 16
"""Bins an octave: a bin is at most 1/16 wider than where it begins."""
_SHIFT = 4
_LARGEST_US = (1 << 32) - 1


def bin_of(microseconds: int) -> int:
    """The bin of a latency; below 16 us a bin is 1 us wide."""
    if microseconds < STEPS:
        return microseconds if microseconds > 0 else 0
    if microseconds > _LARGEST_US:
        microseconds = _LARGEST_US
    octave = microseconds.bit_length() - _SHIFT
    return (octave << _SHIFT) + ((microseconds >> (octave - 1)) & (STEPS - 1))


BINS = bin_of(_LARGEST_US) + 1
_TABLE_US = 1 << 16
_TABLE = array("H", map(bin_of, range(_TABLE_US)))  # nearly all latencies: a look-up is a third of the arithmetic


def edges_us(place: int) -> tuple[int, int]:
    """Where a bin begins and ends, in microseconds; the end is the next one's beginning."""
    if place < STEPS:
        return place, place + 1
    octave, step = place >> _SHIFT, place & (STEPS - 1)
    width = 1 << (octave - 1)
    return (STEPS + step) * width, (STEPS + step + 1) * width


class Digest:
    """Counts of latencies by bin: 16 bins an octave up to an hour, whatever is added."""

    __slots__ = ("_counts", "sum_s")

    def __init__(self) -> None:
        self._counts = [0] * BINS
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one latency."""
        microseconds = int(seconds * 1e6)
        if 0 <= microseconds < _TABLE_US:
            self._counts[_TABLE[microseconds]] += 1
        else:
            self._counts[bin_of(microseconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        """How many latencies were added."""
        return sum(self._counts)

    @property
    def bins(self) -> dict[int, int]:
        """Counts by bin, empty ones left out."""
        return {place: times for place, times in enumerate(self._counts) if times}

    def merge(self, other: Digest) -> None:
        """Count everything that another digest counted."""
        self._counts = [ours + theirs for ours, theirs in zip(self._counts, other._counts, strict=True)]
        self.sum_s += other.sum_s

    def quantile_ms(self, share: float) -> float | None:
        """The latency that this share (0..1) of all were at or below, the middle of its bin; None of nothing."""
        return quantile_ms(self.bins, share)

    def share_above(self, limit_ms: float) -> float:
        """The share of latencies above a limit, to the bin's width; 0 of nothing."""
        above = sum(times for place, times in self.bins.items() if edges_us(place)[0] >= limit_ms * 1e3)
        return above / max(1, self.count)

    def summary(self) -> dict[str, float | int | None]:
        """Count and the usual quantiles, in milliseconds, for people and for `rdv status`."""
        found = {f"p{name}_ms": self.quantile_ms(share) for name, share in (("50", 0.5), ("99", 0.99), ("999", 0.999))}
        return {"count": self.count, **found}


def quantile_ms(bins: Mapping[int, int], share: float) -> float | None:
    """The middle, in milliseconds, of the bin that holds this share of all counts; None when there are none."""
    left = max(1.0, share * sum(bins.values()))
    for place in sorted(bins):
        left -= bins[place]
        if left <= 1e-9:
            low, high = edges_us(place)
            return (low + high) / 2e3 if place >= STEPS else low / 1e3
    return None
