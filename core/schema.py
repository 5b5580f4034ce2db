"""A goal's request schema: a listed part of JSON Schema, compiled once to a fast and strict decoder.

Of a key that is there twice the last value counts, and the earlier ones must have the field's type and bounds (see
docs/decisions/0004-duplicate-keys.md). Numbers are doubles, as they travel to the models.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from rdv.config import Goal, Lookup
from rdv.errors import ConfigError
from rdv.inputs import RowSchema
from rdv.schema_fields import Field, Read, read_schema
from rdv.schema_probes import probes
from rdv.schema_struct import Packed, attribute, compile_decoder, compile_packer, compile_struct

__all__ = ["Field", "GoalSchema", "compile_schema", "load_schema", "probes", "read_goal_schema"]


class GoalSchema:
    """A compiled request schema.

    fields: in the order of the schema's properties. document: the JSON Schema to publish, with everything that is
    implied. decode(body): the request as a struct; SchemaViolation names the field and nothing internal.
    """

    def __init__(self, read: Read) -> None:
        self.fields, self.document = read.fields, read.document
        self._struct = compile_struct(read.fields)
        self.decode: Callable[[bytes], Any] = compile_decoder(read.fields, self._struct)

    def record(self, request: Any) -> dict[str, bool | int | float | str | None]:
        """A decoded request as a record: every field by name, None for what was absent or null."""
        made = {}
        for at, field in enumerate(self.fields):
            value = getattr(request, attribute(at))
            made[field.name] = int(value) if field.kind == "integer" and value is not None else value
        return made

    def getter(self, name: str) -> Callable[[Any], Any]:
        """A function from a decoded request to the value of one of its fields; ConfigError when there is none."""
        for at, field in enumerate(self.fields):
            if field.name == name:
                return operator.attrgetter(attribute(at))
        raise ConfigError(
            f"the goal's schema has no field {name!r}", f"it has {', '.join(f.name for f in self.fields)}"
        )

    def row_schema(self, lookups: Iterable[Lookup] = ()) -> RowSchema:
        """The columns of an enriched row: the schema's numbers, then the lookups'; strings likewise."""
        added = [column for lookup in lookups for column in lookup.columns.items()]
        return RowSchema(
            (*(f.name for f in self.fields if f.is_number), *(name for name, kind in added if kind == "number")),
            (*(f.name for f in self.fields if not f.is_number), *(name for name, kind in added if kind == "string")),
        )

    def row_packer(self, row_schema: RowSchema) -> Callable[[Any], Packed]:
        """A function from a decoded request to the bytes of its numbers (little-endian doubles) and its strings.

        Both are the beginning of a row in `row_schema`; what lookups add comes after. Absent: NaN, None.
        """
        own = self.row_schema()
        if (
            row_schema.numbers[: len(own.numbers)] != own.numbers
            or row_schema.strings[: len(own.strings)] != own.strings
        ):
            raise ConfigError("the row schema does not begin with the goal's own fields", "make it with `row_schema`")
        return compile_packer(self.fields)


def load_schema(goal: Goal, folder: Path) -> GoalSchema:
    """A goal's compiled schema; files are relative to `folder`. ConfigError names every problem of the schema."""
    return compile_schema(*read_goal_schema(goal, folder))


def compile_schema(document: object, name: str = "the schema") -> GoalSchema:
    """A document's compiled schema; ConfigError names every problem it has."""
    read = read_schema(document)
    if read.problems:
        raise ConfigError(f"{name}: {'; '.join(read.problems)}", "mend it; `rdv config check` looks again")
    return GoalSchema(read)


def read_goal_schema(goal: Goal, folder: Path) -> tuple[object, str]:
    """The document of a goal's schema, and where it is from, for messages; ConfigError when it cannot be read."""
    if isinstance(goal.schema, Mapping):
        return msgspec.to_builtins(goal.schema), "the schema in rdv.toml"
    path = folder / goal.schema
    try:
        return json.loads(path.read_bytes().decode()), str(path)
    except OSError as error:
        raise ConfigError(f"the schema {path} cannot be read: {error.strerror}", "write it, or mend the path") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the schema {path} is not JSON: {error}", "mend that place") from None
