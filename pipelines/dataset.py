"""Data sets and features: a file (or anything else) as a typed table, then the matrix and parts that training reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np

from rdv.config import Lookup
from rdv.enrich import compile_enricher
from rdv.errors import ConfigError, InputError, UsageError
from rdv.ids import digest_bytes, digest_file
from rdv.inputs import RowSchema
from rdv.pipelines.base import Context, Inputs, StepResult, Task
from rdv.pipelines.features import About, choose_inputs, read_table, save_features
from rdv.pipelines.labels import Answers, encode_answers
from rdv.pipelines.names import Value
from rdv.pipelines.read_csv import read_csv
from rdv.pipelines.read_parquet import read_parquet
from rdv.pipelines.splits import PARTS, TRAIN, Parts, split_rows
from rdv.pipelines.tables import Column, ColumnType, Table, save_table, string_column, table_from_columns
from rdv.schema import GoalSchema, load_schema

_READERS = {".csv": read_csv, ".tsv": read_csv, ".parquet": read_parquet, ".pq": read_parquet}


class DatasetTask(Task):
    """Makes a data set; subclass it to read from somewhere else than a file.

    A subclass writes `read`. What it reads must be told: digests in `external`, all else in `parameters`.
    """

    family = "dataset"
    version = "1"

    def parameters(self) -> dict[str, Value]:
        """The model's name: two models share a data set only where a subclass says so."""
        return {"model": self.model}

    def read(self, inputs: Inputs, params: Mapping[str, Value]) -> Mapping[str, Sequence[object]]:
        """Column name to values: numbers, booleans, text, None where missing; all of one length."""
        raise NotImplementedError(f"{type(self).__name__}.read")

    def run_step(self, inputs: Inputs, output_folder: Path, params: Mapping[str, Value]) -> StepResult:
        """Write the table."""
        return _write(table_from_columns(self.read(inputs, params)), output_folder)


class FileDatasetTask(DatasetTask):
    """The data set of the model's `data`, a CSV or Parquet file; it enters by its content."""

    version = "1"

    @property
    def scope(self) -> str:
        """The modelling goal: its models share their data."""
        return self.context.model.topic()

    def file(self) -> Path:
        """The data file; UsageError when there is none."""
        data = self.context.model.data
        if not data:
            raise ConfigError(f"model {self.model} has no data", 'set data = "FILE.csv" in rdv.toml')
        path = self.context.project.folder / data
        if not path.is_file():
            raise UsageError(f"the data of {self.model} is missing: {data}", "see `data` of the model in rdv.toml")
        if path.suffix.lower() not in _READERS:
            raise ConfigError(
                f"data {data!r} is no CSV or Parquet file", f"its name ends in one of {', '.join(_READERS)}"
            )
        return path

    def external(self) -> dict[str, str]:
        """The file's digest."""
        return {"data": digest_file(self.file())}

    def parameters(self) -> dict[str, Value]:
        """The format, and the types that the goal's schema gives its fields."""
        types = sorted(column_types(self.context).items())
        return {"format": self.file().suffix.lower(), "types": digest_bytes(msgspec.json.encode(types))[:40]}

    def run_step(self, inputs: Inputs, output_folder: Path, params: Mapping[str, Value]) -> StepResult:
        """Read the file with the schema's types, infer the others, write the table."""
        file = self.file()
        return _write(_READERS[file.suffix.lower()](file, column_types(self.context)), output_folder)


class FeaturesTask(Task):
    """Makes features of a data set: labels, split, enrichment, inputs and matrix.

    Models with the same settings share them. A subclass names another `dataset_task`.
    """

    family = "features"
    version = "1"
    dataset_task: ClassVar[type[Task]] = FileDatasetTask

    @property
    def scope(self) -> str:
        """The modelling goal: its models share their features."""
        return self.context.model.topic()

    def upstream(self) -> dict[str, Task]:
        """The data set."""
        return {"dataset": self.sibling(self.dataset_task)}

    def external(self) -> dict[str, str]:
        """The digests of the tables that the enricher looks things up in."""
        found = {}
        for at, lookup in enumerate(self.context.modelling.enrich):
            if lookup.table:
                found[f"lookup{at}"] = _digest(self.context.project.folder, lookup)
        return found

    def code_modules(self) -> tuple[str, ...]:
        """The modules of the enricher's functions."""
        return tuple(one.function.partition(":")[0] for one in self.context.modelling.enrich if one.function)

    def parameters(self) -> dict[str, Value]:
        """Label, answer, split, columns, and the goal's schema with its lookups."""
        model, goal = self.context.model, self.context.goal
        declared = [goal_schema(self.context).document, msgspec.to_builtins(self.context.modelling.enrich)]
        return {
            "answer": goal.answer,
            "categorical": model.categorical,
            "exclude": model.exclude,
            "label": model.label,
            "labels": goal.labels,
            "positive": model.positive,
            "schema": digest_bytes(msgspec.json.encode(declared, order="sorted"))[:40],
            "split_by": model.split.by,
            "split_field": model.split.field,
            "split_seed": model.split.seed,
            "split_test": model.split.test,
            "split_validation": model.split.validation,
        }

    def run_step(self, inputs: Inputs, output_folder: Path, params: Mapping[str, Value]) -> StepResult:
        """Write the features."""
        model, goal = self.context.model, self.context.goal
        if not model.label:
            raise ConfigError(f"model {self.model} has no label", 'set label = "COLUMN" in rdv.toml')
        if goal.answer == "labels" and not goal.labels:
            raise ConfigError(
                f"goal {model.goal} answers labels and names none", 'set labels = ["...", "..."] in rdv.toml'
            )
        full = read_table(inputs["dataset"].fetch)
        answers = encode_answers(goal.answer, full.column(model.label, "label"), goal.labels, model.positive)
        table = full.take(answers.known)
        parts = split_rows(model.split, table)
        values = answers.values[answers.known]
        _check_training(answers, values, parts)
        schema = row_schema(self.context)
        carried = _carried(self.context, schema, table)
        inputs_ = choose_inputs(schema, carried, parts, model.categorical, {*model.exclude, model.label})
        own = tuple(one.name for one in goal_schema(self.context).fields if one.name in carried.columns)
        about = About(schema, own, inputs_, answers.kind, answers.labels, answers.positive)
        save_features(output_folder, about, carried, values, parts)
        ignored = [name for name in table.columns if name not in inputs_.names() and name != model.label]
        counts = dict(zip(PARTS, np.bincount(parts, minlength=3).tolist(), strict=True))
        dropped = len(full) - len(table)
        return StepResult(extra={"rows": counts, "rows_without_label": dropped, "columns_not_read": ignored})


def goal_schema(context: Context) -> GoalSchema:
    """The compiled request schema of the context's goal, read once."""
    if context.schema is None:
        context.schema = load_schema(context.goal, context.project.folder)
    found: GoalSchema = context.schema
    return found


def row_schema(context: Context) -> RowSchema:
    """The columns of an enriched row of the context's modelling goal."""
    return goal_schema(context).row_schema(context.modelling.enrich)


def column_types(context: Context) -> dict[str, ColumnType]:
    """The types that the goal's schema and lookups give to columns."""
    types: dict[str, ColumnType] = {field.name: field.kind for field in goal_schema(context).fields}
    for lookup in context.modelling.enrich:
        types |= lookup.columns
    return types


def enriched_table(context: Context, table: Table) -> Table:
    """The table with the enricher's columns that it lacks, looked up for every row."""
    enricher = compile_enricher(context.modelling.enrich, context.project.folder, goal_schema(context).row_schema(()))
    missing = [name for name in (*enricher.columns.numbers, *enricher.columns.strings) if name not in table.columns]
    if not missing:
        return table
    absent = dict.fromkeys(field.name for field in goal_schema(context).fields)
    found = [enricher.add({**absent, **record}) for record in table.records(range(len(table)), absent)]
    columns = dict(table.columns)
    for at, name in enumerate(enricher.columns.numbers):
        if name in missing:
            columns[name] = Column("number", np.array([one.numbers[at] for one in found], dtype=np.float64))
    for at, name in enumerate(enricher.columns.strings):
        if name in missing:
            columns[name] = string_column(one.strings[at] for one in found)
    return Table(columns)


def _carried(context: Context, schema: RowSchema, table: Table) -> Table:
    """The columns of the table that a request carries, enriched, in the row schema's order, typed as it says."""
    columns = enriched_table(context, table).columns
    for name in (*schema.numbers, *schema.strings):
        if name in columns and (columns[name].type == "string") != (name in schema.strings):
            raise InputError(
                f"column {name!r} is {columns[name].type} in the data, "
                f"{'string' if name in schema.strings else 'number'} in the goal's schema"
            )
    return Table({name: columns[name] for name in (*schema.numbers, *schema.strings) if name in columns})


def _check_training(answers: Answers, values: np.ndarray[tuple[int], np.dtype[np.float64]], parts: Parts) -> None:
    if answers.kind == "number":
        return
    found = set(np.unique(values[parts == TRAIN]).tolist())
    places = (1.0, 0.0) if answers.kind == "probability" else range(len(answers.labels))
    for place in places:
        if float(place) not in found:
            raise InputError(
                f"the training part has no row of class {answers.labels[int(place)]!r}",
                "use more data or another split",
            )


def _digest(folder: Path, lookup: Lookup) -> str:
    try:
        return digest_file(folder / lookup.table)
    except OSError as error:
        raise ConfigError(
            f"lookup table {lookup.table} cannot be read: {error.strerror}", "see `rdv config check`"
        ) from None


def _write(table: Table, folder: Path) -> StepResult:
    save_table(table, folder)
    columns = {name: column.type for name, column in table.columns.items()}
    return StepResult(extra={"rows": len(table), "columns": columns})
