"""Scores of a file's rows on stdout, as they come."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rdv.cli.model_views import find_version
from rdv.cli.output import as_json
from rdv.errors import InputError

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.manifest import ModelInfo
    from rdv.serving.score_file import Scored

SCORE = "score"


def print_scores(project: Project, model: str, file: Path, version: str, form: str) -> None:
    """Print a line a row; InputError after the last when some could not be scored. form: `csv` or `jsonl`."""
    from rdv.serving.score_file import open_scorer, read_records

    scorer = open_scorer(project, model, find_version(project, model, version).version)
    names = columns(scorer.info)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if form == "csv":
        writer.writerow(["row", *names, "problem"])
    rows = refused = 0
    for one in scorer.score(read_records(file, scorer.schema)):
        found = record(one, names)
        rows, refused = rows + 1, refused + bool(one.problem)
        if form == "csv":
            writer.writerow("" if value is None else value for value in found.values())
        else:
            click.echo(as_json(found))
    if refused:
        raise InputError(f"{refused} of {rows} rows of {file} could not be scored", "their problems are in the output")


def columns(info: ModelInfo) -> tuple[str, ...]:
    """The names of a model's scores: its labels, or `score`."""
    return tuple(info.labels) if info.kind == "labels" else (SCORE,)


def record(one: Scored, names: tuple[str, ...]) -> dict[str, Any]:
    """A row's number, its scores by name (None where there are none), and its problem."""
    values = one.values or (None,) * len(names)
    return {"row": one.row, **dict(zip(names, values, strict=True)), "problem": one.problem}
