"""The contract of the Services port. A further adapter joins by a class with a `yard` fixture of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from rdv.backends import select
from rdv.backends.ports_services import ServiceChange, ServiceJob, Services
from rdv.config import Project
from rdv.errors import LostRace, NotFound
from rdv.ids import short_id
from rdv.serving.processes.jobs import service_jobs
from rdv.serving.processes.records import read_records
from rdv.serving.processes.supervisor import SUPERVISOR
from rdv.settings import load_project

MODEL = "visit/m"
PATIENCE_S = 90.0
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@dataclass
class Yard:
    """A project, whatever runs its jobs, and the port onto that."""

    project: Project
    services: Services

    def wanted(self, **changes: Any) -> list[ServiceJob]:
        """The jobs of the project without proxies, its worker changed."""
        there = (self.services.folder, self.services.identities)
        jobs = [one for one in service_jobs(self.project, *there) if one.role != "proxy"]
        return [replace(one, **changes) if one.role == "worker" else one for one in jobs]

    def make(self, wanted: list[ServiceJob]) -> list[ServiceChange]:
        """Have the jobs be so, to the end; what was changed."""
        planned = [one for one in self.services.plan(wanted) if one.change != "unchanged"]
        for applied in [self.services.apply(one) for one in planned]:
            self.services.follow(applied, lambda text: None, PATIENCE_S)
        return planned


def write_project(folder: Path, places: dict[str, str]) -> Project:
    """A project with one model in an environment `dev`."""
    folder.mkdir()
    folder.joinpath("visit.json").write_text(json.dumps(SCHEMA))
    environment = "".join(f'{port} = "{place}"\n' for port, place in places.items())
    folder.joinpath("rdv.toml").write_text(
        f'project = "s{short_id()}"\n[goals.visit]\nschema = "visit.json"\nbudget_ms = 80\nanswer = "number"\n'
        f'default = 0.0\n[serve]\nport = 0\n[models."{MODEL}"]\ngoal = "visit"\nflavour = "sum"\n'
        f"[environments.dev]\n{environment}"
    )
    return load_project(folder, "dev")


class ServicesContract:
    """What every adapter of the Services port holds to."""

    def test_what_was_planned_is_there_afterwards(self, yard: Yard) -> None:
        """Each job is new, then healthy in its number, and the same wish is no change any more."""
        planned = yard.make(yard.wanted())
        assert {one.name for one in planned} == {"gateway", f"worker {MODEL}", "decoy"}
        assert {one.change for one in planned} == {"new"}
        assert {one.name: one.count for one in yard.services.look()} == {one.name: 1 for one in planned}
        assert not yard.make(yard.wanted())

    def test_a_plan_changes_nothing_and_fits_its_own_state_only(self, yard: Yard) -> None:
        """A plan that was made before another change is refused."""
        early = yard.services.plan(yard.wanted(count=2))
        assert not yard.services.look()
        yard.make(yard.wanted())
        [worker] = [one for one in early if one.name.startswith("worker")]
        with pytest.raises(LostRace):
            yard.services.apply(worker)

    def test_a_scaled_count_stays_over_plans(self, yard: Yard) -> None:
        """A count that was set stays until the wish itself is another one; a job that is not there has none."""
        yard.make(yard.wanted())
        scaled = yard.services.scale("worker", MODEL, 2)
        assert yard.services.follow(scaled, lambda text: None, PATIENCE_S).healthy == 2
        assert not yard.make(yard.wanted())
        [changed] = yard.make(yard.wanted(count=3))
        assert (changed.change, changed.name) == ("changed", f"worker {MODEL}")
        assert {one.role: one.count for one in yard.services.look()}["worker"] == 3
        with pytest.raises(NotFound):
            yard.services.scale("worker", "nobody", 1)

    def test_an_instance_starts_again_where_it_is(self, yard: Yard) -> None:
        """One instance is started again and runs when the call returns; one that nobody knows is not found."""
        yard.make(yard.wanted())
        [worker] = [one for one in yard.services.look() if one.role == "worker"]
        [instance] = worker.instances
        yard.services.restart(worker.job, instance.id, PATIENCE_S)
        [worker] = [one for one in yard.services.look() if one.role == "worker"]
        assert [one.state for one in worker.instances] == ["running"]
        with pytest.raises(NotFound):
            yard.services.restart(worker.job, "nobody", 1.0)

    def test_what_is_not_wanted_goes(self, yard: Yard) -> None:
        """A job that nobody wants any more is removed by the plan that says so; doing it again does nothing."""
        yard.make(yard.wanted())
        assert {one.change for one in yard.make([])} == {"removed"}
        assert not yard.services.look()
        assert not yard.make([])


class TestLocal(ServicesContract):
    """The processes of `rdv serve`."""

    @pytest.fixture
    def yard(self, tmp_path: Path) -> Iterator[Yard]:
        """A project that is being served."""
        project = write_project(tmp_path / "project", {"bus": "grpc:?tls=off"})
        argv = [sys.executable, "-P", "-m", "rdv.cli", "serve", "--env", "dev", "--project", str(project.folder)]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(argv, stderr=log, env=dict(os.environ))
        try:
            until = time.monotonic() + PATIENCE_S
            while not any(one.role == SUPERVISOR for one in read_records(project.run_folder)):
                assert time.monotonic() < until, (tmp_path / "log").read_text()
                time.sleep(0.05)
            yield Yard(project, select.services(project))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.mark.live
class TestNomad(ServicesContract):
    """Service jobs of a Nomad."""

    @pytest.fixture
    def yard(self, dev_cluster: Any, tmp_path: Path) -> Iterator[Yard]:
        """A project of its own in `dev` of the session's cluster."""
        places = {**dev_cluster.environments()["dev"], "cluster": "local:"}
        prefix, _, query = places["registry"].partition("?")
        places["registry"] = f"{prefix}/{short_id()}?{query}"
        project = write_project(tmp_path / "project", places)
        made = Yard(project, select.services(project))
        yield made
        made.make([])
