"""The documentation of a goal's API from its schema: OpenAPI for programs, Markdown for people. Pure."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdv.config import Goal, Project
    from rdv.schema import GoalSchema

FOLDER = "docs"


def documents(project: Project, goal: str) -> dict[Path, str]:
    """The files of a goal's documentation by path."""
    from rdv.schema import load_schema

    settings = project.config.goals[goal]
    schema = load_schema(settings, project.folder)
    folder = project.folder / FOLDER
    return {
        folder / f"{goal}.openapi.json": openapi(goal, settings, schema),
        folder / f"{goal}.md": page(goal, settings, schema),
    }


def openapi(goal: str, settings: Goal, schema: GoalSchema) -> str:
    """The OpenAPI document; its version is a digest of the schema, so it is the same while the API is."""
    from rdv.serving.openapi import document

    version = hashlib.sha256(json.dumps(schema.document, sort_keys=True).encode()).hexdigest()[:12]
    return json.dumps(document(goal, settings, schema.document, version), indent=2, ensure_ascii=False) + "\n"


def page(goal: str, settings: Goal, schema: GoalSchema) -> str:
    """The Markdown page."""
    from rdv.cli.output import markdown
    from rdv.serving.openapi import ERRORS, score_path

    described: dict[str, Any] = schema.document["properties"]
    fields = [
        [f"`{one.name}`", one.takes, "yes" if one.required else "", str(described[one.name].get("description", ""))]
        for one in schema.fields
    ]
    about = schema.document.get("description", "")
    lines = [
        f"# {goal}", "", *([str(about), ""] if about else []),
        f"`POST {score_path(goal)}` with a JSON object, `content-type: application/json`. It is answered within"
        f" {settings.budget_ms:g} ms: by a model, or by the default.", "",
        markdown(["field", "takes", "required", "meaning"], fields, [False] * 4), "",
        "Other fields are refused. For example:", "", "```json", json.dumps(example(schema), ensure_ascii=False),
        "```", "", "## The answer", "", answer_words(settings), "",
        "`model` and `version` say who answered, both null for the default; `source` is `tier 1`, `tier 2`, ... or",
        "`default`, and then `reason` says why; `degraded` is true when anything but the first tier answered.",
        "`request_id` is what to name when something is to be asked about an answer.", "", "## Errors", "",
        "An error is `{\"error\": ..., \"message\": ..., \"field\": ..., \"request_id\": ...}`.", "",
        markdown(["status", "when"], [[str(status), text] for status, text in sorted(ERRORS.items())], [False] * 2),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def answer_words(settings: Goal) -> str:
    """What `answer` is, in words."""
    if settings.answer == "labels":
        names = ", ".join(f"`{label}`" for label in settings.labels)
        return f"`answer` has the likeliest `label`, and `scores`, a probability for each of {names}."
    return "`answer` is a " + ("probability." if settings.answer == "probability" else "number.")


def example(schema: GoalSchema) -> dict[str, Any]:
    """A request that a person would believe: the schema's own examples first, then plain values."""
    described: dict[str, Any] = schema.document["properties"]
    made = {}
    for field in schema.fields:
        given = described[field.name].get("examples") or []
        made[field.name] = given[0] if given else plain_value(schema, field.name)
    return made


def plain_value(schema: GoalSchema, name: str) -> Any:
    """A plain value of a field: the first member, a small number, or the shortest readable text."""
    from rdv.schema import probes

    field = next(one for one in schema.fields if one.name == name)
    seen = [request[name] for request in probes(schema, 0, 200) if request.get(name) is not None]
    if field.allowed is not None:
        return next((one for one in seen if one == field.allowed[0]), None)
    if field.kind == "string":
        readable = [one for one in seen if one.isascii() and one.isalnum()]
        return min(readable or seen, key=lambda one: (abs(len(one) - 3), one), default="")
    return min(seen, key=lambda one: (abs(one - 1), one), default=None)
