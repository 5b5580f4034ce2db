"""The report page: valid, self-contained, and safe whatever the names in it are."""

import random
import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from rdv.cli.report.facts import Event, facts
from rdv.cli.report.page import Mark, Sheet, colours, page
from rdv.cli.report.svg import Axis, linear_ticks, log_ticks

NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12)
TAGS = {
    *("html", "head", "title", "style", "body", "main", "h1", "h2", "p", "div", "b", "span", "i", "ol", "li"),
    *("table", "tr", "th", "td", "svg", "g", "line", "text", "rect", "circle", "polyline", "dl", "dt", "dd"),
}
LEDGER = [{"what": "accepted = answered", "requests": 40, "holds": True}]


def events(models: list[str], count: int = 40) -> list[Event]:
    """Requests a tenth of a second apart, answered by the first model, every tenth by the default."""
    chance = random.Random(5)
    made = []
    for at in range(count):
        scores = [
            SimpleNamespace(
                model=name, version="v", values=[chance.random()], latency_ms=chance.uniform(0.1, 9), late=False
            )
            for name in models
        ]
        who = "" if at % 10 == 9 else models[0]
        made.append(
            SimpleNamespace(
                accepted_at=1e9 + at / 10, model=who, version="v" if who else "", reason="" if who else "none",
                source="tier 1" if who else "default", elapsed_ms=1.5, scores=scores,
            )
        )  # fmt: skip
    return made  # type: ignore[return-value]


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), NAMES)
def test_every_page_is_well_formed(models: list[str], text: str) -> None:
    """Names and texts with any character leave the page well-formed, and no mark-up of theirs gets in."""
    found = facts(models[0], "probability", events(models))
    html = page(found, 80, LEDGER, [Mark(1e9 + 1, text)], [Sheet(text, text, [{"what": text, "n": 1}])])
    body = html.removeprefix("<!doctype html>\n").replace('<meta charset="utf-8">', "")
    tree = ET.fromstring(re.sub(r"<meta name=[^>]*>", "", body))
    assert {node.tag for node in tree.iter()} <= TAGS


def test_nothing_is_fetched_from_anywhere() -> None:
    """The page has no script, no link, no image and no address in its style."""
    html = page(facts("visit", "probability", events(["a", "b"])), 80, LEDGER)
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|@import|https?://", html)


def test_the_page_shows_what_it_promises() -> None:
    """Ledger, time line with numbered marks, latencies, agreement and Q-Q chart are all there."""
    html = page(facts("visit", "probability", events(["a", "b"])), 80, LEDGER, [Mark(1e9 + 1, "worker killed")])
    for text in ("The ledger", "Who answered, over time", "worker killed", "How fast each model was", "a and b", "Q-Q"):
        assert text in html
    assert html.count("<svg") == 3
    assert 'class="good">balances' in html


def test_a_ledger_that_does_not_balance_is_seen_at_once() -> None:
    """One broken line turns the first card red."""
    html = page(facts("visit", "probability", events(["a"])), 80, [{"what": "x", "requests": 1, "holds": False}])
    assert 'class="bad">does not balance' in html


def test_a_goal_without_requests_has_a_page() -> None:
    """No event is a page that says so, not an error."""
    assert "0 requests" in page(facts("visit", "probability", []), 80, [])


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_lie_between_the_ends(low: float, span: float) -> None:
    """Linear ticks are few, evenly spaced, and inside the axis."""
    ticks = linear_ticks(low, low + span)
    assert len(ticks) <= 7
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)


@given(st.floats(1e-3, 1e3), st.floats(1.5, 1e4))
def test_logarithmic_ticks_are_round(low: float, factor: float) -> None:
    """Logarithmic ticks begin with 1, 2 or 5 and lie inside the axis."""
    for tick in log_ticks(low, low * factor):
        assert low <= tick <= low * factor
        assert f"{tick:e}"[0] in "125"


@given(st.floats(0.001, 1e5), st.floats(0.001, 1e5), st.booleans())
def test_places_stay_inside_the_frame(low: float, value: float, log: bool) -> None:
    """No value is drawn outside its chart."""
    at = Axis("x", low, low * 2, log).place(10, 100)
    assert 10 <= at(value) <= 100.0001


@given(st.lists(st.sampled_from(["a v1", "a v2", "b v1", "default", "c v9", "a v3"]), unique=True))
def test_a_model_has_one_colour_in_every_chart(answered: list[str]) -> None:
    """A model's first version is drawn in the model's colour, later ones and the default in others."""
    found = colours(["a", "b"], answered)
    first = {name.split()[0]: colour for name, colour in reversed(found.items())}
    assert list(found) == answered
    assert first.get("a", 0) == 0
    assert first.get("b", 1) == 1
    assert found.get("default", 7) == 7
    assert len(set(found.values())) == len(found)
