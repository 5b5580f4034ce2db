"""A goal's JSON Schema read into fields, and everything in it that is not supported. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import msgspec

from rdv.schema_backtracking import longest_text
from rdv.schema_keywords import DRAFTS, OWN_PREFIX, SAFE_INTEGER, TYPES, keywords
from rdv.schema_pattern import PatternError, parse_pattern
from rdv.settings_keys import nearest

Kind: TypeAlias = Literal["number", "integer", "boolean", "string"]
Member: TypeAlias = bool | float | str
MAX_FIELDS = 1000
MAX_NAME_CHARS = 128
MAX_PATTERN_TEXT = 1024
_SMALLEST_STEP = 2.0**-30
_WORDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
    "minLength": "its length at least",
    "maxLength": "its length at most",
    "pattern": "matching",
}


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a request: what values it takes.

    low, high: bounds, both allowed themselves. step: every value is a multiple of it, 0 for any. allowed: the only
    values, None for all that fit the rest. pattern: in its published form. takes: all that in words.
    """

    name: str
    kind: Kind
    required: bool = False
    nullable: bool = False
    low: float = -math.inf
    high: float = math.inf
    step: float = 0.0
    min_length: int = 0
    max_length: int | None = None
    pattern: str = ""
    allowed: tuple[Member, ...] | None = None
    takes: str = ""

    @property
    def is_number(self) -> bool:
        """Whether the field is a column of doubles (booleans are), not of strings."""
        return self.kind != "string"


class Read(msgspec.Struct, frozen=True):
    """A schema as it was understood: its fields, the document to publish, and what is wrong with it."""

    fields: tuple[Field, ...]
    document: dict[str, Any]
    problems: tuple[str, ...]


def read_schema(document: object) -> Read:
    """The fields of a schema and every problem it has; with no problem, `document` says all that is enforced."""
    problems: list[str] = []
    if not isinstance(document, dict) or not _is_json(document):
        return Read((), {}, ("the schema is not a JSON object",))
    _keywords("document", document, "the schema", problems.append)
    if document.get("type") != "object":
        problems.append('the schema\'s type is not "object"')
    if document.get("additionalProperties", False) is not False:
        problems.append("additionalProperties: only false is supported; fields that are not listed are refused")
    if document.get("$schema", DRAFTS[0]) not in DRAFTS:
        problems.append(f"$schema: {document['$schema']!r} is not supported (supported: {', '.join(DRAFTS[:3])})")
    properties = document.get("properties")
    if not isinstance(properties, dict) or not 0 < len(properties) <= MAX_FIELDS:
        problems.append(f"properties: a schema lists 1 to {MAX_FIELDS} fields")
        properties = {}
    required = _required(document.get("required", []), properties, problems.append)
    fields, published = [], {}
    for name, declared in properties.items():
        field, shown = _Reader(name, declared, name in required, problems.append).read()
        fields.append(field)
        published[name] = shown
    whole = {"$schema": DRAFTS[0], **document, "properties": published, "additionalProperties": False}
    return Read(tuple(fields), whole, tuple(problems))


def _required(declared: object, properties: Mapping[str, object], say: Callable[[str], None]) -> set[str]:
    if not isinstance(declared, list) or not all(isinstance(name, str) for name in declared):
        say("required: not a list of names")
        return set()
    for name in declared:
        if name not in properties:
            say(f"required: there is no field {name!r}" + _meant(name, list(properties)))
    if len(set(declared)) != len(declared):
        say("required: a name is there twice")
    return set(declared)


def _keywords(at: str, declared: Mapping[str, object], where: str, say: Callable[[str], None]) -> None:
    known = keywords(at)
    for name in declared:
        if name in known or name.startswith(OWN_PREFIX):
            continue
        if name in {one for kind in ("document", *TYPES) for one in keywords(kind)}:
            say(f"{where}: {name} does not go with {at}")
        else:
            say(f"{where}: the keyword {name!r} is not supported" + _meant(name, known))


def _meant(name: str, known: tuple[str, ...] | list[str]) -> str:
    close = nearest(name, known)
    return f" (did you mean {close}?)" if close else ""


class _Reader:
    """Reads one field; every problem goes to `say`."""

    def __init__(self, name: str, declared: object, required: bool, say: Callable[[str], None]) -> None:
        self.name, self.required = name, required
        self.where = f"properties.{name}"
        self.declared: dict[str, Any] = declared if isinstance(declared, dict) else {}
        self.say: Callable[[str], None] = lambda problem: say(f"{self.where}{problem}")
        if not isinstance(declared, dict):
            self.say(": not a JSON object")
        # characters that the decoder cannot look for, or that nobody could read in a message
        if len(name) > MAX_NAME_CHARS or not name.isprintable() or not name or set(name) & {'"', "\\"}:
            self.say(f': a name is 1 to {MAX_NAME_CHARS} printable characters without " and \\')
        self.implied: dict[str, Any] = {}

    def read(self) -> tuple[Field, dict[str, Any]]:
        """The field, and its schema with what is implied."""
        kind, nullable = self.type()
        _keywords(kind, self.declared, self.where, lambda problem: self.say(problem.removeprefix(self.where)))
        numeric = self.numeric(kind) if kind in ("number", "integer") else {}
        textual = self.textual() if kind == "string" else {}
        field = Field(name=self.name, kind=kind, required=self.required, nullable=nullable, **numeric, **textual)
        members = self.members(kind, nullable)
        if members is not None:
            allowed = tuple(one for one in dict.fromkeys(members) if one is not None and fits(field, one))
            field = msgspec.structs.replace(field, allowed=allowed, nullable=nullable and None in members)
        if _is_empty(field):
            self.say(": no value fits" + (" but null" if field.nullable else ""))
        takes = describe(field, {**self.implied, **self.declared})
        return msgspec.structs.replace(field, takes=takes), {**self.declared, **self.implied}

    def type(self) -> tuple[Kind, bool]:
        declared = self.declared.get("type")
        names = declared if isinstance(declared, list) else [declared]
        kinds: list[Kind] = [kind for kind in TYPES if kind in names]  # type: ignore[misc]
        if len(kinds) != 1 or len(set(map(str, names))) != len(names) or set(names) - {kinds[0], "null"}:
            self.say(f".type: {declared!r} is not one of {', '.join(TYPES)}, alone or in a list with null")
            return "number", False
        return kinds[0], "null" in names

    def numeric(self, kind: Kind) -> dict[str, Any]:
        step = self.step(kind)
        low = max(self.number("minimum", -math.inf), _above(self.number("exclusiveMinimum", -math.inf)))
        high = min(self.number("maximum", math.inf), -_above(-self.number("exclusiveMaximum", math.inf)))
        if step:
            # beyond, doubles leave integers out: whether one fits would depend on who reads it
            if low < -SAFE_INTEGER:
                low = self.implied["minimum"] = -SAFE_INTEGER
            if high > SAFE_INTEGER:
                high = self.implied["maximum"] = SAFE_INTEGER
        return {"low": float(low), "high": float(high), "step": step}

    def number(self, keyword: str, absent: float) -> float:
        value = self.declared.get(keyword, absent)
        if keyword not in self.declared:
            return absent
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= SAFE_INTEGER:
            self.say(f".{keyword}: {value!r} is not a number of at most 2**53 - 1")
            return absent
        return float(value)

    def step(self, kind: Kind) -> float:
        value = self.number("multipleOf", 0.0)
        if "multipleOf" in self.declared and value and not _is_exact(value):
            self.say(f".multipleOf: {value!r} is not held exactly by a double; use an integer, or 0.5, 0.25 ...")
        elif "multipleOf" in self.declared and not value:
            self.say(".multipleOf: not above 0")
        return max(value, 1.0) if kind == "integer" else value

    def textual(self) -> dict[str, Any]:
        least, most = self.length("minLength", 0), self.length("maxLength", None)
        text = self.declared.get("pattern", "")
        try:
            if not isinstance(text, str):
                raise PatternError(f"{text!r} is not text")
            pattern = parse_pattern(text)
            longest = longest_text(pattern)
        except PatternError as error:
            self.say(f".pattern: {error}")
            return {"min_length": least or 0, "max_length": most}
        if longest is not None and most is None:
            most = self.implied["maxLength"] = min(longest, MAX_PATTERN_TEXT)
        elif longest is not None and most is not None and most > longest:
            self.say(f".pattern: can be slow on texts of {most} characters; give a maxLength of at most {longest}")
        if text:
            self.implied["pattern"] = pattern.published
        return {"min_length": least or 0, "max_length": most, "pattern": pattern.published}

    def length(self, keyword: str, absent: int | None) -> int | None:
        value = self.declared.get(keyword, absent)
        if keyword in self.declared and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            self.say(f".{keyword}: {value!r} is not a number of characters")
            return absent
        return value

    def members(self, kind: Kind, nullable: bool) -> list[Member | None] | None:
        """The values that enum and const leave, None when there is neither."""
        lists = [[self.declared["const"]]] if "const" in self.declared else []
        if "enum" in self.declared:
            lists.append(self.declared["enum"])
        found: list[Member | None] | None = None
        for values in lists:
            if not isinstance(values, list) or not values:
                self.say(".enum: not a list of values")
                continue
            for value in values:
                if not _is_member(value, kind) and not (value is None and nullable):
                    self.say(f": the value {value!r} is not of the field's type")
            made = [
                float(value) if kind in ("number", "integer") and _is_member(value, kind) else value for value in values
            ]
            found = made if found is None else [value for value in made if value in found]
        return found


def describe(field: Field, declared: Mapping[str, Any]) -> str:
    """What a field takes, in words: `an integer, at least 0, at most 10`."""
    if field.allowed is not None:
        said = ["one of " + ", ".join(json.dumps(_short(one), ensure_ascii=False) for one in field.allowed)]
    else:
        said = [
            {"number": "a number", "integer": "an integer", "boolean": "true or false", "string": "text"}[field.kind]
        ]
        said += [f"{words} {declared[keyword]}" for keyword, words in _WORDS.items() if keyword in declared]
    return ", ".join(said) + (", or null" if field.nullable else "")


def fits(field: Field, value: Member) -> bool:
    """Whether a value of the field's type fits its bounds, step, lengths and pattern."""
    if isinstance(value, str):
        longest = math.inf if field.max_length is None else field.max_length
        return field.min_length <= len(value) <= longest and bool(re.search(field.pattern, value))
    if isinstance(value, bool):
        return True
    return field.low <= value <= field.high and not (field.step and math.fmod(value, field.step))


def multiples(field: Field) -> tuple[int, int]:
    """The smallest and the largest k whose k * step fits a field that has a step; the first above the second: none."""
    step = Fraction(field.step)
    return math.ceil(Fraction(field.low) / step), math.floor(Fraction(field.high) / step)


def _is_empty(field: Field) -> bool:
    if field.allowed is not None:
        return not field.allowed
    if field.kind == "string":
        return field.max_length is not None and field.max_length < field.min_length
    if field.step:
        least, most = multiples(field)
        return least > most
    return field.low > field.high


def _short(value: Member) -> bool | int | float | str:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _above(value: float) -> float:
    return math.nextafter(value, math.inf) if math.isfinite(value) else value


def _is_exact(step: float) -> bool:
    return step > 0 and (step.is_integer() or (step >= _SMALLEST_STEP and math.frexp(step)[0] == 0.5))


def _is_member(value: object, kind: Kind) -> bool:
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    return isinstance(value, int | float) and abs(value) <= SAFE_INTEGER


def _is_json(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    if isinstance(value, str):
        return value.isascii() or not any(0xD800 <= ord(char) <= 0xDFFF for char in value)
    return value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
