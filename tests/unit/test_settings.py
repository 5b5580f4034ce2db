"""Configuration: keys, precedence, origins, hints, masking and the checks beyond types."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdv.config import Config
from rdv.errors import ConfigError, Exit
from rdv.settings import MASK, RESERVED, explain, find_project, load_project
from rdv.settings_keys import (
    REQUIRED,
    environment_name,
    flatten,
    key_text,
    nearest,
    parse_key,
    slots,
    unflatten,
)
from rdv.settings_merge import Layer, merge

TOML = """
project = "clinic"
[goals.visit]
schema = "visit.json"
budget_ms = 80
default = 0.5
[models."visit/light"]
goal = "visit"
[models."visit/light".params]
num_leaves = 31
[environments.production]
registry = "sqlite:production.sqlite"
"""
TREE = {"goals": {"visit": {"modelling": {"first": {}}}}, "models": {"visit/light": {"params": {"num_leaves": 31}}}}

segments = st.text(min_size=1, max_size=12)
keys = st.lists(segments, min_size=1, max_size=5).map(tuple)


def put(folder: Path, text: str = TOML) -> Path:
    (folder / "rdv.toml").write_text(text)
    return folder


@given(keys)
def test_a_key_survives_being_written_and_read(key: tuple[str, ...]) -> None:
    """Every key, whatever its segments hold, reads back from the text that people see."""
    assert parse_key(key_text(key)) == key


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", 'a"b"', '"a', 'a."b'])
def test_text_that_is_no_key_is_refused(text: str) -> None:
    """Text that names no key is an error of usage, never a key with an empty part."""
    with pytest.raises(ConfigError):
        parse_key(text)


@given(st.lists(st.dictionaries(keys, st.integers(), max_size=6), max_size=5))
def test_the_last_layer_that_has_a_key_wins(layers: list[dict[tuple[str, ...], int]]) -> None:
    """Merging takes each key's value and origin from the last layer that names it, and no other key appears."""
    merged = merge([Layer(str(at), layer) for at, layer in enumerate(layers)])
    assert set(merged) == {key for layer in layers for key in layer}
    for key, one in merged.items():
        last = max(at for at, layer in enumerate(layers) if key in layer)
        assert (one.value, one.origin) == (layers[last][key], str(last))


@given(st.sets(st.sampled_from(["file", "environment", "flag"])), st.integers(0, 3))
@settings(deadline=None)
def test_flags_beat_environment_beats_file_beats_default(tmp_path_factory, sources: set[str], at: int) -> None:
    """Whichever sources give a value, the strongest one holds and is named as the origin."""
    key = [("serve", "port"), ("serve", "body_ms"), ("train", "max_parallel"), ("train", "wall_s")][at]
    folder = tmp_path_factory.mktemp("project")
    values = {"file": 11, "environment": 22, "flag": 33}
    put(folder, f"[{key[0]}]\n{key[1]} = 11\n" if "file" in sources else "")
    environ = {environment_name(key): "22"} if "environment" in sources else {}
    flags = {key_text(key): "33"} if "flag" in sources else {}
    default = getattr(getattr(Config(), key[0]), key[1])
    strongest = next((one for one in ("flag", "environment", "file") if one in sources), "")
    project = load_project(folder, overrides=flags, environ=environ)
    assert getattr(getattr(project.config, key[0]), key[1]) == values.get(strongest, default)
    shown = next(one for one in explain(folder, overrides=flags, environ=environ) if one.key == key_text(key))
    assert shown.value == values.get(strongest, default)
    assert shown.origin.startswith({"": "default", "file": "rdv.toml"}.get(strongest, strongest))


def test_every_declared_key_has_a_default_or_is_demanded(tmp_path: Path) -> None:
    """A project that gives only the required keys loads, and one that lacks any of them is told which."""
    put(tmp_path)
    assert load_project(tmp_path, environ={}).config.goals["visit"].budget_ms == 80
    for line in ("schema", "budget_ms", "default", "goal"):
        text = "\n".join(row for row in TOML.splitlines() if not row.startswith(f"{line} ="))
        put(tmp_path, text)
        with pytest.raises(ConfigError, match=f"{line} is not set"):
            load_project(tmp_path, environ={})


@given(st.data())
@settings(deadline=None)
def test_a_misspelt_key_is_refused_and_the_nearest_named(data: st.DataObject) -> None:
    """One changed letter in a declared key is an error whose hint holds the right key."""
    key = data.draw(st.sampled_from([slot.key for slot in slots(TREE) if len(slot.key[-1]) > 4]))
    if "params" in key:
        return
    at = data.draw(st.integers(0, len(key[-1]) - 1))
    wrong = key[-1][:at] + "~" + key[-1][at + 1 :]
    with pytest.raises(ConfigError) as caught:
        dict(flatten(unflatten({(*key[:-1], wrong): 1})))
    assert "unknown key" in caught.value.what
    assert wrong in caught.value.what
    assert key[-1] in caught.value.hint


@given(st.dictionaries(st.sampled_from([slot.key for slot in slots(TREE)]), st.integers()))
def test_a_tree_survives_being_flattened(values: dict[tuple[str, ...], int]) -> None:
    """Values by key and the tree of tables are two forms of the same thing."""
    assert dict(flatten(unflatten(values))) == values


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("goals.visit.budget_ms", "RDV_GOALS_VISIT_BUDGET_MS"),
        ("serve.port", "RDV_SERVE_PORT"),
        ("models.churn/light-gbm.params.num_leaves", "RDV_MODELS_CHURN_LIGHT_GBM_PARAMS_NUM_LEAVES"),
        ("models.a_.seed", "RDV_MODELS_A_SEED"),
    ],
)
def test_environment_names_follow_the_written_rule(key: str, name: str) -> None:
    """A key's variable is RDV_ and its path in upper case, each non-alphanumeric run one underscore."""
    assert environment_name(parse_key(key)) == name


def test_two_keys_with_one_environment_name_are_an_error(tmp_path: Path) -> None:
    """A configuration in which a variable could mean two keys is refused, and both are named."""
    put(tmp_path, TOML + '[models."visit-light"]\ngoal = "visit"\n')
    with pytest.raises(ConfigError, match=r"visit-light.* and .*visit/light|visit/light.* and .*visit-light"):
        load_project(tmp_path, environ={})


def test_reserved_variables_are_no_keys(tmp_path: Path) -> None:
    """The reserved variables load without complaint, and none of them is a key's name."""
    put(tmp_path)
    load_project(tmp_path, environ={**dict.fromkeys(RESERVED, "1"), "RDV_ENV": "production", "HOME": "/"})
    assert not RESERVED.keys() & {environment_name(slot.key) for slot in slots(TREE)}


def test_an_unknown_variable_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """A variable that begins with RDV_ and sets nothing is an error that names the nearest one."""
    put(tmp_path)
    with pytest.raises(ConfigError, match="did you mean RDV_SERVE_PORT"):
        load_project(tmp_path, environ={"RDV_SERVE_PROT": "1"})


def test_an_empty_variable_is_as_good_as_none(tmp_path: Path) -> None:
    """An empty environment variable sets nothing."""
    put(tmp_path)
    assert load_project(tmp_path, environ={"RDV_SERVE_PORT": ""}).config.serve.port == 8080


@pytest.mark.parametrize(
    ("flag", "value", "read"),
    [
        ("serve.port", "0", lambda c: c.serve.port == 0),
        ("project", "5", lambda c: c.project == "5"),
        ("goals.visit.default", "0.25", lambda c: c.goals["visit"].default == 0.25),
        ("goals.visit.default", "[0.5, 0.5]", lambda c: c.goals["visit"].default == (0.5, 0.5)),
        ("goals.visit.labels", "a,b", lambda c: c.goals["visit"].labels == ("a", "b")),
        ("goals.visit.labels", '["a,b"]', lambda c: c.goals["visit"].labels == ("a,b",)),
        ("goals.visit.decoy", "false", lambda c: c.goals["visit"].decoy is False),
        ("goals.visit.schema", "other.json", lambda c: c.goals["visit"].schema == "other.json"),
        ("goals.visit.schema", '{"type": "object"}', lambda c: c.goals["visit"].schema == {"type": "object"}),
        ("models.visit/light.params.rate", "1e-1", lambda c: c.models["visit/light"].params["rate"] == 0.1),
        ("models.visit/light.params.boost", "dart", lambda c: c.models["visit/light"].params["boost"] == "dart"),
        ("models.visit/light.params.text", '"31"', lambda c: c.models["visit/light"].params["text"] == "31"),
        ("goals.visit.tiers", '[{"until_ms": 5, "models": ["m"]}]', lambda c: c.goals["visit"].tiers[0].until_ms == 5),
    ],
)
def test_text_becomes_the_value_its_key_takes(tmp_path: Path, flag: str, value: str, read) -> None:
    """A flag's text is read as JSON, as plain text or as a comma list, whichever its key takes."""
    assert read(load_project(put(tmp_path), overrides={flag: value}, environ={}).config)


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("serve.port", "http", "serve.port: expected int, got str"),
        ("serve.body_ms", "1e400", "serve.body_ms"),
        ("train.granularity", "dya", "one of week, day, 3h, 1h"),
        ("goals.visit.tiers", '[{"untilms": 5, "models": []}]', "goals.visit.tiers[0].until_ms"),
        ("goals.visit.tiers", '[{"until_ms": "5", "models": []}]', "goals.visit.tiers[0].until_ms: expected float"),
        ("goals.visit", "{}", "is a table"),
        ("goals.visit.budget_ms.x", "1", "is a value, not a table"),
        ("budget_ms", "1", "did you mean goals.<goal>.budget_ms"),
    ],
)
def test_a_wrong_value_names_its_key(tmp_path: Path, flag: str, value: str, told: str) -> None:
    """A value of the wrong type or in the wrong place is an error that names the key down to the list item."""
    with pytest.raises(ConfigError) as caught:
        load_project(put(tmp_path), overrides={flag: value}, environ={})
    assert told in str(caught.value)
    assert caught.value.exit_code is Exit.USAGE


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, number: str) -> None:
    """No key takes NaN or an infinity, which TOML can write."""
    with pytest.raises(ConfigError, match="not finite"):
        load_project(put(tmp_path, f"[serve]\nbody_ms = {number}\n"), environ={})


@pytest.mark.parametrize("text", ["goals = 1", "a =", "[goals]\nvisit = 3", "\x00", "[serve]\nport = 1\nport = 2"])
def test_a_broken_file_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    """Text that is not TOML, or not tables where tables belong, ends as an error of configuration."""
    with pytest.raises(ConfigError):
        load_project(put(tmp_path, text), environ={})


def test_bytes_that_are_no_text_are_a_configuration_error(tmp_path: Path) -> None:
    """A file that is not UTF-8 is told as such."""
    (tmp_path / "rdv.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_project(tmp_path, environ={})


def test_the_file_is_found_from_a_folder_below(tmp_path: Path) -> None:
    """A project is found from anywhere inside it, and its absence names the way to make one."""
    below = put(tmp_path) / "a" / "b"
    below.mkdir(parents=True)
    assert find_project(below) == tmp_path.resolve()
    (tmp_path / "rdv.toml").unlink()
    with pytest.raises(ConfigError, match="rdv init"):
        find_project(below)


def test_the_environment_is_chosen_by_argument_then_variable(tmp_path: Path) -> None:
    """The argument beats RDV_ENV, which beats `local`; an unknown one lists the known ones."""
    put(tmp_path, TOML + "[environments.staging]\n")
    assert load_project(tmp_path, environ={}).env == "local"
    assert load_project(tmp_path, environ={"RDV_ENV": "staging"}).env == "staging"
    chosen = load_project(tmp_path, env="production", environ={"RDV_ENV": "staging"})
    assert chosen.config.environments[chosen.env].registry == "sqlite:production.sqlite"
    assert chosen.state == tmp_path.resolve() / ".rdv" / "production"
    with pytest.raises(ConfigError, match="local, production, staging"):
        load_project(tmp_path, env="prod", environ={})


@pytest.mark.parametrize("name", ["runs", "artifacts", "journal", "..", "a/b", "Prod"])
def test_an_environment_cannot_share_a_folder_with_the_local_state(tmp_path: Path, name: str) -> None:
    """An environment whose folder would lie inside or beside the local one's state is refused."""
    put(tmp_path, f'[environments."{name}"]\n')
    with pytest.raises(ConfigError, match="cannot name an environment"):
        load_project(tmp_path, env=name, environ={})


@given(st.sampled_from(["api_key", "token", "db_password", "clientSecret"]), st.text("abcXYZ019", min_size=6))
@settings(deadline=None)
def test_secrets_are_never_shown(tmp_path_factory, name: str, secret: str) -> None:
    """A value whose key looks secret, or a password inside a URL, never appears in what is explained."""
    text = TOML.replace("num_leaves = 31", f'{name} = "{secret}"\nserver = "s3://me:{secret}@host/x"')
    shown = explain(put(tmp_path_factory.mktemp("project"), text), environ={})
    assert MASK in str(shown)
    assert secret not in str(shown)


@given(st.text(max_size=10), st.lists(st.text(max_size=10), max_size=5))
def test_the_nearest_word_is_a_known_one(word: str, known: list[str]) -> None:
    """The nearest word is one of the known ones or none, and a known word is its own nearest."""
    assert nearest(word, known) in [*known, ""]
    if word and word in known:
        assert nearest(word, known).casefold() == word.casefold()


def test_defaults_are_the_declared_ones() -> None:
    """An empty project has exactly the declared defaults, none of them missing or infinite."""
    tree = unflatten({slot.key: slot.default for slot in slots({}) if slot.default is not REQUIRED})
    assert tree["serve"]["port"] == Config().serve.port
    assert all(not isinstance(one.default, float) or math.isfinite(one.default) for one in slots(TREE))
