"""`rdv` commands as processes of their own, on one project and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rdv.errors import StepFailed

LAST_LINES = 12


def rdv_argv(arguments: Sequence[str], folder: Path) -> list[str]:
    """argv of an `rdv` command of this interpreter on the project in a folder."""
    return [sys.executable, "-P", "-m", "rdv.cli", *arguments, "--project", str(folder)]


def own_environment() -> dict[str, str]:
    """This process's environment without RDV_* settings, which are meant for another project."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RDV_")}


class Server:
    """`rdv serve` on a project, in a session of its own; its log is a file."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                rdv_argv(["serve"], folder), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env=own_environment(), start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid

    def check(self) -> None:
        """StepFailed, with the last words of its log, when it has ended."""
        if self._process.poll() is not None:
            words = last_words(self._log.read_bytes())
            raise StepFailed(f"`rdv serve` ended with {self._process.returncode}: {words}")

    def stop(self, patience_s: float) -> int:
        """Its exit code after a clean stop, or after a hard one when that takes longer than patience_s."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()


def last_words(output: bytes) -> str:
    """The last lines of some output, in one."""
    return " | ".join(output.decode(errors="replace").strip().splitlines()[-LAST_LINES:])
