"""The demo's data: real, complete, and never mixed with what it is judged on."""

from collections.abc import Callable

import pytest

from rdv.cli.demo import data as demo_data


@pytest.fixture(scope="module")
def data(require: Callable[..., str]) -> demo_data.Data:
    """The demo's rows; its package is part of the development environment."""
    require("statsmodels", remedy="pip install 'rdv[demo]'")
    return demo_data.load()


def test_held_out_rows_are_never_trained_on(data: demo_data.Data) -> None:
    """5,000 of the 20,190 cases are in the held-out part and in no other."""
    training = {row["case"] for row in data.training}
    held_out = {row["case"] for row in data.held_out}
    assert (len(training), len(held_out)) == (15_190, 5_000)
    assert not training & held_out


def test_the_split_is_the_same_every_time(data: demo_data.Data) -> None:
    """Every demo holds out the same rows in the same order."""
    assert demo_data.load() == data


def test_requests_do_not_carry_the_label(data: demo_data.Data) -> None:
    """What the client sends has the schema's fields and nothing of the outcome."""
    sent = demo_data.request(data.held_out[0])
    assert set(sent) == set(demo_data.FIELDS)
    assert demo_data.LABEL not in sent


def test_both_outcomes_are_there(data: demo_data.Data) -> None:
    """About 69 % of the cases saw a doctor, in both parts."""
    for rows in (data.training, data.held_out):
        assert 0.66 < sum(row[demo_data.LABEL] for row in rows) / len(rows) < 0.72


def test_every_plan_of_a_case_is_in_the_enrichers_table(data: demo_data.Data) -> None:
    """The static table knows every plan, so that no lookup of the demo misses."""
    assert {row["plan"] for row in [*data.training, *data.held_out]} == set(data.plans)
