"""What consumers expect of a goal, as pact files, held against the goal's schema and the answer it gives. Pure.

A consumer's own tests make the file; specifications 1 to 4 are read. What only a running gateway can show, such as
values and matching rules, `rdv contract verify` asks one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from rdv.config import Goal
from rdv.errors import InputError, SchemaViolation
from rdv.schema import GoalSchema
from rdv.serving.openapi import document, score_path

MAX_BYTES = 4 << 20
_GOAL_PATH = re.compile(r"/v1/goals/([^/]+)/.*")
_ABSENT = object()


class Interaction(msgspec.Struct, frozen=True, kw_only=True):
    """One request and the answer that is expected to it. sends: the body; expects: of the answer, if it says any."""

    description: str
    method: str
    path: str
    sends: bytes
    status: int
    expects: Any = _ABSENT
    pending: bool = False

    @property
    def goal(self) -> str:
        """The goal that the path is below, empty for any other path."""
        found = _GOAL_PATH.fullmatch(self.path)
        return found[1] if found else ""


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer's expectations. data: the file as it was; digest: its SHA-256. where: whence it was read."""

    consumer: str
    provider: str
    interactions: tuple[Interaction, ...]
    data: bytes
    where: str

    @property
    def digest(self) -> str:
        """What tells this contract from any other."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def goals(self) -> tuple[str, ...]:
        """The goals that it is about."""
        return tuple(sorted({one.goal for one in self.interactions if one.goal}))


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """An expectation that does not hold. field: of the request or of the answer, empty for the whole."""

    consumer: str
    goal: str
    interaction: str
    field: str
    problem: str

    def sentence(self) -> str:
        """Who is broken, where, and by what."""
        field = f"field {self.field}, " if self.field else ""
        return f"consumer {self.consumer!r} of goal {self.goal!r}: {field}in {self.interaction!r}: {self.problem}"


def read_contract(data: bytes, where: str) -> Contract:
    """The contract in a pact file; InputError says what makes it none."""
    if len(data) > MAX_BYTES:
        raise InputError(f"{where} has {len(data):,} bytes, a contract at most {MAX_BYTES:,}", "split it by goal")
    try:
        told = json.loads(data)
        consumer, provider = str(told["consumer"]["name"]), str(told["provider"]["name"])
        consumer.encode()  # a lone surrogate could be no part of a key
        listed = [*(told.get("interactions") or ())]
        interactions = tuple(_interaction(one, _major(told)) for one in listed)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{where} is no pact file ({type(error).__name__}: {error})"
        raise InputError(problem, "a consumer's tests make it, for example with pact-python") from None
    if not consumer.strip() or not interactions:
        raise InputError(f"{where} names no consumer, or expects nothing", "look at what the consumer's tests wrote")
    return Contract(consumer=consumer, provider=provider, interactions=interactions, data=data, where=where)


def _major(told: Mapping[str, Any]) -> int:
    metadata = told.get("metadata") or {}
    version = metadata.get("pactSpecification") or metadata.get("pact-specification") or {}
    return int(str(version.get("version", "2")).partition(".")[0])


def _interaction(told: Mapping[str, Any], major: int) -> Interaction:
    kind = told.get("type", "Synchronous/HTTP")
    if kind != "Synchronous/HTTP":
        raise ValueError(f"{told.get('description')!r} is of type {kind}, goals are asked over HTTP")
    request, response = told["request"], told.get("response") or {}
    sends = _body(request, major)
    return Interaction(
        description=str(told["description"]),
        method=str(request.get("method", "GET")).upper(),
        path=str(request["path"]),
        sends=b"" if sends is _ABSENT else sends if isinstance(sends, bytes) else json.dumps(sends).encode(),
        status=int(response.get("status", 200)),
        expects=_body(response, major),
        pending=bool(told.get("pending", False)),
    )


def _body(message: Mapping[str, Any], major: int) -> Any:
    """A message's body: bytes when it is no JSON, _ABSENT when it says nothing about it."""
    body: Any = message.get("body", _ABSENT)
    if body is _ABSENT or (body is None and major >= 4):
        return _ABSENT
    if major < 4 or not isinstance(body, Mapping):
        return body
    content, encoded = body.get("content", _ABSENT), body.get("encoded", False)
    if content is _ABSENT or content is None:
        return _ABSENT
    if isinstance(content, str) and encoded and str(encoded).lower() != "json":
        return base64.b64decode(content)
    if isinstance(content, str) and str(encoded).lower() != "json" and "json" not in str(body.get("contentType", "")):
        return content.encode()
    return content


def violations(goal: str, config: Goal, schema: GoalSchema, contracts: Sequence[Contract]) -> list[Violation]:
    """What in some contracts a goal with this schema would not keep; none of it needs a gateway."""
    described = document(goal, config, schema.document, "")["paths"][score_path(goal)]["post"]["responses"]
    found = []
    for contract in contracts:
        for one in contract.interactions:
            if one.path == score_path(goal) and not one.pending:
                found += [
                    Violation(
                        consumer=contract.consumer,
                        goal=goal,
                        interaction=one.description,
                        field=field,
                        problem=problem,
                    )
                    for field, problem in _problems(one, schema, described)
                ]
    return found


def strangers(contracts: Sequence[Contract], goals: Sequence[str]) -> list[Violation]:
    """Expectations of goals that a project does not have."""
    return [
        Violation(
            consumer=contract.consumer,
            goal=goal,
            interaction=contract.where,
            field="",
            problem=f"there is no goal {goal!r} here",
        )
        for contract in contracts
        for goal in contract.goals
        if goal not in goals
    ]


def _problems(one: Interaction, schema: GoalSchema, described: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if one.method != "POST":
        yield "", f"it asks with {one.method}, a goal is asked with POST"
        return
    if str(one.status) not in described:
        yield "", f"it expects status {one.status}, which a goal never answers with"
        return
    refused = _refusal(one, schema)
    if one.status == 200 and refused is not None:
        yield refused.field, f"its request is refused: {refused.what}"
    elif one.status == 400 and refused is None:
        yield "", "it expects its request to be refused, and it fits the schema"
    if one.expects is not _ABSENT:
        promised = described[str(one.status)]["content"]["application/json"]["schema"]
        yield from _misfits(one.expects, promised, "")


def _refusal(one: Interaction, schema: GoalSchema) -> SchemaViolation | None:
    try:
        schema.decode(one.sends)
    except SchemaViolation as error:
        return error
    return None


def _misfits(expected: Any, promised: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    """Parts of an expected answer that the promised one has not, or has in another type; fields joined by dots."""
    if not _is_of(expected, promised):
        yield at, f"it expects {_short(expected)} in the answer, which is {_kind(promised)}"
    elif isinstance(expected, dict) and "properties" in promised:
        for name, value in expected.items():
            place = f"{at}.{name}" if at else name
            if name not in promised["properties"]:
                yield place, f"the answer has no {name!r}"
            else:
                yield from _misfits(value, promised["properties"][name], place)


def _is_of(value: Any, promised: Mapping[str, Any]) -> bool:
    if "enum" in promised:
        return value in promised["enum"]
    types = promised.get("type", [])
    return _type(value) in ([types] if isinstance(types, str) else types)


def _type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = ((int | float, "number"), (str | bytes, "string"), (dict, "object"), (list, "array"))
    return next(name for kind, name in names if isinstance(value, kind))


def _kind(promised: Mapping[str, Any]) -> str:
    if "enum" in promised:
        return f"one of {', '.join(map(str, promised['enum']))}"
    types = promised.get("type", "anything")
    return types if isinstance(types, str) else " or ".join(types)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
