"""What the benchmarks measure, what is asked of it, and the verdict: values in, values out.

A scenario is a file beside this one with `measure(short: bool) -> list[dict]`. Each dict is a `Figure`: `figure` (its
key in floors.toml), `ours`, `peer` (None without one), `unit`, `timer_ms` (worst lateness of an idle 1 ms timer in the
same run, None when nothing was timed) and `detail` (anything worth keeping in the JSON).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from rdv.serving.load.figures import quantile


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured figure; `ours` and `peer` are in `unit`."""

    figure: str
    ours: float
    peer: float | None = None
    unit: str = ""
    timer_ms: float | None = None
    detail: dict[str, Any] = {}


class Floor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of a figure.

    compare: `ours`, `ratio` (ours / peer) or `excess` (ours - peer). direction: the limit is the least or the most
    allowed. floor: the limit (None: no limit, only an aim); short: the limit of the short form where it is another one.
    command, date and machine say where the limit was last seen to hold. noise_ms: when an idle timer was later than
    this in the same run, a miss in the short form says more about the machine than about us.
    """

    what: str
    unit: str
    direction: Literal["at_least", "at_most"]
    date: str
    command: str
    machine: str
    compare: Literal["ours", "ratio", "excess"] = "ours"
    peer: str = ""
    floor: float | None = None
    aim: float | None = None
    short: float | None = None
    noise_ms: float | None = None

    def limit(self, short: bool) -> float | None:
        """The limit of the full or of the short form."""
        return self.short if short and self.short is not None else self.floor


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A figure beside its floor. value: what was compared.

    verdict: `shown` when nothing is asked of it, `noisy` for a miss on a machine too unquiet to tell (short form only).
    """

    figure: str
    what: str
    ours: float | None
    peer: float | None
    unit: str
    value: float | None
    compare: str
    direction: str
    limit: float | None
    aim: float | None
    timer_ms: float | None
    verdict: Literal["pass", "FAIL", "shown", "noisy"]
    at_aim: bool
    detail: dict[str, Any] = {}


def read_floors(file: Path) -> dict[str, Floor]:
    """The floors by figure, in the file's order."""
    return msgspec.toml.decode(file.read_bytes(), type=dict[str, dict[str, Floor]])["figures"]


def compared(figure: Figure, floor: Floor) -> float:
    """The value that is held against the limit; NaN when the peer it needs is missing or zero."""
    if floor.compare == "ours":
        return figure.ours
    if figure.peer is None:
        return math.nan
    if floor.compare == "excess":
        return figure.ours - figure.peer
    return figure.ours / figure.peer if figure.peer else math.nan


def holds(value: float, limit: float, direction: str) -> bool:
    """Whether a value is within a limit; NaN never is."""
    return value >= limit if direction == "at_least" else value <= limit


def judge(figure: Figure, floor: Floor, short: bool) -> Row:
    """A figure with its verdict."""
    value, limit = compared(figure, floor), floor.limit(short)
    return Row(
        figure=figure.figure,
        what=floor.what,
        ours=figure.ours,
        peer=figure.peer,
        unit=figure.unit or floor.unit,
        value=value,
        compare=floor.compare,
        direction=floor.direction,
        limit=limit,
        aim=floor.aim,
        timer_ms=figure.timer_ms,
        verdict=_verdict(figure, floor, value, short),
        at_aim=floor.aim is not None and holds(value, floor.aim, floor.direction),
        detail=figure.detail,
    )


def _verdict(figure: Figure, floor: Floor, value: float, short: bool) -> Literal["pass", "FAIL", "shown", "noisy"]:
    limit = floor.limit(short)
    if limit is None:
        return "shown"
    if holds(value, limit, floor.direction):
        return "pass"
    noise_ms = floor.noise_ms
    unquiet = noise_ms is not None and figure.timer_ms is not None and figure.timer_ms > noise_ms
    return "noisy" if short and unquiet else "FAIL"


def better(first: Row, second: Row) -> Row:
    """Of two attempts at a figure the one that passed, else the one on the noisy machine, else the second."""
    order = ("pass", "shown", "noisy", "FAIL")
    return first if order.index(first.verdict) < order.index(second.verdict) else second


def missing(name: str, floor: Floor, short: bool, reason: str) -> Row:
    """The row of a figure that its scenario did not deliver: always a failure."""
    return Row(
        figure=name,
        what=floor.what,
        ours=None,
        peer=None,
        unit=floor.unit,
        value=None,
        compare=floor.compare,
        direction=floor.direction,
        limit=floor.limit(short),
        aim=floor.aim,
        timer_ms=None,
        verdict="FAIL",
        at_aim=False,
        detail={"reason": reason},
    )


def median(values: Sequence[float]) -> float:
    """The middle of an odd number of runs; of an even number the lower middle, a value that was seen."""
    return quantile(values, 0.5)


def per_ten_thousand(count: int, total: int) -> float:
    """How many in ten thousand; NaN of nothing."""
    return 10_000 * count / total if total else math.nan


def summary(latencies_ms: Sequence[float]) -> dict[str, float]:
    """Count, median, 99th and 99.9th percentile and worst of some latencies."""
    return {
        "count": len(latencies_ms),
        "p50_ms": quantile(latencies_ms, 0.5),
        "p99_ms": quantile(latencies_ms, 0.99),
        "p999_ms": quantile(latencies_ms, 0.999),
        "worst_ms": max(latencies_ms, default=math.nan),
    }
