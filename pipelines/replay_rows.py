"""Rows of the test part as the gateway and a worker would see them: from JSON to the model's matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from rdv.enrich import Enriched, compile_enricher
from rdv.errors import SchemaViolation
from rdv.inputs import Rows
from rdv.pipelines.base import Context
from rdv.pipelines.dataset import goal_schema, row_schema


@dataclass(frozen=True, slots=True)
class Requests:
    """Documents that went the requests' way. rows: of the valid ones, in order; places: which of all they were.

    invalid: how many the decoder refused; example: why it refused the first of them.
    """

    rows: Rows
    places: list[int] = field(default_factory=list)
    invalid: int = 0
    example: str = ""


def as_requests(context: Context, documents: Sequence[Mapping[str, object]], known: Rows | None = None) -> Requests:
    """Documents through the gateway's decoder, enricher and row packing.

    known: rows in the goal's row schema, one a document, whose enriched columns stand in for the enricher's: history
    says what was looked up then. Without it the enricher is asked.
    """
    schema, rows = goal_schema(context), row_schema(context)
    pack = schema.row_packer(rows)
    enricher = compile_enricher(context.modelling.enrich, context.project.folder, schema.row_schema())
    numbers: list[list[float]] = []
    strings: list[list[str | None]] = []
    places: list[int] = []
    example = ""
    for place, document in enumerate(documents):
        try:
            request = schema.decode(msgspec.json.encode(document))
        except SchemaViolation as error:
            example = example or str(error)
            continue
        packed, texts = pack(request)
        own = np.frombuffer(packed, dtype="<f8").tolist()
        more = enricher.add(schema.record(request)) if known is None else _looked_up(len(own), len(texts), known, place)
        numbers.append([*own, *more.numbers])
        strings.append([*texts, *more.strings])
        places.append(place)
    matrix = np.array(numbers, dtype=np.float64).reshape(len(places), len(rows.numbers))
    columns = [[row[at] for row in strings] for at in range(len(rows.strings))]
    return Requests(Rows(matrix, columns), places, len(documents) - len(places), example)


def _looked_up(numbers: int, strings: int, known: Rows, place: int) -> Enriched:
    """The enriched columns of a known row: those behind the request's own."""
    return Enriched(
        tuple(known.numbers[place, numbers:].tolist()), tuple(column[place] for column in known.strings[strings:]), 0
    )
