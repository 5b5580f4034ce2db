"""A project in an environment of its own on real servers, and its commands; what tests of trainings there share."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.backends import select
from rdv.config import Project
from rdv.ids import short_id
from rdv.pipelines.runs.records import RunRecord
from rdv.pipelines.runs.shared import SharedRuns
from rdv.settings import load_project

HANG_S = 300.0
"""How long the outside world is waited for: a clock that fires once a minute, and what it begins on a busy machine."""
MODEL = "visit/m"
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
# A regression model that is one number, trained in no time. What a test wants of a step beside that is told by files
# in the project's folder: `hold` = wait for `go`, `fail` = fail once, `mb` = take so much memory.
TASKS = """
import json, time
from pathlib import Path
from rdv.pipelines.task import TrainTask

HERE = Path(__file__).parent

class Sum(TrainTask):
    defaults = {"offset": 0.0}

    def run_step(self, inputs, output_folder, params):
        from rdv.pipelines.task import load_features
        begun = time.time()
        with (HERE / "trained").open("a") as file:
            file.write(f"{params['offset']}\\n")
        if (HERE / "fail").exists():
            (HERE / "fail").unlink()
            raise ValueError("no luck this time")
        if (HERE / "mb").exists():
            block = b"x" * (int((HERE / "mb").read_text()) << 20)
        while (HERE / "hold").exists() and not (HERE / "go").exists():
            time.sleep(0.02)
        (output_folder / "model.json").write_text(json.dumps({"offset": params["offset"]}))
        with (HERE / "times").open("a") as file:
            file.write(f"{begun} {time.time()}\\n")
        return load_features(inputs["features"]).model_info("model.json", "sum")
"""


class Person:
    """Somebody who types commands in a project's folder, about an environment."""

    def __init__(self, folder: Path, env: str = "dev") -> None:
        self.folder, self.env = folder, env

    def start(self, *arguments: str, state: str = "") -> subprocess.Popen[str]:
        """A command of this project; state: another machine's state folder, as far as rdv can tell."""
        kept = {"RDV_STATE": str(self.folder / state)} if state else {}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "rdv.cli", *arguments, "--project", str(self.folder), "--env", self.env],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **kept},
        )  # fmt: skip

    def rdv(self, *arguments: str, code: int = 0, state: str = "") -> Any:
        """What a command prints, as JSON where it is that; it must end with the code."""
        return self.ended(self.start(*arguments, state=state), code)

    def ended(self, process: subprocess.Popen[str], code: int = 0) -> Any:
        """What a command has printed; it must end with the code."""
        out, err = process.communicate(timeout=HANG_S)
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        try:
            return json.loads(out)
        except ValueError:
            return out + err

    def until(self, true: Callable[[], object]) -> Any:
        """Wait for the outside world; what it told."""
        end = time.monotonic() + HANG_S
        while not (found := true()):
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.05)
        return found


class Town(Person):
    """A project and the commands of somebody who works with it on an environment."""

    def __init__(self, folder: Path, places: dict[str, str], servers: Any, env: str = "dev") -> None:
        super().__init__(folder, env)
        self.servers = servers
        self.namespace = places["cluster"].partition(":")[2].partition("?")[0]
        self.module = f"tasks_{short_id()}"
        folder.joinpath(f"{self.module}.py").write_text(TASKS)
        folder.joinpath("visit.json").write_text(json.dumps(SCHEMA))
        environment = "".join(f'{port} = "{place}"\n' for port, place in places.items())
        folder.joinpath("rdv.toml").write_text(
            'project = "town"\n[goals.visit]\nschema = "visit.json"\nbudget_ms = 20_000\nanswer = "number"\n'
            "default = 0.0\n[serve]\nport = 0\n[train]\nmax_parallel = 8\nmemory_mb = [256, 512]\nretries = 0\n"
            f'[models."{MODEL}"]\ngoal = "visit"\nflavour = "sum"\ntask = "{self.module}:Sum"\ndata = "data.csv"\n'
            f'label = "days"\nmetric = "rmse"\n[environments.{env}]\n{environment}'
        )
        with folder.joinpath("data.csv").open("w", newline="") as file:
            lots, writer = random.Random(0), csv.writer(file)
            writer.writerow(["age", "days"])
            writer.writerows([age := lots.randint(0, 100), round(age + lots.random(), 3)] for _ in range(200))

    def mark(self, name: str, text: str = "") -> None:
        """Tell the steps something, by a file."""
        self.folder.joinpath(name).write_text(text)

    def trained(self) -> list[float]:
        """The points whose training has begun, each as often as it has."""
        file = self.folder / "trained"
        return sorted(float(line) for line in file.read_text().split()) if file.exists() else []

    def at_once(self) -> int:
        """The most trainings that ran at the same moment, of those that have ended."""
        spans = [tuple(map(float, line.split())) for line in self.folder.joinpath("times").read_text().splitlines()]
        return max(sum(begun <= at < ended for begun, ended in spans) for at, _ in spans)

    def project(self) -> Project:
        """The project in its environment."""
        return load_project(self.folder, self.env)

    def project_registry(self) -> Any:
        """The registry of its environment."""
        return select.registry(self.project())

    def record(self, run: str) -> RunRecord:
        """A run's record as everybody of the environment sees it."""
        found = SharedRuns(self.project_registry()).get(run)[0]
        assert found is not None
        return found

    def pipeline(self, run: str) -> int:
        """The process of a pipeline that runs as a job on this machine."""
        return int(self.until(lambda: self.record(run).pid))

    def live_steps(self) -> list[str]:
        """The steps that have not ended."""
        found = self.servers.call("GET", f"/v1/jobs?namespace={self.namespace}").json()
        return [one["ID"] for one in found if "/dispatch-" in one["ID"] and one["Status"] != "dead"]

    def ask(self, url: str) -> dict[str, Any]:
        """The version that a gateway answers with for an age of three, and its answer."""
        body, kind = json.dumps({"age": 3}).encode(), {"content-type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/goals/visit/score", body, kind)
        with urllib.request.urlopen(request, timeout=30) as reply:
            found = json.load(reply)
        return {name: found[name] for name in ("version", "answer")}


def make_town(
    nomad: Any, consul: Any, s3: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, secrets: str = "", hdfs: Any = None
) -> Town:
    """A project in an environment of its own on some servers. secrets: where the S3 server's keys are.

    hdfs: where everything but models lies, if given.
    """
    for name in [name for name in os.environ if name.startswith(("AWS_", "NOMAD_", "CONSUL_"))]:
        monkeypatch.delenv(name)
    name = f"t-{short_id()}"
    for namespace in (name, f"{name}-pipelines"):
        nomad.make_namespace(namespace)
    # whatever runs in the pipelines' namespace may dispatch into the steps' by its own identity
    rights = ["read-job", "list-jobs", "submit-job", "dispatch-job", "parse-job", "read-logs", "read-fs"]
    policy = {
        "Name": name,
        "Rules": f'namespace "{name}" {{\n  capabilities = {json.dumps(rights)}\n}}\n'
        f'namespace "{name}-pipelines" {{\n  capabilities = ["read-job"]\n}}\n',
        "JobACL": {"Namespace": f"{name}-pipelines"},
    }
    assert nomad.call("POST", f"/v1/acl/policy/{name}", policy).ok
    for file, text in (
        ("nomad.token", nomad.token),
        ("consul.token", consul.token),
        ("secrets.toml", f'"s3/access_key" = "{s3.access_key}"\n"s3/secret_key" = "{s3.secret_key}"\n'),
    ):
        folder.joinpath(file).touch(0o600)
        folder.joinpath(file).write_text(text)
    project = folder / "project"
    project.mkdir()
    places = {
        "artifacts": f"s3:{s3.new_bucket()}?endpoint={s3.endpoint}&region=us-east-1&secret=s3",
        "registry": f"consul:rdv/{name}?address={consul.address}&token_file={folder}/consul.token",
        "cluster": (
            f"nomad:{name}?address={nomad.address}&token_file={folder}/nomad.token&pipelines={name}-pipelines"
            "&driver=raw_exec"
        ),
        "secrets": secrets or f"env:{folder}/secrets.toml",
    }
    if hdfs is not None:
        places["intermediate"] = f"hdfs:/rdv/{name}?url={hdfs.url}&user=root"
    return Town(project, places, nomad)
