"""The result as a table for people and as JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from figures import Row

_HEAD = ("figure", "ours", "peer", "compared", "floor", "aim", "timer", "verdict")
_SIGN = {"at_least": ">=", "at_most": "<="}
_FORM = {"ours": "{}", "ratio": "{} x", "excess": "+ {}"}


def number(value: float | None) -> str:
    """A number in three to four significant digits, without an exponent; `-` for none."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "never"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.{digits}f}"


def cells(row: Row) -> tuple[str, ...]:
    """A row's texts, in the order of the head."""
    form, sign = _FORM[row.compare], _SIGN[row.direction]

    def wanted(limit: float | None) -> str:
        return "-" if limit is None else f"{sign} {form.format(number(limit))}"

    return (
        row.what,
        f"{number(row.ours)} {row.unit}",
        "-" if row.peer is None else f"{number(row.peer)} {row.unit}",
        form.format(number(row.value)),
        wanted(row.limit),
        wanted(row.aim),
        "-" if row.timer_ms is None else f"{number(row.timer_ms)} ms",
        row.verdict + (", aim" if row.at_aim else ""),
    )


def table(rows: Sequence[Row]) -> str:
    """Lines under a head; `timer` is the worst lateness of an idle 1 ms timer while the figure was taken."""
    lines = [_HEAD, *(cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(_HEAD))]
    texts = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    failed = [row for row in rows if row.verdict == "FAIL"]
    reasons = [f"{row.figure}: {row.detail['reason']}" for row in failed if "reason" in row.detail]
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:], *reasons])


def document(rows: Sequence[Row], about: dict[str, Any]) -> bytes:
    """The same as JSON; infinite and missing numbers become null."""
    return msgspec.json.format(msgspec.json.encode({**about, "figures": list(rows)}), indent=1) + b"\n"
