"""Strategies made from a schema: everything that it takes, and what it must refuse."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdv.errors import SchemaViolation
from rdv.schema import compile_schema
from rdv.schema_strategy import UNKNOWN_FIELD, broken_requests, requests

SCHEMA = compile_schema(
    {
        "type": "object",
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": 8},
            "plan": {"type": ["string", "null"], "enum": ["basic", "pro", None]},
            "code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]+$"},
            "months": {"type": "integer", "minimum": 0},
            "halves": {"type": "number", "multipleOf": 0.5, "maximum": 9},
            "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "flag": {"type": "boolean"},
            "free": {"type": "string"},
            "one": {"type": "integer", "const": 1},
        },
        "required": ["id", "halves", "flag"],
    }
)


@settings(max_examples=300)
@given(requests(SCHEMA))
def test_every_request_is_taken(request: dict[str, object]) -> None:
    """Whatever the strategy makes, the decoder takes."""
    SCHEMA.decode(json.dumps(request).encode())


@settings(max_examples=500)
@given(broken_requests(SCHEMA))
def test_every_broken_request_is_refused_by_its_field(broken: object) -> None:
    """Whatever is broken is refused, and the refusal names the field at fault."""
    from rdv.schema_strategy import Broken

    assert isinstance(broken, Broken)
    with pytest.raises(SchemaViolation) as refused:
        SCHEMA.decode(json.dumps(broken.request).encode())
    assert refused.value.field == broken.field


def test_every_kind_of_fault_occurs() -> None:
    """Fields are missing, unknown, null, of another type and outside their limits."""
    seen: set[str] = set()

    @settings(max_examples=500, database=None, derandomize=True)
    @given(broken_requests(SCHEMA))
    def look(broken: object) -> None:
        seen.add(str(getattr(broken, "why", "")))

    look()
    assert seen == {"missing", "unknown", "null", "of another type", "outside its limits"}


@settings(max_examples=200)
@given(st.data())
def test_a_schema_of_one_field_has_requests_and_faults(data: st.DataObject) -> None:
    """The least schema there is works, too, and its faults are of that field or of one that is unknown."""
    schema = compile_schema({"type": "object", "properties": {"a": {"type": "boolean"}}})
    schema.decode(json.dumps(data.draw(requests(schema))).encode())
    assert data.draw(broken_requests(schema)).field in ("a", UNKNOWN_FIELD)
