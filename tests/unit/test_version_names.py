"""How a version is named on the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.cli.model_views import newest_first, resolve, role_in_goal
from rdv.config import Config, Goal, Model, Tier
from rdv.errors import NotFound
from rdv.records import Pointer, Version


def version(name: str, created: str) -> Version:
    """A published version of model `m`."""
    return Version(model="m", version=name, artifact=f"a/{name}", digest="d", created=created)


VERSIONS = [
    version("20260103-aaaa", "2026-01-03"),
    version("20260101-bbbb", "2026-01-01"),
    version("20260102-aabb", "2026-01-02"),
]
POINTER = Pointer(version="20260102-aabb", previous="20260101-bbbb", serial=2)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("current", "20260102-aabb"),
        ("previous", "20260101-bbbb"),
        ("newest", "20260103-aaaa"),
        ("20260101-bbbb", "20260101-bbbb"),
        ("20260103", "20260103-aaaa"),
    ],
)
def test_a_version_has_several_names(text: str, found: str) -> None:
    """Its id, an unambiguous beginning of it, and the word for its place all name it."""
    assert resolve("m", text, VERSIONS, POINTER).version == found


@pytest.mark.parametrize("text", ["", "2026", "x", "previous-", "20260103-aaaab"])
def test_what_names_no_single_version_is_refused(text: str) -> None:
    """An unknown or ambiguous name is NotFound, with the command that lists the versions."""
    with pytest.raises(NotFound, match="rdv models list m"):
        resolve("m", text, VERSIONS, POINTER)


@pytest.mark.parametrize("word", ["current", "previous"])
def test_places_need_a_pointer(word: str) -> None:
    """Before the first release there is no current and no previous version."""
    with pytest.raises(NotFound):
        resolve("m", word, VERSIONS, None)


@given(st.permutations(VERSIONS))
def test_newest_is_by_date_whatever_the_order(versions: list[Version]) -> None:
    """The registry's order does not matter."""
    assert [one.created for one in newest_first(versions)] == ["2026-01-03", "2026-01-02", "2026-01-01"]


def test_roles_are_what_the_goal_says() -> None:
    """The preferred model is the champion; others are in their tier, the canary model, or challengers."""
    tiers = (Tier(10, ("a",)), Tier(20, ("a", "b")))
    goal = Goal(schema={}, budget_ms=30, default=0.5, tiers=tiers, canary_model="c")
    config = Config(goals={"g": goal}, models={name: Model(goal="g") for name in "abcd"})
    assert [role_in_goal(config, name) for name in "abcd"] == ["champion", "tier 2", "canary model", "challenger"]
