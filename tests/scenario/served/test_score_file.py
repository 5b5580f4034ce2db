"""Scores for a file are the gateway's own answers, and what the gateway refuses is told, row by row."""

import csv
import http.client
import json
import random
from pathlib import Path

import numpy as np
import pytest

from rdv.errors import InputError, NotFound
from rdv.flavours import load_predictor
from rdv.flavours_catboost import catboost_frame
from rdv.inputs import InputField, InputSpec, compile_encoder, rows_from_records
from rdv.manifest import ModelInfo
from rdv.probe_rows import to_probe_rows
from rdv.schema import load_schema
from rdv.serving.score_file import open_scorer, read_records, score_file

SETTINGS = """
[goals.total]
schema = "total.json"
budget_ms = 2000
default = 0.5
tiers = [{ until_ms = 2000, models = ["FLAVOUR"] }]
[[goals.total.enrich]]
table = "plans.csv"
key = "plan"
columns = { price = "number", group = "string" }
[models.FLAVOUR]
goal = "total"
flavour = "FLAVOUR"
[serve]
port = PORT
"""
SCHEMA = {
    "type": "object",
    "properties": {
        "age": {"type": "number", "minimum": 0, "maximum": 120},
        "plan": {"type": ["string", "null"]},
        "visits": {"type": ["integer", "null"]},
        "smokes": {"type": "boolean"},
    },
    "required": ["age"],
    "additionalProperties": False,
}
SPEC = InputSpec(
    (
        InputField("group", "category", ("a", "b")),
        InputField("age"),
        InputField("price", fill=-1.0),
        InputField("plan", "category", ("basic", "gold"), unknown="other"),
        InputField("smokes", "category", ("0", "1")),
        InputField("visits"),
    )
)
PRICES = {"basic": ("10.5", "a"), "gold": ("99", "b"), "odd": ("", "")}


def records(rows: int) -> list[dict[str, object]]:
    """Requests with everything that may be missing missing now and then."""
    chance = random.Random(7)
    made = []
    for _ in range(rows):
        record = {
            "age": round(chance.uniform(0, 120), 3),
            "plan": chance.choice(["basic", "gold", "odd", "unheard of", None]),
            "visits": chance.choice([None, 0, 3, 11]),
            "smokes": chance.choice([True, False]),
        }
        made.append({name: value for name, value in record.items() if value is not None})
    return made


def enriched(record: dict[str, object]) -> dict[str, object]:
    """A request with what its lookup adds."""
    price, group = PRICES.get(str(record.get("plan")), ("", ""))
    return {**record, "price": float(price) if price else None, "group": group or None}


@pytest.fixture(params=["lightgbm", "catboost"])
def mixed(request: pytest.FixtureRequest, make_site):
    """A served-to-be project of one real model with numbers, booleans, categories, missing values and a lookup."""
    flavour = request.param
    site = make_site(SETTINGS.replace("FLAVOUR", flavour), SCHEMA)
    lines = ["plan,price,group", *(f"{plan},{price},{group}" for plan, (price, group) in PRICES.items())]
    (site.folder / "plans.csv").write_text("\n".join(lines) + "\n")
    goal = site.project.config.goals["total"]
    schema = load_schema(goal, site.folder).row_schema(goal.enrich)
    rows = rows_from_records(schema, [enriched(record) for record in records(400)])
    matrix = compile_encoder(SPEC, schema)(rows)
    target = (np.nan_to_num(matrix[:, 1]) + 30 * np.nan_to_num(matrix[:, 3]) > 60).astype(int)
    source = site.folder / "made"
    source.mkdir()
    train(flavour, matrix, target, source / "model")
    info = ModelInfo("model", flavour, "probability", SPEC, positive="1", probe_rows=to_probe_rows(SPEC, schema, rows))
    predictor = load_predictor(info, source / "model")
    site.publish_info(flavour, "v1", info, source)
    site.deploy(flavour, "v1")
    return site, flavour, predictor.predict(matrix)[:, 0].tolist()


def train(flavour: str, matrix: np.ndarray, target: np.ndarray, file: Path) -> None:
    """A small model of this flavour in a file."""
    categories = list(SPEC.categorical())
    if flavour == "lightgbm":
        import lightgbm

        params = {"objective": "binary", "num_leaves": 7, "num_threads": 1, "verbose": -1}
        data = lightgbm.Dataset(matrix, target, feature_name=list(SPEC.names()), categorical_feature=categories)
        lightgbm.train(params, data, 15).save_model(str(file))
    else:
        import catboost

        frame = catboost_frame(matrix, categories)
        pool = catboost.Pool(frame, target, cat_features=categories, feature_names=list(SPEC.names()))
        model = catboost.CatBoostClassifier(iterations=15, depth=3, verbose=0, allow_writing_files=False)
        model.fit(pool).save_model(str(file), format="cbm")


def write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    """The rows as CSV, with a column that the goal does not know."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["age", "plan", "visits", "smokes", "label"])
        writer.writeheader()
        writer.writerows({**row, "label": "x"} for row in rows)
    return path


def test_file_training_and_gateway_agree_to_the_last_bit(mixed) -> None:
    """One row has one score: in training's matrix, in a CSV file, in JSON lines, and as the gateway's answer."""
    site, flavour, trained = mixed
    rows = records(400)
    from_csv = list(score_file(site.project, flavour, write_csv(site.folder / "rows.csv", rows)))
    lines = site.folder / "rows.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in rows))
    from_lines = list(score_file(site.project, flavour, lines))
    assert [one.values for one in from_csv] == [one.values for one in from_lines] == [(value,) for value in trained]
    assert [one.row for one in from_csv] == list(range(1, 401))
    site.start()
    connection = http.client.HTTPConnection("127.0.0.1", site.project.config.serve.port, timeout=20)
    for row, value in list(zip(rows, trained, strict=True))[:60]:
        connection.request("POST", "/v1/goals/total/score", json.dumps(row), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        assert (answer["source"], answer["answer"]) == ("tier 1", value)
    connection.close()
    assert site.stop() == 0


def test_rows_that_the_gateway_would_refuse_are_told_and_disturb_no_other(site) -> None:
    """A row outside the schema has a problem that names its field, and the rows around it have their scores."""
    file = site.folder / "rows.csv"
    file.write_text("a,b\n1,2\nx,2\n1,\n,2\n3,4\ninf,1\n")
    found = list(score_file(site.project, site.CHAMPION, file))
    assert [one.values for one in found] == [(1e6 + 3,), (), (), (), (1e6 + 7,), ()]
    assert [bool(one.problem) for one in found] == [False, True, True, True, False, True]
    assert all(field in one.problem for field, one in zip("ab", [found[1], found[2]], strict=True))


def test_a_version_can_be_named(site) -> None:
    """Any published version scores, the current one unless another is named."""
    records = [{"a": 1, "b": 2}]
    assert open_scorer(site.project, site.CHAMPION).version == "v1"
    assert [one.values for one in open_scorer(site.project, site.CHAMPION, "v2").score(records)] == [(2e6 + 3,)]
    with pytest.raises(NotFound, match="no version v9"):
        open_scorer(site.project, site.CHAMPION, "v9")
    with pytest.raises(NotFound, match="no model 'nobody'"):
        open_scorer(site.project, "nobody")


def test_files_that_cannot_be_read_say_so(site) -> None:
    """An unknown ending, a missing file and a line that is no object end in one named error each."""
    schema = load_schema(site.project.config.goals[site.GOAL], site.folder)
    (site.folder / "rows.jsonl").write_text('{"a": 1, "b": 2}\n[1]\n')
    for name, said in (("rows.xlsx", "none of"), ("gone.csv", "cannot be read"), ("rows.jsonl", "line 2")):
        with pytest.raises(InputError, match=said):
            list(read_records(site.folder / name, schema))
