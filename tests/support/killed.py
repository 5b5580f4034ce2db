"""A command that is killed by itself, at a write to its registry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import importlib, os, signal, sys
module, _, name = sys.argv.pop(1).partition(":")
registry, at = getattr(importlib.import_module(module), name), int(sys.argv.pop(1))
put = registry.put
def counted(self, *arguments, **more):
    global at
    at -= 1
    if not at:
        os.kill(os.getpid(), signal.SIGKILL)
    return put(self, *arguments, **more)
registry.put = counted
from rdv.cli.main import main
sys.exit(main())
"""


def before_write(registry: str, at: int, folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """How a command ends in a folder that is killed before its so-manieth write to a registry (`module:Class`).

    It ends as usual when it writes less often.
    """
    argv = [sys.executable, "-P", "-c", SCRIPT, registry, str(at), *words]
    return subprocess.run(argv, cwd=folder, capture_output=True, timeout=300, check=False)
