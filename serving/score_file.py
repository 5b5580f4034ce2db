"""Scores for the rows of a file: the goal's schema, lookups, the worker's encoder and predictor, in batches.

A row is taken exactly as the gateway takes a request, so it gets the answer, to the last bit, that the model would
have given live.
"""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from rdv.backends import select
from rdv.config import Project
from rdv.enrich import Enricher, compile_enricher
from rdv.errors import InputError, NotFound
from rdv.inputs import Rows
from rdv.records import Pointer, decode, pointer_key
from rdv.schema import Field, GoalSchema, load_schema
from rdv.serving.worker.loading import Loader
from rdv.serving.worker.scoring import LoadedModel, score
from rdv.serving.worker.shelf import Shelf

BATCH_ROWS = 256
# as in training: text may be anything but empty, numbers and booleans know these as missing
_MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"})
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Scored(msgspec.Struct, frozen=True):
    """One row. row: its number in the file, from 1. values: one number, or one a label; NaN where the model has none.

    problem: why the gateway would have refused it; then there are no values.
    """

    row: int
    values: tuple[float, ...] = ()
    problem: str = ""


class FileScorer:
    """A version of a model, ready to score records of its goal."""

    def __init__(self, schema: GoalSchema, enricher: Enricher, model: LoadedModel) -> None:
        self.schema, self._enricher, self._model = schema, enricher, model
        self._pack = schema.row_packer(schema.row_schema())
        self.version, self.info = model.version, model.info

    def score(self, records: Iterable[Mapping[str, object]]) -> Iterator[Scored]:
        """Each record's scores, in order; memory use does not grow with their number."""
        numbered = enumerate(records, start=1)
        while chunk := list(islice(numbered, BATCH_ROWS)):
            yield from self._batch(chunk)

    def _batch(self, chunk: list[tuple[int, Mapping[str, object]]]) -> Iterator[Scored]:
        taken: dict[int, tuple[bytes, tuple[str | None, ...]]] = {}
        problems: dict[int, str] = {}
        for row, record in chunk:
            try:
                taken[row] = self._row(record)
            except InputError as error:
                problems[row] = error.what
        scored = dict(zip(taken, score(self._model, self._rows(list(taken.values()))).tolist(), strict=True))
        for row, _ in chunk:
            yield Scored(row, problem=problems[row]) if row in problems else Scored(row, tuple(scored[row]))

    def _row(self, record: Mapping[str, object]) -> tuple[bytes, tuple[str | None, ...]]:
        """The enriched row of a record: its numbers as doubles, its strings."""
        import numpy as np

        request = self.schema.decode(msgspec.json.encode(record))
        numbers, strings = self._pack(request)
        found = self._enricher.add(self.schema.record(request))
        return numbers + np.array(found.numbers, dtype="<f8").tobytes(), (*strings, *found.strings)

    def _rows(self, taken: list[tuple[bytes, tuple[str | None, ...]]]) -> Rows:
        import numpy as np

        numbers = np.frombuffer(b"".join([row for row, _ in taken]), dtype="<f8")
        strings = [list(column) for column in zip(*(row for _, row in taken), strict=True)]
        return Rows(numbers.reshape(len(taken), self._model.columns), strings)


def open_scorer(project: Project, model: str, version: str = "") -> FileScorer:
    """A version of a model (default: the current one) with its goal's schema and lookups.

    Raises NotFound, ConfigError, and what loading raises; the file is probed in a child first.
    """
    settings = project.config.models.get(model)
    if settings is None:
        known = ", ".join(sorted(project.config.models)) or "none"
        raise NotFound(f"there is no model {model!r} in rdv.toml", f"known: {known}")
    goal = project.config.goals[settings.goal]
    lookups = goal.modelling_goals(settings.goal)[settings.topic()].enrich
    schema = load_schema(goal, project.folder)
    enricher = compile_enricher(lookups, project.folder, schema.row_schema())
    rows, registry = schema.row_schema(lookups), select.registry(project)
    if not version:
        entry = registry.get(pointer_key(model))
        if entry is None:
            raise NotFound(f"model {model} has no current version", "name one with --version, or `rdv deploy` one")
        version = decode(Pointer, entry.value, pointer_key(model)).version
    with tempfile.TemporaryDirectory(prefix="rdv-score-") as folder:
        loader = Loader(model, goal, rows, registry, select.artifacts(project), Shelf(Path(folder)))
        return FileScorer(schema, enricher, loader.load(version))


def score_file(project: Project, model: str, path: Path, version: str = "") -> Iterator[Scored]:
    """The scores of a file's rows (CSV with a header, or JSON lines), in order; see `open_scorer`."""
    scorer = open_scorer(project, model, version)
    return scorer.score(read_records(path, scorer.schema))


def read_records(path: Path, schema: GoalSchema) -> Iterator[dict[str, object]]:
    """The rows of a CSV or JSON-lines file as records of a goal; fields outside its schema are left out.

    An empty CSV cell is a missing value (in columns of numbers and booleans NA, N/A, NaN, null and None too); a cell
    that is no value of its field's kind stays text, for the schema to refuse. InputError when the file cannot be read.
    """
    fields = {field.name: field for field in schema.fields}
    readers = {".csv": _csv_records, ".jsonl": _json_records, ".ndjson": _json_records}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is none of {', '.join(readers)}", "convert it")
    try:
        yield from reader(path, fields)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}", "it must be UTF-8 text") from error


def _csv_records(path: Path, fields: Mapping[str, Field]) -> Iterator[dict[str, object]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line in csv.DictReader(file):
            yield {
                name: _value(fields[name], cell)
                for name, cell in line.items()
                if name in fields and cell and not (fields[name].is_number and cell.strip() in _MISSING)
            }


def _json_records(path: Path, fields: Mapping[str, Field]) -> Iterator[dict[str, object]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    record: Any = msgspec.json.decode(line, type=dict[str, Any])
                except msgspec.MsgspecError as error:
                    raise InputError(f"line {number} of {path} is not a JSON object: {error}", "mend it") from None
                yield {name: value for name, value in record.items() if name in fields}


def _value(field: Field, cell: str) -> object:
    """A CSV cell as a value of its field's kind; the text itself when it is none."""
    if field.kind == "string":
        return cell
    if field.kind == "boolean":
        return _TRUTH.get(cell.strip().lower(), cell)
    try:
        number = float(cell)
    except ValueError:
        return cell
    if not math.isfinite(number):
        return cell
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
