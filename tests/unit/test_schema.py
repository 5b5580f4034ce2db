"""The goal's schema: what the published document accepts the decoder accepts, and the reverse; rows, records, words."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from rdv.config import Goal, Lookup
from rdv.errors import ConfigError, Exit, SchemaViolation
from rdv.inputs import RowSchema
from rdv.schema import GoalSchema, compile_schema, load_schema, probes
from rdv.schema_keywords import SAFE_INTEGER

EDGES = [0, 1, -1, 0.5, -0.5, 2, 3, 1e-9, 100, 2**31, SAFE_INTEGER, -SAFE_INTEGER, 1e15, -0.0, 5e-324, 0.1, 0.3]
PATTERNS = [
    "^[a-c]+$",
    "b",
    "^$",
    "a|^b",
    "^(ab|c){1,3}$",
    "[^a]$",
    "^\\u00e9?",
    "^[\\n-]*$",
    "^a\\.b$",
    "^[^\\x00-\\x1f]{2}$",
]
bounds = st.sampled_from(EDGES) | st.integers(-1000, 1000) | st.floats(-1e6, 1e6)
texts = st.text(st.sampled_from("abcé\n-.\0 \U0001f600"), max_size=5) | st.text(
    st.characters(exclude_categories=["Cs"])
)
numbers = (
    st.sampled_from([*EDGES, 2**53, 2**53 + 1, -(2**53) - 1, 10**20, 10**300, 1e300, 1.5, 1.0, 2.0])
    | st.integers(-10, 10)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
)
scalars = numbers | st.booleans() | texts | st.none() | st.lists(st.none(), max_size=1) | st.just({})
names = st.sampled_from(["a", "b", "c d", "class", "é", "f0", "$ref", "", "A"]).filter(bool)


def with_some(draw: st.DrawFn, **options: st.SearchStrategy[Any]) -> dict[str, Any]:
    """Some of the keywords, each with a drawn value."""
    return {name: draw(value) for name, value in options.items() if draw(st.integers(0, 3)) == 0}


@st.composite
def field_schemas(draw: st.DrawFn) -> dict[str, Any]:
    """A field's schema out of the supported part; it may be one that no value fits."""
    kind = draw(st.sampled_from(["number", "integer", "boolean", "string"]))
    declared: dict[str, Any] = {"type": draw(st.sampled_from([kind, [kind], [kind, "null"], ["null", kind]]))}
    members: st.SearchStrategy[Any]
    if kind in ("number", "integer"):
        low, high = sorted([draw(bounds), draw(bounds)])
        limits = {"minimum": st.just(low), "maximum": st.just(high), "exclusiveMinimum": st.just(low)}
        steps = st.sampled_from([1, 2, 3, 0.5, 0.25, 7, 2.0, 1000000007, 2**-20])
        declared |= with_some(draw, **limits, exclusiveMaximum=st.just(high), multipleOf=steps)
        members = st.sampled_from(EDGES) | st.integers(-3, 3)
    elif kind == "string":
        lengths = {"minLength": st.integers(0, 3), "maxLength": st.integers(2, 6)}
        declared |= with_some(draw, **lengths, pattern=st.sampled_from(PATTERNS))
        members = texts
    else:
        members = st.booleans()
    if isinstance(declared["type"], list) and "null" in declared["type"]:
        members |= st.none()
    declared |= with_some(draw, enum=st.lists(members, min_size=1, max_size=4), const=members)
    return declared | with_some(
        draw, title=texts, default=st.none(), examples=st.just([1]), **{"x-rdv-personal": st.just(True)}
    )


@st.composite
def schemas(draw: st.DrawFn) -> tuple[dict[str, Any], GoalSchema]:
    """A schema out of the supported part, and what it compiles to."""
    properties = draw(st.dictionaries(names, field_schemas(), min_size=1, max_size=4))
    document: dict[str, Any] = {"type": "object", "properties": properties}
    required = draw(st.lists(st.sampled_from(list(properties)), unique=True))
    document |= {"required": required} if required else {}
    document |= with_some(draw, additionalProperties=st.just(False), description=texts)
    try:
        return document, compile_schema(document)
    except ConfigError as error:
        assume("no value fits" not in error.what)  # any other refusal of a supported schema is a fault
        raise


def number_texts(value: float) -> st.SearchStrategy[str]:
    """Ways to write one number in JSON."""
    ways = [json.dumps(value)]
    if isinstance(value, int):
        ways += [f"{value}.0", f"{value}e0", f"{value}.00E+00"] if abs(value) < 2**53 else []
    elif value.is_integer() and abs(value) < 1e18:
        ways += [f"{int(value)}.0", f"{value:e}" if float(f"{value:e}") == value else repr(value)]
    return st.sampled_from(ways)


def values_for(declared: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that have a good chance to fit a field, or to miss it by little."""
    near = [
        declared[name] for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if name in declared
    ]
    near += [math.nextafter(value, math.inf) for value in near] + [math.nextafter(value, -math.inf) for value in near]
    near += [declared["multipleOf"] * k for k in (1, 2, -3)] if "multipleOf" in declared else []
    near += [*declared.get("enum", []), *([declared["const"]] if "const" in declared else [])]
    names = declared["type"] if isinstance(declared["type"], list) else [declared["type"]]
    usual = st.booleans() if "boolean" in names else texts if "string" in names else numbers
    return (st.sampled_from(near) | usual if near else usual) | usual | scalars


@st.composite
def bodies(draw: st.DrawFn, document: Mapping[str, Any]) -> str:
    """A JSON text with unique keys, often nearly or wholly valid."""
    pairs: dict[str, str] = {}
    required = document.get("required", [])
    for name, declared in document["properties"].items():
        if draw(st.integers(0, 9)) < (9 if name in required else 5):
            value = draw(values_for(declared))
            number = isinstance(value, int | float) and not isinstance(value, bool)
            pairs[name] = draw(number_texts(value)) if number else json.dumps(value, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 9)) == 0:
        pairs.setdefault(draw(st.sampled_from(["zz", "A", "", "f0"])), "1")
    space = draw(st.sampled_from(["", " ", "\n\t"]))
    keys = draw(st.permutations(list(pairs)))
    quoted = {key: json.dumps(key) for key in keys}
    if draw(st.booleans()):  # the same keys, written in escapes
        quoted = {key: '"' + "".join(f"\\u{ord(char):04x}" for char in key) + '"' for key in keys}
    return "{" + ",".join(f"{space}{quoted[key]}:{space}{pairs[key]}" for key in keys) + "}" + space


def accepts(schema: GoalSchema, body: bytes) -> bool:
    """Whether the decoder takes a body; any other error than SchemaViolation ends the test."""
    try:
        schema.decode(body)
    except SchemaViolation:
        return False
    return True


@given(st.data(), schemas())
def test_published_schema_and_decoder_agree(data: st.DataObject, made: tuple[dict[str, Any], GoalSchema]) -> None:
    """Of strict JSON documents with unique keys, an independent validator and the decoder take the same ones."""
    document, schema = made
    judge = jsonschema.Draft202012Validator(json.loads(json.dumps(schema.document)))
    for _ in range(8):
        body = data.draw(bodies(document))
        verdict = judge.is_valid(json.loads(body))
        event(f"valid: {verdict}")
        assert accepts(schema, body.encode()) == verdict, body


@given(schemas())
def test_the_published_schema_is_a_schema_and_a_fixed_point(made: tuple[dict[str, Any], GoalSchema]) -> None:
    """What is published is valid JSON Schema, keeps all that was declared, and publishes itself again unchanged."""
    document, schema = made
    jsonschema.Draft202012Validator.check_schema(schema.document)
    assert schema.document["additionalProperties"] is False
    for name, declared in document["properties"].items():
        published = schema.document["properties"][name]
        assert {key: value for key, value in published.items() if key in declared and key != "pattern"} == {
            key: value for key, value in declared.items() if key != "pattern"
        }
    if not any("pattern" in declared for declared in document["properties"].values()):
        assert compile_schema(schema.document).document == schema.document


@given(schemas(), st.integers(0, 2**32))
def test_probes_are_valid_and_the_same_for_the_same_seed(made: tuple[dict[str, Any], GoalSchema], seed: int) -> None:
    """Every probe is accepted by the decoder, and a seed always gives the same ones."""
    document, schema = made
    hopeless = any("pattern" in declared for declared in document["properties"].values())
    try:
        found = probes(schema, seed, 12)
    except ConfigError:
        if not hopeless:
            raise
        return
    assert len(found) == 12
    for document in found:
        assert accepts(schema, json.dumps(document).encode()), document
    assert found == probes(schema, seed, 12)


@given(st.data(), schemas())
def test_a_row_is_what_the_record_says(data: st.DataObject, made: tuple[dict[str, Any], GoalSchema]) -> None:
    """The packed row of a request equals the row that its plain record has in the same row schema."""
    _, schema = made
    rows = schema.row_schema()
    pack = schema.row_packer(rows)
    try:
        documents = probes(schema, data.draw(st.integers(0, 99)), 5)
    except ConfigError:
        return
    for document in documents:
        request = schema.decode(json.dumps(document).encode())
        numbers, strings = pack(request)
        expected_numbers, expected_strings = rows.row(document)
        assert struct.pack(f"<{len(expected_numbers)}d", *expected_numbers) == numbers
        assert strings == expected_strings
        assert rows.row(schema.record(request))[1] == expected_strings
        for name, value in document.items():
            assert schema.getter(name)(request) == value
            assert schema.record(request)[name] == value


SMALL = {
    "type": "object",
    "properties": {
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "income": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "name": {"type": "string", "maxLength": 5},
        "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "ok": {"type": "boolean"},
    },
    "required": ["age"],
}


@pytest.mark.parametrize(
    ("body", "field", "told"),
    [
        ('{"age": "3"}', "age", "must be an integer, at least 0, at most 120, not text"),
        ('{"age": 3.5}', "age", "must be an integer"),
        ('{"age": null}', "age", "not null"),
        ('{"age": true}', "age", "not true or false"),
        ('{"age": 1e400}', "age", "must be"),
        ('{"age": 1, "income": 0}', "income", "above 0, or null"),
        ('{"age": 1, "ok": 1}', "ok", "must be true or false, not a number"),
        ('{"age": 1, "name": "123456"}', "name", "its length at most 5"),
        ('{"age": 1, "code": "ABC\\n"}', "code", "matching ^[A-Z]{3}$"),
        ('{"age": 1, "agee": 2}', "agee", "did you mean age?"),
        ('{"income": 1}', "age", "is required"),
        ("[]", "", "not a JSON object"),
        ("3", "", "not a JSON object"),
    ],
)
def test_a_violation_names_the_field(body: str, field: str, told: str) -> None:
    """A refused document says which field is at fault and what it takes, in the schema's words."""
    with pytest.raises(SchemaViolation) as caught:
        compile_schema(SMALL).decode(body.encode())
    assert caught.value.field == field
    assert told in str(caught.value)
    assert caught.value.exit_code is Exit.USAGE


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b'{"age":1', b'{"age":1}}', b'{"age":1} 2', b"\xef\xbb\xbf{}", b"\xff\xfe", b'{"age":NaN}',
        b'{"age":Infinity}', b'{"age":-Infinity}', b"{'age':1}", b'{"age":01}', b'{"age":+1}', b'{"age":1.}',
        b'{"age":.5}', b'{"age":0x1}', b'{"age":1,}', b'{"age":1,"name":"\\ud800"}', b'{"age":1,"name":"\xed\xa0\x80"}',
        b'{"age":1,"name":"\n"}', b'{"age":1,"name":"\\x41"}', b'{"age":' + b"[" * 100_000,
        b'{"x":' + b'{"x":' * 100_000, b'{"age":1' + b"0" * 400 + b"}", b'{"age":1,"name":"a"//c\n}',
        '{"age":1}'.encode("utf-16"), b"nul", b'"age"',
        b'{"age":1}\0', b'{"age":1e}',
    ],
)  # fmt: skip
def test_what_is_not_strict_json_is_refused(body: bytes) -> None:
    """Anything but strict JSON that doubles can hold is a violation, without a word about our insides."""
    with pytest.raises(SchemaViolation) as caught:
        compile_schema(SMALL).decode(body)
    assert not any(word in str(caught.value).lower() for word in ("msgspec", "python", "struct", "codec", "recursion"))


@given(st.binary(max_size=60) | st.text(st.sampled_from('{}[]":,\\0123456789.eE+-agentrufls \ud800')).map(
    lambda text: text.encode("utf-8", "surrogatepass")))  # fmt: skip
def test_no_bytes_cause_anything_but_a_violation(body: bytes) -> None:
    """Whatever the bytes are, the decoder returns a request or raises SchemaViolation."""
    accepts(compile_schema(SMALL), body)


def test_of_duplicate_keys_the_last_counts_and_each_must_be_valid() -> None:
    """The documented rule for duplicate keys: the last value is used, and none may break the schema."""
    schema = compile_schema(SMALL)
    assert schema.record(schema.decode(b'{"age":1,"age":2}'))["age"] == 2
    with pytest.raises(SchemaViolation):
        schema.decode(b'{"age":-1,"age":2}')


def test_row_schemas_grow_by_lookups() -> None:
    """Enriched columns come after the request's own, numbers with numbers, and the packer packs the own ones."""
    schema = compile_schema(SMALL)
    lookups = [Lookup(columns={"region": "string", "rate": "number"}, function="m:f")]
    rows = schema.row_schema(lookups)
    assert rows == RowSchema(("age", "income", "ok", "rate"), ("name", "code", "region"))
    numbers, strings = schema.row_packer(rows)(schema.decode(b'{"age": 3, "ok": true, "name": "x"}'))
    assert numbers == struct.pack("<3d", 3.0, math.nan, 1.0)
    assert strings == ("x", None)
    with pytest.raises(ConfigError):
        schema.row_packer(RowSchema(("rate", "age"), ()))


def test_schemas_come_from_files_or_from_the_configuration(tmp_path: Path) -> None:
    """A goal's schema is a file beside rdv.toml or a table in it, and the messages say which."""
    (tmp_path / "s.json").write_text(json.dumps(SMALL))
    by_file = load_schema(Goal(schema="s.json", budget_ms=1, default=0.5), tmp_path)
    inline = load_schema(Goal(schema=SMALL, budget_ms=1, default=0.5), tmp_path)
    assert by_file.document == inline.document
    for text, told in (
        ("{", "is not JSON"),
        (None, "cannot be read"),
        ('{"type": 3}', "s.json"),
        ("\udcff", "is not JSON"),
    ):
        (tmp_path / "s.json").unlink(missing_ok=True)
        if text is not None:
            (tmp_path / "s.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(ConfigError, match=told):
            load_schema(Goal(schema="s.json", budget_ms=1, default=0.5), tmp_path)
    with pytest.raises(ConfigError, match=r"rdv\.toml"):
        load_schema(Goal(schema={}, budget_ms=1, default=0.5), tmp_path)


def test_an_unknown_field_has_no_getter() -> None:
    """Asking for a field that the schema lacks names the ones it has."""
    with pytest.raises(ConfigError, match="age, income"):
        compile_schema(SMALL).getter("subject")


def test_probes_reach_every_edge() -> None:
    """Enough probes hold both bounds of a field, null, an absent field, and every member of an enumeration."""
    document = {
        **SMALL,
        "properties": {**SMALL["properties"], "kind": {"enum": ["x", "y", None], "type": ["string", "null"]}},
    }
    found = probes(compile_schema(document), 1, 100)
    assert {0, 120} <= {one["age"] for one in found}
    assert {"x", "y", None} <= {one.get("kind") for one in found if "kind" in one}
    assert any("income" in one and one["income"] is None for one in found)
    assert any("income" not in one for one in found)
