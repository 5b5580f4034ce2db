"""What Nomad runs for an instance of a serving job: its entry, with its state in the allocation."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from rdv.backends.allocation import drop_tokens


def listens(environ: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Host and port that Nomad gave to this allocation, by the name of the port."""
    return {
        name.removeprefix("NOMAD_PORT_"): (environ.get(name.replace("PORT", "IP", 1), "127.0.0.1"), int(port))
        for name, port in environ.items()
        if name.startswith("NOMAD_PORT_") and port.isdigit()
    }


def main(entry: str, words: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Call `module:function` with what this allocation has; its exit code. See `rdv.serving.on_cluster`."""
    task, state = Path(environ["NOMAD_TASK_DIR"]), Path(environ["NOMAD_ALLOC_DIR"], "data")
    found = listens(environ)
    drop_tokens()
    module, _, name = entry.partition(":")
    code: int = getattr(import_module(module), name)(
        task / "project.json", state, environ["NOMAD_SHORT_ALLOC_ID"], found, task / "pointer", task / "fetched", words
    )
    return code


if __name__ == "__main__":
    status = main(sys.argv[1], sys.argv[2:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads that follow the registry or load a model do not hold up the end
