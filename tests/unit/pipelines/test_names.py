"""Canonical parameters and artifact names: reversible, told apart by type, safe in a path."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.backends.keys import check_key
from rdv.errors import UsageError
from rdv.manifest import Manifest
from rdv.pipelines.names import (
    SEGMENT_BYTES,
    Key,
    artifact_name,
    canonical,
    explain_difference,
    name_hash,
    nearest,
    parameters_text,
    parse,
    parse_parameters,
    readable_parameters,
    segment,
    version_name,
)
from rdv.pipelines.periods import GRANULARITIES, period_of

moments = st.datetimes(datetime(1970, 1, 5), datetime(2300, 1, 1))
periods = st.builds(period_of, moments, st.sampled_from(GRANULARITIES))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts | periods
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
parameters = st.dictionaries(names, values, max_size=8)
SAFE = re.compile(r"[A-Za-z0-9_.=,+~-]+", re.ASCII)


def same(value: object) -> object:
    """A value with its types, in a form in which equal means the same to us."""
    if isinstance(value, tuple):
        return ("tuple", *map(same, value))
    if isinstance(value, float):
        return ("float", repr(value + 0.0))
    if isinstance(value, str):
        return ("str", unicodedata.normalize("NFC", value))
    return (type(value).__name__, value)


@given(values)
def test_a_value_reads_back_from_its_text(value: object) -> None:
    """Every value comes back from its canonical text with its type, but for NFC and the sign of zero."""
    assert same(parse(canonical(value))) == same(value)


@given(values, values)
def test_two_values_share_a_text_only_when_they_are_the_same(one: object, other: object) -> None:
    """Canonical texts are equal exactly for values that are the same, types included."""
    assert (canonical(one) == canonical(other)) == (same(one) == same(other))


@given(values)
def test_a_text_is_safe_in_a_path(value: object) -> None:
    """No canonical text holds a character that a path, a key or a shell could trip over."""
    assert SAFE.fullmatch(canonical(value))


@given(parameters)
def test_parameters_read_back(given_: dict[str, object]) -> None:
    """A whole set of parameters survives being written as one text."""
    read = parse_parameters(parameters_text(given_))
    assert {name: same(value) for name, value in read.items()} == {name: same(value) for name, value in given_.items()}


@pytest.mark.parametrize(
    ("alike", "text"),
    [
        ((0.1, 0.10, 1e-1, float(" 0.1 ")), "0.1"),
        ((0.0, -0.0), "0.0"),
        ((1e22, 10.0**22), "1e22"),
        (("é", "é"), "s.~c3~a9"),
    ],
)
def test_what_means_the_same_has_one_text(alike: tuple[object, ...], text: str) -> None:
    """0.1, 0.10 and 1e-1 are one number, 0.0 and -0.0 are, and so are both spellings of an accented letter."""
    assert {canonical(value) for value in alike} == {text}


def test_types_are_told_apart() -> None:
    """1, 1.0, "1" and True are four different parameters."""
    assert len({canonical(value) for value in (1, 1.0, "1", True, (1,), (1.0,), (True,), None, "none", "true")}) == 10


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, (1, math.nan), object(), {"a": 1}, b"x", "\ud800"])
def test_what_has_no_canonical_text_is_refused(value: object) -> None:
    """NaN, infinities, half characters and unknown types are usage errors, never part of a name."""
    with pytest.raises(UsageError):
        canonical(value)


@pytest.mark.parametrize(
    "text", ["", "0.10", "1e-1", "01", "-0.0", "True", "s.a b", "t2.1", "t1.1+2", "s.~C3", "day.2024-13-01"]
)
def test_text_that_is_not_canonical_is_refused(text: str) -> None:
    """Only the one text of a value is read, so that no artifact is looked for under two names."""
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize("name", ["", "a=b", "a/b", "a,b", "1a", "a" * 65, "ä"])
def test_names_of_parameters_are_plain(name: str) -> None:
    """A parameter's own name is made of letters, digits, `_`, `-` and `.`."""
    with pytest.raises(UsageError):
        parameters_text({name: 1})


def key(**changes: object) -> Key:
    made = {
        "task": "rdv.x:Task", "family": "train", "scope": "churn/lightgbm", "period": "day.2024-11-22",
        "parameters": {"num_leaves": "31", "rate": "0.1"}, "upstream": {"features": "ab" * 32}, "code": "c",
        "shown": ("num_leaves",),
    }  # fmt: skip
    return Key(**(made | changes))  # type: ignore[arg-type]


@given(
    parameters,
    st.lists(texts, min_size=1, max_size=3),
    texts,
    st.integers(1, 30),
)
def test_names_are_keys_of_bounded_segments(
    given_: dict[str, object], scope: list[str], family: str, generation: int
) -> None:
    """Whatever goes into a name, it is a key that every store takes, with room for an attempt's files below it."""
    texts_ = {name: canonical(value) for name, value in given_.items()}
    name = artifact_name(
        key(parameters=texts_, shown=tuple(texts_), family=family, scope="/".join(scope[:2]), generation=generation)
    )
    check_key(f"{name}/attempts/0123456789ab/model.txt")
    assert all(len(part.encode()) <= SEGMENT_BYTES and ":" not in part for part in name.split("/"))
    shown = readable_parameters(name)
    assert shown is None or {n: same(v) for n, v in shown.items()} == {n: same(v) for n, v in given_.items()}


@pytest.mark.parametrize(
    "change",
    [
        {"task": "rdv.x:Other"},
        {"parameters": {"num_leaves": "31.0", "rate": "0.1"}},
        {"parameters": {"num_leaves": "31"}},
        {"upstream": {"features": "cd" * 32}},
        {"upstream": {"dataset": "ab" * 32}},
        {"code": "d"},
        {"generation": 2},
    ],
)
def test_everything_that_changes_the_bytes_changes_the_name(change: dict[str, object]) -> None:
    """Class, every parameter, every input, the code and a forced rerun are all in the name's hash or behind it."""
    assert artifact_name(key()) != artifact_name(key(**change))
    assert name_hash(artifact_name(key())) != name_hash(artifact_name(key(**change)))


def test_versions_are_told_apart_by_date_and_artifact() -> None:
    """A version's name is the UTC date of its period and twelve digits of its artifact's hash."""
    period = period_of(datetime(2024, 11, 22, 23, tzinfo=UTC), "3h")
    first, second = (version_name(artifact_name(key(generation=n)), period) for n in (1, 2))
    assert first == f"2024-11-22-{name_hash(artifact_name(key()))[:12]}"
    assert first != second


@given(texts, texts)
def test_segments_tell_texts_apart(one: str, other: str) -> None:
    """Two different texts never share a path segment, not even long or empty ones."""
    alike = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    assert (segment(one) == segment(other)) == alike
    assert (segment("x" * 200 + one) == segment("x" * 200 + other)) == alike or "x" in one + other


@pytest.mark.parametrize("text", ["", ".", "..", "...", "a" * 500, "/" * 200])
def test_a_segment_never_leads_elsewhere(text: str) -> None:
    """No segment is empty, a dot, two dots or too long."""
    check_key(segment(text))
    assert len(segment(text)) <= 80


def manifest(of: Key, created: str = "") -> Manifest:
    return Manifest(
        name=artifact_name(of), kind=of.family, attempt="a", files=(), task=of.task, parameters=of.parameters,
        upstream=of.upstream, code=of.code, created=created,
    )  # fmt: skip


def test_a_difference_is_told_part_by_part() -> None:
    """What changed between two names is told as parameter, input, task or code, with both values."""
    new = key(parameters={"num_leaves": "63", "extra": "s.a~20b"}, upstream={"features": "cd" * 32}, code="d")
    assert explain_difference(manifest(key()), new) == [
        "extra is new: a b",
        "num_leaves was 31, is 63",
        "rate is gone, was 0.1",
        "input features was abababababab, is cdcdcdcdcdcd",
        "the code changed",
    ]
    assert explain_difference(manifest(key()), key()) == []


def test_the_nearest_artifact_is_the_one_compared_with() -> None:
    """Of earlier artifacts the one with the fewest differences is told about, of equal ones the newest."""
    far = manifest(key(code="z", parameters={}), "2024-03-01")
    old, young = manifest(key(code="y"), "2024-01-01"), manifest(key(code="x"), "2024-02-01")
    assert nearest(key(), [far, old, young]) is young
    assert nearest(key(), []) is None
