"""Trivial steps on a real Nomad that holds four at a time: through the cluster port, and by a bare loop over HTTP.

Both run the same forty children of the same parent job with the same payload, so that what differs is what rdv does
about them: an id, a specification and an outcome on disk, an idempotency token, the step's last word.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from figures import median
from idle import IdleTimer

from rdv.backends.devcluster.nomad import NomadServers
from rdv.backends.local.cluster import LocalCluster
from rdv.backends.nomad.cluster import NomadCluster
from rdv.backends.ports import Cluster, Resources, Status, StepSpec

STEPS, AT_ONCE, MEMORY_MB = 40, 4, 2048
NAMESPACE = "bench"
_ENTRIES = "def nothing(payload):\n    pass\n"
_ENDED = ("complete", "failed", "lost")


def trivial(folder: Path, run: str, at: int) -> StepSpec:
    """A step that does nothing, of such a size that four fit."""
    resources = Resources(name="quarter", memory_mb=MEMORY_MB // AT_ONCE)
    return StepSpec(
        run=run, name="step", token=f"{run}-{at}", entry="trivial:nothing", payload={"at": at}, folder=str(folder),
        resources=resources,
    )  # fmt: skip


def ours_s(cluster: Cluster, folder: Path, run: str) -> float:
    """Seconds for the steps through the port, as the pipeline's threads use it."""
    with ThreadPoolExecutor(STEPS) as pool:

        def carry_out(at: int) -> bool:
            return cluster.wait(cluster.dispatch(trivial(folder, run, at))).status is Status.SUCCEEDED

        begun = time.perf_counter()
        if not all(pool.map(carry_out, range(STEPS))):
            raise RuntimeError("a trivial step failed")
        return time.perf_counter() - begun


def bare_s(servers: NomadServers, parent: str, folder: Path, run: str) -> float:
    """Seconds for the same steps by a loop that dispatches them all and then asks for one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", servers.port, timeout=60)

    def call(method: str, path: str, body: Any = None) -> tuple[Any, str]:
        separator = "&" if "?" in path else "?"
        data = json.dumps(body) if body is not None else None
        connection.request(method, f"{path}{separator}namespace={NAMESPACE}", data, {"X-Nomad-Token": servers.token})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(text.decode(errors="replace"))
        return json.loads(text), response.headers["X-Nomad-Index"]

    begun, jobs = time.perf_counter(), []
    for at in range(STEPS):
        payload = base64.b64encode(zlib.compress(msgspec.json.encode(trivial(folder, run, at)))).decode()
        body = {"Payload": payload, "Meta": {"rdv_run": run, "rdv_step": f"{run}-{at}"}}
        jobs.append(call("POST", f"/v1/job/{parent}/dispatch", body)[0]["DispatchedJobID"])
    for job in jobs:
        index = "0"
        while True:
            allocations, index = call("GET", f"/v1/job/{job}/allocations?index={index}&wait=10s")
            if allocations and allocations[0]["ClientStatus"] in _ENDED:
                break
        if allocations[0]["ClientStatus"] != "complete":
            raise RuntimeError("a trivial step failed")
    wall_s = time.perf_counter() - begun
    connection.close()
    return wall_s


def measure(short: bool) -> list[dict[str, Any]]:
    """Forty steps in seconds, ours beside the bare loop's; medians of 3 runs (short: 1), taken in turn.

    The detail tells what a step costs, and what the same costs on the embedded cluster.
    """
    runs = []
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as data, IdleTimer() as timer:
        folder = Path(name)
        folder.joinpath("trivial.py").write_text(_ENTRIES)
        servers = NomadServers(Path(data, "nomad"), os.environ, memory_mb=MEMORY_MB)
        try:
            servers.start()
            servers.make_namespace(NAMESPACE)
            folder.joinpath("token").write_text(servers.token)
            place = f"{NAMESPACE}?address={servers.address}&token_file={folder}/token&driver=raw_exec"
            cluster = NomadCluster(folder / ".rdv", place)
            cluster.wait(cluster.dispatch(trivial(folder, "first", 0)))
            found = servers.call("GET", f"/v1/jobs?namespace={NAMESPACE}").json()
            (parent,) = [job["ID"] for job in found if not job["ParentID"]]
            for at in range(1 if short else 3):
                bare = bare_s(servers, parent, folder, f"bare{at}")
                with LocalCluster(folder / ".local", AT_ONCE) as here:
                    embedded = ours_s(here, folder, f"here{at}")
                runs.append({"ours_s": ours_s(cluster, folder, f"ours{at}"), "bare_s": bare, "embedded_s": embedded})
        finally:
            servers.close()
    ours, peer, here_s = (median([run[name] for run in runs]) for name in ("ours_s", "bare_s", "embedded_s"))
    a_step = {"nomad_ms": ours / STEPS * 1e3, "bare_ms": peer / STEPS * 1e3, "embedded_ms": here_s / STEPS * 1e3}
    detail = {"steps": STEPS, "at_once": AT_ONCE, "a_step": a_step, "runs": runs}
    return [
        {"figure": "nomad-steps", "ours": ours, "peer": peer, "unit": "s", "detail": detail, "timer_ms": timer.worst_ms}
    ]


if __name__ == "__main__":
    print(json.dumps(measure("--short" in sys.argv), indent=1))
