"""The files of a new project, rendered from this package's templates, and how they are written."""

from __future__ import annotations

import importlib.resources
import json
import math
import random
import re
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rdv.errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
SAMPLE_ROWS = 2_000
BUDGET_MS = 80
LAYERS = {
    "tabular": ("common", "service", "tabular"),
    "empty": ("common", "service", "empty"),
    "library": ("common", "library"),
}
"""The folders of templates that make a project, later ones over earlier ones."""
STAGES = {"tabular": "pipeline.yml", "empty": "pipeline.yml", "library": "library.yml"}
"""The stage file that a kind of project includes; the others it includes itself."""

_WORD = re.compile(r"@([a-z]+)@")
# a template that must not look like what it is a template of while it lies here
_TEMPLATE, _HIDDEN = ".tmpl", "dot."

FIELDS: dict[str, Any] = {
    "customer": {"type": "string", "maxLength": 64, "examples": ["c1"]},
    "plan": {"type": "string", "enum": ["basic", "plus", "pro"]},
    "months": {"type": "integer", "minimum": 0, "description": "months since the contract began"},
    "calls": {"type": "integer", "minimum": 0, "description": "calls to the service line in the last quarter"},
    "spend": {"type": ["number", "null"], "minimum": 0, "description": "last month's bill, null when not billed"},
}
PLAIN_FIELDS: dict[str, Any] = {
    "subject": {"type": "string", "maxLength": 64, "description": "whom the request is about"},
}


def starter(project: str, goal: str, template: str = "tabular") -> dict[str, str]:
    """Files of a new project, by path; UsageError for names that cannot be used.

    template: `tabular` (two models and a sample to train on), `empty` (a goal without models), or `library`.
    """
    for what, name in (("project", project), ("goal", goal)):
        if not NAME.fullmatch(name):
            hint = "use lower-case letters, digits, - and _, a letter first"
            raise UsageError(f"{what} name {name!r} cannot be used", hint)
    models = () if template == "empty" else (f"{goal}/lightgbm", f"{goal}/monotone")
    words = {
        "project": project, "goal": goal, "budget": str(BUDGET_MS), "module": re.sub(r"\W", "_", project),
        "models": model_list(models),
    }  # fmt: skip
    made: dict[str, str] = {}
    for layer in LAYERS[template]:
        made |= render(layer, words)
    made |= stage_files(STAGES[template])
    made |= {f"schemas/{goal}.json": schema_text(goal, PLAIN_FIELDS if template == "empty" else FIELDS)}
    if template != "empty":
        made |= {f"data/{goal}.csv": sample(goal, SAMPLE_ROWS)}
    return made | api_files(goal, made)


def project_files(
    project: str, goal: str, models: tuple[str, ...], settings: str, fields: Mapping[str, Any]
) -> dict[str, str]:
    """The files that every project of a person has, by path: without tests, stages and hooks.

    fields: a request's properties; those allowing null may be absent.
    """
    words = {"project": project, "goal": goal, "models": model_list(models)}
    made = {**render("common", words), **render("service", words)}
    return {
        "rdv.toml": settings,
        f"schemas/{goal}.json": schema_text(goal, fields),
        **{name: made[name] for name in ("README.md", ".gitignore")},
    }


def model_list(models: tuple[str, ...]) -> str:
    """The names of models for a text."""
    return ", ".join(f"`{model}`" for model in models) or "none yet"


def schema_text(goal: str, fields: Mapping[str, Any]) -> str:
    """A request schema as a file; fields that allow null may be absent."""
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": goal,
        "type": "object",
        "properties": fields,
        "required": [name for name, field in fields.items() if "null" not in field["type"]],
        "additionalProperties": False,
    }
    return json.dumps(document, indent=2) + "\n"


def render(layer: str, words: Mapping[str, str]) -> dict[str, str]:
    """The files of one folder of templates by path, `@word@` replaced in names and texts; a word nobody gave stays."""

    def fill(text: str) -> str:
        return _WORD.sub(lambda found: words.get(found[1], found[0]), text)

    folder = importlib.resources.files("rdv.cli").joinpath("templates", layer)
    return {fill(_own_name(path)): fill(file.read_text()) for path, file in sorted(_walk(folder))}


def stage_files(entry: str) -> dict[str, str]:
    """The stage files of a pipeline by path in a project: the one that it includes and those that this one includes."""
    found: dict[str, str] = {}
    todo = [f"ci/gitlab/{entry}"]
    while todo:
        path = todo.pop()
        text = importlib.resources.files("rdv.gitlab_stages").joinpath(path.rpartition("/")[2]).read_text()
        found[path] = text
        todo += [one for one in re.findall(r"local: (\S+)", text) if one not in found]
    return found


def api_files(goal: str, files: Mapping[str, str]) -> dict[str, str]:
    """The documentation of the goal's API, from the rdv.toml and the schema among some files."""
    import tomllib

    import msgspec

    from rdv.cli.api_page import FOLDER, openapi, page
    from rdv.config import Goal
    from rdv.schema import compile_schema

    settings = msgspec.convert(tomllib.loads(files["rdv.toml"])["goals"][goal], Goal)
    schema = compile_schema(json.loads(files[f"schemas/{goal}.json"]))
    return {
        f"{FOLDER}/{goal}.openapi.json": openapi(goal, settings, schema),
        f"{FOLDER}/{goal}.md": page(goal, settings, schema),
    }


def _walk(folder: Traversable, above: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{above}{entry.name}/")
        else:
            yield above + entry.name, entry


def _own_name(path: str) -> str:
    parts = [f".{part.removeprefix(_HIDDEN)}" if part.startswith(_HIDDEN) else part for part in path.split("/")]
    return "/".join(parts).removesuffix(_TEMPLATE)


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
