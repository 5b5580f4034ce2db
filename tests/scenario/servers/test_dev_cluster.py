"""A whole dev cluster: who may do what on it, and that its servers are what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.devcluster.http import Answer, call, must
from rdv.errors import NotFound

pytestmark = pytest.mark.live
HANG_S = 90.0
HEADERS = {"consul": "X-Consul-Token", "vault": "X-Vault-Token", "nomad": "X-Nomad-Token"}

# what a task may do with the tokens that its own identity got: prints a status for each request
ASK = """
import json, os, sys, urllib.request, urllib.error
told = {"rendered": open(os.environ["NOMAD_TASK_DIR"] + "/out").read() if sys.argv[1] == "rendered" else ""}
for name, server, url in json.loads(sys.argv[2]):
    header = {"consul": "X-Consul-Token", "vault": "X-Vault-Token", "nomad": "X-Nomad-Token"}[server]
    try:
        token = open(f"{os.environ['NOMAD_SECRETS_DIR']}/{server}_token").read().strip()
        request = urllib.request.Request(url, headers={header: token})
        told[name] = urllib.request.urlopen(request, timeout=20).status
    except FileNotFoundError:
        told[name] = "no token"
    except urllib.error.HTTPError as error:
        told[name] = error.code
print(json.dumps(told))
"""
JOB = """
job "JOB" {
  type      = "batch"
  namespace = "NAMESPACE"
  group "g" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    task "t" {
      driver = "raw_exec"
      config {
        command = "PYTHON"
        args    = ["-I", "-c", ASK, "HOW", URLS]
      }
      identity {
        file = true
      }
      BLOCKS
      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
"""


class Probe:
    """A job that looks what its identity is good for."""

    def __init__(self, cluster: Any, nomad: str, namespace: str, blocks: str, how: str, urls: list[Any]) -> None:
        self._nomad, self._namespace = cluster.servers.nomads[nomad], namespace
        self.job = f"probe-{uuid.uuid4().hex[:8]}"
        hcl = JOB.replace("ASK", _hcl(ASK)).replace("URLS", _hcl(json.dumps(urls))).replace("BLOCKS", blocks)
        hcl = hcl.replace("JOB", self.job).replace("NAMESPACE", namespace).replace("PYTHON", sys.executable)
        self._nomad.register(hcl.replace("HOW", how))

    def allocation(self) -> dict[str, Any]:
        """Its allocation, once it has ended."""
        until = time.monotonic() + HANG_S
        while time.monotonic() < until:
            found = self._get(f"/v1/job/{self.job}/allocations").json()
            if found and found[0]["ClientStatus"] in ("complete", "failed"):
                return dict(found[0])
            time.sleep(0.05)
        raise AssertionError(f"{self.job} has not ended: {found}")

    def told(self) -> dict[str, Any]:
        """What it printed."""
        ended = self.allocation()
        events = [event["DisplayMessage"] for event in ended["TaskStates"]["t"]["Events"]]
        assert ended["ClientStatus"] == "complete", events
        log = f"/v1/client/fs/logs/{ended['ID']}?task=t&type=stdout&plain=true"
        return dict(must(self._get(log), "the log").json())

    def _get(self, path: str) -> Answer:
        answer: Answer = self._nomad.call("GET", f"{path}{'&' if '?' in path else '?'}namespace={self._namespace}")
        return answer


def _hcl(text: str) -> str:
    """A text as a string of HCL."""
    return json.dumps(text).replace("${", "$${").replace("%{", "%%{")


def _template(env: str) -> str:
    data = '{{ key "rdv/ENV/wired" }} {{ with secret "secret/data/rdv/ENV/s3" }}{{ .Data.data.access_key }}{{ end }}'
    data = data.replace("ENV", env)
    return f'template {{\n data = {_hcl(data)}\n destination = "local/out"\n}}\n'


def _blocks(env: str, consul: bool = True, role: str = "") -> str:
    vault = f'vault {{\n role = "{role or f"rdv-{env}"}"\n env = false\n}}\n'
    return ("consul {}\n" + _template(env) if consul else "") + vault


def _urls(cluster: Any, env: str) -> list[tuple[str, str, str]]:
    servers, other = cluster.servers, "staging" if env == "dev" else "dev"
    found = []
    for whose, name in (("own", env), ("other", other)):
        found += [
            (f"{whose} key", "consul", f"{servers.consul.address}/v1/kv/rdv/{name}/wired"),
            (f"{whose} secret", "vault", f"{servers.vault.address}/v1/secret/data/rdv/{name}/s3"),
            (f"{whose} jobs", "nomad", f"{servers.batch.address}/v1/jobs?namespace={name}"),
        ]
    return found


@pytest.fixture
def keys(dev_cluster: Any) -> None:
    """A key in each environment."""
    for env in ("dev", "staging", "production"):
        must(dev_cluster.servers.consul.call("PUT", f"/v1/kv/rdv/{env}/wired", f"wired-{env}".encode()), "a key")


def test_identities_reach_their_own_environment_only(dev_cluster: Any, keys: None) -> None:
    """Pipelines, services and steps get by their identity what their environment's is, and of another one nothing."""
    access = dev_cluster.servers.s3.access_key
    probes = {}
    for nomad, namespace, env in (("batch", "dev-pipelines", "dev"), ("services", "staging", "staging")):
        urls = [one for one in _urls(dev_cluster, env) if nomad == "batch" or one[1] != "nomad"]
        probes[namespace] = Probe(dev_cluster, nomad, namespace, _blocks(env), "rendered", urls)
    probes["dev"] = Probe(dev_cluster, "batch", "dev", _blocks("dev", consul=False), "", _urls(dev_cluster, "dev"))
    refused = [
        Probe(dev_cluster, "batch", "dev", _blocks("dev"), "", []),  # steps get nothing in Consul
        Probe(dev_cluster, "batch", "dev-pipelines", _blocks("dev", role="rdv-staging"), "", []),
        Probe(dev_cluster, "services", "dev", _blocks("dev", role="rdv-production"), "", []),
    ]
    assert probes["dev-pipelines"].told() == {
        "rendered": f"wired-dev {access}", "own key": 200, "own secret": 200, "own jobs": 200, "other key": 403,
        "other secret": 403, "other jobs": 403,
    }  # fmt: skip
    assert probes["staging"].told() == {
        "rendered": f"wired-staging {access}", "own key": 200, "own secret": 200, "other key": 403, "other secret": 403,
    }  # fmt: skip
    assert probes["dev"].told() == {
        "rendered": "", "own key": "no token", "own secret": 200, "own jobs": 403, "other key": "no token",
        "other secret": 403, "other jobs": 403,
    }  # fmt: skip
    assert [probe.allocation()["ClientStatus"] for probe in refused] == ["failed"] * 3


def test_a_person_has_the_rights_of_the_environment(dev_cluster: Any, keys: None) -> None:
    """The token files of an environment open it, nothing of another one, and no rights to change rights."""
    servers = dev_cluster.servers
    ports = {"consul": servers.consul.port, "vault": servers.vault.port}
    ports |= {"nomad-batch": servers.batch.port, "nomad-services": servers.services.port}
    allowed = {
        "consul": ["GET /v1/kv/rdv/dev/wired", "PUT /v1/kv/rdv/dev/mine", "GET /v1/acl/policies"],
        "vault": ["GET /v1/secret/data/rdv/dev/s3", "GET /v1/auth/nomad-batch/role/rdv-dev"],
        "nomad-batch": ["GET /v1/jobs?namespace=dev", "GET /v1/jobs?namespace=dev-pipelines", "GET /v1/nodes"],
        "nomad-services": ["GET /v1/jobs?namespace=dev"],
    }
    refused = {
        "consul": ["GET /v1/kv/rdv/staging/wired", "PUT /v1/kv/rdv/staging/mine", "PUT /v1/acl/policy"],
        "vault": ["GET /v1/secret/data/rdv/staging/s3", "POST /v1/sys/policies/acl/rdv-dev"],
        "nomad-batch": ["GET /v1/jobs?namespace=staging", "POST /v1/acl/token"],
        "nomad-services": ["GET /v1/jobs?namespace=production", "POST /v1/acl/token"],
    }
    for server, port in ports.items():
        file = dev_cluster.token_file("dev", server)
        assert file.stat().st_mode & 0o777 == 0o600
        headers = {HEADERS[server.partition("-")[0]]: file.read_text().strip()}
        for expected, asked in ((True, allowed[server]), (False, refused[server])):
            for line in asked:
                method, _, path = line.partition(" ")
                body = None if method == "GET" else b"{}"
                answer = call(port, method, path, body, headers)
                assert (answer.status == 200) is expected, (server, line, answer)
                assert expected or answer.status == 403, (server, line, answer)


def test_up_is_done_once(dev_cluster: Any) -> None:
    """Every server is ready and runs as the process that is told; asking again starts and changes none."""
    before = dev_cluster.status()
    assert [one["server"] for one in before] == [
        "consul", "consul-batch", "vault", "s3",
        "nomad-batch", "nomad-batch-client", "nomad-services", "nomad-services-client",
    ]  # fmt: skip
    assert all(one["ready"] for one in before)
    assert len({one["pid"] for one in before}) == len(before)
    assert all(Path(f"/proc/{one['pid']}").exists() for one in before)
    tokens = [file.read_text() for file in sorted(dev_cluster.folder.glob("tokens/*/*"))]
    assert dev_cluster.up() == ()
    assert dev_cluster.status() == before
    assert len(tokens) == 12
    assert [file.read_text() for file in sorted(dev_cluster.folder.glob("tokens/*/*"))] == tokens


def test_the_regions_are_apart(dev_cluster: Any) -> None:
    """The two Nomads know nothing of each other, and each has one node."""
    for nomad in dev_cluster.servers.nomads.values():
        assert nomad.call("GET", "/v1/regions").json() == [nomad.name]
        assert len(nomad.call("GET", "/v1/nodes").json()) == 1


def test_docker_and_hdfs_beside_the_others(new_dev_cluster: Any, in_ci: bool) -> None:
    """HDFS and a Docker engine that the nodes use; afterwards interfaces, firewall and forwarding are as before."""
    before = _network()
    cluster = new_dev_cluster()
    try:
        cluster.up(["hdfs", "docker"])
    except NotFound as error:
        if "dockerd" in str(error):
            (pytest.fail if in_ci else pytest.skip)(str(error))
        raise
    try:
        assert all(one["ready"] for one in cluster.status())
        assert [one["server"] for one in cluster.status()][-2:] == ["hdfs", "docker"]
        assert cluster.environments()["dev"]["intermediate"].startswith("hdfs:/rdv/dev?")
        cluster.servers.hdfs.process.kill()
        os.kill(cluster.servers.docker.process.pid, signal.SIGKILL)
        assert cluster.up() == ("hdfs", "docker")
        assert all(one["ready"] for one in cluster.status())
        assert _network() == before
    finally:
        cluster.down()
    assert _network() == before
    assert not cluster.folder.exists()


def _network() -> dict[str, Any]:
    """Interfaces, firewall rules and forwarding of this machine."""
    rules = [
        subprocess.run(["iptables", "-t", table, "-S"], capture_output=True, text=True, check=False).stdout
        for table in ("filter", "nat")
        if shutil.which("iptables")
    ]
    interfaces = sorted(path.name for path in Path("/sys/class/net").iterdir() if not path.name.startswith("veth"))
    return {"rules": rules, "interfaces": interfaces, "forward": Path("/proc/sys/net/ipv4/ip_forward").read_text()}
