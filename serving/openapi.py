"""A goal's scoring endpoint as an OpenAPI 3.1 document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rdv.config import Goal

ERRORS = {
    400: "The request violates the schema (the field is named) or HTTP itself.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not uncompressed application/json.",
    417: "An expectation other than 100-continue.",
    503: "The gateway sheds load or is stopping; Retry-After says when to try again.",
}
_NULLABLE = {"type": ["string", "null"]}


def score_path(goal: str) -> str:
    """The path of a goal's scoring endpoint."""
    return f"/v1/goals/{goal}/score"


def document(goal: str, config: Goal, request: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The OpenAPI document. request: the request's JSON Schema. version: of this program."""
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Scores for the goal {goal}", "version": version},
        "paths": {score_path(goal): {"post": _operation(config, request)}},
    }


def _operation(config: Goal, request: Mapping[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {
        str(status): {"description": text, "content": _json(_ERROR)} for status, text in ERRORS.items()
    }
    responses["200"] = {
        "description": f"An answer within {config.budget_ms:g} ms: of a model, or the default",
        "content": _json(_answer(config)),
    }
    return {
        "summary": "Score one request",
        "requestBody": {"required": True, "content": _json(dict(request))},
        "responses": dict(sorted(responses.items())),
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _answer(config: Goal) -> dict[str, Any]:
    properties = {
        "request_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "answer": _value(config),
        "model": {**_NULLABLE, "description": "null when the default answered"},
        "version": _NULLABLE,
        "source": {"type": "string", "description": "`tier 1`, `tier 2`, ... or `default`"},
        "reason": {"type": "string", "description": "why the default answered, else empty"},
        "degraded": {"type": "boolean", "description": "whether anything but the first tier answered"},
        "canary": {"type": "boolean", "description": "whether a version answered that a rollout is trying out"},
        "elapsed_ms": {"type": "number", "minimum": 0},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _value(config: Goal) -> dict[str, Any]:
    if config.answer == "probability":
        return {"type": "number", "minimum": 0, "maximum": 1}
    if config.answer == "number":
        return {"type": "number"}
    scores = {label: {"type": "number"} for label in config.labels}
    return {
        "type": "object",
        "properties": {"label": {"enum": list(config.labels)}, "scores": {"type": "object", "properties": scores}},
        "required": ["label", "scores"],
    }


_ERROR = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "message": {"type": "string"},
        "field": {"type": "string"},
        "request_id": {"type": "string"},
    },
    "required": ["error", "message", "request_id"],
}
