"""The README's tour, typed line by line into a shell as a newcomer would."""

import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rdv.cli.help import EXIT_CODES

README = Path(__file__).resolve().parents[3] / "README.md"
LINE_S = 180.0
STOP_S = 30.0
MARK = "-- exit code "


def tour(title: str = "A tour") -> list[str]:
    """Every line of the shell blocks of a section."""
    section = README.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return [line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]


class Shell:
    """A shell that is typed to."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=folder, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()
        os.set_blocking(self._fd, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._fd, selectors.EVENT_READ)

    def type(self, line: str) -> tuple[int, str]:
        """Exit code and output of a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\necho '{MARK}'$?\n".encode())
        self._process.stdin.flush()
        shown, until = b"", time.monotonic() + LINE_S
        while not (found := re.search(rf"{MARK}(\d+)\n$".encode(), shown)):
            if not self._selector.select(until - time.monotonic()):
                raise TimeoutError(f"{line}: {shown.decode()[-2000:]}")
            shown += os.read(self._fd, 65536)
        return int(found[1]), shown[: found.start()].decode()

    def close(self) -> None:
        """End the shell and whatever it has started, politely first."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(STOP_S)
        self._selector.close()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def shell(tmp_path: Path, port: int) -> Iterator[Shell]:
    """A shell in an empty folder, with `rdv` on its path and the tour's port moved to a free one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    made = Shell(tmp_path, {**os.environ, "PATH": path, "RDV_SERVE_PORT": str(port)})
    yield made
    made.type("kill %1 2> /dev/null; wait")
    made.close()


def test_the_tour_works_as_it_is_written(shell: Shell, tmp_path: Path, port: int, require: Callable[..., str]) -> None:
    """Every line of the tour ends well, in order, from an empty folder, and does what the text around it says."""
    require("curl", remedy="apt-get install -y curl")
    shown: dict[str, list[str]] = {}
    for line in tour():
        code, output = shell.type(line.replace(":8080/", f":{port}/"))
        assert code == 0, f"{line}\n{output}"
        shown.setdefault(" ".join(line.split()[:2]), []).append(output)

    answer, refusal, openapi = (json.loads(text) for text in shown["curl -s"])
    assert 0 <= answer["answer"] <= 1
    assert (answer["model"], answer["source"]) == ("churn/lightgbm", "tier 1")
    assert "plan" in json.dumps(refusal)
    assert openapi["openapi"].startswith("3.")
    first, second = re.findall(r"makes (\S+) the one", "".join(shown["rdv train"]))
    assert first in shown["rdv rollback"][0]
    assert second in shown["rdv replay"][0]
    assert first in shown["rdv status"][1]
    assert "the share" in shown["rdv status"][2]
    assert second in shown["rdv promote"][0]
    assert "promoted" in shown["rdv rollouts"][0]
    status = json.loads(shown["rdv status"][3])
    assert status["gateways"][0]["goals"]["churn"]["ledger"]["balances"] is True
    assert "FAIL" not in shown["rdv doctor"][0]
    project = tmp_path / "shop"
    assert len((project / "scores.csv").read_text().splitlines()) == 2_001
    assert "<svg" in (project / "report-churn.html").read_text()


@pytest.mark.live
def test_the_clusters_tour_works_as_it_is_written(
    tmp_path: Path, port: int, require: Callable[..., str], live_servers_folder: Path
) -> None:
    """Every line of the cluster's tour ends well, in order, on real servers, and nothing of them is left."""
    require("curl", remedy="apt-get install -y curl")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    places = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "RDV_SERVERS": str(live_servers_folder)}
    shell = Shell(tmp_path, {**os.environ, **places, "PATH": path, "RDV_SERVE_PORT": str(port)})
    shown: dict[str, list[str]] = {}
    try:
        for line in tour("The same on a cluster"):
            code, output = shell.type(line.replace(":8080/", f":{port}/"))
            assert code == 0, f"{line}\n{output}"
            shown.setdefault(" ".join(line.split()[:2]), []).append(output)
    finally:
        shell.type("kill %1 2> /dev/null; wait; rdv dev-cluster down")
        shell.close()
    assert "FAIL" not in shown["rdv doctor"][0]
    here, there = (json.loads(text) for text in shown["curl -s"])
    assert 0 <= here["answer"] <= 1
    assert there["model"] == "churn/lightgbm"
    assert "new" in shown["rdv plan"][0]
    assert "changed" not in shown["rdv plan"][1].replace("unchanged", "")
    assert "canary" in shown["rdv deploy"][1]
    assert "promote" in shown["rdv promote"][0]
    assert shown["rdv runs"][0].count("done") == 2
    assert "succeeded" in shown["rdv schedule"][2]
    assert not (tmp_path / "cache" / "rdv" / "dev-cluster").exists()


def test_every_command_of_the_tour_is_typed_somewhere_near_its_text() -> None:
    """The tour shows the whole way: from a hyperparameter to an answer, back, and into the past."""
    typed = {line.split()[1] for line in tour() if line.startswith("rdv ")}
    way = {"init", "config", "train", "models", "runs", "deploy", "serve", "status", "rollback", "replay", "report"}
    assert way | {"promote", "score", "schedule", "artifacts", "doctor"} <= typed


def test_the_table_of_exit_codes_is_the_command_lines() -> None:
    """The README's exit codes and `rdv help exit-codes` say the same."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", README.read_text(), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES
