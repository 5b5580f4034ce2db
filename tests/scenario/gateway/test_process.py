"""A gateway as a process of its own: one signal ends it cleanly, a second one at once, and nothing is left behind."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.serving.processes.project_file import save_project

HANG_S = 60.0
Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path, project_of: Callable[..., Any]) -> Iterator[Start]:
    """start(files, **config): a gateway process of such a configuration, once it listens, and its role record's facts.

    files: how many descriptors it may have open.
    """
    children = []

    def starting(files: int = 0, **change: Any) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
        project = project_of(tmp_path, **change)
        stored = save_project(project)
        command = [sys.executable, "-P", "-m", "rdv.serving.roles", "gateway", "--project", str(stored)]
        if files:
            command = ["prlimit", f"--nofile={files}:{files}", *command]
        with (tmp_path / "log").open("wb") as log:
            children.append(subprocess.Popen(command, stderr=log, stdout=log))
        return children[-1], asyncio.run(facts_of(project, children[-1]))

    yield starting
    for child in children:
        child.kill()
        child.wait(HANG_S)


async def facts_of(project: Any, child: Any) -> dict[str, Any]:
    """What the gateway tells in its record, once it is ready."""
    async with asyncio.timeout(HANG_S):
        while True:
            for path in (project.run_folder / "roles").glob("*.json"):
                record = json.loads(path.read_bytes())
                if record["state"] == "ready":
                    found: dict[str, Any] = record["details"]
                    return found
            assert child.poll() is None, (project.folder / "log").read_text()
            await asyncio.sleep(0.01)


def test_one_signal_ends_it_cleanly(start: Start, tmp_path: Path, client_of: Callable[..., Any]) -> None:
    """On SIGTERM a request in flight is still answered; exit code 0, no socket or record stays, logs are JSON."""
    child, facts = start()

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.3)
        asked = asyncio.ensure_future(gateway.score({"a": 4}))
        await gateway.until(lambda: is_open(gateway))
        child.send_signal(signal.SIGTERM)
        assert (await asked).json["answer"] == 4.0

    client_of(facts, scenario)
    assert child.wait(HANG_S) == 0
    assert not list((tmp_path / ".rdv" / "run").rglob("*.sock"))
    assert not list((tmp_path / ".rdv" / "run" / "roles").glob("gateway*"))
    for line in (tmp_path / "log").read_text().splitlines():
        assert json.loads(line)["role"] == "gateway"


def test_a_second_signal_ends_it_at_once(start: Start, client_of: Callable[..., Any]) -> None:
    """A second SIGTERM ends a drain that would take minutes."""
    child, facts = start(serve={"drain_s": 300.0}, budget_ms=200_000.0)

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=300.0)
        asked = asyncio.ensure_future(gateway.score({"a": 4}))
        await gateway.until(lambda: is_open(gateway))
        child.send_signal(signal.SIGTERM)
        await gateway.until(lambda: is_draining(gateway))
        child.send_signal(signal.SIGTERM)
        await asyncio.wait([asked])
        asked.exception()

    client_of(facts, scenario)
    assert child.wait(HANG_S) == 0


def test_running_out_of_descriptors_is_survived(start: Start, tmp_path: Path, client_of: Callable[..., Any]) -> None:
    """With far more connections than descriptors it neither dies nor floods its log, and serves when they are gone."""
    child, facts = start(files=256)

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion")
        streams = [await gateway.connect() for _ in range(400)]
        await asyncio.sleep(0.5)
        for _, writer in streams:
            writer.close()
        assert (await gateway.score({"a": 1})).json["answer"] == 1.0

    client_of(facts, scenario)
    assert child.poll() is None
    assert (tmp_path / "log").stat().st_size < 100_000


async def is_open(gateway: Any) -> bool:
    return bool((await gateway.status())["ledger"]["open"] == 1)


async def is_draining(gateway: Any) -> bool:
    return bool((await gateway.status())["draining"])
