"""`rdv models diff`: everything that differs between two versions, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from rdv.cli.compare import differences
from rdv.inputs import InputField, InputSpec
from rdv.manifest import FileEntry, Manifest, ModelInfo

METRICS = st.dictionaries(st.sampled_from(["auc", "log_loss", "brier"]), st.floats(0, 1))


def version(
    metrics: dict[str, float], fields: tuple[InputField, ...] = (InputField("age"),), **others: object
) -> Manifest:
    """A version's manifest with some metrics and inputs."""
    info = ModelInfo(file="m", flavour="lightgbm", kind="probability", inputs=InputSpec(fields))
    files = (FileEntry("m", 1, "00ff" * 16),)
    return Manifest(name="n", kind="model", attempt="a", files=files, task="t", metrics=metrics, model=info, **others)  # type: ignore[arg-type]


@given(METRICS)
def test_a_version_does_not_differ_from_itself(metrics: dict[str, float]) -> None:
    """Nothing is shown for equal versions."""
    assert differences(version(metrics), version(metrics)) == []


@given(METRICS, METRICS)
def test_exactly_the_changed_metrics_are_shown(one: dict[str, float], other: dict[str, float]) -> None:
    """Each metric that differs or is on one side only is there once, with the change where there is one."""
    found = {row["name"]: row for row in differences(version(one), version(other))}
    assert set(found) == {name for name in {*one, *other} if one.get(name) != other.get(name)}
    for name, row in found.items():
        both = name in one and name in other
        assert row["change"] == (other[name] - one[name] if both else None)


def test_inputs_parameters_and_data_are_compared() -> None:
    """A new input, another category, another parameter and another data set are told apart."""
    one = version({}, (InputField("age"), InputField("plan", "category", ("a",))), parameters={"lr": "0.1"})
    two = version({}, (InputField("plan", "category", ("a", "b")),), parameters={"lr": "0.2"}, upstream={"data": "x"})
    shown = [(row["aspect"], row["name"]) for row in differences(one, two)]
    assert shown == [("input", "age"), ("input", "plan"), ("made from", "data"), ("parameter", "lr")]
