"""What `rdv dev-cluster up` says."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rdv.cli import output
from rdv.errors import ConfigError

if TYPE_CHECKING:
    from rdv.backends.devcluster.cluster import DevCluster


def bring_up(cluster: DevCluster, extras: Sequence[str], root: Path | None = None) -> None:
    """Have a cluster run, and say what was done and what comes next. root: of the exec driver's tasks."""
    from rdv.backends.image.base import chroot_env

    if user := os.geteuid():
        check_account(user)
        output.note("without root, tasks run by raw_exec only: nothing keeps them apart or bounds their memory")
    begun = time.monotonic()
    started = cluster.up(extras, chroot_env(root.absolute()) if root else None)
    if not started:
        output.note(f"{cluster.folder}: everything was up already, nothing was started")
        return
    output.note(f"{cluster.folder}: {len(started)} servers started in {time.monotonic() - begun:.1f} s")
    output.note("environments dev, staging and production: type `rdv dev-cluster env >> rdv.toml` in a project")


def check_account(user: int) -> None:
    """Return when a user has an account on this machine; ConfigError else: Nomad would start no task."""
    try:
        pwd.getpwuid(user)
    except KeyError:
        hint = "type it as a user with an account, or add one to /etc/passwd"
        raise ConfigError(f"user {user} has no account here, and Nomad runs no task for a mere number", hint) from None
