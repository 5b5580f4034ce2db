"""Fields compiled to a decoder and a packer: JSON to typed values in one step, values to a row's bytes in another."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from rdv.errors import SchemaViolation
from rdv.schema_fields import Field
from rdv.settings_keys import nearest

Packed: TypeAlias = "tuple[bytes, tuple[str | None, ...]]"
_AT = re.compile(r"(?s)(.*) - at `\$\.(.*)`")
_UNKNOWN = re.compile(r"(?s)Object contains unknown field `(.*)`")
_MISSING = re.compile(r"(?s)Object missing required field `(.*)`")
_GOT = re.compile(r"got `(\w+)`")
_WORDS = {
    "int": "a number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
_SHOWN_CHARS = 64


def attribute(at: int) -> str:
    """The name of the struct's attribute for the field at this place."""
    return f"f{at}"


def compile_struct(fields: Sequence[Field]) -> type[msgspec.Struct]:
    """The class of decoded requests: one attribute a field, None for what was absent or null; other fields refused."""
    members: list[Any] = []
    for at, field in enumerate(fields):
        kind = _kind(field)
        members.append((attribute(at), kind) if field.required else (attribute(at), kind, None))
    return msgspec.defstruct(
        "Request",
        members,
        rename={attribute(at): field.name for at, field in enumerate(fields)},
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


def compile_decoder(fields: Sequence[Field], kind: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    """A function from a request's body to an instance of `kind`; raises SchemaViolation naming the field."""
    decode = msgspec.json.Decoder(kind).decode
    by_name = {field.name: field for field in fields}
    # msgspec has no set of allowed numbers or booleans
    chosen = [
        (attribute(at), frozenset(field.allowed), field)
        for at, field in enumerate(fields)
        if field.allowed is not None and field.is_number
    ]

    def decode_plain(body: bytes) -> Any:
        try:
            return decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise violation(error, by_name) from None

    def decode_chosen(body: bytes) -> Any:
        request = decode_plain(body)
        for name, allowed, field in chosen:
            value = getattr(request, name)
            if value is not None and value not in allowed:
                raise _wrong(field)
        return request

    return decode_chosen if chosen else decode_plain


def compile_packer(fields: Sequence[Field]) -> Callable[[Any], Packed]:
    """A function from a decoded request to its numbers as little-endian doubles, and its strings.

    Numbers and strings are each in the order of `fields`; an absent number is NaN, an absent string None.
    """
    # source text is made of attribute names (f0, f1, ...) only: attribute reads in one expression are the fastest way
    numbers = [_read(at, field) for at, field in enumerate(fields) if field.is_number]
    strings = [f"r.{attribute(at)}" for at, field in enumerate(fields) if not field.is_number]
    text = f"lambda r: (pack({', '.join(numbers)}), ({''.join(name + ', ' for name in strings)}))"
    packer: Callable[[Any], Packed] = eval(text, {"pack": struct.Struct(f"<{len(numbers)}d").pack, "nan": math.nan})
    return packer


def violation(error: Exception, fields: dict[str, Field]) -> SchemaViolation:
    """What a client did wrong, in words that name the field and nothing internal."""
    if isinstance(error, UnicodeDecodeError):
        return SchemaViolation("the body is not UTF-8")
    if isinstance(error, RecursionError):
        return SchemaViolation("the body is nested too deeply")
    text = str(error)
    if found := _AT.fullmatch(text):
        got = _GOT.search(found[1])
        if found[2] in fields:
            return _wrong(fields[found[2]], _WORDS.get(got[1], "") if got else "")
    if found := _MISSING.fullmatch(text):
        return SchemaViolation(f"the field {found[1]} is required", field=found[1])
    if found := _UNKNOWN.fullmatch(text):
        close = nearest(found[1][:_SHOWN_CHARS], list(fields))
        hint = f"did you mean {close}?" if close else ""
        return SchemaViolation(f"there is no field {found[1][:_SHOWN_CHARS]!r}", hint, found[1][:_SHOWN_CHARS])
    if isinstance(error, msgspec.ValidationError):
        return SchemaViolation("the body is not a JSON object")
    said = text.removeprefix("JSON is malformed: ")
    return SchemaViolation(f"the body is not valid JSON: {said[0].lower()}{said[1:]}")


def _wrong(field: Field, got: str = "") -> SchemaViolation:
    # a number that is refused where numbers belong is out of bounds: what it is says nothing new
    told = f", not {got}" if got and not (got == "a number" and field.kind in ("number", "integer")) else ""
    return SchemaViolation(f"the field {field.name} must be {field.takes}{told}", field=field.name)


def _read(at: int, field: Field) -> str:
    name = f"r.{attribute(at)}"
    return name if field.required and not field.nullable else f"nan if {name} is None else {name}"


def _kind(field: Field) -> Any:
    kind: Any
    if field.kind == "boolean":
        kind = bool
    elif field.is_number:
        kind = _bounded(field)
    elif field.allowed is not None:
        kind = Literal[tuple(field.allowed)]
    else:
        lengths = {"min_length": field.min_length or None, "max_length": field.max_length}
        kind = Annotated[str, msgspec.Meta(**lengths, pattern=field.pattern or None)]  # type: ignore[arg-type]
    return kind | None if field.nullable else kind


def _bounded(field: Field) -> Any:
    # integers are doubles here too: JSON Schema takes 1.0 for one, and a row carries doubles
    low = None if field.low == -math.inf else field.low
    high = None if field.high == math.inf else field.high
    return Annotated[float, msgspec.Meta(ge=low, le=high, multiple_of=field.step or None)]
