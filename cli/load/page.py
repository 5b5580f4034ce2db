"""A load as one HTML page: the verdict, latency over time, latency by share of requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from rdv.cli.load.telling import verdict_records
from rdv.cli.report import svg
from rdv.cli.report.page import table, when, whole
from rdv.cli.report.svg import Axis, Line

if TYPE_CHECKING:
    from rdv.serving.load.figures import Figures

_MEDIAN, _P99, _MAX, _BUDGET = 0, 1, 3, 7
_OVER_TIME = (
    "Latency counts from the moment at which a request was due, so a stall shows for everything that waited. "
    "Where no answer came the line leaves the picture at the top."
)
_BY_SHARE = "How many requests were slower than that: one in ten, one in a hundred, one in a thousand."


def page(goal: str, urls: Sequence[str], found: Figures) -> str:
    """The whole page about a run."""
    valid = f'<p class="bad">The result is not valid: {escape(found.invalid)}.</p>' if found.invalid else ""
    parts = [
        f"<h1>{escape(goal)}: {found.rate:g} requests a second for {found.seconds:g} s</h1>",
        f'<p class="soft">{when(datetime.now(UTC).timestamp())} UTC, {escape(", ".join(urls))}</p>',
        valid,
        cards(found),
        f"<h2>The budget</h2>{table(_judged(found))}",
        f"<h2>Latency over time</h2><p>{_OVER_TIME}</p>{over_time(found)}",
        f"<h2>Latency by share of requests</h2><p>{_BY_SHARE}</p>{by_share(found)}",
        f"<h2>What became of the requests</h2>{table(_fates(found))}",
        f'<p class="soft">This machine sent its requests at most {found.late_max_ms:.3g} ms late, '
        f"{found.late_p99_ms:.3g} ms at the 99th percentile. {found.waited:,} requests waited for a connection.</p>",
    ]
    return whole(f"rdv load: {goal}", parts)


def cards(found: Figures) -> str:
    """The figures to read first."""
    missed = len(found.missed)
    said = "not valid" if found.invalid else "kept" if not missed else f"{missed} missed"
    told = [
        (said, "the budget", "good" if not found.invalid and not missed else "bad"),
        (f"{found.sent:,}", "requests sent", ""),
        (_ms(found.latency_ms["p50"]), "median latency", ""),
        (_ms(found.latency_ms["p99"]), "99th percentile", ""),
        (f"{found.defaults:,}", "answered by the default", ""),
        (f"{sum(found.errors.values()):,}", "errors", "bad" if found.errors else ""),
    ]
    inner = (f'<div class="card"><b class="{kind}">{big}</b><span>{small}</span></div>' for big, small, kind in told)
    return f'<div class="cards">{"".join(inner)}</div>'


def over_time(found: Figures) -> str:
    """Median, 99th percentile and longest latency by piece of the run, and the limits."""
    y = _latency_axis(found)
    ends = (0.0, found.seconds)
    drawn = [
        Line("median", [(one.from_s, one.p50_ms) for one in found.slices], _MEDIAN),
        Line("99th percentile", [(one.from_s, one.p99_ms) for one in found.slices], _P99),
        Line("longest", [(one.from_s, one.max_ms) for one in found.slices], _MAX),
        *_limits(found, ends),
    ]
    return svg.lines("Latency over time", Axis("seconds since the first request", *ends), y, _inside(drawn, y))


def by_share(found: Figures) -> str:
    """Latency against one in so many requests, on two logarithmic axes."""
    y = _latency_axis(found)
    points = [(1 / (1 - share), ms) for share, ms in found.curve]
    x = Axis("one in so many requests was slower", 1.0, max(10.0, points[-1][0] if points else 10.0), log=True)
    drawn = [Line("latency", points, _P99), *_limits(found, (x.low, x.high))]
    return svg.lines("Latency by share of requests", x, y, _inside(drawn, y))


def _latency_axis(found: Figures) -> Axis:
    seen = [ms for one in found.slices for ms in (one.p50_ms, one.max_ms)]
    seen += [one.entry.limit for one in found.verdicts if one.entry.kind == "latency"]
    finite = [ms for ms in seen if math.isfinite(ms)] or [1.0]
    low = max(0.01, min(finite) * 0.7)
    return Axis("milliseconds", low, max(max(finite) * 1.4, low * 10), log=True)


def _limits(found: Figures, ends: tuple[float, float]) -> list[Line]:
    limits = [one.entry for one in found.verdicts if one.entry.kind == "latency"]
    return [Line(f"limit of {one.name}", [(end, one.limit) for end in ends], _BUDGET) for one in limits]


def _inside(drawn: Sequence[Line], y: Axis) -> list[Line]:
    """Lines whose infinite points lie on the upper edge, where they can be drawn."""
    return [Line(one.name, [(at, min(ms, y.high)) for at, ms in one.points], one.colour) for one in drawn]


def _judged(found: Figures) -> list[dict[str, object]]:
    return [
        {"limit": one["limit"], "measured": one["measured"], "holds": one["kept"]} for one in verdict_records(found)
    ]


def _fates(found: Figures) -> list[dict[str, object]]:
    first = found.answered - found.degraded
    told = {
        "answered by the first tier": first,
        "by a later tier": found.degraded,
        "by the default": found.defaults,
        **found.errors,
    }
    return [{"what": what, "requests": times, "share": times / found.sent} for what, times in told.items() if times]


def _ms(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.3g} ms"
