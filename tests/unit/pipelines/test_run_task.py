"""A task by itself: what its inputs are called, and which hyperparameters it gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import UsageError
from rdv.pipelines.names import Key, artifact_name
from rdv.pipelines.run_task import hyperparameters, parse_inputs
from rdv.pipelines.tabular_lightgbm import LightGBMTask

values = st.text("abc,=/. ", max_size=5) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
names = st.dictionaries(st.sampled_from(["rate", "num_leaves", "model", "x"]), values, max_size=3).map(
    lambda shown: artifact_name(
        Key(
            task="m:C", family="train", scope="churn/a", period="day.2024-11-22", code="", upstream={},
            parameters={name: str(value).encode().hex() for name, value in shown.items()}, shown=tuple(shown),
        )  # fmt: skip
    )
)


@given(st.dictionaries(st.sampled_from(["features", "model", "report"]), names, min_size=1))
def test_inputs_read_back(inputs: dict[str, str]) -> None:
    """Whatever hyperparameters stand in the names of artifacts, pairs of role and artifact are told apart."""
    assert parse_inputs(",".join(f"{role}={name}" for role, name in inputs.items())) == inputs


def test_names_of_ones_own_choice() -> None:
    """Artifacts without a slash in their names are told apart by the roles that the task is known to read."""
    assert parse_inputs("features=f,model=m", ("features", "model")) == {"features": "f", "model": "m"}
    assert parse_inputs("") == {}


@pytest.mark.parametrize("text", ["features", "=a/b", "features=", "model=a/b,model=c/d", ",a", "1a=b"])
def test_what_names_no_inputs_is_refused(text: str) -> None:
    """A text that is no list of role=artifact is a usage error."""
    with pytest.raises(UsageError):
        parse_inputs(text)


def test_hyperparameters_of_a_dispatch() -> None:
    """What is given goes over rdv.toml's, which goes over the task's own; unknown and ill-typed ones are refused."""
    found = hyperparameters(LightGBMTask, {"num_leaves": 7, "num_iterations": 9}, {"num_leaves": 5, "learning_rate": 1})
    assert (found["num_leaves"], found["num_iterations"], found["learning_rate"]) == (5, 9, 1.0)
    for wrong in ({"leaves": 5}, {"num_leaves": 5.5}):
        with pytest.raises(UsageError):
            hyperparameters(LightGBMTask, {}, wrong)
