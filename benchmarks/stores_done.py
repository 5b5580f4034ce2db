"""A thousand points that are done already, with their artifacts on S3 and on HDFS, beside the same in a folder.

The points are trained once, in a folder, and copied: names and bytes do not depend on the store. Every figure is of a
process of its own, from its start to its end, through the code of `rdv train`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from figures import median
from grid import POINTS, make_project, ours
from idle import IdleTimer

from rdv.backends import select
from rdv.backends.devcluster.hdfs import HdfsServers
from rdv.backends.devcluster.s3 import REGION, S3Server
from rdv.settings import load_project

SETTING = f"offset=1..{POINTS}"
_THREADS = 8


def done_s(folder: Path, env: str, times: int) -> list[float]:
    """Seconds of so many runs in which nothing is left to do; one before them publishes."""
    runs = [ours(folder, "sum", SETTING, env) for _ in range(times + 1)][1:]
    if not all(said.startswith(f"0 {POINTS}") for _, _, said in runs):
        raise RuntimeError(f"a point that was done was trained again, in {env}")
    return [run[0] for run in runs]


def copy(folder: Path, env: str) -> None:
    """Copy every artifact of the local environment into another one's store."""
    here, there = (select.blobs(load_project(folder, name)) for name in ("local", env))

    def put(key: str) -> None:
        there.put(key, here.fetch(key, folder / "unused"))

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(put, [key for key in here.keys("") if not key.startswith("@")]))


def add_environment(folder: Path, env: str, place: str) -> None:
    """Add an environment whose artifacts are elsewhere to rdv.toml."""
    with (folder / "rdv.toml").open("a") as file:
        file.write(f'[environments.{env}]\nartifacts = "{place}"\n')


def add_s3(folder: Path, server: S3Server) -> None:
    """Add environment `s3`, with the server's keys in its file of secrets."""
    server.make_bucket("bench")
    add_environment(folder, "s3", f"s3:bench?endpoint={server.endpoint}&region={REGION}&secret=bench")
    secrets = folder / ".rdv" / "s3" / "secrets.toml"
    secrets.parent.mkdir(parents=True)
    secrets.touch(0o600)
    secrets.write_text(f'"bench/access_key" = "{server.access_key}"\n"bench/secret_key" = "{server.secret_key}"\n')


def measure(short: bool) -> list[dict[str, Any]]:
    """The done grid on both stores, in seconds; medians of 3 runs (short: 1)."""
    times, found = 1 if short else 3, []
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as servers, IdleTimer() as timer:
        folder = Path(name)
        make_project(folder)
        if not ours(folder, "sum", SETTING)[2].startswith(f"{POINTS} {POINTS}"):
            raise RuntimeError("the first run did not train every point")
        in_folder = done_s(folder, "local", times)
        for env, kind in (("s3", S3Server), ("hdfs", HdfsServers)):
            server = kind(Path(servers, env), os.environ)
            try:
                server.start()
                if isinstance(server, S3Server):
                    add_s3(folder, server)
                else:
                    add_environment(folder, "hdfs", f"hdfs:/bench?url={server.url}&user=root")
                copy(folder, env)
                runs = done_s(folder, env, times)
            finally:
                server.close()
            found.append({"figure": f"{env}-done-s", "ours": median(runs), "peer": median(in_folder), "unit": "s"})
            found[-1] |= {"detail": {"runs": runs, "in_folder": in_folder}}
    return [one | {"timer_ms": timer.worst_ms} for one in found]


if __name__ == "__main__":
    print(json.dumps(measure("--short" in sys.argv), indent=1))
