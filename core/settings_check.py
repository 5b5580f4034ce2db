"""What is wrong with a configuration beyond its types: names, references, shapes, ranges, schemas."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from rdv.bus_place import parse_bus
from rdv.config import Config, Goal, Lookup, Model, ModellingGoal, Project
from rdv.errors import ConfigError
from rdv.settings_keys import key_text, nearest

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.IGNORECASE)
MAX_LOOKUPS = 32
MAX_BUDGET_MS = 600_000.0
# last segments of registry keys and journal folders: a model or modelling goal of that name would collide with them
_MODEL_WORDS = frozenset({"versions", "current", "releases"})
_SUBSCRIBERS = frozenset({"decoy", "recorder"})
_MODELLING_WORDS = frozenset({"events"})


def check(project: Project) -> list[str]:
    """The problems of a project's configuration, each a sentence that names its key; empty when there is none."""
    config = project.config
    found = [*_names(config), *_serve(config), *_buses(config)]
    for name, goal in config.goals.items():
        found += _goal(name, goal, config.models)
        found += _schema(name, goal, project.folder)
    for name, model in config.models.items():
        found += _model(name, model, config.goals)
    return found


def _names(config: Config) -> Iterator[str]:
    for goal, one in config.goals.items():
        if not NAME.fullmatch(goal):
            yield f"goals.{goal}: a goal's name is letters, digits, - and _, at most 64"
        for name in one.modelling:
            if not NAME.fullmatch(name) or name in _MODELLING_WORDS:
                yield f"goals.{goal}.modelling.{name}: a name is letters, digits, - and _, and not `events`"
    for model in config.models:
        parts = model.split("/")
        if not all(NAME.fullmatch(part) for part in parts) or len(parts) > 4:
            yield f"{key_text(('models', model))}: a model's name is up to four parts of letters, digits, - and _"
        if set(parts) & _MODEL_WORDS or model in _SUBSCRIBERS:
            yield f"{key_text(('models', model))}: this name is used inside the registry or on the bus; choose another"
    for env in config.environments:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", env):
            yield f"environments.{env}: an environment's name is lower-case letters, digits, - and _"


def _buses(config: Config) -> Iterator[str]:
    for env, one in config.environments.items():
        try:
            place = parse_bus(one.bus, env)
        except ConfigError as error:
            yield f"environments.{env}.bus: {error.what}"
        else:
            if place.tls == "vault" and one.secrets.partition(":")[0] != "vault":
                yield f"environments.{env}.bus: its certificates come from Vault, so its secrets have to as well"


def _goal(name: str, goal: Goal, models: Mapping[str, Model]) -> Iterator[str]:
    if not 0 < goal.budget_ms <= MAX_BUDGET_MS:
        yield f"goals.{name}.budget_ms: {goal.budget_ms} is not between 0 and {MAX_BUDGET_MS:.0f}"
    yield from _default(name, goal)
    yield from _tiers(name, goal, models)
    if goal.modelling and (goal.enrich or goal.canary_model):
        yield f"goals.{name}: enrich and canary_model belong to its modelling goals, move them there"
    for topic, one in goal.modelling_goals(name).items():
        yield from _canary(_where(name, topic), topic, one, models)
        yield from _lookups(_where(name, topic), one)


def _schema(name: str, goal: Goal, folder: Path) -> Iterator[str]:
    from rdv.schema import compile_schema, probes, read_goal_schema
    from rdv.schema_fields import read_schema

    where = f"goals.{name}.schema"
    try:
        document, _ = read_goal_schema(goal, folder)
    except ConfigError as error:
        yield f"{where}: {error.what}"
        return
    read = read_schema(document)
    yield from (f"{where}: {problem}" for problem in read.problems)
    names = {field.name for field in read.fields}
    if goal.subject and goal.subject not in names:
        close = nearest(goal.subject, sorted(names))
        yield f"goals.{name}.subject: the schema has no field {goal.subject!r}" + (f"; {close}?" if close else "")
    for place, lookup in _all_lookups(name, goal):
        yield from (f"{place}.columns: the schema has a field {column} as well" for column in names & {*lookup.columns})
        if lookup.key and lookup.key not in names:
            yield f"{place}.key: the schema has no field {lookup.key!r}"
        if lookup.table and not (folder / lookup.table).is_file():
            yield f"{place}.table: there is no file {folder / lookup.table}"
    if not read.problems:
        try:
            probes(compile_schema(document), 0, 1)
        except ConfigError as error:
            yield f"{where}: {error.what}"


def _all_lookups(name: str, goal: Goal) -> Iterator[tuple[str, Lookup]]:
    for topic, one in goal.modelling_goals(name).items():
        for at, lookup in enumerate(one.enrich):
            yield f"{_where(name, topic)}.enrich[{at}]", lookup


def _where(goal: str, topic: str) -> str:
    return f"goals.{goal}" if topic == goal else f"goals.{goal}.modelling.{topic.partition('/')[2]}"


def _default(name: str, goal: Goal) -> Iterator[str]:
    where, value = f"goals.{name}.default", goal.default
    if goal.answer == "labels":
        if not goal.labels or len(set(goal.labels)) != len(goal.labels):
            yield f"goals.{name}.labels: an answer of labels needs two or more different labels"
        if not isinstance(value, tuple) or len(value) != len(goal.labels):
            yield f"{where}: an answer of labels needs one number a label, {len(goal.labels)} in all"
            return
        if not all(0 <= part <= 1 for part in value) or not math.isclose(sum(value), 1, abs_tol=1e-6):
            yield f"{where}: the labels' numbers are probabilities and add up to 1"
        return
    if goal.labels:
        yield f"goals.{name}.labels: an answer of {goal.answer} has no labels"
    if isinstance(value, tuple):
        yield f"{where}: an answer of {goal.answer} is one number"
    elif goal.answer == "probability" and not 0 <= value <= 1:
        yield f"{where}: {value} is not a probability"


def _tiers(name: str, goal: Goal, models: Mapping[str, Model]) -> Iterator[str]:
    canaries = {one.canary_model for one in goal.modelling_goals(name).values()} - {""}
    for at, tier in enumerate(goal.tiers):
        where = f"goals.{name}.tiers[{at}]"
        if not 0 < tier.until_ms <= goal.budget_ms:
            yield f"{where}.until_ms: {tier.until_ms} is not between 0 and the goal's budget_ms, {goal.budget_ms}"
        if not tier.models or len(set(tier.models)) != len(tier.models):
            yield f"{where}.models: a tier names one or more different models"
        for model in tier.models:
            if model not in models:
                yield f"{where}.models: there is no model {model!r}"
            elif models[model].goal != name:
                yield f"{where}.models: {model} serves the goal {models[model].goal}"
            elif model in canaries:
                yield f"{where}.models: {model} is a canary model, which is never chosen"
    for at, (one, other) in enumerate(pairwise(goal.tiers)):
        if other.until_ms <= one.until_ms:
            yield f"goals.{name}.tiers[{at + 1}].until_ms: tiers follow one another in time"


def _canary(where: str, topic: str, one: ModellingGoal, models: Mapping[str, Model]) -> Iterator[str]:
    name = one.canary_model
    if name and name not in models:
        yield f"{where}.canary_model: there is no model {name!r}"
    elif name and models[name].topic() != topic:
        yield f"{where}.canary_model: {name} belongs to {models[name].topic()}, not {topic}"


def _lookups(where: str, one: ModellingGoal) -> Iterator[str]:
    if len(one.enrich) > MAX_LOOKUPS:
        yield f"{where}.enrich: {len(one.enrich)} lookups; at most {MAX_LOOKUPS}"
    seen: set[str] = set()
    for at, lookup in enumerate(one.enrich):
        place = f"{where}.enrich[{at}]"
        yield from _lookup(place, lookup)
        for column in seen.intersection(lookup.columns):
            yield f"{place}.columns: {column} is added by an earlier lookup as well"
        seen.update(lookup.columns)


def _lookup(place: str, lookup: Lookup) -> Iterator[str]:
    if bool(lookup.table) == bool(lookup.function):
        yield f"{place}: a lookup has either a table or a function"
    if bool(lookup.table) != bool(lookup.key):
        yield f"{place}: a table is joined by a key, and only a table is"
    if lookup.function and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", lookup.function):
        yield f"{place}.function: write it as module:name"
    if not lookup.columns:
        yield f"{place}.columns: a lookup adds at least one column"


def _model(name: str, model: Model, goals: Mapping[str, Goal]) -> Iterator[str]:
    where = key_text(("models", name))
    if model.goal not in goals:
        yield f"{where}.goal: there is no goal {model.goal!r}"
    else:
        goal = goals[model.goal]
        if model.modelling not in (goal.modelling or {""}):
            known = ", ".join(goal.modelling) or "none, so leave it out"
            yield f"{where}.modelling: {model.modelling!r} is no modelling goal of {model.goal} (known: {known})"
        if model.positive and goal.answer != "probability":
            yield f"{where}.positive: the goal {model.goal} answers {goal.answer}, not a probability"
    if model.task and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", model.task):
        yield f"{where}.task: write it as module:Class"
    if bool(model.data) != bool(model.label):
        yield f"{where}: data and label belong together"
    if model.label in model.exclude or model.label in model.categorical:
        yield f"{where}.label: {model.label} cannot be an input as well; take it out of exclude and categorical"
    if not 1 <= model.replicas <= 64:
        yield f"{where}.replicas: {model.replicas} is not between 1 and 64"
    if model.worker_mb < 16:
        yield f"{where}.worker_mb: {model.worker_mb} is below 16"
    split = model.split
    if not (0 < split.validation < 1 and 0 < split.test < 1 and split.validation + split.test < 1):
        yield f"{where}.split: validation and test are shares of the rows that leave some to train on"
    if (split.by == "random") == bool(split.field):
        yield f"{where}.split.field: a split by {split.by} " + ("has no field" if split.field else "needs one")


def _serve(config: Config) -> Iterator[str]:
    serve, train = config.serve, config.train
    if not 0 <= serve.port <= 65535:
        yield f"serve.port: {serve.port} is not between 0 and 65535"
    if not 0 <= serve.bus_port <= 65535:
        yield f"serve.bus_port: {serve.bus_port} is not between 0 and 65535"
    if serve.bus_host in ("0.0.0.0", "::") and serve.advertise in ("0.0.0.0", "::"):
        yield f"serve.advertise: nobody can dial {serve.advertise}; name the host as others know it"
    if not -1 <= serve.ops_port <= 65535:
        yield f"serve.ops_port: {serve.ops_port} is not between 0 and 65535, or -1"
    if not 1 <= serve.gateways <= 64 or not 0 <= serve.proxies <= 64:
        yield "serve: gateways are between 1 and 64, proxies between 0 and 64"
    if min(serve.gateway_mb, serve.decoy_mb) < 16:
        yield "serve: gateway_mb and decoy_mb are 16 or more"
    for name in ("max_in_flight", "per_client", "body_bytes", "body_ms", "drain_s", "journal_mb", "segment_mb"):
        if not getattr(serve, name) > 0:
            yield f"serve.{name}: {getattr(serve, name)} is not above 0"
    if serve.segment_mb > serve.journal_mb:
        yield f"serve.segment_mb: a segment of {serve.segment_mb} MB does not fit a journal of {serve.journal_mb} MB"
    if train.max_parallel < 1 or train.retries < 0 or not train.wall_s > 0:
        yield "train: max_parallel is at least 1, retries at least 0, wall_s above 0"
    if not train.memory_mb or any(size < 16 for size in train.memory_mb):
        yield "train.memory_mb: name at least one class, none below 16"
    if any(other <= one for one, other in pairwise(train.memory_mb)):
        yield "train.memory_mb: classes go from small to large"
