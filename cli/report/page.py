"""The report as one HTML page: words, tables and charts, nothing fetched from anywhere, readable in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from rdv.cli.output import is_number, percent, shown
from rdv.cli.report import svg
from rdv.cli.report.svg import Axis, Line

if TYPE_CHECKING:
    from rdv.cli.report.facts import Facts

Record = Mapping[str, object]
QUANTILE_STEPS = 100
DEFAULT_COLOUR, ANSWER_COLOUR = 7, 6
LONG_TEXT = 40

STYLE = """
:root { color-scheme: light dark; --page:#fdfdfc; --ink:#1d2329; --soft:#5c6670; --rule:#dde1e5; --card:#f3f5f6;
  --good:#1a7f4b; --bad:#c0362c; --c0:#3b6fb6; --c1:#d9822b; --c2:#2f9e6e; --c3:#a2559b; --c4:#c9a227; --c5:#4aa8c9;
  --c6:#8c6d53; --c7:#9aa3ab; }
@media (prefers-color-scheme: dark) { :root { --page:#15191d; --ink:#e6e9ec; --soft:#9aa5af; --rule:#333b43;
  --card:#1e242a; --good:#4cc38a; --bad:#ff7b6b; --c0:#6ea3ec; --c1:#f0a35c; --c2:#57c796; --c3:#cf8cc9; --c4:#e3c457;
  --c5:#74cbe8; --c6:#bd9d82; --c7:#7c868f; } }
* { box-sizing:border-box } body { margin:0; background:var(--page); color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif }
main { max-width:960px; margin:0 auto; padding:28px 20px 60px }
h1 { font-size:1.7rem; margin:0 0 4px; line-height:1.25 }
h2 { font-size:1.2rem; margin:44px 0 6px; padding-top:14px; border-top:1px solid var(--rule) }
p { margin:6px 0 14px } .soft, caption { color:var(--soft) } .good { color:var(--good) } .bad { color:var(--bad) }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(150px,1fr)); gap:12px; margin:20px 0 }
.card { background:var(--card); border-radius:10px; padding:12px 16px } .card b { display:block; font-size:1.5rem;
  line-height:1.25; font-variant-numeric:tabular-nums } .card span { color:var(--soft); font-size:.88rem }
.scroll { overflow-x:auto } table { border-collapse:collapse; width:100%; font-size:.88rem; margin:8px 0 18px }
th { text-align:left; font-weight:600; color:var(--soft); border-bottom:1px solid var(--rule) }
th, td { padding:5px 11px 5px 0; vertical-align:top } td { border-bottom:1px solid var(--rule) }
.num { text-align:right; font-variant-numeric:tabular-nums }
td, th { white-space:nowrap } td.text { white-space:normal; min-width:14ch }
.chart { width:100%; height:auto; display:block; margin-top:6px } .grid { stroke:var(--rule) }
.axis { stroke:var(--soft) } .tick, .title { fill:var(--soft); font-size:12px } .title { font-size:12.5px }
.line { fill:none; stroke-width:2.2; stroke-linejoin:round } .diagonal { stroke:var(--soft); stroke-dasharray:4 4 }
.mark { stroke:var(--ink); stroke-dasharray:3 3; opacity:.65 } .flagpole { fill:var(--ink) }
.flag { fill:var(--page); font-size:11px; font-weight:700 }
.legend { margin:2px 0 14px; font-size:.88rem } .key { margin-right:18px; display:inline-block }
.key i { display:inline-block; width:12px; height:12px; border-radius:3px; margin-right:6px; vertical-align:-1px }
ol.marks { margin:0 0 10px; padding-left:22px; font-size:.92rem } dt { font-weight:600 } dd { margin:0 0 8px }
""" + "\n".join(
    f"polyline.c{n} {{ stroke:var(--c{n}) }} rect.c{n} {{ fill:var(--c{n}) }} i.c{n} {{ background:var(--c{n}) }}"
    for n in range(8)
)

WORDS = {
    "tier": "Until a moment in the budget only the models of its tier may answer; tier 1 is the preferred one.",
    "default": "The answer declared in rdv.toml, given when no model made it in time. A caller always gets one.",
    "canary model": "An old, fixed model that scores all and is never chosen. If its scores move, the inputs moved.",
    "decoy": "It scores nothing and writes down exactly what the models saw, to be replayed to any version later.",
    "late": "A score that came after the answer had been given. It is recorded and never delivered.",
    "same decision": "Share of requests that two models put on the same side of one half, or give the same label.",
    "Q-Q": "The scores of two models, each sorted, against each other. On the dotted line they are spread alike.",
}


@dataclass(frozen=True)
class Mark:
    """Something that happened at a moment (epoch seconds) and is worth a flag on the time axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Sheet:
    """One table of the page: its heading, a sentence about it, and its records, each with the same keys."""

    title: str
    text: str
    records: Sequence[Record]


def page(
    found: Facts, budget_ms: float, ledger: Sequence[Record], marks: Sequence[Mark] = (), sheets: Sequence[Sheet] = ()
) -> str:
    """The whole page about a goal. ledger: records with `what`, `requests`, `holds`; sheets: further tables."""
    flags = [mark for mark in sorted(marks, key=lambda mark: mark.at) if found.began <= mark.at <= found.ended]
    parts = [
        f"<h1>{escape(found.goal)}: what happened to {found.requests:,} requests</h1>",
        f'<p class="soft">{when(found.began)} to {when(found.ended)} UTC, budget {budget_ms:g} ms</p>',
        cards(found, budget_ms, ledger),
        _ledger(ledger),
        _over_time(found, flags),
        _latency(found, budget_ms),
        _agreement(found),
        *(f"<h2>{escape(sheet.title)}</h2><p>{escape(sheet.text)}</p>{table(sheet.records)}" for sheet in sheets),
        "<h2>Words</h2><dl>" + "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in WORDS.items()) + "</dl>",
    ]
    return whole(f"rdv report: {found.goal}", parts)


def whole(title: str, parts: Sequence[str]) -> str:
    """A page of some parts, which are HTML; title: plain text."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )


def when(epoch_s: float) -> str:
    """A moment in UTC to the second."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def cards(found: Facts, budget_ms: float, ledger: Sequence[Record]) -> str:
    """The four figures to read first."""
    import numpy as np

    balanced = all(record.get("holds") is not False for record in ledger)
    elapsed = found.elapsed_ms
    inside = float(np.mean(elapsed <= budget_ms)) if elapsed.size else 0.0
    typical = f"{np.median(elapsed):.2g} ms" if elapsed.size else "-"
    defaults = found.sources.get("default", 0)
    figures = [
        (f"{found.requests:,}", "requests recorded", ""),
        (typical, "from acceptance to answer, median", ""),
        (percent(inside), "answered inside the budget", ""),
        (f"{defaults:,}", "answered by the default", ""),
        ("balances" if balanced else "does not balance", "the ledger", "good" if balanced else "bad"),
    ]
    inner = (f'<div class="card"><b class="{kind}">{big}</b><span>{small}</span></div>' for big, small, kind in figures)
    return f'<div class="cards">{"".join(inner)}</div>'


def table(records: Sequence[Record]) -> str:
    """Records as an HTML table, numbers to the right; a sentence when there are none."""
    if not records:
        return '<p class="soft">Nothing to show.</p>'
    columns = list(records[0])
    kind = {name: "num" if all(is_number(record.get(name)) for record in records) else "" for name in columns}
    head = "".join(f'<th class="{kind[name]}">{escape(name.replace("_", " "))}</th>' for name in columns)
    lines = ("".join(_td(name, record.get(name), kind[name]) for name in columns) for record in records)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _td(column: str, value: object, kind: str) -> str:
    if column == "holds" and isinstance(value, bool):
        return f'<td class="{"good" if value else "bad"}">{"yes" if value else "NO"}</td>'
    text = shown(column, value)
    return f'<td class="{kind or ("text" if len(text) > LONG_TEXT else "")}">{escape(text)}</td>'


def _ledger(ledger: Sequence[Record]) -> str:
    text = "Every accepted request ends exactly once, and what the decoy wrote down is what was accepted."
    return f"<h2>The ledger</h2><p>{text}</p>{table(ledger)}"


def _over_time(found: Facts, marks: Sequence[Mark]) -> str:
    width = float(found.edges[1] - found.edges[0])
    edges = [float(edge) - found.began for edge in found.edges]
    colour = colours([model.model for model in found.models], list(found.timeline))
    series = [
        Line(name, list(zip(edges, map(float, counts), strict=False)), colour[name])
        for name, counts in found.timeline.items()
    ]
    top = max((sum(column) for column in zip(*found.timeline.values(), strict=True)), default=1)
    x = Axis("seconds since the first request", 0, edges[-1])
    y = Axis(f"answers in {width:.2g} s", 0, float(top) * 1.12)
    flags = [(mark.at - found.began, mark.text) for mark in marks]
    drawn = svg.stacked("Who answered, over time", x, y, edges, series, flags)
    items = "".join(f"<li>{at:.1f} s: {escape(text)}</li>" for at, text in flags)
    text = "Each bar is a moment, each colour a version of a model. A swap or a fault is a change of colour, not a gap."
    return f'<h2>Who answered, over time</h2><p>{text}</p>{drawn}<ol class="marks">{items}</ol>'


def colours(models: Sequence[str], answered: Sequence[str]) -> dict[str, int]:
    """A colour for each who answered: a model's first version has the model's own, as in the other charts.

    answered: `model version` texts and `default`, in the order in which they first answered.
    """
    free = iter([*range(len(models), ANSWER_COLOUR), *range(svg.COLOURS)] * len(answered))
    found: dict[str, int] = {}
    for name in answered:
        model = name.rpartition(" ")[0]
        first = model in models and models.index(model) not in found.values()
        found[name] = DEFAULT_COLOUR if name == "default" else models.index(model) if first else next(free)
    return found


def _latency(found: Facts, budget_ms: float) -> str:
    import numpy as np

    shares = np.linspace(0, 1, QUANTILE_STEPS + 1)
    chosen = [(model.model, model.latency_ms, place) for place, model in enumerate(found.models)]
    chosen.append(("answer to the caller", found.elapsed_ms, ANSWER_COLOUR))
    drawn = [
        Line(name, [(float(np.quantile(values, q)), 100 * float(q)) for q in shares], colour)
        for name, values, colour in chosen
        if values.size
    ]
    low = min((point[0] for line in drawn for point in line.points), default=0.1)
    x = Axis("milliseconds after acceptance", max(low * 0.8, 0.01), max(budget_ms * 1.25, 1.0), log=True)
    inside = [Line(line.name, [point for point in line.points if point[0] <= x.high], line.colour) for line in drawn]
    picture = svg.lines("Latency", x, Axis("% done by then", 0, 100), inside)
    text = "How soon after acceptance a model's score was there. Every model scores every request; the policy picks."
    records = [model.record(found.requests) for model in found.models]
    return f"<h2>How fast each model was</h2><p>{text}</p>{picture}{table(records)}"


def _agreement(found: Facts) -> str:
    text = "All models scored the same requests, so they can be compared without knowing yet who was right."
    parts = [f"<h2>Do the models agree?</h2><p>{text}</p>", table([pair.record() for pair in found.pairs])]
    if len(found.models) > 1:
        parts.append(qq(found))
    return "".join(parts)


def qq(found: Facts) -> str:
    """The Q-Q chart of every model against the one that answered most."""
    import numpy as np

    shares = np.linspace(0.005, 0.995, QUANTILE_STEPS)
    ranked = sorted((model for model in found.models if model.scored), key=lambda model: -model.answered)
    if len(ranked) < 2:
        return ""
    spread = {model.model: np.quantile(model.scores[np.isfinite(model.scores)], shares) for model in ranked}
    base = spread[ranked[0].model]
    low, high = min(float(q.min()) for q in spread.values()), max(float(q.max()) for q in spread.values())
    drawn = [
        Line(model.model, [(float(a), float(b)) for a, b in zip(base, spread[model.model], strict=True)], place)
        for place, model in enumerate(found.models)
        if model.model in spread and model is not ranked[0]
    ]
    x, y = Axis(f"score of {ranked[0].model}, sorted", low, high), Axis("score of the other, sorted", low, high)
    return svg.lines("Q-Q of scores", x, y, drawn, diagonal=True)
