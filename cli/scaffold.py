"""The files of a new service project, and the one way in which they are written."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rdv.errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
SAMPLE_ROWS = 2_000

GITIGNORE = """\
# What rdv keeps here: artifacts, the registry, runs, journals, sockets.
.rdv/
__pycache__/
"""

README = """\
# {project}

A service project of rdv. `rdv.toml` says which goals it serves and which models compete for them.

```sh
rdv config check              # is everything declared that has to be?
rdv train MODEL --dry-run     # what would be made, and why
rdv train MODEL               # train, validate, publish
rdv deploy MODEL              # make the new version the one that is served
rdv serve                     # gateway, one worker a model, decoy; stop with Ctrl-C
rdv status                    # who answers what, and how fast
```

Models: {models}.
"""

SETTINGS = """\
# {project}: a service project of rdv. Flags win over the environment (RDV_...), it over this file, this over defaults.
# `rdv config check` finds what cannot work; `rdv config show --origin` says where each value comes from.
project = "{project}"

# A goal is one scoring endpoint: POST /v1/goals/{goal}/score. Every model of a goal scores every request at once.
[goals.{goal}]
schema = "schemas/{goal}.json"   # what a request must look like
budget_ms = 80                   # from acceptance to answer
default = 0.5                    # the answer when no model made it in time
subject = "customer"             # the field that says whom a request is about
# Until so many milliseconds after acceptance only these models may answer, best first; after the last the default.
tiers = [{{ until_ms = 60, models = ["{goal}/lightgbm"] }}]

# A model is a named line of versions that serves a goal.
[models."{goal}/lightgbm"]
goal = "{goal}"
flavour = "lightgbm"
data = "data/{goal}.csv"         # CSV or Parquet, a row a past case; this sample is made up: put yours in its place
label = "{goal}"                 # the column that says what came of it
exclude = ["customer"]           # columns that no model reads
metric = "auc"
floor = 0.6                      # a version worse than this on rows it never saw is not published

# Defaults of the hyperparameters; `rdv train {goal}/lightgbm -P num_leaves=15,31` tries others.
[models."{goal}/lightgbm".params]
num_leaves = 15
learning_rate = 0.1
"""

FIELDS: dict[str, Any] = {
    "customer": {"type": "string", "maxLength": 64},
    "plan": {"type": "string", "enum": ["basic", "plus", "pro"]},
    "months": {"type": "integer", "minimum": 0, "description": "months since the contract began"},
    "calls": {"type": "integer", "minimum": 0, "description": "calls to the service line in the last quarter"},
    "spend": {"type": ["number", "null"], "minimum": 0, "description": "last month's bill, null when not billed"},
}


def starter(project: str, goal: str) -> dict[str, str]:
    """Files of a project with one goal, one model and a sample to train on, by path; UsageError for unusable names."""
    for what, name in (("project", project), ("goal", goal)):
        if not NAME.fullmatch(name):
            hint = "use lower-case letters, digits, - and _, a letter first"
            raise UsageError(f"{what} name {name!r} cannot be used", hint)
    made = project_files(project, goal, (f"{goal}/lightgbm",), SETTINGS.format(project=project, goal=goal), FIELDS)
    return made | {f"data/{goal}.csv": sample(goal, SAMPLE_ROWS)}


def project_files(
    project: str, goal: str, models: tuple[str, ...], settings: str, fields: Mapping[str, Any]
) -> dict[str, str]:
    """The files that every project has, by path. fields: a request's properties; those allowing null may be absent."""
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": goal,
        "type": "object",
        "properties": fields,
        "required": [name for name, field in fields.items() if "null" not in field["type"]],
        "additionalProperties": False,
    }
    return {
        "rdv.toml": settings,
        f"schemas/{goal}.json": json.dumps(document, indent=2) + "\n",
        "README.md": README.format(project=project, models=", ".join(f"`{model}`" for model in models)),
        ".gitignore": GITIGNORE,
    }


def sample(label: str, count: int, seed: int = 0) -> str:
    """A made-up table as CSV: customers, and whether each left; the same text for the same seed."""
    chance = random.Random(seed)
    lines = [f"customer,plan,months,calls,spend,{label}"]
    for number in range(count):
        plan = chance.choice(["basic", "basic", "plus", "pro"])
        months, calls = int(chance.expovariate(1 / 24)), int(chance.expovariate(1 / 1.5))
        spend = {"basic": 15, "plus": 30, "pro": 60}[plan] * chance.uniform(0.7, 1.6)
        leaning = 0.6 * calls - 0.05 * months - (0.8 if plan == "pro" else 0) + 0.02 * spend - 0.6
        left = chance.random() < 1 / (1 + math.exp(-leaning))
        bill = "" if chance.random() < 0.05 else f"{spend:.2f}"
        lines.append(f"c{number:05},{plan},{months},{calls},{bill},{int(left)}")
    return "\n".join(lines) + "\n"


def write(folder: Path, contents: Mapping[str, str]) -> list[Path]:
    """Write the files below a folder, all or none: UsageError names the first that exists. Returns their paths."""
    made = {folder / path: text for path, text in contents.items()}
    for path in made:
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} exists and is not overwritten", "choose a new folder: `rdv init NAME`")
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(text)
    return list(made)
