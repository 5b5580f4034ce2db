"""Which processes serve a project on one machine, how they are started, and in which order they stop. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rdv.config import Config
from rdv.errors import UsageError
from rdv.records import Pin, Rollout
from rdv.serving.processes.counts import Counts

GATEWAY, WORKER, DECOY = "gateway", "worker", "decoy"
ROLES = (GATEWAY, WORKER, DECOY)
RDV_TOML = Counts()


@dataclass(frozen=True, slots=True)
class ExtraRole:
    """A command that is to run beside the serving roles, such as a schedule runner; it is stopped with the gateway."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoleProcess:
    """One role process. turn: those of turn 0 stop first, then 1, then 2. beats: it tells that it is alive.

    pin: of a canary, see `rdv.records.Pin`.
    """

    name: str
    role: str
    model: str = ""
    replica: str = "0"
    argv: tuple[str, ...] = ()
    turn: int = 0
    beats: bool = True
    pin: Pin | None = None


def role_processes(
    config: Config, extra: Sequence[ExtraRole] = (), counts: Counts = RDV_TOML
) -> list[RoleProcess]:
    """The processes of a project: a gateway, each model's replicas, a decoy, and what runs beside them.

    counts: how many somebody wants instead of what rdv.toml says.

    The order is that of starting. Stopping begins with the gateway, which drains while its workers still score, and
    ends with the decoy, so that its journal is complete.
    """
    workers = [
        RoleProcess(f"{WORKER} {model} {replica}", WORKER, model, str(replica), turn=1)
        for model, settings in config.models.items()
        for replica in range(counts.of(f"{WORKER} {model}", settings.replicas))
    ]
    beside = [RoleProcess(one.name, "", argv=one.argv, beats=False) for one in extra]
    decoys, gateways = [RoleProcess(DECOY, DECOY, turn=2)], [RoleProcess(GATEWAY, GATEWAY)]
    return [*decoys[: counts.of(DECOY, 1)], *gateways[: counts.of(GATEWAY, 1)], *workers, *beside]


def canary_processes(rollouts: Iterable[Rollout]) -> list[RoleProcess]:
    """The canaries of the rollouts that are on, beside their models' other workers."""
    return [
        RoleProcess(f"{WORKER} {one.model} canary-{at}", WORKER, one.model, f"canary-{at}", turn=1, pin=one.pin)
        for one in rollouts
        if one.on
        for at in range(one.canaries)
    ]


def pin_text(pin: Pin) -> str:
    """A pin as one argument."""
    return f"{pin.serial}:{pin.version}"


def pin_of(text: str) -> Pin | None:
    """The pin in a text, None in an empty one; UsageError when it is none."""
    if not text:
        return None
    serial, colon, version = text.partition(":")
    if not (colon and serial.isdecimal() and version):
        raise UsageError(f"{text!r} is no pin", "a pin is SERIAL:VERSION")
    return Pin(version, int(serial))


def role_argv(process: RoleProcess, project_file: Path, beat_fd: int) -> tuple[str, ...]:
    """The command line of a role process."""
    if process.argv:
        return process.argv
    pinned = ("--pin", pin_text(process.pin)) if process.pin is not None else ()
    return (
        sys.executable, "-P", "-m", "rdv.serving.roles", process.role, "--project", str(project_file),
        "--model", process.model, "--replica", process.replica, "--beat-fd", str(beat_fd), *pinned,
    )  # fmt: skip
