"""What `rdv dev-cluster up` says."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rdv.cli import output

if TYPE_CHECKING:
    from rdv.backends.devcluster.cluster import DevCluster


def bring_up(cluster: DevCluster, extras: Sequence[str], root: Path | None = None) -> None:
    """Have a cluster run, and say what was done and what comes next. root: of the exec driver's tasks."""
    from rdv.backends.image.base import chroot_env

    if os.geteuid():
        output.note("without root, tasks run by raw_exec only: nothing keeps them apart or bounds their memory")
    begun = time.monotonic()
    started = cluster.up(extras, chroot_env(root.absolute()) if root else None)
    if not started:
        output.note(f"{cluster.folder}: everything was up already, nothing was started")
        return
    output.note(f"{cluster.folder}: {len(started)} servers started in {time.monotonic() - begun:.1f} s")
    output.note("environments dev, staging and production: type `rdv dev-cluster env >> rdv.toml` in a project")
