"""Data on stdout: aligned on a terminal, plain in a pipe, or as JSON, JSON lines or Markdown.

The JSON forms carry the values as they are, the others what a person reads. A list prints as one table, a mapping as
names and values.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

Record = Mapping[str, Any]
EMPTY = "-"
MOMENT = re.compile(r"^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(\.\d+)?(Z|\+00:00)$")
TEXTS = ("table", "md")
SHARES = frozenset({"share", "same_decision", "agreement", "chosen_share", "late_share", "no_answer_share"})
"""Columns of shares in [0, 1], which a person reads as per cent."""
NAMES = frozenset({"value", "pid", "port", "serial", "seed"})
"""Columns whose numbers are names or settings, not amounts: they are shown digit by digit."""


def rows(records: Sequence[Record], columns: Sequence[str], form: str, empty: str = "nothing to show") -> None:
    """Print records, one a line. columns: the keys that a person sees, in order; the JSON forms show all."""
    if form == "json":
        click.echo(as_json(list(records), indent=1))
    elif form == "jsonl":
        for record in records:
            click.echo(as_json(record))
    elif not records:
        note(empty)
    else:
        titles = [column.replace("_", " ") for column in columns]
        cells = [[shown(column, record.get(column)) for column in columns] for record in records]
        numeric = [all(is_number(record.get(column)) for record in records) for column in columns]
        _table(titles, cells, numeric, form)


def document(record: Record, form: str) -> None:
    """Print one mapping: an object in the JSON forms, else a line a key."""
    if form in ("json", "jsonl"):
        click.echo(as_json(record, indent=1 if form == "json" else None))
        return
    cells = [[key.replace("_", " "), shown(key, value)] for key, value in record.items()]
    if form == "md":
        click.echo(markdown(["", ""], cells, [False, False]))
    else:
        click.echo(plain(None, cells, [False, False]))


def section(title: str, records: Sequence[Record], columns: Sequence[str], form: str = "table") -> None:
    """Print a titled table for a person, nothing when there are no records."""
    if records:
        click.echo(f"\n{title}\n" if form == "md" else f"\n{title}")
        rows(records, columns, form)


def note(text: str) -> None:
    """Print a line that is not data, on stderr."""
    click.echo(text, err=True)


def as_json(value: object, indent: int | None = None) -> str:
    """JSON text of builtins and msgspec structs; NaN and infinities become null, so that any reader takes it."""
    return json.dumps(finite(value), indent=indent, ensure_ascii=False, default=str)


def finite(value: Any) -> Any:
    """The value with structs as dicts, tuples as lists and numbers that JSON lacks as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [finite(item) for item in value]
    if hasattr(value, "__struct_fields__"):
        return {name: finite(getattr(value, name)) for name in value.__struct_fields__}
    return value


def is_number(value: object) -> bool:
    """Whether a cell belongs on the right side of its column."""
    return value is None or isinstance(value, int | float) and not isinstance(value, bool)


def shown(column: str, value: object) -> str:
    """The value of a column as a person reads it."""
    if column in NAMES and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return percent(value) if column in SHARES and isinstance(value, float) and math.isfinite(value) else cell(value)


def percent(share: float) -> str:
    """A share as per cent, never rounded up to 100."""
    return "100 %" if share == 1.0 else f"{math.floor(share * 10_000) / 100:.2f} %"


def cell(value: object) -> str:
    """A value as a person reads it: four significant digits, moments (UTC) to the second, `-` for nothing."""
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return EMPTY
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={cell(item)}" for key, item in value.items()) or EMPTY
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(cell(item) for item in value) or EMPTY
    return MOMENT.sub(r"\1 \2", value) if isinstance(value, str) else str(value)


def plain(titles: Sequence[str] | None, cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """Aligned columns, two blanks apart, numbers to the right, titles above when given."""
    every = [*([titles] if titles else []), *cells]
    widths = [max(len(row[at]) for row in every) for at in range(len(numeric))] if every else []
    lines = (
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in every
    )
    return "\n".join(lines)


def markdown(titles: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """The same as a Markdown table, for merge requests."""
    rule = ["---:" if right else "---" for right in numeric]
    escaped = [[text.replace("|", "\\|") for text in row] for row in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(titles), rule, *escaped])


def _table(titles: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], form: str) -> None:
    if form == "md":
        click.echo(markdown(titles, cells, numeric))
    elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        _rich_table(titles, cells, numeric)
    else:
        click.echo(plain(titles, cells, numeric))


def _rich_table(titles: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title, right in zip(titles, numeric, strict=True):
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(text) for text in row))
    Console(highlight=False).print(table)
