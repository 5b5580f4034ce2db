"""How long a person waits for `rdv dev-cluster up`, warm: two Nomads, Consul, Vault and S3, wired, with all rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from figures import median


def _up_s(folder: Path) -> float:
    rdv = [sys.executable, "-P", "-m", "rdv.cli", "dev-cluster"]
    begun = time.perf_counter()
    subprocess.run([*rdv, "up", "--folder", str(folder)], check=True, stdout=subprocess.DEVNULL, env=os.environ)
    took_s = time.perf_counter() - begun
    subprocess.run([*rdv, "down", "--folder", str(folder)], check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return took_s


def measure(short: bool) -> list[dict[str, Any]]:
    """From the command to its end, of a new cluster; median of 3 after one that warms the page cache (short: of 1)."""
    top = Path(tempfile.mkdtemp(prefix="rdv-dc-"))
    try:
        times = [_up_s(top / "cluster") for _ in range(2 if short else 4)][1:]
    finally:
        shutil.rmtree(top, ignore_errors=True)
    return [{"figure": "dev-cluster-up", "ours": median(times), "unit": "s", "detail": {"runs_s": times}}]
