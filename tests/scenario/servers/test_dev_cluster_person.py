"""`rdv dev-cluster` as a person types it: servers that outlive the command, are mended by it, and leave nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.devcluster.state import State, read_state
from rdv.errors import Exit

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("person")]
HANG_S = 120.0
KINDS = ("consul", "vault", "nomad", "services", "s3", "artifacts", "parent")
PROJECT = 'project = "shop"\n\n[environments.local]\nartifacts = "dir:artifacts"\n'


class Person:
    """Types commands about one cluster, in a folder with a project."""

    def __init__(self, top: Path, environ: dict[str, str]) -> None:
        self.folder, self.project, self._environ = top / "cluster", top / "project", environ
        self.project.mkdir()
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that has begun."""
        argv = [sys.executable, "-P", "-m", "rdv.cli", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(argv, cwd=self.project, env=self._environ, stdout=pipe, stderr=pipe, text=True)
        self._started.append(process)
        return process

    def leave(self) -> subprocess.CompletedProcess[str]:
        """End what was begun and not awaited, for which a failed test has no more time, and the cluster."""
        for process in self._started:
            process.kill()
            process.wait()
        return self.cluster("down")

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command that has ended."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=HANG_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def cluster(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        """A command of `rdv dev-cluster`."""
        return self("dev-cluster", command, "--folder", str(self.folder), *more)

    def status(self) -> dict[str, Any]:
        """How every server stands."""
        return {one["server"]: one for one in json.loads(self.cluster("status", "-o", "json").stdout)}

    def state(self) -> State:
        """What the cluster's folder remembers."""
        state = read_state(self.folder)
        assert state is not None
        return state

    def doctor(self, env: str = "dev") -> dict[str, Any]:
        """Findings of `rdv doctor` by check."""
        told = self("doctor", "--quick", "--env", env, "-o", "json")
        assert told.stdout, told.stderr
        return {one["check"]: one for one in json.loads(told.stdout)}


def remains(folder: Path) -> list[str]:
    """What is left of a cluster: processes that name its folder, mounts, control groups, and the folder itself."""
    left = [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if str(folder).encode() in told and state not in "ZX":
                left.append(told.replace(b"\0", b" ").decode(errors="replace")[:200])
    return [*left, *([str(folder)] if folder.exists() else [])]


@pytest.fixture(scope="module")
def person(environ: dict[str, str], is_live: bool) -> Iterator[Person]:
    """A person whose cluster is up; what is left of it at the end fails the module."""
    if not is_live:
        pytest.skip("needs the real servers; type: make test-cluster")
    top = Path(tempfile.mkdtemp(prefix="rdv-dc-"))
    someone = Person(top, environ)
    try:
        ended = someone.cluster("up")
        assert ended.returncode == 0, ended.stderr
        assert "rdv dev-cluster env >> rdv.toml" in ended.stderr
        (someone.project / "rdv.toml").write_text(PROJECT + someone.cluster("env").stdout)
        yield someone
    finally:
        down = someone.leave()
        left = remains(someone.folder)
        shutil.rmtree(top, ignore_errors=True)
    assert down.returncode == 0, down.stderr
    assert not left


@pytest.fixture
def nomad_call(person: Person) -> Callable[..., Any]:
    """A request to the person's batch Nomad with its management token."""
    from rdv.backends.devcluster.http import call

    state = person.state()

    def send(method: str, path: str, body: Any = None) -> Any:
        headers = {"X-Nomad-Token": state.secrets["nomad-batch"]}
        return call(state.ports["nomad-batch"][0], method, path, body, headers)

    return send


def test_the_environments_are_written(person: Person) -> None:
    """What `env` prints is TOML for rdv.toml, the same as in the folder, and names no secret."""
    text = person.cluster("env").stdout
    assert set(tomllib.loads(text)["environments"]) == {"dev", "staging", "production"}
    assert (person.folder / "environments.toml").read_text() == text
    assert not [secret for secret in person.state().secrets.values() if secret in text]
    assert person.folder.stat().st_mode & 0o777 == 0o700


def test_two_clusters_know_nothing_of_each_other(person: Person, dev_cluster: Any) -> None:
    """A person's cluster and a test's run at once: no port in common, no Nomad server in the other's, no key."""
    mine, theirs = person.state(), read_state(dev_cluster.folder)
    assert theirs is not None
    assert all(one["ready"] for one in [*person.status().values(), *dev_cluster.status()])
    ports = [{port for some in state.ports.values() for port in some} for state in (mine, theirs)]
    assert not ports[0] & ports[1]
    assert not set(mine.task_ports.values()) & set(theirs.task_ports.values())
    for nomad in dev_cluster.servers.nomads.values():
        assert len(nomad.call("GET", "/v1/agent/members").json()["Members"]) == 1
    assert dev_cluster.servers.consul.call("PUT", "/v1/kv/rdv/dev/theirs", b"theirs").ok
    assert dev_cluster.servers.consul.call("GET", "/v1/kv/rdv/dev/kept").status == 404


def test_what_died_is_started_again(person: Person) -> None:
    """After kill -9 of servers `status` says so with 5, `up` starts these and no other, and nothing is lost."""
    from rdv.backends.devcluster.http import call

    state = person.state()
    headers = {"X-Consul-Token": state.secrets["consul"]}
    assert call(state.ports["consul"][0], "PUT", "/v1/kv/rdv/dev/kept", b"kept", headers).ok
    before = person.status()
    killed = ("consul", "vault", "nomad-batch-client")
    for name in killed:
        os.kill(before[name]["pid"], signal.SIGKILL)
    told = person.cluster("status")
    assert told.returncode == Exit.UNREACHABLE
    assert "rdv dev-cluster up" in told.stderr
    ended = person.cluster("up")
    assert ended.returncode == 0, ended.stderr
    assert "3 servers started" in ended.stderr
    after = person.status()
    assert all(one["ready"] for one in after.values())
    assert {name for name in after if after[name]["pid"] != before[name]["pid"]} == set(killed)
    assert call(state.ports["consul"][0], "GET", "/v1/kv/rdv/dev/kept?raw", headers=headers).body == b"kept"
    assert "nothing was started" in person.cluster("up").stderr


def test_tasks_outlive_their_agent_and_end_with_the_cluster(person: Person, nomad_call: Callable[..., Any]) -> None:
    """A task goes on while its Nomad client is killed and started again, with the same process."""
    job = {
        "ID": "sleeper", "Name": "sleeper", "Namespace": "dev", "Type": "batch", "Datacenters": ["*"],
        "TaskGroups": [{"Name": "g", "Tasks": [{
            "Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/sleep", "args": ["1000"]},
            "Resources": {"CPU": 50, "MemoryMB": 32},
        }]}],
    }  # fmt: skip
    assert nomad_call("POST", "/v1/jobs", {"Job": job}).ok

    def sleepers() -> list[int]:
        wanted, found = f"{person.folder}/nomad-batch/client/alloc/".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cmdline").read_bytes() == b"/bin/sleep\x001000\x00":
                    found += [int(process.name)] if wanted in (process / "environ").read_bytes() else []
        return found

    until = time.monotonic() + HANG_S
    while not (before := sleepers()) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(before) == 1
    os.kill(person.status()["nomad-batch-client"]["pid"], signal.SIGKILL)
    assert person.cluster("up").returncode == 0
    assert sleepers() == before  # and `remains` looks for it when the cluster is down


def test_the_doctor_finds_a_healthy_cluster(person: Person) -> None:
    """Every check of every server of each environment passes, or says why it cannot look."""
    found = person.doctor("staging")
    servers = [name for name in found if name.split()[0] in KINDS]
    assert len(servers) > 20
    assert found["consul catalog"]["verdict"] == "PASS"
    bad = [one for name, one in found.items() if name in servers and one["verdict"] == "FAIL"]
    assert not bad


def test_the_doctor_names_what_is_missing(person: Person, nomad_call: Callable[..., Any]) -> None:
    """A stopped Consul, a sealed Vault, a policy and a namespace that are gone: each fails with its remedy, and `up`,

    which is that remedy, mends them.
    """
    from rdv.backends.devcluster.http import call

    state, pids = person.state(), person.status()
    keys = json.loads((person.folder / "vault" / "keys.json").read_text())
    vault = {"X-Vault-Token": keys["root_token"]}
    parents = nomad_call("GET", "/v1/jobs?namespace=production&prefix=rdv-step-").json()
    for job in parents[:2]:
        assert nomad_call("DELETE", f"/v1/job/{job['ID']}?namespace=production&purge=true").ok
    told = person.doctor("production")["parent jobs"]
    assert told["verdict"] == "FAIL"
    assert told["found"].startswith("2 of ")
    assert told["remedy"] == "type: rdv jobs register --env production"
    assert person("jobs", "register", "--env", "production").returncode == 0
    assert person.doctor("production")["parent jobs"]["verdict"] == "PASS"
    assert nomad_call("DELETE", "/v1/acl/policy/rdv-dev").ok
    assert nomad_call("DELETE", "/v1/namespace/staging-pipelines").ok
    assert call(state.ports["vault"][0], "DELETE", "/v1/sys/policies/acl/rdv-dev-workloads", None, vault).ok
    found, staging = person.doctor(), person.doctor("staging")
    for one in (found["nomad policies"], found["nomad rights"], found["vault role"], staging["nomad namespaces"]):
        assert one["verdict"] == "FAIL", one
        assert one["remedy"] == "type: rdv dev-cluster up"
    assert "register and stop jobs in dev-pipelines" in found["nomad rights"]["found"]
    assert call(state.ports["vault"][0], "PUT", "/v1/sys/seal", None, vault).ok
    os.kill(pids["consul"]["pid"], signal.SIGKILL)
    found = person.doctor()
    assert "sealed" in found["vault"]["found"]
    assert "does not answer" in found["consul"]["found"]
    assert {found[check]["remedy"] for check in ("vault", "consul")} == {"type: rdv dev-cluster up"}
    assert person.cluster("up").returncode == 0
    mended = [one for name, one in person.doctor().items() if name.split()[0] in ("consul", "vault", "nomad")]
    assert not [one for one in mended if one["verdict"] == "FAIL"]


@pytest.fixture
def other(environ: dict[str, str], is_live: bool) -> Iterator[Person]:
    """A person without a cluster yet."""
    if not is_live:
        pytest.skip("needs the real servers; type: make test-cluster")
    top = Path(tempfile.mkdtemp(prefix="rdv-dc-"))
    someone = Person(top, environ)
    yield someone
    someone.leave()
    shutil.rmtree(top, ignore_errors=True)


def begun(person: Person) -> subprocess.Popen[str]:
    """`up`, which has started its first servers."""
    process = person.start("dev-cluster", "up", "--folder", str(person.folder))
    until = time.monotonic() + HANG_S
    while not ((state := read_state(person.folder)) and state.processes) and time.monotonic() < until:
        time.sleep(0.01)
    assert state
    assert state.processes
    return process


def test_an_interrupted_start_leaves_nothing(other: Person) -> None:
    """Ctrl-C while servers start ends with 130, and nothing of them is left; the usual ports being taken is fine."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody has it already: as good
            taken.bind(("127.0.0.1", 8500))
            taken.listen()
        process = begun(other)
        assert other.state().ports["consul"][0] != 8500
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANG_S)
    assert process.returncode == Exit.INTERRUPTED
    assert not remains(other.folder)
    assert other.cluster("status").returncode == Exit.UNREACHABLE


def test_servers_that_nobody_remembers_are_found(other: Person) -> None:
    """After kill -9 of `up` and the loss of what it had written down, `up` says so and `down` leaves nothing."""
    process = begun(other)
    process.kill()
    process.communicate(timeout=HANG_S)
    (other.folder / "state.json").unlink()
    assert remains(other.folder)[:-1]
    told = other.cluster("up")
    assert told.returncode == Exit.FAILED
    assert "rdv dev-cluster down" in told.stderr
    assert other.cluster("down").returncode == 0
    assert not remains(other.folder)
