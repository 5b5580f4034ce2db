"""What a version would have said: the decoy's journal through it, beside what was said then.

It runs in a niced process of its own, reads files only, and touches neither live traffic nor the workers' state.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rdv import errors
from rdv.backends import select
from rdv.config import Project
from rdv.errors import InputError, ModelUnloadable, NotFound, RdvError
from rdv.inputs import RowSchema, compile_encoder
from rdv.processes import die_with_parent, how_it_ended
from rdv.records import Pointer, decode, pointer_key
from rdv.serving.bus.port import Events, Requests
from rdv.serving.processes.limited import Limits, run_limited
from rdv.serving.processes.project_file import decode_project, encode_project
from rdv.serving.recording.comparison import Comparison, compare
from rdv.serving.recording.decoy import journal_folder
from rdv.serving.recording.events import decode_event, events_topic
from rdv.serving.recording.journal import Segment, read_journal, segments
from rdv.serving.recording.match import batch_ids
from rdv.serving.worker.loading import Loader
from rdv.serving.worker.scoring import LoadedModel, rows_of, score
from rdv.serving.worker.shelf import Shelf

if TYPE_CHECKING:
    from rdv.inputs import Matrix

MOST_ROWS = 100_000
_SINGLE_ROWS = 500
_NICENESS = 10
_LIMITS = Limits(wall_s=4 * 3600.0, memory_bytes=32 << 30)
Recorded = Mapping[str, tuple[str, tuple[float, ...], float]]


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long evaluation takes, in milliseconds; p50 and p99 of single rows, mean a row in the journal's batches."""

    single_p50_ms: float
    single_p99_ms: float
    batched_mean_ms: float


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """A version on the journal's requests. rows: scored; unusable: of them without a score; unfit: not scorable, since

    the schema they were recorded in lacks an input. against: the model whose recorded scores are compared, with the
    versions that made them; recorded_p50_ms, recorded_p99_ms: from acceptance to its score, live.
    """

    model: str
    version: str
    topic: str
    rows: int
    unusable: int
    unfit: int
    first_at: float
    last_at: float
    timing: Timing
    against: str
    against_versions: tuple[str, ...]
    recorded_p50_ms: float | None
    recorded_p99_ms: float | None
    comparison: Comparison


class _Order(msgspec.Struct, frozen=True):
    project: bytes
    model: str
    version: str
    against: str
    most: int
    parent: int


class _Outcome(msgspec.Struct, frozen=True):
    report: ReplayReport | None = None
    error: str = ""
    what: str = ""
    hint: str = ""


def replay(project: Project, model: str, version: str = "", against: str = "", most: int = MOST_ROWS) -> ReplayReport:
    """Feed the newest `most` requests of a model's journal to a version of it, in a process of its own.

    version: default is the current one. against: the model whose recorded scores are compared with, default is the
    first one of the goal's first tier. Raises NotFound for an unknown model, version or an empty journal, and what
    loading raises.
    """
    order = _Order(encode_project(project), model, version, against, most, os.getpid())
    argv = [sys.executable, "-P", "-m", "rdv.serving.recording.replay", "{result}"]
    ended = run_limited(argv, msgspec.msgpack.encode(order), _LIMITS)
    if ended.over or ended.code != 0:
        said = f": {ended.tail.splitlines()[-1]}" if ended.tail else ""
        raise ModelUnloadable(f"the replay {ended.over or 'ended: ' + how_it_ended(ended.code)}{said}")
    outcome = msgspec.msgpack.decode(ended.result, type=_Outcome)
    if outcome.report is None:
        kind = getattr(errors, outcome.error, RdvError)
        raise kind(outcome.what, outcome.hint)
    return outcome.report


def replay_here(project: Project, model: str, version: str, against: str, most: int) -> ReplayReport:
    """The same in this process."""
    settings = project.config.models.get(model)
    if settings is None:
        raise NotFound(f"there is no model {model!r} in rdv.toml", "see `rdv models`")
    goal, topic = project.config.goals[settings.goal], settings.topic()
    batches = newest(journal_folder(project.state, topic), most)
    if not batches:
        raise NotFound(f"the journal of {topic} is empty here", _journalled(project))
    against = against or (goal.tiers[0].models[0] if goal.tiers else model)
    loaded = _load(project, model, version, batches[-1][0])
    scores, unfit, batched_s = _score_all(loaded, batches)
    ids = [one for _, batch in batches for one in batch_ids(batch)]
    recorded = _recorded(journal_folder(project.state, events_topic(settings.goal)), against, frozenset(ids))
    others = _aligned(recorded, ids, loaded.predictor.width)
    return ReplayReport(
        model=model,
        version=loaded.version,
        topic=topic,
        rows=len(ids),
        unusable=_unusable(scores) - unfit,
        unfit=unfit,
        first_at=memoryview(batches[0][1].accepted_at).cast("d")[0],
        last_at=memoryview(batches[-1][1].accepted_at).cast("d")[-1],
        timing=_timing(loaded, batches, batched_s, len(ids) - unfit),
        against=against,
        against_versions=tuple(sorted({version for version, _, _ in recorded.values()})),
        recorded_p50_ms=_quantile([late for _, _, late in recorded.values()], 0.5),
        recorded_p99_ms=_quantile([late for _, _, late in recorded.values()], 0.99),
        comparison=compare(goal.answer, goal.labels, scores, others),
    )


def newest(folder: Path, most: int) -> list[tuple[RowSchema, Requests]]:
    """The newest requests of a journal, at least `most` rows if there are so many, oldest first, in whole batches."""
    kept: list[tuple[RowSchema, Requests]] = []
    rows = 0
    for path in reversed(segments(folder)):
        try:
            segment = Segment(path)
            found = [(segment.header.schema(), batch) for batch in segment if isinstance(batch, Requests)]
        except (FileNotFoundError, errors.CorruptArtifact):
            continue
        while found and rows < most:
            kept.append(found.pop())
            rows += kept[-1][1].n
        if rows >= most:
            break
    return kept[::-1]


def _load(project: Project, model: str, version: str, schema: RowSchema) -> LoadedModel:
    registry = select.registry(project)
    if not version:
        entry = registry.get(pointer_key(model))
        if entry is None:
            raise NotFound(f"model {model} has no current version", "name one with --version, or `rdv deploy` one")
        version = decode(Pointer, entry.value, pointer_key(model)).version
    goal = project.config.goals[project.config.models[model].goal]
    with tempfile.TemporaryDirectory(prefix="rdv-replay-") as folder:
        return Loader(model, goal, schema, registry, select.artifacts(project), Shelf(Path(folder))).load(version)


def _score_all(loaded: LoadedModel, batches: list[tuple[RowSchema, Requests]]) -> tuple[Matrix, int, float]:
    """All scores in order, how many rows could not be encoded at all, and the seconds it took."""
    import numpy as np

    models: dict[RowSchema, LoadedModel | None] = {}
    parts, unfit, took_s = [], 0, 0.0
    for schema, batch in batches:
        if schema not in models:
            models[schema] = _for_schema(loaded, schema)
        model = models[schema]
        if model is None:
            unfit += batch.n
            parts.append(np.full((batch.n, loaded.predictor.width), np.nan))
            continue
        began = time.perf_counter()
        parts.append(score(model, rows_of([batch], model.columns)))
        took_s += time.perf_counter() - began
    return np.concatenate(parts), unfit, took_s


def _for_schema(loaded: LoadedModel, schema: RowSchema) -> LoadedModel | None:
    try:
        encode = compile_encoder(loaded.info.inputs, schema)
    except InputError:
        return None
    return LoadedModel(loaded.version, loaded.digest, loaded.info, loaded.predictor, encode, len(schema.numbers))


def _journalled(project: Project) -> str:
    """How requests come into the journals of this machine."""
    if not select.is_remote(project, "services"):
        return "requests are journalled while `rdv serve` runs"
    there = msgspec.structs.replace(project, kept=Path("alloc/data"))
    theirs, ours = (journal_folder(one.state, "") for one in (there, project))
    return f"the decoy of {project.env} keeps its own: copy {theirs} of its allocation to {ours}"


def _recorded(folder: Path, model: str, ids: frozenset[str]) -> Recorded:
    """What a model said live about these requests: version, values, latency in milliseconds."""
    found: dict[str, tuple[str, tuple[float, ...], float]] = {}
    for _, batch in read_journal(folder):
        if not isinstance(batch, Events):
            continue
        for one, record in zip(batch_ids(batch), batch.records, strict=True):
            if one in ids:
                for said in decode_event(record).scores:
                    if said.model == model:
                        found[one] = (said.version, said.values, said.latency_ms)
    return found


def _aligned(recorded: Recorded, ids: list[str], width: int) -> Matrix:
    import numpy as np

    others = np.full((len(ids), width), np.nan)
    for at, one in enumerate(ids):
        said = recorded.get(one)
        if said is not None and len(said[1]) == width:
            others[at] = said[1]
    return others


def _timing(
    loaded: LoadedModel, batches: list[tuple[RowSchema, Requests]], batched_s: float, batched_rows: int
) -> Timing:
    schema, batch = batches[-1]
    model = _for_schema(loaded, schema) or loaded
    rows = rows_of([batch], model.columns)
    single = type(rows)(rows.numbers[:1], [column[:1] for column in rows.strings])
    took_ms = []
    for _ in range(_SINGLE_ROWS):
        began = time.perf_counter()
        score(model, single)
        took_ms.append((time.perf_counter() - began) * 1e3)
    return Timing(
        single_p50_ms=_quantile(took_ms, 0.5) or 0.0,
        single_p99_ms=_quantile(took_ms, 0.99) or 0.0,
        batched_mean_ms=batched_s / max(1, batched_rows) * 1e3,
    )


def _unusable(scores: Matrix) -> int:
    import numpy as np

    return int((~np.isfinite(scores).all(axis=1)).sum())


def _quantile(values: list[float], q: float) -> float | None:
    import numpy as np

    return float(np.quantile(values, q)) if values else None


def main() -> None:
    """The child's side: order on stdin, outcome on the descriptor named by the argument."""
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Order)
    die_with_parent(order.parent)
    os.nice(_NICENESS)
    try:
        project = decode_project(order.project)
        outcome = _Outcome(replay_here(project, order.model, order.version, order.against, order.most))
    except RdvError as error:
        outcome = _Outcome(None, type(error).__name__, error.what, error.hint)
    with os.fdopen(int(sys.argv[1]), "wb") as result:
        result.write(msgspec.msgpack.encode(outcome))


if __name__ == "__main__":
    main()
