"""Patterns: the part that ECMA 262 and Python read alike, and what keeps them fast on hostile texts."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.schema_backtracking import longest_text
from rdv.schema_pattern import PatternError, parse_pattern, sample

HANG_S = 20
pieces = st.sampled_from(["a", "b", "ab", "[ab]", "[^a]", "[a-c]", "-", "\\.", "\\n", "\\u00e9", "é", " ", "[\\]\\-]"])
marks = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?", "??", "{0}", "{0,2}?"])


def grown(inner: st.SearchStrategy[str], anchors: bool) -> st.SearchStrategy[str]:
    """Patterns one step larger, with or without anchors."""
    ways = [
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, marks).map(lambda two: f"(?:{two[0]}){two[1]}"),
    ]
    return st.one_of(
        *ways, *([inner.map(lambda one: f"^{one}"), inner.map(lambda one: f"({one})$")] if anchors else [])
    )


patterns = st.recursive(pieces, lambda inner: grown(inner, True), max_leaves=8)
plain_patterns = st.recursive(pieces, lambda inner: grown(inner, False), max_leaves=8)


@contextmanager
def hang_guard(what: str) -> Iterator[None]:
    """Ends in an error what takes longer than any machine should need."""

    def give_up(signum: int, frame: object) -> None:
        raise TimeoutError(what)

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@given(patterns, st.text("ab\n-.é ", max_size=8))
def test_the_published_pattern_means_the_same_but_for_a_final_newline(pattern: str, text: str) -> None:
    """A published pattern finds what the declared one finds, except that `$` is the end and nothing else."""
    published = parse_pattern(pattern).published
    as_ecma = re.search(pattern.replace("$", r"\Z"), text)
    assert bool(re.search(published, text)) == bool(as_ecma)


@given(plain_patterns, st.integers(0, 99))
def test_a_sample_is_described_by_its_pattern(pattern: str, seed: int) -> None:
    """A sample of a pattern without anchors is matched by it from end to end."""
    tree = parse_pattern(pattern).tree
    assert re.fullmatch(pattern, sample(tree, Random(seed)))


@given(patterns, st.integers(0, 9))
def test_an_accepted_pattern_is_fast_on_hostile_texts(pattern: str, seed: int) -> None:
    """No pattern that is accepted takes long on repeated pieces of what it likes, up to the longest text it may see."""
    try:
        longest = longest_text(parse_pattern(pattern))
    except PatternError:
        return
    size = min(longest or 1024, 1024)
    rng, compiled = Random(seed), re.compile(parse_pattern(pattern).published)
    with hang_guard(pattern):
        for piece in ["a", "b", "ab", *(sample(parse_pattern(pattern).tree, rng) or "a" for _ in range(3))]:
            for end in ("", "!", "\n", "c"):
                compiled.search((piece * size)[: size - len(end)] + end)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$", "(a*)*b", "^(a|aa)*$", "^(a|a)*$", "(a|b|ab)*c", "^(a?b?)*$", "(.*)*".replace(".", "[^\\n]"),
        "^(a|aa){30}$", "(a?){30}a{30}", "^([a-z]+,?)+$", "^(p(x*|y*)q)*$", "([a-z]{1,9}){1,9}$", "(a*){2}",
        "^([^@]+[.]?)+@", "(\\n+)+$", "(a|[ab])*c", "((a+)b?)*c", "(a{1,5}){5}b",
    ],
)  # fmt: skip
def test_patterns_of_exponential_time_are_refused(pattern: str) -> None:
    """The known shapes of catastrophic backtracking are refused, whatever the length of the text."""
    with pytest.raises(PatternError):
        longest_text(parse_pattern(pattern))


@pytest.mark.parametrize(
    ("pattern", "longest"),
    [
        ("^[A-Z]{3}$", None), ("^[a-z]+(-[a-z]+)*$", None), ("^[a-z]([a-z0-9-]*[a-z0-9])?$", None), ("", None),
        ("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", None), ("abc", None), ("^(\\+49|0)[1-9][0-9]{1,12}$", None),
        ("^a*a*$", 1414), ("^a*a*a*$", 125), ("a*b", 1414), ("^a*b*a*$", 1414), ("^[^@]+@[^@]+\\.[^@]+$", 1414),
    ],
)  # fmt: skip
def test_how_long_a_text_may_be_follows_the_loops(pattern: str, longest: int | None) -> None:
    """Usual patterns have no limit; each further loop over the same characters lowers it."""
    assert longest_text(parse_pattern(pattern)) == longest


@pytest.mark.parametrize(
    "pattern",
    [
        ".", "\\d", "\\w+", "\\s", "\\b", "\\B", "\\A", "\\Z", "\\1", "\\k<a>", "\\p{L}", "\\0", "\\cA", "\\-", "\\a",
        "\\x4", "\\u12", "\\u{61}", "\\ud800", "(?=a)", "(?!a)", "(?<=a)", "(?<a>b)", "(?P<a>b)", "(?i)a", "(?#c)",
        "(?>a)", "a{,3}", "a{3", "a{3,1}", "a{1001}", "a{99999}", "a**", "a++", "a?+", "a{2}{3}", "a{2}+", "*", "+a",
        "?", "{1}", "^*", "$+", "(*a)", "|*", "[",
        "[a", "[]", "[^]", "[]a]", "[[a]", "[a&&b]", "[a--b]", "[b-a]", "[a-c-e]",
        "[\\d]", "[\\b]", "(", ")", "(a", "a)", "]", "}", "a}", "\\", "\ud800",
        "[^\\x00-\\ud7ff\\ue000-\\uffff\U00010000-\U0010ffff]",
    ],
)  # fmt: skip
def test_what_the_dialects_read_differently_is_refused(pattern: str) -> None:
    """Whatever Python and ECMA read differently, or only one of them reads, is refused with its place."""
    with pytest.raises(PatternError):
        parse_pattern(pattern)


@given(st.text(st.sampled_from("ab01^$\\.*+?()[]{}|/-,:=!<>&~dnuxé\n"), max_size=12))
def test_any_text_is_parsed_or_refused(pattern: str) -> None:
    """Whatever the text, it is refused, or what is published is a pattern that Python compiles."""
    try:
        parsed = parse_pattern(pattern)
        longest_text(parsed)
    except PatternError:
        return
    re.compile(parsed.published)
