"""What is asked of a load: a rate, a time, limits on latencies and on answers that are none of a model's. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import msgspec

from rdv.errors import UsageError

_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(us|ms|s|m|h)")
_UNIT_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,4})?|9\d{2,5})")
COUNTED = ("errors", "defaults", "degraded")
"""What a budget may bound by count or share: no answer or a refusal; the default; all but the first tier's."""
MOST_REQUESTS = 2_000_000
_EXAMPLE = "for example --budget p99=50ms,errors=0,defaults=0.1%"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One limit. kind: `latency` in ms, `count`, or `share` of all requests. quantile: of a latency, 1 for the longest.

    text: as it was written.
    """

    name: str
    kind: str
    limit: float
    text: str
    quantile: float = 1.0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """An entry held against what was measured.

    ours: it would have been kept, had the client itself been in time, so nothing is known about the server.
    """

    entry: Entry
    value: float
    kept: bool
    ours: bool = False

    def sentence(self) -> str:
        """What is, and what was allowed."""
        return f"{self.entry.name} is {shown(self.entry, self.value)}, allowed {shown(self.entry, self.entry.limit)}"


def parse_duration(text: str, what: str) -> float:
    """Seconds of a duration with its unit, above 0; UsageError names what it is for."""
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNIT_S[found[2]] if found else 0.0
    if seconds <= 0:
        raise UsageError(f"{what} {text!r} is no duration above 0 with its unit", "write it like 500ms, 30s or 5m")
    return seconds


def check_rate(rate: float, seconds: float) -> None:
    """Raise UsageError unless so many requests a second for so long can be asked for at all."""
    if not (math.isfinite(rate) and rate > 0):
        raise UsageError(f"--rate {rate:g} is not above 0", "give requests a second: --rate 100")
    if rate * seconds > MOST_REQUESTS:
        raise UsageError(
            f"{rate * seconds:,.0f} requests are more than {MOST_REQUESTS:,} in one run", "give a lower --rate or --for"
        )


def parse_budget(text: str) -> tuple[Entry, ...]:
    """The entries of a budget, in order; UsageError names the one that says nothing that can be measured."""
    made: dict[str, Entry] = {}
    for item in text.split(",") if text.strip() else ():
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise UsageError(f"budget entry {item.strip()!r} is not NAME=LIMIT", _EXAMPLE)
        entry = _counted(name, value) if name in COUNTED else _latency(name, value)
        if name in made:
            raise UsageError(f"the budget says {name} twice", "leave one of them")
        made[name] = entry
    return tuple(made.values())


def _counted(name: str, value: str) -> Entry:
    share = value.endswith("%")
    try:
        limit = float(value.removesuffix("%").strip())
    except ValueError:
        limit = -1.0
    if not (0 <= limit <= (100 if share else math.inf)) or not math.isfinite(limit):
        raise UsageError(f"budget entry {name}={value} is no count and no share", f"write {name}=0 or {name}=0.1%")
    if not share and not limit.is_integer():
        raise UsageError(f"budget entry {name}={value} is no whole number", f"or did you mean {name}={value}%?")
    text = f"{name}={value}"
    return Entry(name=name, kind="share" if share else "count", limit=limit / 100 if share else limit, text=text)


def _latency(name: str, value: str) -> Entry:
    found = _QUANTILE.fullmatch(name)
    if not found and name != "max":
        known = "pNN (p50, p99, p99.9), max, " + ", ".join(COUNTED)
        raise UsageError(f"the budget knows no {name!r}", f"it knows {known}")
    seconds = parse_duration(value, f"budget entry {name}:")
    quantile = quantile_of(found[1]) if found else 1.0
    if not 0 < quantile <= 1:
        raise UsageError(f"the budget's {name} is no quantile", "p50, p99, p99.9 or p999 are")
    return Entry(name=name, kind="latency", limit=seconds * 1e3, text=f"{name}={value}", quantile=quantile)


def quantile_of(digits: str) -> float:
    """The share that `p` and some digits name: 99 and 99.9 per cent as they stand, 999 for 99.9."""
    whole = digits.replace(".", "")
    percent = float(digits) if "." in digits or len(digits) <= 2 else float(f"{whole[:2]}.{whole[2:]}")
    return percent / 100


def judge(
    budget: tuple[Entry, ...],
    sent: int,
    counts: Mapping[str, int],
    quantile: Callable[[float], float],
    quantile_in_time: Callable[[float], float],
) -> tuple[Verdict, ...]:
    """Every entry of a budget held against a run. counts: by COUNTED name.

    quantile: the latency in ms at a share; quantile_in_time: the same without what the client itself was late.
    """
    made = []
    for entry in budget:
        if entry.kind == "latency":
            value = quantile(entry.quantile)
            ours = value > entry.limit >= quantile_in_time(entry.quantile)
        else:
            value, ours = counts[entry.name] / (max(1, sent) if entry.kind == "share" else 1), False
        made.append(Verdict(entry=entry, value=value, kept=value <= entry.limit, ours=ours))
    return tuple(made)


def shown(entry: Entry, value: float) -> str:
    """A measured or allowed value of an entry, as a person reads it."""
    if math.isinf(value):
        return "never (no answer)"
    if entry.kind == "latency":
        return f"{value:.3g} ms" if value < 1000 else f"{value / 1e3:.3g} s"
    return f"{value * 100:.3g} %" if entry.kind == "share" else f"{value:,.0f}"
