"""Assignment: fixed for ever, uniform, and of one experiment independent of any other."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.experiments.assignment import Assignment

# Version rdv-assign-1. Whoever changes the construction must change its name, and these vectors with it.
VECTORS = [
    ("churn/lightgbm@v1", "c1", 0.1904802963988389),
    ("churn/lightgbm@v1", "c2", 0.48851593986908537),
    ("churn/lightgbm@v2", "c1", 0.1325706646449455),
    ("", "", 0.4837911401341589),
    ("a", "bc", 0.6154021065048231),
    ("ab", "c", 0.7693443669327421),
    ("m@v", "42", 0.20862313401078547),
    ("m@v", "käse", 0.8807610566572802),
    ("m@v", "7f" * 16, 0.7980468973523264),
    ("x" * 200, "y" * 300, 0.516077696389247),
]
IDS = 200_000
texts = st.text(max_size=30)


@pytest.mark.parametrize(("salt", "subject", "place"), VECTORS)
def test_places_are_what_they_always_were(salt: str, subject: str, place: float) -> None:
    """A subject's place is the same in every version of this program, to the last bit."""
    assert Assignment(salt).place(subject) == place


def test_places_are_the_same_in_every_process() -> None:
    """Another process, with another seed for its own hashes, has the same places."""
    program = "from rdv.experiments.assignment import Assignment as A; print(A('m@v').place('käse'))"
    environment = {"PYTHONHASHSEED": "7", "PYTHONUTF8": "1"}
    told = subprocess.check_output([sys.executable, "-P", "-c", program], env=environment, text=True)
    assert float(told) == Assignment("m@v").place("käse")


@given(texts, texts, st.floats(0, 1), st.floats(0, 1))
def test_a_share_that_grows_keeps_everybody_it_had(salt: str, subject: str, one: float, other: float) -> None:
    """Places lie in [0, 1); who is within a share is within every larger one; nobody is in none, everybody in all."""
    made = Assignment(salt)
    assert 0.0 <= made.place(subject) < 1.0
    small, large = sorted((one, other))
    assert made.within(subject, small) <= made.within(subject, large)
    assert not made.within(subject, 0.0)
    assert made.within(subject, 1.0)


def chi_square(counts: list[list[int]]) -> float:
    """Of a contingency table of two experiments."""
    total = sum(map(sum, counts))
    rows, columns = [sum(row) for row in counts], [sum(column) for column in zip(*counts, strict=True)]
    expected = [[row * column / total for column in columns] for row in rows]
    return sum((counts[i][j] - expected[i][j]) ** 2 / expected[i][j] for i in range(2) for j in range(2))


@pytest.mark.parametrize("salts", [("m@v1", "m@v2"), ("m@v1", "n@v1"), ("a", "b"), ("1", "11")])
def test_two_experiments_have_nothing_to_do_with_each_other(salts: tuple[str, str]) -> None:
    """Over 200,000 subjects the share is met, and who is in one share is as likely in the other as anybody (p > 0.001).

    A checksum instead of a cryptographic hash put all of one experiment's subjects into the same part of the other.
    """
    one, other = map(Assignment, salts)
    places = [(one.place(f"u{number}"), other.place(f"u{number}")) for number in range(IDS)]
    for share in (0.1, 0.5):
        counts = [[0, 0], [0, 0]]
        for here, there in places:
            counts[here < share][there < share] += 1
        assert abs(sum(counts[1]) / IDS - share) < 4 * (share * (1 - share) / IDS) ** 0.5
        assert chi_square(counts) < 10.83
