"""Steps on Nomad without this machine's own files: in a container of the image, and in a chroot where no engine is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.image.build import cluster_place
from rdv.backends.ports import Outcome, Resources, Status, StepSpec

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("images")]
HANG_S = 120.0
IN_CHROOT = "driver=exec&python=/opt/rdv/bin/python&folder=/project"


class Steps:
    """A dispatcher on a cluster. place: what follows the address in its place."""

    def __init__(self, folder: Path, servers: Any, place: str) -> None:
        from rdv.backends.nomad.cluster import NomadCluster

        folder.joinpath("token").write_text(servers.token)
        self.cluster = NomadCluster(
            folder / "state", f"default?address={servers.address}&token_file={folder}/token&{place}"
        )
        self.folder = folder

    def run(self, function: str, payload: dict[str, Any] | None = None, **limits: Any) -> tuple[Outcome, str]:
        """Dispatch a step and wait for its end: the outcome, and what it wrote."""
        spec = StepSpec(
            run="r1", name=function, token=f"{self.folder}-{function}", entry=f"entries:{function}",
            payload=payload or {}, folder=str(self.folder), resources=Resources(**{"memory_mb": 256, **limits}),
        )  # fmt: skip
        outcome: Outcome = self.cluster.wait(step := self.cluster.dispatch(spec), HANG_S)
        log = b"".join(self.cluster.logs(step)).decode()
        assert outcome.status.ended, (outcome, log)
        return outcome, log


def check_ends(steps: Steps, user: int) -> None:
    """Every kind of end is told apart, and the step ran as the user, in the project's folder there."""
    outcome, log = steps.run("where")
    assert (outcome.status, log) == (Status.SUCCEEDED, f"{user} /project False\n"), outcome
    outcome, _ = steps.run("leave", {"code": 7})
    assert (outcome.status, outcome.exit_code) == (Status.FAILED, 7)
    outcome, _ = steps.run("die")
    assert (outcome.status, outcome.signal) == (Status.FAILED, 9)
    outcome, _ = steps.run("allocate", memory_mb=128)
    assert (outcome.status, "128 MB" in outcome.reason) == (Status.OUT_OF_MEMORY, True), outcome
    outcome, log = steps.run("train", memory_mb=512)
    assert (outcome.status, log) == (Status.SUCCEEDED, "10 trees\n")


def test_ends_are_told_apart_in_a_container(docker_cluster: Any, shop: Any, tmp_path: Path) -> None:
    """With the docker driver a step of the image trains, and ends are told as with the others, want of memory too."""
    servers = docker_cluster.servers.batch
    check_ends(Steps(tmp_path, servers, f"driver=docker&image={shop.tag}"), 10001)
    outcome, _ = Steps(tmp_path, servers, "driver=docker&image=rdv-absent:1").run("where")
    assert (outcome.status, "rdv-absent:1" in outcome.reason) == (Status.FAILED, True), outcome


def test_a_pipeline_trains_in_containers(docker_cluster: Any, shop: Any) -> None:
    """With the docker driver each step of `rdv train`, and with --on-cluster the pipeline, is a container that gets

    its keys by its own identity; the version is in the registry and its model on S3.
    """
    places = docker_cluster.environments()["dev"]
    places["cluster"] = cluster_place(places["cluster"], shop.tag)
    with in_environment(shop, "dev", places):
        points = ["-P", "num_iterations=5,10"]
        trained = json.loads(shop.rdv("train", "churn/lightgbm", "--env", "dev", *points, "-o", "json"))
        assert (trained["state"], trained["trained"]) == ("done", 2)
        shown = json.loads(shop.rdv("models", "list", "churn/lightgbm", "--env", "dev", "-o", "json"))
        assert [one["version"] for one in shown] == [trained["version"]]
        again = json.loads(shop.rdv("train", "churn/lightgbm", "--env", "dev", *points, "-o", "json"))
        assert (again["state"], again["trained"]) == ("done", 0)
        there = ["--on-cluster", "-P", "num_iterations=7", "-o", "json"]
        by_job = json.loads(shop.rdv("train", "churn/lightgbm", "--env", "dev", *there))
        assert (by_job["state"], by_job["trained"]) == ("done", 1)
    assert drivers(docker_cluster, "dev") == {"docker"}
    assert not [path for path in shop.folder.rglob("*.txt") if "model" in path.name]
    assert any("model" in path.name for path in docker_cluster.servers.s3.file("rdv-dev", "").rglob("*"))


def test_ends_are_told_apart_in_a_chroot(docker_cluster: Any, tmp_path: Path) -> None:
    """Where there is no engine, the exec driver runs the same project by the same Python, and sees want of memory."""
    check_ends(Steps(tmp_path, docker_cluster.servers.batch, IN_CHROOT), 65534)


def test_a_pipeline_trains_in_chroots(docker_cluster: Any, bare_shop: Any) -> None:
    """With the exec driver a pipeline and its steps run as a user that is not root, in chroots, each with its own

    identity: the pipeline's token for Consul too, whose file that user may not read.
    """
    places = docker_cluster.environments()["production"]
    places["cluster"] = places["cluster"].replace("driver=raw_exec", IN_CHROOT)
    with in_environment(bare_shop, "production", places):
        asked = ["--env", "production", "--on-cluster", "-P", "num_iterations=6", "-o", "json"]
        ended = json.loads(bare_shop.rdv("train", "churn/lightgbm", *asked))
    assert (ended["state"], ended["trained"]) == ("done", 1)
    for namespace in ("production", "production-pipelines"):
        assert drivers(docker_cluster, namespace) == {"exec"}
    assert not (bare_shop.folder / ".rdv" / "production" / "runs").exists()


@contextmanager
def in_environment(shop: Any, env: str, places: dict[str, str]) -> Iterator[None]:
    """Have the project's rdv.toml name an environment meanwhile."""
    file = shop.folder / "rdv.toml"
    before = file.read_text()
    file.write_text(f"{before}\n[environments.{env}]\n" + "".join(f'{k} = "{v}"\n' for k, v in places.items()))
    try:
        yield
    finally:
        file.write_text(before)


def drivers(cluster: Any, namespace: str) -> set[str]:
    """The drivers of whatever ran in a namespace of the batch cluster."""
    nomad, where = cluster.servers.batch, f"namespace={namespace}"
    ran = nomad.call("GET", f"/v1/allocations?{where}&task_states=false").json()
    jobs = [nomad.call("GET", f"/v1/job/{one['JobID']}?{where}").json() for one in ran]
    return {job["TaskGroups"][0]["Tasks"][0]["Driver"] for job in jobs}
