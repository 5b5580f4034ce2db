"""The demo types what a user would: `rdv` commands, as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rdv.errors import StepFailed

STOP_S = 30.0
LAST_LINES = 12


class Commands:
    """Runs `rdv` commands on one project, says each as it would be typed, and keeps the server's log."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._server: subprocess.Popen[bytes] | None = None

    async def run(self, *arguments: str) -> Any:
        """What a command that ends well prints as JSON; StepFailed with its last words when it ends otherwise."""
        began = time.monotonic()
        argv = self._argv([*arguments, "-o", "json"])
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = await process.communicate()
        if process.returncode:
            raise StepFailed(f"`{shown(arguments)}` ended with {process.returncode}: {last_words(err)}")
        self._say(f"$ {shown(arguments)}   ({time.monotonic() - began:.1f} s)")
        return json.loads(out)

    def serve(self) -> int:
        """Begin `rdv serve` in a session of its own and return its process id; its log is `.rdv/serve.log`."""
        self._say("$ rdv serve")
        log = self._folder / ".rdv" / "serve.log"
        with log.open("ab") as file:
            self._server = subprocess.Popen(
                self._argv(["serve"]), stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        return self._server.pid

    def check_serving(self) -> None:
        """StepFailed, with the last words of the server's log, when `rdv serve` has ended."""
        if self._server is not None and self._server.poll() is not None:
            words = last_words((self._folder / ".rdv" / "serve.log").read_bytes())
            raise StepFailed(f"`rdv serve` ended with {self._server.returncode}: {words}")

    def stop(self) -> None:
        """Stop serving cleanly, after STOP_S hard; nothing served is fine."""
        server, self._server = self._server, None
        if server is None or server.poll() is not None:
            return
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()

    def leave(self) -> None:
        """Let what is served go on when this process ends."""
        self._server = None

    def _argv(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-P", "-m", "rdv.cli", *arguments, "--project", str(self._folder)]


def shown(arguments: Sequence[str]) -> str:
    """A command as it would be typed in the project's folder."""
    return f"rdv {shlex.join(arguments)}"


def last_words(output: bytes) -> str:
    """The last lines of some output, in one."""
    return " | ".join(output.decode(errors="replace").strip().splitlines()[-LAST_LINES:])
