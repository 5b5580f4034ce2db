"""Which schemas are supported: the table of keywords, its page, and what is told about everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rdv.errors import ConfigError
from rdv.schema import compile_schema
from rdv.schema_keywords import KEYWORDS

SMALL = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 120}},
    "required": ["age"],
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"allOf": []}, "the keyword 'allOf' is not supported"),
        ({"type": "array"}, 'type is not "object"'),
        ({"additionalProperties": True}, "additionalProperties"),
        ({"required": ["agee"]}, "there is no field 'agee' (did you mean age?)"),
        ({"required": ["age", "age"]}, "there twice"),
        ({"required": "age"}, "not a list of names"),
        ({"properties": {}}, "lists 1 to"),
        ({"properties": {'a"b': {"type": "number"}}}, "printable characters"),
        ({"properties": {"a": 3}}, "not a JSON object"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "$schema"),
        ({"properties": {"a": {"type": "object"}}}, "is not one of number, integer, boolean, string"),
        ({"properties": {"a": {"type": ["number", "string"]}}}, "is not one of"),
        ({"properties": {"a": {}}}, "properties.a.type"),
        ({"properties": {"a": {"type": "number", "minimun": 1}}}, "did you mean minimum?"),
        ({"properties": {"a": {"type": "number", "format": "x"}}}, "'format' is not supported"),
        ({"properties": {"a": {"type": "number", "pattern": "x"}}}, "pattern does not go with number"),
        ({"properties": {"a": {"type": "number", "multipleOf": 0.1}}}, "not held exactly"),
        ({"properties": {"a": {"type": "number", "multipleOf": 0}}}, "not above 0"),
        ({"properties": {"a": {"type": "number", "minimum": "1"}}}, "is not a number"),
        ({"properties": {"a": {"type": "number", "maximum": 1e300}}}, "2**53"),
        ({"properties": {"a": {"type": "number", "minimum": 2, "maximum": 1}}}, "no value fits"),
        ({"properties": {"a": {"type": "integer", "minimum": 0.1, "maximum": 0.9}}}, "no value fits"),
        ({"properties": {"a": {"type": "integer", "enum": [1.5]}}}, "no value fits"),
        ({"properties": {"a": {"type": "string", "enum": [1]}}}, "is not of the field's type"),
        ({"properties": {"a": {"type": "string", "enum": []}}}, "not a list of values"),
        ({"properties": {"a": {"type": "string", "minLength": 1.5}}}, "not a number of characters"),
        ({"properties": {"a": {"type": "string", "pattern": "\\d"}}}, "at character 1 is not supported"),
        ({"properties": {"a": {"type": "string", "pattern": "(a+)+$"}}}, "for ever"),
        ({"properties": {"a": {"type": "string", "pattern": "a+b", "maxLength": 50000}}}, "can be slow"),
    ],
)
def test_what_is_not_supported_is_named(change: dict[str, Any], told: str) -> None:
    """A schema outside the supported part is refused with the place and the nearest keyword or value that is inside."""
    with pytest.raises(ConfigError) as caught:
        compile_schema({**SMALL, "required": ["age"] if "properties" not in change else [], **change})
    assert told in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    """One look at a schema names everything that has to be mended."""
    with pytest.raises(ConfigError) as caught:
        compile_schema({"properties": {"a": {"type": "x"}, "b": {"type": "string", "format": "y"}}, "not": {}})
    assert all(word in caught.value.what for word in ("'not'", '"object"', "properties.a.type", "'format'"))


def test_every_keyword_of_the_table_is_taken() -> None:
    """Each keyword that the table lists is accepted at each place it is listed for."""
    examples: dict[str, Any] = {
        "minimum": 0, "maximum": 9, "exclusiveMinimum": -1, "exclusiveMaximum": 10, "multipleOf": 1, "minLength": 1,
        "maxLength": 9, "pattern": "a", "title": "t", "description": "d", "$comment": "c", "default": 1,
        "examples": [1],
    }  # fmt: skip
    values = {"number": 3, "integer": 3, "boolean": True, "string": "a"}
    for kind, value in values.items():
        examples |= {"enum": [value], "const": value, "type": kind}
        for keyword in (one for one in KEYWORDS if kind in one.at):
            name = keyword.name.replace("*", "mark")
            field = {"type": kind, name: examples.get(name, "mark")}
            compile_schema({"type": "object", "properties": {"a": field}, name: examples[name]} if "document" in
                           keyword.at and name != "type" and name in examples else
                           {"type": "object", "properties": {"a": field}})  # fmt: skip


def test_the_page_on_schemas_lists_every_keyword() -> None:
    """The page for users has each supported keyword with its meaning, word for word."""
    page = (Path(__file__).parents[2] / "docs" / "request-schemas.md").read_text()
    for keyword in KEYWORDS:
        assert f"| `{keyword.name}` |" in page
        assert f"| {keyword.meaning} |" in page
