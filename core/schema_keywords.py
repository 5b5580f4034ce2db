"""The JSON Schema keywords that a goal's schema may use: one table, for the compiler, the checks and the docs."""

from __future__ import annotations

import msgspec

TYPES = ("number", "integer", "boolean", "string")
OWN_PREFIX = "x-rdv-"
SAFE_INTEGER = 2**53 - 1
"""The largest integer that a double holds together with all smaller ones: no bound or member may be larger."""

DRAFTS = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema#",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-06/schema",
)


class Keyword(msgspec.Struct, frozen=True):
    """A supported keyword. at: `document` or the types of field it may stand on. meaning: with its restrictions."""

    name: str
    at: tuple[str, ...]
    meaning: str


_ANY = ("document", *TYPES)
_NUMBERS = ("number", "integer")
KEYWORDS = (
    Keyword("type", _ANY, "`object` for the document; for a field number, integer, boolean or string, or a list of one of them and `null`"),  # noqa: E501
    Keyword("properties", ("document",), "the fields; at least one; names of up to 128 printable characters without \" and \\"),  # noqa: E501
    Keyword("required", ("document",), "names of fields that must be there"),
    Keyword("additionalProperties", ("document",), "`false`, also when left out: other fields are refused"),
    Keyword("minimum", _NUMBERS, "lowest value"),
    Keyword("maximum", _NUMBERS, "highest value"),
    Keyword("exclusiveMinimum", _NUMBERS, "values are above it"),
    Keyword("exclusiveMaximum", _NUMBERS, "values are below it"),
    Keyword("multipleOf", _NUMBERS, "an integer, or 0.5, 0.25, 0.125 ...: what a double holds exactly"),
    Keyword("minLength", ("string",), "least number of characters (Unicode code points)"),
    Keyword("maxLength", ("string",), "greatest number of characters (Unicode code points)"),
    Keyword("pattern", ("string",), "a regular expression found anywhere in the text, in the part that all dialects share: no . \\d \\w \\s \\b, look-around or back-reference"),  # noqa: E501
    Keyword("enum", TYPES, "the values that are allowed"),
    Keyword("const", TYPES, "the one value that is allowed"),
    Keyword("title", _ANY, "for people"),
    Keyword("description", _ANY, "for people"),
    Keyword("$comment", _ANY, "for people"),
    Keyword("default", _ANY, "for people: an absent field stays absent"),
    Keyword("examples", _ANY, "for people"),
    Keyword("$schema", ("document",), "draft 6, 7, 2019-09 or 2020-12 (the default)"),
    Keyword(f"{OWN_PREFIX}*", _ANY, "rdv's own marks"),
)  # fmt: skip


def keywords(at: str) -> tuple[str, ...]:
    """The names of the keywords that may stand at a place: `document` or a type of field."""
    return tuple(keyword.name for keyword in KEYWORDS if at in keyword.at)
