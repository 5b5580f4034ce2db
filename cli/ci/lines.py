"""Lines that a stage types: each is an `rdv` command that a person, or another pipeline, could type as well."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from rdv.cli.output import note
from rdv.errors import Exit, RdvError

_OURS = "rdv: "


class Lines:
    """Types commands in a project's folder. environ: added to their environment."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder, self._environ = folder, {**os.environ, **environ}

    def rdv(self, *arguments: str, well: tuple[int, ...] = (0,)) -> int:
        """Type a command whose words are shown as they come; its exit code.

        An error with that code and the command's own sentence when it is none of `well`.
        """
        return self._run(arguments, None, well)

    def told(self, *arguments: str, well: tuple[int, ...] = (0,)) -> Any:
        """Type a command with `-o json`; what it printed, None when that was nothing."""
        with tempfile.TemporaryFile("w+") as printed:
            self._run((*arguments, "-o", "json"), printed, well)
            printed.seek(0)
            text = printed.read()
        return json.loads(text) if text.strip() else None

    def _run(self, arguments: tuple[str, ...], stdout: IO[str] | None, well: tuple[int, ...]) -> int:
        line = shlex.join(("rdv", *arguments))
        note(f"$ {line}")
        argv = [sys.executable, "-P", "-m", "rdv.cli", *arguments]
        said = held = ""
        with subprocess.Popen(
            argv, cwd=self._folder, env=self._environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
            text=True, errors="replace",
        ) as process:  # fmt: skip
            assert process.stderr is not None
            for text in process.stderr:
                sys.stderr.write(held)
                # an error's sentence, when it is the last: then it is the stage's own, and said once
                held = text if text.startswith(_OURS) else ""
                sys.stderr.write("" if held else text)
                said = text.strip() or said
        if process.returncode in well:
            sys.stderr.write(held)
        if process.returncode not in well:
            raise ended_badly(line, process.returncode, said)
        return process.returncode


def ended_badly(line: str, code: int, said: str) -> RdvError:
    """The error for a command that ended otherwise than well: its own sentence, its own exit code."""
    what = said.removeprefix(_OURS) if said.startswith(_OURS) else f"`{line}` ended with {code}"
    error = RdvError(what)
    error.exit_code = Exit(code) if code in set(Exit) else Exit.FAILED
    return error
