"""Plans as files, and what moved state does to them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from rdv.backends.ports import JobChange
from rdv.backends.ports_services import Applied, ServiceChange
from rdv.config import Config, Environment, Goal, Model, Project, Serve
from rdv.errors import ConfigError, LostRace
from rdv.releases.service_plan import (
    Plan,
    Recorded,
    begin,
    begin_parents,
    check_contracts,
    check_services,
    decode_plan,
    encode_plan,
)
from rdv.serving.processes.jobs import service_jobs
from rdv.serving.processes.project_file import decode_project

PARENT = JobChange(job="rdv-step", namespace="dev", change="new")
CHANGE = ServiceChange(job="g", name="gateway", change="changed", index=7, spec={"ID": "g"})
PLAN = Plan(project="shop", env="dev", jobs=(PARENT,), services=(CHANGE,))


def test_a_plan_survives_its_file() -> None:
    """A plan is read as it was written, for its own project and environment only."""
    assert decode_plan(encode_plan(PLAN), "shop", "dev") == PLAN
    with pytest.raises(ConfigError, match="project 'shop'"):
        decode_plan(encode_plan(PLAN), "shop", "production")
    with pytest.raises(ConfigError, match="holds no plan"):
        decode_plan(b"{", "shop", "dev")


def test_what_is_as_it_ought_to_be_is_no_change() -> None:
    """Only what would be done counts."""
    same = msgspec.structs.replace(CHANGE, change="unchanged")
    assert (PLAN.changes, Plan(project="shop", env="dev", services=(same,)).changes) == (2, 0)


def test_moved_state_is_refused() -> None:
    """A job with another index than the plan's, and one that is gone, lose the race."""
    check_services(PLAN, [CHANGE])
    for now in ([msgspec.structs.replace(CHANGE, index=8)], []):
        with pytest.raises(LostRace, match="gateway"):
            check_services(PLAN, now)


def test_another_expectation_is_moved_state() -> None:
    """A contract that was recorded, withdrawn or replaced since the plan was made loses the race, with its consumer."""
    web, app = Recorded(consumer="web", digest="a"), Recorded(consumer="app", digest="b")
    plan = msgspec.structs.replace(PLAN, contracts=(web,))
    check_contracts(decode_plan(encode_plan(plan), "shop", "dev"), [web])
    for now, consumer in (([web, app], "app"), ([], "web"), ([Recorded(consumer="web", digest="c")], "web")):
        with pytest.raises(LostRace, match=f"consumer '{consumer}' expects something else"):
            check_contracts(plan, now)


def test_what_is_on_its_way_is_followed_though_nothing_differs() -> None:
    """A change that an earlier apply has begun counts as begun; what is as it ought to be, and at rest, does not."""

    class Now:
        """Serving jobs, of which one is on its way."""

        def apply(self, change: ServiceChange) -> Applied:
            """Begin it, or say that it is."""
            return Applied(job=change.job, name=change.name, mark="d" if change.job == "w" else "")

    same = [ServiceChange(job=job, name=job, change="unchanged", index=1) for job in ("w", "x")]
    gone = ServiceChange(job="z", name="z", change="removed", index=1)
    plan = Plan(project="shop", env="dev", services=(*same, gone))
    assert [one.job for one in begin(plan, Now())] == ["w", "z"]  # type: ignore[arg-type]


def test_parents_are_registered_only_as_planned() -> None:
    """A parent job that would change otherwise by now stops everything."""
    done: list[bool] = []

    def register(plan_only: bool) -> list[JobChange]:
        done.append(plan_only)
        return [PARENT]

    begin_parents(PLAN, register)
    assert done == [True, False]
    with pytest.raises(LostRace):
        begin_parents(PLAN, lambda plan_only: [])


def project(**models: Model) -> Project:
    """A project with one goal on a bus between hosts."""
    goal = Goal(schema={"type": "object"}, budget_ms=50, default=0.0)
    environments = {"dev": Environment(bus="grpc:?tls=off")}
    config = Config(project="shop", goals={"visit": goal, "other": goal}, models=models, environments=environments)
    return Project(Path("/nowhere"), config, "dev")


def test_another_schema_is_another_job(tmp_path: Path) -> None:
    """A schema that is changed in its file alone changes what gateways and workers are told."""
    goal, file = Goal(schema="visit.json", budget_ms=80.0, default=0.5), tmp_path / "visit.json"
    config = Config(
        project="shop", goals={"visit": goal}, models={"a": Model(goal="visit")},
        environments={"dev": Environment(bus="grpc:?tls=off")},
    )  # fmt: skip
    told = []
    for kind in ("integer", "number"):
        file.write_text(json.dumps({"type": "object", "properties": {"age": {"type": kind}}, "required": ["age"]}))
        told.append({one.name: one.told for one in service_jobs(Project(tmp_path, config, "dev"))})
    assert {name for name in told[0] if told[0][name] != told[1][name]} == {"gateway", "worker a", "decoy"}


def test_each_role_is_a_job_and_each_model_has_its_own() -> None:
    """Gateways, workers a model, a decoy and proxies, each with the count that rdv.toml says."""
    one = project(a=Model(goal="visit", replicas=3), b=Model(goal="other"))
    found = {job.name: job.count for job in service_jobs(one)}
    assert found == {"gateway": 1, "worker a": 3, "worker b": 1, "decoy": 1, "proxy": 1}


def test_counts_and_training_start_no_instance_again() -> None:
    """What an instance is told holds nothing that it does not need; another goal is not a worker's business."""
    one = project(a=Model(goal="visit"))
    more = project(a=Model(goal="visit", replicas=5, data="x.csv", label="y"), b=Model(goal="other"))
    more = msgspec.structs.replace(
        more, config=msgspec.structs.replace(more.config, serve=Serve(port=1234, gateways=3, gateway_mb=64))
    )
    told = [{job.name: job.told for job in service_jobs(each)} for each in (one, more)]
    assert told[0]["worker a"] == told[1]["worker a"]
    assert told[0]["gateway"] != told[1]["gateway"]  # it has another model to expect


PLACES = {
    "registry": "consul:rdv/dev?address=http://c:1&token_file={tokens}/consul.token",
    "catalog": "consul:dev?token_file={tokens}/consul.token&address=http://c:1",
    "artifacts": "s3:rdv-dev?endpoint=http://s:1&secret=s3",
    "bus": "grpc:?tls=vault&mount=pki&role=rdv-dev&domain=dev.rdv.internal",
}


def applied_by(tokens: str, secrets: str, identities: tuple[str, ...]) -> dict[str, str]:
    """What the jobs are told when somebody with these token files, and this login at Vault, applies them."""
    one = project(a=Model(goal="visit"))
    places = {name: place.format(tokens=tokens) for name, place in PLACES.items()}
    environment = Environment(**places, secrets=f"vault:secret/rdv/dev?address=http://v:2&{secrets}")
    config = msgspec.structs.replace(one.config, environments={"dev": environment})
    jobs = service_jobs(msgspec.structs.replace(one, config=config), "/project", identities)
    return {job.name: job.told for job in jobs}


def test_a_person_and_a_pipeline_apply_the_same_jobs() -> None:
    """Token files and logins of whoever applies are in no job whose instances have identities of their own.

    Where one server does not know them, its place keeps what it says: the instances have nothing else.
    """
    person = ("/home/me/tokens", "token_file=/home/me/tokens/vault.token")
    pipeline = (".rdv/ci/dev", "auth=gitlab&role=rdv-dev-ci&jwt_env=VAULT_ID_TOKEN")
    both = ("consul", "vault")
    told = applied_by(*person, both)
    assert applied_by(*pipeline, both) == told
    worker = decode_project(told["worker a"].encode()).config.environments["dev"]
    assert worker.registry == "consul:rdv/dev?address=http://c:1"
    assert worker.catalog == "consul:dev?address=http://c:1"
    assert worker.secrets == "vault:secret/rdv/dev?address=http://v:2"
    assert (worker.artifacts, worker.bus) == (PLACES["artifacts"], PLACES["bus"])
    assert "jwt_env" in applied_by(*pipeline, ("consul",))["worker a"]
    assert "token_file" in applied_by(*person, ())["worker a"]


def test_a_bus_of_one_host_serves_no_cluster() -> None:
    """Jobs run on any host, so their bus must reach it; and they are called by the project's name."""
    one = project()
    frames = msgspec.structs.replace(one.config, environments={"dev": Environment()})
    with pytest.raises(ConfigError, match="bus"):
        service_jobs(msgspec.structs.replace(one, config=frames))
    with pytest.raises(ConfigError, match="no name"):
        service_jobs(msgspec.structs.replace(one, config=msgspec.structs.replace(one.config, project="")))
