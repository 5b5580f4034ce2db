"""Training runs end to end: from a file to a published version, once, and never again for nothing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from rdv.backends import select
from rdv.clock import SystemClock
from rdv.errors import Exit, InputError, UsageError
from rdv.pipelines.runs.records import find_run, list_runs, run_events
from rdv.releases.pointer import current, deploy

BINARY = """
[models."visit/m"]
goal = "visit"
data = "data.csv"
label = "seen"
floor = 0.6
[models."visit/m".params]
num_iterations = 10
"""
OTHER = """
[models."visit/other"]
goal = "visit"
flavour = "catboost"
data = "data.csv"
label = "seen"
[models."visit/other".params]
iterations = 5
"""


def test_a_grid_becomes_a_published_version(clinic: Any) -> None:
    """Each point is trained once; the best on validation is judged on test, published, and its manifest tells all."""
    clinic.write(BINARY)
    result = clinic.train("num_leaves=4,8", "learning_rate=0.1,0.3")
    assert result.exit is Exit.OK, result.record
    assert (result.record.points, result.record.trained, result.record.state) == (4, 4, "done")
    assert clinic.kinds("dispatched").count("train") == 4
    assert [clinic.kinds("dispatched").count(one) for one in ("dataset", "features", "evaluate", "validate")] == [1] * 4
    models = clinic.manifests("train")
    best = max(models.values(), key=lambda one: one.metrics["validation_auc"])
    assert result.record.artifact == best.name
    assert clinic.versions() == [result.record.version]
    assert set(best.libraries) >= {"lightgbm", "numpy", "python", "rdv"}
    assert best.parameters["num_leaves"] in ("4", "8")
    assert best.cost.peak_memory_bytes > 1 << 20
    assert best.model is not None
    assert len(best.model.probe_rows) == len(best.model.probe_scores) == 16
    assert clinic.damage() == []


def test_what_is_done_is_not_done_again(sums: Any) -> None:
    """The same request again runs no step; a wider grid trains the new points only."""
    first = sums.train("offset=4,8")
    again = sums.train("offset=8,4")
    assert (again.exit, again.record.trained, sums.kinds("dispatched")) == (Exit.OK, 0, [])
    assert again.record.version == first.record.version
    wider = sums.train("offset=4,8,16")
    assert wider.record.trained == 1
    assert sums.kinds("dispatched").count("features") == 0


def test_models_of_a_goal_share_data_and_features(clinic: Any) -> None:
    """A second model on the same data, label and split finds its data set and features done."""
    pytest.importorskip("catboost")
    clinic.write(BINARY + OTHER)
    clinic.train()
    result = clinic.train(model="visit/other")
    assert result.exit is Exit.OK, result.record
    assert set(clinic.kinds("dispatched")) == {"train", "evaluate", "validate"}


@pytest.mark.parametrize("flavour", ["lightgbm", "catboost"])
@pytest.mark.parametrize(
    ("label", "goal"),
    [
        ("place", 'answer = "labels"\nlabels = ["home", "ward", "icu"]\ndefault = [0.4, 0.3, 0.3]'),
        ("days", 'answer = "number"\ndefault = 0.0'),
    ],
)
def test_labels_and_numbers_pass_the_gate(clinic: Any, flavour: str, label: str, goal: str) -> None:
    """Multiclass and regression models of both libraries agree with themselves as requests and are published."""
    pytest.importorskip(flavour)
    rounds = "num_iterations" if flavour == "lightgbm" else "iterations"
    clinic.write(
        f'[models."visit/m"]\ngoal = "visit"\nflavour = "{flavour}"\ndata = "data.csv"\nlabel = "{label}"\n'
        f'[models."visit/m".params]\n{rounds} = 5\n',
        goal,
    )
    result = clinic.train()
    assert result.exit is Exit.OK, result.record
    (verdict,) = clinic.manifests("validate").values()
    found = verdict.extra["verdict"]["evidence"]
    assert found["replayed"] > 50
    assert found["probes"] > 100
    assert (found["replay"], found["round_trip"]) == (0.0, 0.0)


def test_a_run_leaves_a_record(sums: Any) -> None:
    """Record, events and log of a run can be read afterwards and tell how it ended."""
    result = sums.train("offset=4")
    state = sums.project().state
    assert list_runs(state) == [result.record] == [find_run(state, result.record.run[:10])]
    kinds = [event.kind for event in run_events(state, result.record.run)]
    assert kinds[0] == "planned"
    assert kinds[-3:] == ["verdict", "published", "ended"]
    assert "published" in (state / "runs" / result.record.run / "log").read_text()


def test_a_changed_file_is_another_data_set(sums: Any) -> None:
    """Data enters by its content: new bytes train again, the old bytes back need nothing."""
    first = sums.train()
    sums.data(seed=1)
    second = sums.train()
    assert second.record.trained == 1
    assert second.record.version != first.record.version
    sums.data()
    assert sums.train().record.trained == 0


def test_dates_are_part_of_the_name(sums: Any) -> None:
    """Another period is another version; the same week under two of its days is one."""
    versions = [
        sums.train(date=date, granularity="week").record.version for date in ("2024-11-18", "2024-11-22", "2024-11-25")
    ]
    assert versions[0] == versions[1] != versions[2]
    assert [version[:10] for version in versions] == ["2024-11-18", "2024-11-18", "2024-11-25"]


def test_force_makes_another_generation(sums: Any) -> None:
    """A forced run makes everything again beside what is there, and its artifacts are used from then on."""
    first = sums.train()
    forced = sums.train(force=True)
    assert forced.exit is Exit.OK, forced.record
    assert forced.record.trained == 1
    assert forced.record.artifact == first.record.artifact + ".2"
    models = sums.manifests("train")
    assert len({one.digest() for one in models.values()}) == 1
    assert sums.versions() == sorted({first.record.version, forced.record.version})
    again = sums.train()
    assert (again.record.trained, again.record.version) == (0, forced.record.version)


def test_what_cannot_be_served_is_not_read(clinic: Any) -> None:
    """Columns outside the schema, the label and excluded ones are no inputs, and the features say so."""
    clinic.write(BINARY.replace("floor = 0.6", 'exclude = ["dose"]'))
    assert clinic.train().exit is Exit.OK
    (model,) = clinic.manifests("train").values()
    assert model.model.inputs.names() == ("age", "smoker", "ward")
    (features,) = clinic.manifests("features").values()
    assert features.extra["columns_not_read"] == ["dose", "place", "days"]
    assert sum(features.extra["rows"].values()) == 400


def test_lookups_fill_columns_that_the_data_lacks(clinic: Any) -> None:
    """A model trains on what the enricher adds, from a table and from a function, and passes as requests."""
    (clinic.folder / "wards.csv").write_text("ward,beds,kind\nnorth,10,old\nsouth,20,new\n")
    clinic.code("def more(request):\n    return {'half': (request['age'] or 0) / 2}\n", clinic.module + "_lookup")
    clinic.write(
        BINARY,
        'answer = "probability"\ndefault = 0.5\n'
        'enrich = [{ table = "wards.csv", key = "ward", columns = { beds = "number", kind = "string" } }, '
        f'{{ function = "{clinic.module}_lookup:more", columns = {{ half = "number" }} }}]',
    )
    result = clinic.train()
    assert result.exit is Exit.OK, result.record
    (model,) = clinic.manifests("train").values()
    assert set(model.model.inputs.names()) == {"age", "dose", "smoker", "ward", "beds", "kind", "half"}
    (clinic.folder / "wards.csv").write_text("ward,beds,kind\nnorth,11,old\nsouth,20,new\n")
    assert clinic.train().record.trained == 1
    clinic.code("def more(request):\n    return {'half': (request['age'] or 0) / 3}\n", clinic.module + "_lookup")
    assert clinic.train().record.trained == 1


def test_only_what_deploys_is_released(sums: Any) -> None:
    """publish = "deploy" moves the pointer through the function that it was given; "register" never does."""
    sums.train(release="rdv.releases.pointer:deploy")
    assert current(select.registry(sums.project()), "visit/m") is None
    sums.set('publish = "deploy"')
    result = sums.train(release="rdv.releases.pointer:deploy")
    assert result.record.released
    pointer = current(select.registry(sums.project()), "visit/m")
    assert pointer is not None
    assert pointer.version == result.record.version


def test_a_model_below_its_floor_is_kept_but_not_published(sums: Any) -> None:
    """A missed floor ends in exit code 7 with its reason; the model stays, the registry has no version of it."""
    sums.set("floor = 0.001")
    result = sums.train()
    assert (result.exit, result.record.state) == (Exit.REFUSED, "refused")
    assert "floor" in result.record.reasons[0]
    assert "floor" in result.record.error
    assert sums.versions() == []
    assert list(sums.manifests("train")) == [result.record.artifact]
    assert sums.train().exit is Exit.REFUSED


def test_a_worse_model_than_the_champion_is_refused(sums: Any) -> None:
    """A model must match the champion on the test part; the verdict is kept by the champion's digest."""
    good = sums.train()
    deploy(select.registry(sums.project()), "visit/m", good.record.version, "test", SystemClock())
    worse = sums.train("offset=1000.0")
    assert worse.exit is Exit.REFUSED
    assert "champion" in worse.record.reasons[0]
    assert sums.train().exit is Exit.OK
    assert len(sums.manifests("validate")) == 3


def test_a_constant_model_is_refused(sums: Any) -> None:
    """A model that answers everybody the same is not published."""
    text = (sums.folder / f"{sums.module}.py").read_text()
    constant = text.replace(
        'return load_features(inputs["features"]).model_info("model.json", "sum")',
        "from msgspec.structs import replace\n"
        "        from rdv.inputs import InputField, InputSpec\n"
        '        info = load_features(inputs["features"]).model_info("model.json", "sum")\n'
        '        never = (InputField("smoker", "category", ("7",), unknown="other"),)\n'
        "        return replace(info, inputs=InputSpec(never))",
    )
    sums.code(constant)
    result = sums.train()
    assert result.exit is Exit.REFUSED, result.record
    assert "same answer" in result.record.error


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"model": "visit/none"}, "no model"),
        ({"settings": ("num_leafs=3",)}, "num_leaves"),
        ({"settings": ("eta=0.1",)}, "learning_rate"),
        ({"settings": ("num_leaves=0.5",)}, "whole number"),
        ({"date": "soon"}, "date"),
        ({"granularity": "month"}, "granularity"),
    ],
)
def test_a_senseless_request_starts_nothing(clinic: Any, request_: dict[str, Any], told: str) -> None:
    """A request that makes no sense is a usage error before there is a run."""
    clinic.write(BINARY)
    settings = request_.pop("settings", ())
    with pytest.raises(UsageError, match=told):
        clinic.train(*settings, **request_)
    assert list_runs(clinic.project().state) == []


def test_data_that_does_not_fit_is_told_with_its_row(sums: Any) -> None:
    """A value outside the schema's type fails the run with exit code 3, row and column."""
    text = (sums.folder / "data.csv").read_text().splitlines()
    text[5] = "old," + text[5].partition(",")[2]
    (sums.folder / "data.csv").write_text("\n".join(text) + "\n")
    result = sums.train()
    assert result.exit is Exit.USAGE
    assert "row 5" in result.record.error
    assert "age" in result.record.error
    assert issubclass(InputError, UsageError)


def test_a_missing_file_is_told(sums: Any) -> None:
    """Without its data file a run ends with exit code 3 and the file's name."""
    (sums.folder / "data.csv").unlink()
    result = sums.train()
    assert result.exit is Exit.USAGE
    assert "data.csv" in result.record.error


def test_the_readme_example_of_a_task_trains(clinic: Any) -> None:
    """A subclass as the documentation shows it, with its own hyperparameters, trains and is published."""
    clinic.code(
        """
import lightgbm
from rdv.pipelines.task import TrainTask, load_features

class Stumps(TrainTask):
    defaults = {"rounds": 5, "learning_rate": 0.5}

    def run_step(self, inputs, output_folder, params):
        features = load_features(inputs["features"])
        train = features.part("train")
        settings = {"objective": "binary", "num_leaves": 2, "learning_rate": params["learning_rate"], "verbosity": -1,
                    "num_threads": 1, "deterministic": True, "seed": params["seed"]}
        data = lightgbm.Dataset(train.matrix, train.answers, categorical_feature=list(features.inputs.categorical()))
        booster = lightgbm.train(settings, data, params["rounds"])
        booster.save_model(output_folder / "model.txt")
        return features.model_info(file="model.txt", flavour="lightgbm")
"""
    )
    clinic.write('[models."visit/m"]\ngoal = "visit"\ntask = "MODULE:Stumps"\ndata = "data.csv"\nlabel = "seen"\n')
    result = clinic.train("rounds=3,6")
    assert result.exit is Exit.OK, result.record
    assert "learning_rate=0.5,rounds=" in result.record.artifact


def test_a_data_set_may_come_from_anywhere(sums: Any, sum_task: str) -> None:
    """A subclass of the data set's task replaces the file."""
    sums.code(
        sum_task
        + """
from rdv.pipelines.task import DatasetTask, FeaturesTask

class Numbers(DatasetTask):
    def read(self, inputs, params):
        n = range(300)
        return {"age": [i % 90 for i in n], "dose": [i / 10 for i in n], "smoker": [i % 2 == 0 for i in n],
                "ward": ["north"] * 300, "days": [i * 0.5 for i in n]}

class NumberFeatures(FeaturesTask):
    dataset_task = Numbers

class Mine(Sum):
    features_task = NumberFeatures
"""
    )
    text = (sums.folder / "rdv.toml").read_text().replace(":Sum", ":Mine").replace('data = "data.csv"\n', "")
    (sums.folder / "rdv.toml").write_text(text)
    result = sums.train("offset=0,1")
    assert result.exit is Exit.OK, result.record
    (data,) = sums.manifests("dataset").values()
    assert data.extra["rows"] == 300


def test_code_that_a_task_imports_is_in_its_name(sums: Any, sum_task: str) -> None:
    """A change in the task's module or in one that it imports trains again; one beside it does not."""
    helper = f"{sums.module}_helper"
    sums.code("STEP = 1\n", helper).code(f"import {helper}\n{sum_task}")
    assert sums.train().record.trained == 1
    sums.code("X = 1\n", f"{sums.module}_unused")
    assert sums.train().record.trained == 0
    sums.code("STEP = 2\n", helper)
    assert sums.train().record.trained == 1


def test_steps_run_by_the_configuration_that_the_run_began_with(sums: Any) -> None:
    """Settings given by flag reach the steps, which never read rdv.toml themselves."""
    from rdv.pipelines.runs.runner import TrainRequest, train

    project = sums.project(**{'models."visit/m".label': "seen"})
    (sums.folder / "rdv.toml").unlink()
    result = train(project, TrainRequest(model="visit/m"))
    assert result.exit is Exit.OK, result.record


def test_scores_of_the_test_part_are_kept(clinic: Any) -> None:
    """The evaluation's report holds the test part's scores, and its metrics are the version's."""
    clinic.write(BINARY)
    result = clinic.train()
    store = select.artifacts(clinic.project())
    (report,) = clinic.manifests("evaluate").values()
    scores = np.load(store.fetch(report, "scores.npy", clinic.folder / "scores.npy"))
    told = json.loads(store.fetch(report, "report.json", clinic.folder / "report.json").read_text())
    assert scores.shape == (told["rows"], 1)
    assert result.record.metrics["test_auc"] == told["metrics"]["auc"]


@pytest.mark.parametrize("flavour", ["lightgbm", "catboost"])
def test_training_is_deterministic(clinic: Any, flavour: str) -> None:
    """The same rows, hyperparameters and seed give the same bytes in another run, another seed gives others."""
    pytest.importorskip(flavour)
    rounds = "num_iterations" if flavour == "lightgbm" else "iterations"
    sampling = "feature_fraction = 0.5" if flavour == "lightgbm" else "rsm = 0.5"
    clinic.write(
        f'[models."visit/m"]\ngoal = "visit"\nflavour = "{flavour}"\ndata = "data.csv"\nlabel = "seen"\n'
        f'[models."visit/m".params]\n{rounds} = 10\n{sampling}\n'
    )
    for date in ("2024-01-01", "2024-01-02"):
        assert clinic.train(date=date).exit is Exit.OK
    digests = {one.digest() for one in clinic.manifests("train").values()}
    assert len(digests) == 1
    clinic.set("seed = 7")
    assert clinic.train(date="2024-01-01").exit is Exit.OK
    assert len({one.digest() for one in clinic.manifests("train").values()}) == 2
