"""A run in a process of its own that outlives the terminal: `python -P -m rdv.pipelines.runs.detached FOLDER`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from rdv.config import Project
from rdv.errors import RdvError, StepFailed
from rdv.files import make_folders
from rdv.pipelines.runs.asked import asked, decode, encode
from rdv.pipelines.runs.records import LOG, REQUEST, find_run, new_run
from rdv.pipelines.runs.runner import Prepared, TrainRequest, train
from rdv.settings import kept

_START_S = 30.0


def train_detached(project: Project, request: TrainRequest) -> str:
    """Start a run that goes on by itself, and return its id once it has a record.

    Raises UsageError and its kin for a request that makes no sense, before anything is started.
    """
    Prepared(project, request)
    run = new_run()
    folder = project.state / "runs" / run
    make_folders(folder)
    (folder / REQUEST).write_bytes(encode(asked(project, request, str(project.folder))))
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rdv.pipelines.runs.detached", str(folder)],
            cwd=project.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _await_record(project, run, process)
    return run


def main(folder: Path) -> int:
    """Carry out the request in a run's folder; the exit code."""
    try:
        told = decode((folder / REQUEST).read_bytes())
        return int(train(told.project(kept()), told.request, run=folder.name, detached=True).exit)
    except RdvError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)


def _await_record(project: Project, run: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the run's process has written its record; it begins with that."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if (project.state / "runs" / run / "run.json").exists():
            find_run(project.state, run)
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise StepFailed(f"run {run} did not start", f"see {os.path.relpath(project.state / 'runs' / run / LOG)}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
