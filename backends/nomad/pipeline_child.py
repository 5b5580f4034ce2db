"""What Nomad runs for a pipeline: its entry, with its state in the allocation and no token in the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rdv.backends.allocation import drop_tokens


def main(entry: str, request: str, state: str, told: Sequence[str]) -> int:
    """Call `module:function`(request, state, *told); its exit code. request, state: paths in the allocation."""
    drop_tokens()
    os.environ["RDV_STATE"] = state
    module, _, name = entry.partition(":")
    code: int = getattr(import_module(module), name)(Path(request), Path(state), *told)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
