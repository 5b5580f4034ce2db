"""What a pact file says, and which changes of a schema break it: named by consumer and field."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.backends import select
from rdv.backends.blobs_dir import DirBlobs
from rdv.backends.contracts_pact import checked
from rdv.cli.applying import make_plan
from rdv.config import Config, Goal, Project
from rdv.errors import InputError, NotFound, RdvError, Refused
from rdv.schema import GoalSchema, compile_schema, probes
from rdv.serving.contract_shelf import Shelf, all_contracts, broken_contracts, contracts_of_others
from rdv.serving.contracts import Contract, read_contract, strangers, violations

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "plan": {"type": "string", "enum": ["basic", "pro"]},
        "months": {"type": "integer", "minimum": 0},
        "spend": {"type": ["number", "null"]},
    },
    "required": ["plan", "months"],
}
BODY = {"plan": "pro", "months": 3}
GOAL = Goal(schema=SCHEMA, budget_ms=80.0, default=0.5)
PATH = "/v1/goals/churn/score"


def interaction(
    body: Any = BODY, status: int = 200, expects: Any = None, version: int = 4, path: str = PATH, **more: Any
) -> dict[str, Any]:
    """An interaction as pact's specification of that version writes it."""

    def packed(content: Any) -> Any:
        return {"content": content, "contentType": "application/json", "encoded": False} if version == 4 else content

    response: dict[str, Any] = {"status": status}
    if expects is not None:
        response["body"] = packed(expects)
    request = {"method": "POST", "path": path, "body": packed(body)}
    kind = {"type": "Synchronous/HTTP"} if version == 4 else {}
    return {"description": "a score", "request": request, "response": response, **kind, **more}


def pact(*interactions: dict[str, Any], version: int = 4, consumer: str = "web shop") -> bytes:
    """A pact file."""
    told = {
        "consumer": {"name": consumer},
        "provider": {"name": "shop"},
        "interactions": interactions or (interaction(version=version),),
        "metadata": {"pactSpecification": {"version": f"{version}.0.0"}},
    }
    return json.dumps(told).encode()


def contract(*interactions: dict[str, Any], **more: Any) -> Contract:
    """A pact file, read."""
    return read_contract(pact(*interactions, **more), "a.json")


def found(one: Contract, schema: dict[str, Any] = SCHEMA, goal: Goal = GOAL) -> list[tuple[str, str]]:
    """Fields and problems of a contract with a goal of that schema."""
    told = violations("churn", goal, compile_schema(schema), [one])
    assert {(each.consumer, each.goal) for each in told} <= {("web shop", "churn")}
    return [(each.field, each.problem) for each in told]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_each_specification_is_read_alike(version: int) -> None:
    """Method, path, body, status and expected answer are where each version has them."""
    one = contract(interaction(expects={"answer": 0.5}, version=version), version=version).interactions[0]
    assert (one.method, one.path, one.goal, one.status) == ("POST", PATH, "churn", 200)
    assert json.loads(one.sends) == BODY
    assert one.expects == {"answer": 0.5}


def test_a_body_may_be_packed() -> None:
    """Bytes in base64 are the bytes, and no body is no body."""
    made = interaction()
    made["request"]["body"] = {"content": base64.b64encode(b"{}").decode(), "encoded": "base64", "contentType": "x/y"}
    assert contract(made).interactions[0].sends == b"{}"
    del made["request"]["body"]
    assert contract(made).interactions[0].sends == b""


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b"\xff", b'{"consumer":{"name":"a"},"provider":{"name":"b"},"interactions":[]}',
        pact(consumer=" "), b'{"consumer":"a","provider":"b","interactions":[{}]}',
        pact({"description": "m", "type": "Asynchronous/Messages", "contents": {}}),
        b'{"consumer":{"name":"a"},"provider":{"name":"b"},"interactions":{"a":1}}',
    ],
)  # fmt: skip
def test_what_is_no_contract_is_refused(data: bytes) -> None:
    """A file that is no pact, expects nothing, or is about messages is an input error that names it."""
    with pytest.raises(InputError, match="a.json"):
        read_contract(data, "a.json")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_contract_or_an_input_error(data: bytes) -> None:
    """Whatever a consumer publishes, reading it ends in one of two ways."""
    try:
        read_contract(data, "a.json")
    except InputError:
        return


def changed(**fields: Any) -> dict[str, Any]:
    """The schema with some properties changed, None: left out."""
    properties = {**SCHEMA["properties"], **fields}
    kept = {name: one for name, one in properties.items() if one is not None}
    return {**SCHEMA, "properties": kept, "required": [name for name in SCHEMA["required"] if name in kept]}


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        (changed(plan={"type": "string", "enum": ["basic"]}), "plan"),
        (changed(months={"type": "integer", "minimum": 12}), "months"),
        (changed(months={"type": "string"}), "months"),
        (changed(plan=None), "plan"),
        ({**changed(region={"type": "string"}), "required": ["plan", "months", "region"]}, "region"),
    ],
)
def test_a_change_that_breaks_a_consumer_is_found(schema: dict[str, Any], field: str) -> None:
    """A narrower, other, missing or additional required field is named."""
    one = contract()
    assert found(one) == []
    ((at, problem),) = found(one, schema)
    assert at == field
    assert "refused" in problem


@pytest.mark.parametrize(
    "schema",
    [
        changed(plan={"type": "string", "enum": ["basic", "pro", "max"]}),
        changed(region={"type": "string"}),
        changed(spend=None),
        changed(months={"type": "number"}),
    ],
)
def test_a_change_that_breaks_nobody_passes(schema: dict[str, Any]) -> None:
    """Wider and additional optional fields, and the loss of one that nobody sends, are fine."""
    assert found(contract(), schema) == []


@given(st.integers(0, 2**32))
def test_valid_requests_break_nothing(seed: int) -> None:
    """Whatever fits the schema, as a consumer's request, is no violation."""
    schema: GoalSchema = compile_schema(SCHEMA)
    (body,) = probes(schema, seed, 1)
    assert violations("churn", GOAL, schema, [contract(interaction(body))]) == []


@pytest.mark.parametrize(
    ("expects", "field"),
    [
        ({"answer": 0.5, "model": None, "source": "tier 1", "degraded": False, "elapsed_ms": 2}, ""),
        ({"answer": 0.5, "model": "churn/a"}, ""),
        ({"score": 0.5}, "score"),
        ({"answer": "0.5"}, "answer"),
        ({"answer": {"label": "yes"}}, "answer"),
        ({"degraded": 1}, "degraded"),
        ([0.5], "-"),
    ],
)
def test_what_a_consumer_reads_must_be_answered(expects: Any, field: str) -> None:
    """A field that the answer has not, or has in another type, is named."""
    told = found(contract(interaction(expects=expects)))
    assert [at or "-" for at, _ in told] == ([field] if field else [])


def test_another_kind_of_answer_breaks_who_reads_it() -> None:
    """A goal that answers labels instead of a probability breaks a consumer of a number, down to the label."""
    labels = Goal(schema=SCHEMA, budget_ms=80.0, default=(0.5, 0.5), answer="labels", labels=("stay", "leave"))
    assert [at for at, _ in found(contract(interaction(expects={"answer": 0.5})), goal=labels)] == ["answer"]
    reads = {"answer": {"label": "gone", "scores": {"stay": 0.1, "left": 0.2}}}
    told = found(contract(interaction(expects=reads)), goal=labels)
    assert [at for at, _ in told] == ["answer.label", "answer.scores.left"]


def test_refusals_are_expectations_too() -> None:
    """A consumer may expect 400 for a bad request: with `field` to read, and broken when it is taken now."""
    refused = interaction({"plan": "gold", "months": 1}, 400, {"error": "schema", "field": "plan"})
    assert found(contract(refused)) == []
    wider = changed(plan={"type": "string"})
    assert "fits the schema" in found(contract(refused), wider)[0][1]
    assert "418" in found(contract(interaction(status=418)))[0][1]
    assert found(contract(interaction({"plan": 1}, pending=True))) == []


def test_a_contract_of_another_goal_is_told() -> None:
    """Goals that the project does not have are named, those that it has are not."""
    one = contract(interaction(), interaction(path="/v1/goals/fraud/score"), interaction(path="/healthz"))
    assert one.goals == ("churn", "fraud")
    assert [each.goal for each in strangers([one], ["churn"])] == ["fraud"]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty shelf."""
    return Shelf(DirBlobs(tmp_path / "store"), "shop")


@given(names=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4, unique=True))
def test_consumers_of_any_name_are_kept_apart(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    """Whatever a consumer is called, its contract is found again under that name, and nobody else's is."""
    shelf = Shelf(DirBlobs(tmp_path_factory.mktemp("store")), "shop")
    usable = [name for name in names if name.strip()]
    for name in usable:
        shelf.publish(contract(consumer=name), "churn")
    assert sorted(row.consumer for row in shelf.rows()) == sorted(usable)


@pytest.mark.parametrize("name", ["attempts", "manifest.json", ".", "..", "a/../b", "~41"])
def test_names_that_mean_something_in_a_store_do_not(shelf: Shelf, name: str) -> None:
    """A consumer cannot hide among artifacts, or leave its place."""
    shelf.publish(contract(consumer=name), "churn")
    (row,) = shelf.rows("churn")
    assert row.consumer == name
    assert "attempts" not in str(list(shelf._blobs.keys("")))


def test_the_newest_contract_counts(shelf: Shelf) -> None:
    """The same again is nothing new, another one takes its place, and a withdrawn one is asked for no more."""
    first, second = contract(), contract(interaction({"plan": "basic", "months": 1}))
    assert [shelf.publish(one, "churn")[1] for one in (first, first, second, second, first)] == [
        True, False, True, False, True,
    ]  # fmt: skip
    assert shelf.rows()[0].number == 3
    assert [one.digest for one in shelf.contracts("churn")] == [first.digest]
    assert shelf.contracts("fraud") == []
    shelf.withdraw("churn", "web shop")
    assert shelf.contracts() == []
    assert shelf.rows()[0].withdrawn
    with pytest.raises(NotFound):
        shelf.withdraw("churn", "web shop")
    assert shelf.publish(first, "churn")[0].number == 5


def test_a_project_is_held_to_its_store_and_its_folder(tmp_path: Path) -> None:
    """Contracts in the store and in contracts/consumers count, each once, against the schema as it is in the folder."""
    goal = Goal(schema="churn.json", budget_ms=80.0, default=0.5)
    project = Project(tmp_path, Config(goals={"churn": goal}))
    (tmp_path / "churn.json").write_text(json.dumps(SCHEMA))
    assert all_contracts(project) == []
    assert broken_contracts(project) == []
    folder = tmp_path / "contracts" / "consumers"
    folder.mkdir(parents=True)
    (folder / "shop.json").write_bytes(pact())
    store = Shelf.of(project)
    Shelf(DirBlobs(project.state / "artifacts"), "another").publish(contract(consumer="theirs"), "churn")
    store.publish(contract(), "churn")
    store.publish(contract(consumer="app"), "churn")
    assert sorted(one.consumer for one in all_contracts(project)) == ["app", "web shop"]
    (tmp_path / "churn.json").write_text(json.dumps(changed(plan=None)))
    told = broken_contracts(project)
    assert sorted((one.consumer, one.field) for one in told) == [("app", "plan"), ("web shop", "plan")]
    assert "consumer 'app' of goal 'churn': field plan" in [one for one in told if one.consumer == "app"][0].sentence()


def test_what_is_expected_of_others_lies_apart(tmp_path: Path) -> None:
    """A service without goals has a shelf of its own in the store; what is recorded there breaks no goal of ours."""
    project = Project(tmp_path, Config(project="shop", goals={"churn": GOAL}))
    asks = contract(interaction(path="/rates/c1"), consumer="shop")
    row, new = Shelf.of(project, "rates").publish(asks, "")
    assert (row.goal, row.consumer, row.interactions, new) == ("", "shop", 1, True)
    assert [one.goal for one in Shelf.of(project, "rates").rows()] == [""]
    assert [one.digest for one in contracts_of_others(project, "rates")] == [asks.digest]
    assert (all_contracts(project), contracts_of_others(project, "else")) == ([], [])
    assert Shelf.of(project, "rates").withdraw("", "shop").withdrawn
    assert contracts_of_others(project, "rates") == []


def test_a_goal_that_is_gone_breaks_its_consumers(tmp_path: Path) -> None:
    """A project that drops a goal is told who asks it."""
    goal = Goal(schema=SCHEMA, budget_ms=80.0, default=0.5)
    Shelf.of(Project(tmp_path, Config(project="shop", goals={"churn": goal}))).publish(contract(), "churn")
    without = Project(tmp_path, Config(project="shop", goals={"fraud": goal}))
    assert [(one.consumer, one.goal) for one in broken_contracts(without)] == [("web shop", "churn")]


def test_a_plan_is_refused_before_the_cluster_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks a recorded consumer ends `rdv plan` with its name and the field."""
    goal = Goal(schema=changed(plan=None), budget_ms=80.0, default=0.5)
    project = Project(tmp_path, Config(project="shop", goals={"churn": goal}))
    Shelf.of(project).publish(contract(), "churn")
    monkeypatch.setattr(select, "services", lambda project: None)  # whatever is asked of it fails
    with pytest.raises(Refused, match="consumer 'web shop' of goal 'churn': field plan"):
        make_plan(project)


def test_results_of_the_verifier_are_read() -> None:
    """Mismatches become one sentence; nothing asked is an error with the reason."""
    mismatch = {
        "type": "mismatches",
        "mismatches": [
            {"path": "$.answer", "mismatch": "expected a number", "type": "BodyMismatch"},
            {"mismatch": "expected 200 but was 400", "type": "StatusMismatch"},
        ],
    }
    told = {
        "result": False,
        "interactionResults": [
            {"consumer": "c", "description": "good", "duration": "37ms", "result": "OK"},
            {"consumer": "c", "description": "bad", "duration": "1.5s", "result": "Error", "mismatch": mismatch},
            {"consumer": "c", "description": "odd", "result": "Error", "mismatch": {"type": "error", "message": "no"}},
        ],
    }
    good, bad, odd = checked(told)
    assert (good.problem, good.seconds) == ("", 0.037)
    assert (bad.problem, bad.seconds) == ("answer: expected a number; expected 200 but was 400", 1.5)
    assert odd.problem == "no"
    with pytest.raises(RdvError, match="could not begin"):
        checked({"result": False, "errors": [{"mismatch": {"message": "no such file"}}]})
