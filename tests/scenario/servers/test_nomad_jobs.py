"""The jobs that a real Nomad keeps for a project: registered by plan, dispatched by hand, reaped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rdv.backends import select
from rdv.backends.devcluster.programs import find_program
from rdv.backends.ports import Status
from rdv.errors import ConfigError, Exit, LostRace
from rdv.pipelines.task_jobs import task_classes
from rdv.settings import load_project

pytestmark = pytest.mark.live
HANG_S = 180.0
SETTINGS = """
project = "shop"
[train]
memory_mb = [256, 512]
[goals.sum]
schema = "schema.json"
budget_ms = 80
default = 0.0
answer = "number"
[models."churn/sum"]
goal = "sum"
task = "tasks_of_a_shop:Sum"
data = "rows.csv"
label = "total"
[environments.dev]
artifacts = "dir:{folder}/store"
cluster = "nomad:{place}"
"""
TASKS = '''
import json
from rdv.pipelines.task import TrainTask, load_features

class Sum(TrainTask):
    """The sum of all fields, and an offset."""
    defaults = {"offset": 0.0}

    def run_step(self, inputs, output_folder, params):
        (output_folder / "model.json").write_text(json.dumps({"offset": params["offset"]}))
        return load_features(inputs["features"]).model_info("model.json", "sum")
'''


class Shop:
    """A project with one model on a namespace of its own, and Nomad's own command line."""

    def __init__(self, nomad: Any) -> None:
        self.nomad, self.folder = nomad, nomad.folder
        fields = {name: {"type": "number"} for name in ("a", "b")}
        schema = {"type": "object", "properties": fields, "required": list(fields)}
        rows = "".join(f"{at},{at * 2},{at * 3}\n" for at in range(60))
        self.folder.joinpath("schema.json").write_text(json.dumps(schema))
        self.folder.joinpath("rows.csv").write_text(f"a,b,total\n{rows}")
        self.folder.joinpath("tasks_of_a_shop.py").write_text(TASKS)
        self.folder.joinpath("rdv.toml").write_text(SETTINGS.format(folder=self.folder, place=nomad.place()))
        self.project = load_project(self.folder, "dev")
        self.jobs, self.store = select.jobs(self.project), select.artifacts(self.project)

    def register(self, plan_only: bool = False) -> dict[str, str]:
        """What registering changes, by job."""
        tasks = task_classes(self.project, select.registry(self.project))
        changes = self.jobs.register(self.project.config.train.memory_mb, tasks, plan_only)
        return {one.job: one.change for one in changes}

    def dispatch(self, job: str, parameters: dict[str, Any] | None = None, **meta: str) -> str:
        """`nomad job dispatch`, as a person types it; the dispatched job."""
        file = self.folder / "parameters.json"
        file.write_text(json.dumps(parameters))
        command = [str(find_program("nomad", os.environ)), "job", "dispatch", "-detach"]
        command += [f"-meta={name}={value}" for name, value in meta.items()]
        command += [job, *([str(file)] if parameters is not None else [])]
        env = {"NOMAD_ADDR": self.nomad.servers.address, "NOMAD_NAMESPACE": self.nomad.namespace}
        done = subprocess.run(
            command, env={**env, "NOMAD_TOKEN": self.nomad.servers.token}, check=True, capture_output=True, text=True
        )
        return next(line.split("=")[1].strip() for line in done.stdout.splitlines() if "Dispatched Job ID" in line)

    def first_exit(self, job: str) -> int:
        """The exit code of the first process of a dispatched job, once it has ended."""
        end = time.monotonic() + HANG_S
        while time.monotonic() < end:
            for allocation in self.nomad.call("GET", f"/v1/job/{job}/allocations").json():
                for event in ((allocation["TaskStates"] or {}).get("task") or {}).get("Events") or ():
                    if event["Type"] == "Terminated":
                        return int(event["Details"]["exit_code"])
            time.sleep(0.05)
        raise AssertionError("it did not end")


@pytest.fixture
def shop(nomad_bench: Callable[[Path], Any], tmp_path: Path) -> Iterator[Shop]:
    """A project on a namespace of its own."""
    one = Shop(nomad_bench(tmp_path))
    yield one
    one.nomad.end()


def test_registering_is_a_plan_first(shop: Shop) -> None:
    """What is not there is new, what is as it ought to be unchanged, what differs changed; a plan changes nothing."""
    planned = shop.register(plan_only=True)
    assert set(planned.values()) == {"new"}
    assert shop.nomad.jobs() == []
    assert shop.register() == planned
    assert set(shop.register().values()) == {"unchanged"}
    listed = shop.jobs.list()
    assert {one.job for one in listed} == set(planned)
    train = "rdv-task-shop.churn.sum.train"
    assert {(one.kind, one.memory_mb) for one in listed if one.job == train} == {("task", 256)}
    assert len([one for one in listed if one.kind == "step"]) == 2
    changed = shop.nomad.call("GET", f"/v1/job/{train}").json()
    changed["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = 300
    assert shop.nomad.call("POST", f"/v1/job/{train}", {"Job": changed}).ok
    assert {job for job, change in shop.register(plan_only=True).items() if change == "changed"} == {train}


def test_who_comes_second_loses_the_race(shop: Shop) -> None:
    """A job that somebody else has changed since the plan is left as it is, and that is exit code 8."""
    from rdv.backends.nomad.api import NomadApi, parse_place
    from rdv.backends.nomad.drafts import step_draft
    from rdv.backends.ports import Resources

    namespace, options = parse_place(shop.nomad.place())
    api, draft = NomadApi(namespace, options), step_draft(namespace, options, Resources(memory_mb=256))
    job = api.parse(draft.id, draft.hcl(), draft.values())
    index = api.plan(job).index
    api.submit(job)
    with pytest.raises(LostRace) as caught:
        api.submit(job, index)
    assert caught.value.exit_code is Exit.LOST_RACE


@pytest.mark.parametrize("driver", ["raw_exec", "exec", "docker"])
@pytest.mark.parametrize("vault", ["", "steps"])
def test_templates_serve_every_driver(
    nomad_bench: Callable[[Path], Any], tmp_path: Path, driver: str, vault: str
) -> None:
    """The templates pass this Nomad's parse and plan for each driver; a role in Vault is asked for as it should be."""
    from rdv.backends.nomad.api import NomadApi, parse_place
    from rdv.backends.nomad.drafts import step_draft, task_draft
    from rdv.backends.ports import Resources, TaskClass

    wanted = {"driver": driver, "vault": vault, "image": "rdv-shop:1" if driver == "docker" else ""}
    more = {name: value for name, value in wanted.items() if value}
    namespace, options = parse_place(nomad_bench(tmp_path).place(**more))
    api = NomadApi(namespace, options)
    task = TaskClass(project="shop", env="dev", model="churn", task="m:C", family="train", memory_mb=512)
    for draft in (step_draft(namespace, options, Resources()), task_draft(namespace, options, task, "/here")):
        job = api.parse(draft.id, draft.hcl(), draft.values())
        if vault:  # this Nomad has none
            with pytest.raises(ConfigError, match="has no Vault"):
                api.plan(job)
        else:
            assert api.plan(job).index == 0
        (one,) = job["TaskGroups"][0]["Tasks"]
        assert (one["Driver"], one["KillSignal"], one["Config"].get("image")) == (driver, "SIGTERM", more.get("image"))
        pulls = (True, False) if driver == "docker" else (None, None)
        assert (one["Config"].get("init"), one["Config"].get("force_pull")) == pulls
        assert (one["Vault"] and (one["Vault"]["Role"], one["Vault"]["Env"], one["Vault"]["ChangeMode"])) == (
            (vault, False, "noop") if vault else None
        )


def test_tasks_dispatched_by_hand(shop: Shop) -> None:
    """Each task class makes the artifact that a dispatch names, from the inputs that it names, once."""
    shop.register()
    of = "rdv-task-shop.churn.sum"
    assert shop.first_exit(shop.dispatch(f"{of}.dataset", output="by-hand/rows")) == 0
    job = shop.dispatch(f"{of}.features", input="dataset=by-hand/rows", output="by-hand/features")
    assert shop.first_exit(job) == 0
    job = shop.dispatch(f"{of}.train", {"offset": 2}, input="features=by-hand/features", output="by-hand/model")
    assert shop.first_exit(job) == 0
    manifest = shop.store.manifest("by-hand/model")
    assert manifest is not None
    assert (manifest.kind, manifest.run, manifest.parameters["offset"]) == ("train", job, "2.0")
    assert set(manifest.upstream) == {"features"}
    assert shop.store.verify("by-hand/model") == []
    again = shop.dispatch(f"{of}.train", {}, input="features=by-hand/features", output="by-hand/model")
    wrong = shop.dispatch(f"{of}.train", {"ofset": 1}, input="features=by-hand/features", output="by-hand/other")
    lacking = shop.dispatch(f"{of}.train", {}, output="by-hand/other")
    assert [shop.first_exit(one) for one in (again, wrong, lacking)] == [Exit.LOST_RACE, Exit.USAGE, Exit.USAGE]
    assert shop.store.manifest("by-hand/model") == manifest


def test_reaping(shop: Shop, cluster_benches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of runs that are over, of purged parents and frozen ones past their time are ended; others are not."""
    from rdv.backends.nomad import reaper as nomad_reaper

    monkeypatch.setattr(nomad_reaper, "WALL_GRACE_S", 0.1)
    bench = cluster_benches.Bench(shop.folder, cluster_benches.Member(lambda max_parallel: shop.nomad.cluster()))
    cluster, now = bench.cluster(), time.time()
    made = {
        name: cluster.dispatch(bench.gated(name, run=name, token=f"{name}#1", memory_mb=memory_mb, wall_s=wall_s))
        for name, memory_mb, wall_s in (
            ("over", 256, 60), ("joined", 256, 60), ("lives", 256, 60), ("purged", 300, 60), ("frozen", 256, 1),
        )
    }  # fmt: skip
    pids = {name: bench.started(name)[0] for name in made}
    runner = int(Path(f"/proc/{pids['frozen']}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(runner, signal.SIGSTOP)
    parents = [job["ID"] for job in shop.nomad.jobs() if not job["ParentID"]]
    (parent,) = [job for job in parents if job.startswith("rdv-step-300mb")]
    assert shop.nomad.call("DELETE", f"/v1/job/{parent}?purge=true").ok
    ended = dict.fromkeys(("over", "joined"), now - nomad_reaper.GRACE_S - 1)
    bench.until(lambda: cluster.wait(made["frozen"], 0).status is Status.RUNNING)
    time.sleep(1.2)
    reaped = {one.run: one.reason for one in shop.jobs.reap(ended.get, lambda artifact: artifact == "joined")}
    os.kill(runner, signal.SIGCONT)
    assert set(reaped) == {"over", "purged", "frozen"}
    assert "past its wall clock limit" in reaped["frozen"]
    assert shop.jobs.reap(ended.get, lambda artifact: artifact == "joined") == []
    assert {cluster.wait(made[name], HANG_S).status for name in ("over", "purged")} == {Status.CANCELLED}
    assert cluster.wait(made["frozen"], HANG_S).status.ended
    for name in ("lives", "joined"):
        bench.open(name)
        assert cluster.wait(made[name], HANG_S).status is Status.SUCCEEDED
    assert not any(bench.alive(pid) for pid in pids.values())


def test_jobs_that_nobody_needs_are_pruned(shop: Shop) -> None:
    """Jobs of another image and of task classes that are gone are forgotten, old and idle as they are; those that

    registering would make, other projects' task classes, young ones, and one with a dispatch that runs stay.
    """
    shop.register()
    kept = registered(shop)
    sizes = shop.project.config.train.memory_mb
    gone = msgspec.structs.replace(task_classes(shop.project, select.registry(shop.project))[0], family="gone")
    others = msgspec.structs.replace(gone, project="another")
    old = select.jobs(msgspec.structs.replace(shop.project, config=msgspec.structs.replace(
        shop.project.config, environments={"dev": msgspec.structs.replace(
            shop.project.config.environments["dev"], cluster=f"nomad:{shop.nomad.place()}&python=/opt/old/python"
        )}
    )))  # fmt: skip
    old.register(sizes, [gone, others])
    added = registered(shop) - kept
    assert len(added) == 4
    busy = shop.dispatch("rdv-task-shop.churn.sum.gone", output="x")
    tasks = task_classes(shop.project, select.registry(shop.project))

    def prune(older_than_s: float, plan_only: bool = False) -> set[str]:
        return {one.job for one in shop.jobs.prune(sizes, tasks, older_than_s, plan_only)}

    steps = {job for job in added if job.startswith("rdv-step-")}
    assert prune(3600.0) == set()
    planned = prune(0.0, plan_only=True)
    assert steps <= planned <= steps | {"rdv-task-shop.churn.sum.gone"}
    assert added <= registered(shop)
    end = time.monotonic() + HANG_S
    while shop.nomad.call("GET", f"/v1/job/{busy}").json()["Status"] != "dead" and time.monotonic() < end:
        time.sleep(0.1)
    assert prune(0.0) == steps | {"rdv-task-shop.churn.sum.gone"}
    assert registered(shop) == kept | {"rdv-task-another.churn.sum.gone"}
    assert prune(0.0) == set()


def registered(shop: Shop) -> set[str]:
    """The jobs that may be dispatched."""
    return {one["ID"] for one in shop.nomad.jobs() if not one["ParentID"]}


def test_only_a_cluster_keeps_jobs(shop: Shop) -> None:
    """The embedded cluster has no jobs to register, and says which environment was meant."""
    with pytest.raises(ConfigError, match="local"):
        select.jobs(msgspec.structs.replace(shop.project, env="local"))
