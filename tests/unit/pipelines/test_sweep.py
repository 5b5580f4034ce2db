"""Sweeps: what -P flags mean, how many points they make, and that points come one by one in a fixed order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import UsageError
from rdv.pipelines.names import canonical
from rdv.pipelines.sweep import Choices, Span, Sweep, coerce, parse_axes, parse_axis


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("31,63", (31, 63)),
        ("3..6", (3, 4, 5, 6)),
        ("1,3..5", (1, 3, 4, 5)),
        ("0.05,.1,1e-1", None),
        ("0.05,0.1", (0.05, 0.1)),
        ("true,false,none", (True, False, None)),
        ('gbdt,"31",""', ("gbdt", "31", "")),
        ('"a,b",c', ("a,b", "c")),
        ("-3..-1", (-3, -2, -1)),
    ],
)
def test_lists_and_ranges(text: str, values: tuple[object, ...] | None) -> None:
    """Lists, integer ranges, words and quoted text are typed as written; a value listed twice is refused."""
    if values is None:
        with pytest.raises(UsageError):
            parse_axis("x", text)
        return
    axis = parse_axis("x", text)
    assert isinstance(axis, Choices)
    assert [canonical(value) for value in axis.values] == [canonical(value) for value in values]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0.01..0.3", Span(0.01, 0.3)),
        ("1e-3..1:log", Span(0.001, 1.0, log=True)),
        ("1..1000:log", Span(1.0, 1000.0, log=True, whole=True)),
    ],
)
def test_ranges_to_draw_from(text: str, span: Span) -> None:
    """A range with a fraction, or with :log, has no list of values."""
    assert parse_axis("x", text) == span


@pytest.mark.parametrize(
    "flags", [["x"], ["=1"], ["x="], ["x=1", "x=2"], ["x=3..1"], ["x=0.1..0.2,5"], ["x=0..1:log"], ["x=1,,2"]]
)
def test_flags_that_cannot_be_read(flags: list[str]) -> None:
    """A flag without name or value, a name given twice, a range that goes down: usage errors that say so."""
    with pytest.raises(UsageError):
        parse_axes(flags)


def test_a_grid_is_counted_before_it_is_made() -> None:
    """The number of points is known at once, and points are made only when asked for."""
    sweep = Sweep(parse_axes(["a=1..1000", "b=1..1000", "c=1..1000"]), {"d": 1})
    assert sweep.count() == 10**9
    first = list(itertools.islice(sweep.points(), 2))
    assert first == [{"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 1, "b": 1, "c": 2, "d": 1}]


def test_a_drawn_sweep_needs_trials() -> None:
    """A range without steps is refused until trials are asked for."""
    with pytest.raises(UsageError, match="--trials"):
        Sweep(parse_axes(["a=0.1..0.5"]), {})


@given(st.integers(1, 40), st.integers(0, 5))
def test_more_trials_keep_the_earlier_ones(trials: int, seed: int) -> None:
    """Point i depends on seed and i only, lies within its range, and no point comes twice."""
    axes = parse_axes(["rate=1e-3..1:log", "leaves=2..100:log", "kind=a,b", "share=0.5..1.0"])
    fewer = list(Sweep(axes, {}, trials, seed).points())
    more = list(Sweep(axes, {}, trials + 5, seed).points())
    assert more[: len(fewer)] == fewer
    for point in more:
        assert 0.001 <= point["rate"] <= 1  # type: ignore[operator]
        assert 2 <= point["leaves"] <= 100  # type: ignore[operator]
        assert isinstance(point["leaves"], int)
    assert len({str(point) for point in more}) == len(more)


def test_defaults_say_the_types() -> None:
    """1 for a rate is 1.0, 31.0 for a count is 31, and what cannot be meant is refused."""
    defaults = {"rate": 0.1, "leaves": 31, "kind": "gbdt", "flag": False}
    points = list(Sweep(parse_axes(["rate=1,2", "leaves=31.0"]), defaults).points())
    assert [(type(point["rate"]), type(point["leaves"])) for point in points] == [(float, int)] * 2
    for name, value in (("leaves", 0.5), ("kind", 3), ("flag", 1), ("rate", "x"), ("leaves", True)):
        with pytest.raises(UsageError):
            coerce(name, value, defaults)  # type: ignore[arg-type]
    assert coerce("leaves", None, defaults) is None


def test_types_are_held_before_anything_runs() -> None:
    """A value of the wrong type is refused when the sweep is made, not at its point."""
    with pytest.raises(UsageError):
        Sweep(parse_axes(["leaves=31,0.5"]), {"leaves": 31})


def test_one_point_written_in_two_ways_is_one_point() -> None:
    """1 and 1.0 of a number are one point of the grid."""
    assert len(list(Sweep(parse_axes(["rate=1,1.0,2"]), {"rate": 0.1}).points())) == 2
