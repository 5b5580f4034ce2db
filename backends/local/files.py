"""Where a local step lives on disk: its id, its folder, and the outcome that is written once.

`runs/<run>/steps/<step>/` holds spec.json (from the dispatch), started.json (from the start), log, cancel (a reason,
when somebody asked for the end), joined.json (when it is another dispatcher's step) and outcome.json (create-only).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from rdv.backends.local.messages import Joined, Started
from rdv.backends.ports import Outcome, StepSpec
from rdv.errors import LostRace, NotFound, UsageError
from rdv.files import create_file
from rdv.ids import short_id

PAYLOAD_BYTES = 16384
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_ENTRY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
T = TypeVar("T")


class StepFiles:
    """The steps of every run below a state folder, as files. Any process may read them."""

    def __init__(self, state: Path) -> None:
        self._runs = state / "runs"

    def new_id(self, spec: StepSpec, now_us: int) -> str:
        """An id for a step, path-safe, unique; within its run it sorts by `now_us`."""
        label = re.sub(r"[^A-Za-z0-9]+", "-", spec.name).strip("-")[:40] or "step"
        return f"{spec.run}.{label}-{now_us:013x}{short_id()[:4]}"

    def create(self, step: str, body: bytes) -> None:
        """Make a step's folder with its specification, as `encode_spec` gave it."""
        folder = self.folder(step)
        folder.mkdir(parents=True)
        folder.joinpath("spec.json").write_bytes(body)

    def folder(self, step: str) -> Path:
        """The folder of a step; NotFound for what cannot be a step's id. It need not exist."""
        run = step.rpartition(".")[0]
        if not run or not _STEP.fullmatch(step):
            raise NotFound(f"there is no step {step!r}", "see `rdv runs list` and `rdv runs show RUN`")
        return self._runs / run / "steps" / step

    def known(self, step: str) -> Path:
        """The folder of a step that was dispatched; else NotFound."""
        folder = self.folder(step)
        if not folder.joinpath("spec.json").exists():
            raise NotFound(f"there is no step {step!r}", "see `rdv runs list` and `rdv runs show RUN`")
        return folder

    def of_run(self, run: str) -> list[str]:
        """The ids of a run's steps in order of dispatch; empty for an unknown run."""
        if not _NAME.fullmatch(run):
            return []
        try:
            names = os.listdir(self._runs / run / "steps")
        except FileNotFoundError:
            return []
        return sorted(names, key=lambda name: name.rpartition("-")[2])

    def outcome(self, step: str) -> Outcome | None:
        """How a step ended, None while nobody has seen its end."""
        return read(self.folder(step) / "outcome.json", Outcome)

    def settle(self, outcome: Outcome) -> Outcome:
        """Write an outcome durably, once; returns the one that stands, which is the first."""
        return settle(self.folder(outcome.step), outcome)


def encode_spec(spec: StepSpec) -> bytes:
    """A specification as JSON; UsageError names what in it cannot be dispatched."""
    if not _NAME.fullmatch(spec.run) or ".." in spec.run:
        raise UsageError(f"{spec.run!r} is no name of a run", "use letters, digits, dots, dashes and underscores")
    if not _ENTRY.fullmatch(spec.entry):
        raise UsageError(f"step {spec.name}: entry {spec.entry!r} is not `module:function`")
    limits = spec.resources
    if limits.memory_mb <= 0 or limits.cpus <= 0 or not limits.wall_s > 0:
        raise UsageError(f"step {spec.name}: memory, processors and wall time must be positive, not {limits}")
    try:
        json.dumps(spec.payload, allow_nan=False)  # msgspec would send NaN as null
        size = len(msgspec.json.encode(spec.payload))
        body = msgspec.json.encode(spec)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise UsageError(f"step {spec.name}: its payload is not JSON: {error}") from None
    if size > PAYLOAD_BYTES:
        hint = "put the data into an artifact and its name into the payload"
        raise UsageError(f"step {spec.name}: its payload has {size} bytes, more than {PAYLOAD_BYTES}", hint)
    return body


def read(path: Path, kind: type[T]) -> T | None:
    """A document of a step's folder; None when it is not there (or, from an unclean end, empty)."""
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(body, type=kind) if body else None


def settle(folder: Path, outcome: Outcome) -> Outcome:
    """Write the outcome of the step in a folder durably, once; returns the one that stands, which is the first."""
    path = folder / "outcome.json"
    try:
        create_file(path, msgspec.json.encode(outcome))
    except LostRace:
        return read(path, Outcome) or outcome
    return outcome


def cancel_asked(folder: Path) -> str:
    """Why somebody asked for the end of the step in a folder; empty when nobody did."""
    try:
        return folder.joinpath("cancel").read_text() or "cancelled"
    except FileNotFoundError:
        return ""


def joined(folder: Path) -> str:
    """The step that a joined one follows; empty for a step of its own."""
    link = read(folder / "joined.json", Joined)
    return link.step if link else ""


def started(folder: Path) -> Started | None:
    """The process of a step, None before its start."""
    return read(folder / "started.json", Started)


def microseconds() -> Iterator[int]:
    """Microseconds since the Unix epoch, each later than the one before even when the clock is set back."""
    last = 0
    while True:
        last = max(last + 1, time.time_ns() // 1000)
        yield last
