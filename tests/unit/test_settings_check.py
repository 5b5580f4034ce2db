"""What `rdv config check` finds: every kind of problem by name, and none in a sound project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rdv.settings import check, load_project

SCHEMA = {
    "type": "object",
    "properties": {"person": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["person", "age"],
}
SOUND = """
project = "clinic"
[goals.visit]
schema = "visit.json"
budget_ms = 80
default = 0.5
subject = "person"
canary_model = "visit/old"
[[goals.visit.tiers]]
until_ms = 25
models = ["visit/light"]
[[goals.visit.tiers]]
until_ms = 80
models = ["visit/light", "visit/cat"]
[[goals.visit.enrich]]
table = "regions.csv"
key = "person"
columns = { region = "string" }
[goals.offer]
schema = "visit.json"
budget_ms = 20
answer = "labels"
labels = ["a", "b"]
default = [0.25, 0.75]
[goals.offer.modelling.price]
[goals.offer.modelling.taste]
[models."visit/light"]
goal = "visit"
data = "visits.csv"
label = "seen"
[models."visit/cat"]
goal = "visit"
[models."visit/cat".split]
by = "time"
field = "year"
[models."visit/old"]
goal = "visit"
[models.price]
goal = "offer"
modelling = "price"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound project's folder."""
    (tmp_path / "rdv.toml").write_text(SOUND)
    (tmp_path / "visit.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "regions.csv").write_text("person,region\n")
    return tmp_path


def test_a_sound_project_has_no_problem(folder: Path) -> None:
    """Nothing is found where nothing is wrong."""
    assert check(load_project(folder, environ={})) == []


LIGHT = "models.visit/light"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"goals.visit.budget_ms": "0"}, "goals.visit.budget_ms"),
        ({"goals.visit.budget_ms": "50"}, "goals.visit.tiers[1].until_ms: 80.0 is not between"),
        ({"goals.visit.default": "1.5"}, "goals.visit.default: 1.5 is not a probability"),
        ({"goals.visit.default": "[0.5,0.5]"}, "goals.visit.default: an answer of probability is one number"),
        ({"goals.visit.labels": "x,y"}, "goals.visit.labels: an answer of probability has no labels"),
        ({"goals.offer.default": "0.5"}, "goals.offer.default: an answer of labels needs one number a label, 2"),
        ({"goals.offer.default": "[0.5,0.6]"}, "goals.offer.default: the labels' numbers"),
        ({"goals.offer.labels": "a,a"}, "goals.offer.labels"),
        ({"goals.visit.subject": "persn"}, "goals.visit.subject: the schema has no field 'persn'; person?"),
        ({"goals.visit.canary_model": "visit/older"}, "goals.visit.canary_model: there is no model 'visit/older'"),
        ({"goals.visit.canary_model": "price"}, "goals.visit.canary_model: price belongs to offer/price"),
        ({"goals.visit.canary_model": "visit/cat"}, "goals.visit.tiers[1].models: visit/cat is a canary model"),
        ({"goals.visit.tiers": '[{"until_ms": 5, "models": ["no"]}]'}, "tiers[0].models: there is no model 'no'"),
        ({"goals.visit.tiers": '[{"until_ms": 5, "models": ["price"]}]'}, "price serves the goal offer"),
        ({"goals.visit.tiers": '[{"until_ms": 5, "models": []}]'}, "names one or more different models"),
        ({"goals.visit.tiers": '[{"until_ms": 9, "models": ["visit/cat"]}, {"until_ms": 9, "models": ["visit/cat"]}]'},
         "goals.visit.tiers[1].until_ms: tiers follow one another"),
        ({"goals.offer.canary_model": "price"}, "goals.offer: enrich and canary_model belong to its modelling goals"),
        ({"goals.offer.modelling.events.decoy": "true"}, "goals.offer.modelling.events"),
        ({"goals.visit.enrich": '[{"columns": {}, "table": "regions.csv", "key": "age"}]'}, "adds at least one column"),
        ({"goals.visit.enrich": '[{"columns": {"age": "number"}, "function": "m:f"}]'}, "has a field age as well"),
        ({"goals.visit.enrich": '[{"columns": {"x": "number"}, "table": "no.csv", "key": "age"}]'}, "there is no file"),
        ({"goals.visit.enrich": '[{"columns": {"x": "number"}, "table": "regions.csv", "key": "a"}]'}, "no field 'a'"),
        ({"goals.visit.enrich": '[{"columns": {"x": "number"}}]'}, "either a table or a function"),
        ({"goals.visit.enrich": '[{"columns": {"x": "number"}, "function": "m"}]'}, "write it as module:name"),
        ({"goals.visit.enrich": json.dumps([{"columns": {"x": "number"}, "function": "m:f"}] * 2)}, "earlier lookup"),
        ({"environments.local.bus": "grpc:"}, "environments.local.bus: 'grpc:' does not say who is let in"),
        ({"environments.local.bus": "grpc:?tls=vault&mount=pki&role=r"}, "environments.local.bus: its certificates"),
        ({"serve.bus_port": "65536"}, "serve.bus_port: 65536 is not between"),
        ({"serve.bus_host": "0.0.0.0", "serve.advertise": "::"}, "serve.advertise: nobody can dial ::"),
        ({"goals.visit.schema": "absent.json"}, "goals.visit.schema: the schema"),
        ({"goals.visit.schema": json.dumps({**SCHEMA, "allOf": []})}, "'allOf' is not supported"),
        ({"goals.visit.schema": json.dumps({"type": "object", "required": ["a"], "properties": {"a": {
            "type": "string", "pattern": "^a$", "minLength": 9}}})}, "no value was found for the field a"),
        ({f"{LIGHT}.goal": "visits"}, "models.visit/light.goal: there is no goal 'visits'"),
        ({f"{LIGHT}.modelling": "x"}, "models.visit/light.modelling: 'x' is no modelling goal of visit"),
        ({"models.price.modelling": ""}, "models.price.modelling: '' is no modelling goal of offer"),
        ({"models.price.positive": "x"}, "models.price.positive"),
        ({f"{LIGHT}.label": ""}, "models.visit/light: data and label belong together"),
        ({f"{LIGHT}.exclude": "seen"}, "models.visit/light.label: seen cannot be an input"),
        ({f"{LIGHT}.replicas": "0"}, "models.visit/light.replicas"),
        ({f"{LIGHT}.task": "x"}, "models.visit/light.task"),
        ({f"{LIGHT}.split.test": "0.9"}, "models.visit/light.split: validation and test"),
        ({f"{LIGHT}.split.by": "group"}, "models.visit/light.split.field: a split by group needs one"),
        ({f"{LIGHT}.split.field": "x"}, "models.visit/light.split.field: a split by random has no field"),
        ({"models.a/versions/b.goal": "visit"}, "models.a/versions/b: this name is used inside the registry"),
        ({"models.decoy.goal": "visit"}, "models.decoy: this name is used"),
        ({'models."a b".goal': "visit"}, 'models."a b": a model\'s name'),
        ({"goals.a/b.schema": "visit.json", "goals.a/b.budget_ms": "1", "goals.a/b.default": "0"}, "goals.a/b: a"),
        ({"serve.port": "70000"}, "serve.port"),
        ({"serve.body_bytes": "0"}, "serve.body_bytes"),
        ({"serve.segment_mb": "2000"}, "serve.segment_mb"),
        ({"train.max_parallel": "0"}, "train: max_parallel"),
        ({"train.memory_mb": "[512, 256]"}, "train.memory_mb: classes go from small to large"),
        ({"train.memory_mb": "[]"}, "train.memory_mb: name at least one class"),
    ],
)  # fmt: skip
def test_a_problem_is_found_and_names_its_key(folder: Path, flags: dict[str, str], told: str) -> None:
    """Each kind of problem is told once it is there, with the key to change."""
    problems = check(load_project(folder, overrides=flags, environ={}))
    assert any(told in problem for problem in problems), problems
