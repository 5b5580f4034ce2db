"""The demo types what a user would: `rdv` commands, as processes of their own."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rdv.cli.children import Server, last_words, own_environment, rdv_argv
from rdv.errors import StepFailed

STOP_S = 30.0


class Commands:
    """Runs `rdv` commands on one project and says each as it would be typed."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._server: Server | None = None

    async def run(self, *arguments: str) -> Any:
        """What a command that ends well prints as JSON; StepFailed with its last words when it ends otherwise."""
        began = time.monotonic()
        argv = rdv_argv([*arguments, "-o", "json"], self._folder)
        pipe = subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe, env=own_environment())
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        if process.returncode:
            raise StepFailed(f"`{shown(arguments)}` ended with {process.returncode}: {last_words(err)}")
        self._say(f"$ {shown(arguments)}   ({time.monotonic() - began:.1f} s)")
        return json.loads(out)

    def serve(self) -> int:
        """Begin `rdv serve` and return its process id."""
        self._say("$ rdv serve")
        self._server = Server(self._folder, self._folder / ".rdv" / "serve.log")
        return self._server.pid

    def check_serving(self) -> None:
        """StepFailed, with the last words of the server's log, when `rdv serve` has ended."""
        if self._server is not None:
            self._server.check()

    def stop(self) -> None:
        """Stop serving cleanly, after STOP_S hard; nothing served is fine."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(STOP_S)

    def leave(self) -> None:
        """Let what is served go on when this process ends."""
        self._server = None


def shown(arguments: Sequence[str]) -> str:
    """A command as it would be typed in the project's folder."""
    return f"rdv {shlex.join(arguments)}"
