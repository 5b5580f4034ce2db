"""What the dispatcher, the fork server and a step say to each other, and what is written in a step's folder."""

from __future__ import annotations

import msgspec

from rdv.backends.ports import Outcome

MESSAGE_BYTES = 65536
"""No message is longer; a socket that keeps message boundaries carries each one whole."""


class Run(msgspec.Struct, tag="run", frozen=True):
    """To the fork server: start the step whose folder this is."""

    step: str
    folder: str
    entry: str
    memory_mb: int
    cpus: int
    wall_s: float


class Cancel(msgspec.Struct, tag="cancel", frozen=True):
    """To the fork server: end a running step."""

    step: str
    reason: str


class Running(msgspec.Struct, tag="running", frozen=True):
    """From the fork server: the step's process exists and leads a process group."""

    step: str
    pid: int


class Ended(msgspec.Struct, tag="ended", frozen=True):
    """From the fork server: the step has ended, nothing of it is left, and its outcome is on disk."""

    outcome: Outcome


class Said(msgspec.Struct, frozen=True):
    """From a step to the fork server, as its last word: why it failed, and which modules were cold.

    memory: it failed because memory was refused. cold: modules worth having in the fork server from now on.
    """

    reason: str = ""
    memory: bool = False
    cold: tuple[str, ...] = ()


class Started(msgspec.Struct, frozen=True):
    """`started.json`: the step's process. ticks: its start time in the kernel's clock, so that a reused id is told."""

    pid: int
    ticks: int
    at: float


class Joined(msgspec.Struct, frozen=True):
    """`joined.json`: this step is another dispatcher's step with the same token."""

    step: str


to_server = msgspec.json.Decoder(Run | Cancel)
from_server = msgspec.json.Decoder(Running | Ended)
encode = msgspec.json.encode
