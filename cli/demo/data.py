"""The demo's data: does a person see a doctor within the year?

Source: the RAND health insurance experiment as statsmodels ships it (`randhie`, 20,190 person-years). Logarithms are
undone, so that a request reads like a case and not like a regression.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdv.errors import ConfigError

HELD_OUT = 5_000
SEED = 20_190
LABEL = "doctor"

Row = dict[str, Any]

FIELDS: dict[str, Any] = {
    "case": {"type": "string", "maxLength": 16, "description": "the number of the person-year"},
    "plan": {"type": "string", "description": "the insurance plan, by the share of a bill that the person pays"},
    "individual_deductible": {"type": "integer", "minimum": 0, "maximum": 1},
    "incentive": {"type": "number", "minimum": 0, "description": "yearly payment for taking part, dollars"},
    "max_expense": {"type": "number", "minimum": 0, "description": "expense up to which the person pays, dollars"},
    "limitation": {"type": "number", "minimum": 0, "maximum": 1, "description": "physical limitation, 1 = yes"},
    "diseases": {"type": "number", "minimum": 0, "description": "index of chronic diseases"},
    "health": {"type": "string", "enum": ["excellent", "good", "fair", "poor"], "description": "as the person says"},
}


@dataclass(frozen=True)
class Data:
    """Rows to train on, and rows that no training ever sees; each row has the request's fields and the label."""

    training: Sequence[Row]
    held_out: Sequence[Row]
    plans: Mapping[str, float]


def load(held_out: int = HELD_OUT) -> Data:
    """The data set, split the same way every time; ConfigError when its package is not installed."""
    rows = [case(number, record) for number, record in enumerate(records(source()))]
    chosen = set(random.Random(SEED).sample(range(len(rows)), held_out))
    plans = {row["plan"]: row.pop("coinsurance") for row in rows}
    away = [row for number, row in enumerate(rows) if number in chosen]
    random.Random(SEED).shuffle(away)
    return Data([row for number, row in enumerate(rows) if number not in chosen], away, plans)


def source() -> Path:
    """The data file inside the installed package, found without importing the package."""
    spec = importlib.util.find_spec("statsmodels")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder, "datasets", "randhie", "randhie.csv")
        if file.is_file():
            return file
    raise ConfigError("the demo's data set is not installed", "type: pip install 'rdv[demo]'")


def records(file: Path) -> list[dict[str, float]]:
    """The rows of the package's file as numbers."""
    with file.open(newline="") as text:
        return [{name: float(value) for name, value in record.items()} for record in csv.DictReader(text)]


def case(number: int, record: Mapping[str, float]) -> Row:
    """A row of the package's file as a request with its label."""
    share = round(math.exp(record["lncoins"]) - 1)
    health = next((name for name in ("good", "fair", "poor") if record[f"hlth{name[0]}"]), "excellent")
    return {
        "case": f"r{number:05}",
        "plan": f"pays-{share}" if share else "free",
        "coinsurance": float(share),
        "individual_deductible": int(record["idp"]),
        "incentive": dollars(record["lpi"]),
        "max_expense": dollars(record["fmde"]),
        "limitation": record["physlm"],
        "diseases": record["disea"],
        "health": health,
        LABEL: int(record["mdvis"] > 0),
    }


def dollars(logarithm: float) -> float:
    """An amount from its logarithm, which is 0 for none."""
    return round(math.exp(logarithm), 2) if logarithm > 0 else 0.0


def request(row: Row) -> Row:
    """What a client sends about a row: all of it but the label."""
    return {name: row[name] for name in FIELDS}


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV text."""
    return _csv(list(rows[0]), (row.values() for row in rows))


def plans_csv(plans: Mapping[str, float]) -> str:
    """The static table that the gateway joins to every request: what share of a bill a plan leaves to the person."""
    return _csv(["plan", "coinsurance"], sorted(plans.items()))


def _csv(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
