"""Closed-loop load with wrk: as many requests as a number of connections gets through, one after the other each."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec

SCRIPT = Path(__file__).with_name("score.lua")


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """What wrk saw. bad_status: answers of 400 and above; lost: requests that broke off or timed out."""

    requests: int
    seconds: float
    bad_status: int
    lost: int
    p50_ms: float
    p99_ms: float
    worst_ms: float

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def find_wrk() -> str:
    """The path of wrk, installed through apt when this is root and it is absent; else the error says what to type."""
    found = shutil.which("wrk")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "wrk"]):
            subprocess.run(["apt-get", "-q", *command], env=environment, check=False, stdout=subprocess.DEVNULL)
        found = shutil.which("wrk")
    if found is None:
        raise RuntimeError("the load generator wrk is not installed; type: sudo apt-get install -y wrk")
    return found


def read_report(output: str) -> Closed:
    """What wrk's script printed; ValueError when it printed nothing."""
    for line in output.splitlines():
        if line.startswith("wrk {"):
            return msgspec.json.decode(line.removeprefix("wrk "), type=Closed)
    raise ValueError(f"wrk printed no report: {output!r}")


def closed_loop(port: int, path: str, bodies: Path, connections: int, seconds: float) -> Closed:
    """What a number of connections got through in some seconds; RuntimeError when an answer was no 2xx or was lost."""
    url = f"http://127.0.0.1:{port}{path}"
    told = [f"-t1 -c{connections} -d{seconds:g}s --timeout 5s -s".split(), [str(SCRIPT), url, "--", str(bodies)]]
    done = subprocess.run([find_wrk(), *told[0], *told[1]], capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise RuntimeError(f"wrk ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    seen = read_report(done.stdout)
    if seen.bad_status or seen.lost:
        raise RuntimeError(f"{seen.bad_status} answers of status 400 or above and {seen.lost} lost at {url}")
    return seen
