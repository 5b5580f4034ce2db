"""Features: which columns a model reads, its training matrix, and the rows behind it as serving would carry them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from rdv.errors import ConfigError, InputError
from rdv.inputs import InputField, InputSpec, Rows, RowSchema, compile_encoder, number_text
from rdv.manifest import ModelInfo
from rdv.pipelines.splits import PARTS, TRAIN, Parts
from rdv.pipelines.tables import CODES, COLUMNS, NUMBERS, Table, load_table, save_table

if TYPE_CHECKING:
    from rdv.inputs import Matrix

MATRIX, ANSWERS, PARTS_FILE, ABOUT = "matrix.npy", "answers.npy", "parts.npy", "features.json"
MOST_CATEGORIES = 5000


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is not a number about features: the row schema, a model's inputs, and what is to be answered.

    own: fields of the request itself, the others being the enricher's.
    """

    schema: RowSchema
    own: tuple[str, ...]
    inputs: InputSpec
    kind: str
    labels: tuple[str, ...] = ()
    positive: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one part. matrix: (n, d) float64. answers: (n,) float64, see `rdv.pipelines.labels`."""

    matrix: Matrix
    answers: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Features:
    """What a training step reads. matrix: (n, d); answers, parts: (n,)."""

    about: About
    matrix: Matrix
    answers: NDArray[np.float64]
    parts: Parts

    @property
    def inputs(self) -> InputSpec:
        """The columns of the matrix, in order."""
        return self.about.inputs

    @property
    def kind(self) -> str:
        """What the model answers: `probability`, `labels` or `number`."""
        return self.about.kind

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the answer's vector, for `labels` and `probability`."""
        return self.about.labels

    def part(self, name: str) -> Part:
        """The rows of `train`, `validation` or `test`."""
        chosen = self.parts == PARTS.index(name)
        return Part(np.ascontiguousarray(self.matrix[chosen]), self.answers[chosen])

    def indices(self, name: str) -> NDArray[np.int64]:
        """The places of a part's rows in the table."""
        return np.flatnonzero(self.parts == PARTS.index(name))

    def model_info(self, file: str, flavour: str) -> ModelInfo:
        """What a training step returns about the model that it wrote into a file of its output folder."""
        return ModelInfo(
            file=file,
            flavour=flavour,
            kind=self.kind,
            inputs=self.inputs,
            labels=self.labels if self.kind == "labels" else (),
            positive=self.about.positive,
        )


def choose_inputs(
    schema: RowSchema, table: Table, parts: Parts, categorical: Collection[str], exclude: Collection[str]
) -> InputSpec:
    """A model's inputs: the columns of the schema that the data has, without the excluded ones.

    Strings and `categorical` columns are categories; their vocabulary is what the training part shows. Raises
    ConfigError for names nobody knows, InputError when nothing is left or a column has too many categories.
    """
    columns = [name for name in (*schema.numbers, *schema.strings) if name in table.columns]
    unknown = [name for name in categorical if name not in columns]
    if unknown:
        raise ConfigError(f"categorical column {unknown[0]!r} is not in the goal's schema and the data")
    training = table.take(parts == TRAIN)
    fields = []
    for name in columns:
        if name in exclude:
            continue
        category = name in schema.strings or name in categorical
        fields.append(
            InputField(name, "category", _vocabulary(name, training)) if category else InputField(name, "number")
        )
    if not fields:
        raise InputError("no column of the data is a field of the goal's schema", "see `rdv config check`")
    return InputSpec(tuple(fields))


def _vocabulary(name: str, table: Table) -> tuple[str, ...]:
    column = table.columns[name]
    if column.type == "string":
        found = [column.values[code] for code in np.unique(column.data).tolist() if code >= 0]
    else:
        found = [number_text(value) for value in np.unique(column.data[~np.isnan(column.data)]).tolist()]
    if len(found) > MOST_CATEGORIES:
        raise InputError(
            f"column {name!r} has {len(found)} different values, too many for categories",
            f'add it to the model\'s exclude: exclude = ["{name}"]',
        )
    return tuple(found)


def table_rows(schema: RowSchema, table: Table, rows: Sequence[int] | NDArray[np.int64]) -> Rows:
    """Some rows of a table as a batch in the row schema; columns that the table lacks are missing throughout."""
    index = np.asarray(rows, dtype=np.int64)
    numbers = np.full((len(index), len(schema.numbers)), np.nan, dtype=np.float64)
    for at, name in enumerate(schema.numbers):
        if name in table.columns:
            numbers[:, at] = table.columns[name].data[index]
    strings: list[list[str | None]] = []
    for name in schema.strings:
        if name not in table.columns:
            strings.append([None] * len(index))
            continue
        column = table.columns[name]
        values: tuple[str | None, ...] = (*column.values, None)
        strings.append([values[code] for code in column.data[index].tolist()])
    return Rows(numbers, strings)


def save_features(folder: Path, about: About, table: Table, answers: NDArray[np.float64], parts: Parts) -> None:
    """Write features into a folder: the table in the row schema, the encoded matrix, answers, parts, description."""
    everything = np.arange(len(table), dtype=np.int64)
    matrix = compile_encoder(about.inputs, about.schema)(table_rows(about.schema, table, everything))
    save_table(table, folder)
    np.save(folder / MATRIX, np.ascontiguousarray(matrix), allow_pickle=False)
    np.save(folder / ANSWERS, answers, allow_pickle=False)
    np.save(folder / PARTS_FILE, parts, allow_pickle=False)
    (folder / ABOUT).write_bytes(msgspec.json.encode(about))


def read_features(file: Callable[[str], Path]) -> Features:
    """The features of an artifact; file: a function from a path in the artifact to a local file."""
    about = msgspec.json.decode(file(ABOUT).read_bytes(), type=About)
    arrays = [np.load(file(name), allow_pickle=False) for name in (MATRIX, ANSWERS, PARTS_FILE)]
    for array in arrays:
        array.flags.writeable = False
    return Features(about, *arrays)


def read_table(file: Callable[[str], Path]) -> Table:
    """The table of a data set's or of features' artifact; file: from a path in the artifact to a local file."""
    return load_table(file(NUMBERS), file(CODES), file(COLUMNS))
