"""The report of a merge request in Markdown: each model's newest version against the one that is served."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from rdv.cli import output
from rdv.cli.compare import differences
from rdv.cli.model_views import manifest_of, newest_first, test_metrics
from rdv.cli.report.facts import decision, latencies, number, rank_correlation
from rdv.cli.stored import registered
from rdv.errors import RdvError

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.records import Version
    from rdv.serving.score_file import FileScorer

ROWS, TIMED = 1000, 200
LATENCY = ["model", "answered", "share", "scored", "missing", "late", "p50_ms", "p99_ms"]
_NOT_SHOWN = ("metric", "file")


def markdown(project: Project) -> str:
    """The whole report: every model of rdv.toml, then what gateways have recorded."""
    from rdv.backends import select

    versions, pointers = registered(select.registry(project))
    parts = [f"# {project.config.project}: models in `{project.env}`"]
    for model in sorted(project.config.models):
        own = newest_first([one for one in versions if one.model == model])
        served = pointers[model].version if model in pointers else ""
        champion = next((one for one in own if one.version == served), None)
        parts += model_part(project, model, own[0] if own else None, champion)
    for goal in sorted(project.config.goals):
        parts += recorded_part(project, goal)
    return "\n\n".join(parts) + "\n"


def model_part(project: Project, model: str, newest: Version | None, champion: Version | None) -> Iterator[str]:
    """What there is to say of a model: its metrics beside the champion's, what changed, agreement, time a row."""
    yield f"## {model}"
    if newest is None:
        yield f"No version yet: `rdv train {model}` publishes one."
        return
    if champion is None:
        yield f"`{newest.version}`, the first: nothing is served that it could be compared with."
    elif champion.version == newest.version:
        yield f"`{newest.version}`, which is served already: nothing changed."
    else:
        yield f"`{newest.version}` against the champion `{champion.version}`, on rows that neither has seen."
    yield metrics_table(test_metrics(newest), test_metrics(champion) if champion else {})
    if champion is not None and champion.version != newest.version:
        yield "### What changed"
        yield changes_table(project, model, champion.version, newest.version)
        yield from agreement_part(project, model, champion.version, newest.version)


def metrics_table(newest: dict[str, float], champion: dict[str, float]) -> str:
    """A line a metric."""
    lines = [
        [name, output.cell(champion.get(name)), output.cell(value), _change(value, champion.get(name))]
        for name, value in sorted(newest.items())
    ]
    return output.markdown(["metric", "champion", "this", "change"], lines, [False, True, True, True])


def _change(value: float, before: float | None) -> str:
    return output.EMPTY if before is None else f"{value - before:+.4g}"


def changes_table(project: Project, model: str, one: str, other: str) -> str:
    """A line for each thing that is not the same in both, but for what comes of it."""
    found = differences(manifest_of(project, model, one), manifest_of(project, model, other))
    lines = [
        [str(each["aspect"]), str(each["name"]), output.cell(each["from"]), output.cell(each["to"])]
        for each in found
        if each["aspect"] not in _NOT_SHOWN
    ]
    return output.markdown(["what", "name", "champion", "this"], lines, [False] * 4) if lines else "Nothing."


def agreement_part(project: Project, model: str, one: str, other: str) -> Iterator[str]:
    """How alike both answer the rows of the model's data, and how long each takes for one."""
    yield "### Agreement and time"
    try:
        yield agreement(project, model, one, other)
    except RdvError as error:
        yield f"They could not be compared: {error}"


def agreement(project: Project, model: str, one: str, other: str) -> str:
    """The table of the agreement; an RdvError when a version or the data cannot be read."""
    import numpy as np

    from rdv.serving.score_file import open_scorer, read_records

    champion, newest = (open_scorer(project, model, version) for version in (one, other))
    data = project.folder / project.config.models[model].data
    rows: list[Any] = list(islice(read_records(data, newest.schema), ROWS))
    answer = project.config.goals[project.config.models[model].goal].answer
    both = [
        (a.values, b.values)
        for a, b in zip(champion.score(rows), newest.score(rows), strict=True)
        if a.values and b.values
    ]
    a, b = (np.array([number(pair[side]) for pair in both]) for side in (0, 1))
    same = np.array([decision(pair[0], answer) == decision(pair[1], answer) for pair in both])
    said = [
        ["rows of the data, at most", str(len(both))],
        *([["same decision", output.percent(float(same.mean()))]] if answer != "number" and len(both) else []),
        ["mean difference", output.cell(float(np.abs(a - b).mean()) if len(both) else None)],
        ["rank correlation", output.cell(rank_correlation(a, b) if len(both) else None)],
        ["champion: a row, p50 and p99", _timed(champion, rows)],
        ["this: a row, p50 and p99", _timed(newest, rows)],
    ]
    return output.markdown(["", ""], said, [False, True])


def _timed(scorer: FileScorer, rows: Sequence[Any]) -> str:
    """How long a row alone takes on this machine."""
    import numpy as np

    taken = []
    for row in rows[:TIMED]:
        begun = time.perf_counter()
        list(scorer.score([row]))
        taken.append(1e3 * (time.perf_counter() - begun))
    found = latencies(np.array(taken, dtype=np.float64))
    return f"{output.cell(found['p50_ms'])} ms, {output.cell(found['p99_ms'])} ms"


def recorded_part(project: Project, goal: str) -> Iterator[str]:
    """What the gateways whose journals are here have recorded of a goal; nothing when that is nothing."""
    from rdv.cli.recorded import events
    from rdv.cli.report.facts import facts

    found = facts(goal, project.config.goals[goal].answer, events(project, goal, 200_000))
    if not found.requests:
        return
    yield f"## Recorded for {goal}: {found.requests:,} requests"
    records = [one.record(found.requests) for one in found.models]
    cells = [[output.shown(name, one.get(name)) for name in LATENCY] for one in records]
    numeric = [name != "model" for name in LATENCY]
    yield output.markdown([name.replace("_", " ") for name in LATENCY], cells, numeric)
    if found.pairs:
        pairs = [one.record() for one in found.pairs]
        names = list(pairs[0])
        lines = [[output.shown(name, one[name]) for name in names] for one in pairs]
        yield output.markdown([name.replace("_", " ") for name in names], lines, [name != "models" for name in names])
