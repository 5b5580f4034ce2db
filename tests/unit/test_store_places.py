"""Where stores lie: the same place under any spelling, and one within another."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.backends.store_places import StorePlace, store_place

STATE = Path("/nowhere/.rdv")
PARTS = st.lists(st.sampled_from("abc"), max_size=4)


@pytest.mark.parametrize(
    ("scheme", "one", "other"),
    [
        ("dir", "artifacts", "/nowhere/.rdv/artifacts"),
        ("dir", "next/../artifacts", "artifacts/"),
        ("s3", "box/a?endpoint=http://S3:9000&secret=x", "box/a/?region=us-east-1&endpoint=http://s3:9000/"),
        ("s3", "box", "box?secret=s3"),
    ],
)
def test_one_place_in_two_spellings(scheme: str, one: str, other: str) -> None:
    """Keys, region and slashes at the end make no other place."""
    assert store_place(scheme, one, STATE) == store_place(scheme, other, STATE)


@pytest.mark.parametrize(
    ("scheme", "one", "other"),
    [
        ("s3", "box/a", "box/ab"),
        ("s3", "box?endpoint=http://a:1", "box?endpoint=http://b:1"),
        ("s3", "box", "box?endpoint=http://a:1"),
        ("dir", "artifacts", "artifacts2"),
    ],
)
def test_places_beside_each_other(scheme: str, one: str, other: str) -> None:
    """Another server, bucket or folder is another place, and neither holds the other."""
    first, second = (store_place(scheme, text, STATE) for text in (one, other))
    assert not first.holds(second)
    assert not second.holds(first)


def test_a_namenode_in_common_is_the_same_hdfs() -> None:
    """Of several namenodes one that both name makes them one cluster."""
    first = store_place("hdfs", "/models?url=http://n1:9870;http://n2:9870&user=a", STATE)
    second = store_place("hdfs", "/models/?url=http://n2:9870", STATE)
    assert first.holds(second)
    assert second.holds(first)


@given(PARTS, PARTS)
def test_a_place_holds_what_lies_below_it(path: list[str], below: list[str]) -> None:
    """A folder holds itself and everything below it; two that hold each other are one."""
    outer = StorePlace("dir", frozenset({"here"}), tuple(path))
    inner = StorePlace("dir", frozenset({"here"}), (*path, *below))
    assert outer.holds(inner)
    assert inner.holds(outer) == (not below)
    assert not outer.holds(StorePlace("s3", frozenset({"here"}), inner.path))
