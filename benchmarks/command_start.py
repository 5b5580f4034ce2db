"""How long a user waits for `rdv --help`, and what it drags in, against the bare interpreter."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from figures import median
from idle import IdleTimer

HEAVY = ("luigi", "numpy", "lightgbm", "boto3")
_LIST_MODULES = """
import sys
from rdv.cli.main import main
sys.argv = ["rdv", "--help"]
try:
    main()
except SystemExit:
    pass
print("modules", *sys.modules, file=sys.stderr)
"""


def _wall_ms(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begun) * 1000.0


def _heavy_modules() -> list[str]:
    done = subprocess.run([sys.executable, "-c", _LIST_MODULES], capture_output=True, text=True, check=True)
    _, told, loaded = done.stderr.rpartition("modules ")
    if not told:
        raise RuntimeError(f"`rdv --help` ended before its modules could be listed: {done.stderr}")
    return [name for name in HEAVY if name in loaded.split()]


def measure(short: bool) -> list[dict[str, Any]]:
    """Wall time of both, in turn, medians of 21 (short: 7); names of heavy modules that `rdv --help` imports."""
    rdv, bare = [str(Path(sys.executable).with_name("rdv")), "--help"], [sys.executable, "-c", "pass"]
    for command in (rdv, bare):
        _wall_ms(command)
    with IdleTimer() as timer:
        pairs = [(_wall_ms(rdv), _wall_ms(bare)) for _ in range(7 if short else 21)]
    heavy = _heavy_modules()
    return [
        {
            "figure": "help-ms",
            "ours": median([ours for ours, _ in pairs]),
            "peer": median([peer for _, peer in pairs]),
            "unit": "ms",
            "timer_ms": timer.worst_ms,
        },
        {"figure": "help-imports", "ours": float(len(heavy)), "unit": "modules", "detail": {"found": heavy}},
    ]
