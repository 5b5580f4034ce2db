"""Run records: what was asked for, how it stands, how it ended; to be listed, followed, waited for and cancelled.

A run's folder `.rdv/runs/<run>/` holds run.json (the record, replaced whole), events.jsonl, log, config.json and
request.json of a detached run, and `lock`, which the run's process holds as long as it lives.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec
from msgspec.structs import replace

from rdv.backends.ports import Cluster
from rdv.errors import NotFound, TimedOut, UsageError
from rdv.files import make_folders, replace_file
from rdv.ids import short_id
from rdv.pipelines.runs.events import Event, line

RunState = Literal["queued", "running", "done", "refused", "failed", "interrupted", "lost"]
OPEN: tuple[RunState, ...] = ("queued", "running")
"""The states of a run that has not ended: its job waits for room or for another start, or it is being carried out."""
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
RECORD, EVENTS, LOG, LOCK, REQUEST = "run.json", "events.jsonl", "log", "lock", "request.json"


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run. points: of the sweep; trained: how many models this run made itself. version: what was published.

    artifact: the chosen model's. reasons: why a gate refused. error: why it failed. started, ended: UTC, ISO 8601.
    host: where it is carried out; job: the cluster's job that does it, starts: how often that was started. seen: when
    it was last known to live. cancel: who asked for its end; empty when nobody did.
    """

    run: str
    model: str
    state: RunState = "running"
    env: str = "local"
    pid: int = 0
    detached: bool = False
    arguments: dict[str, str] = {}
    started: str = ""
    ended: str = ""
    exit_code: int | None = None
    points: int = 0
    trained: int = 0
    best: str = ""
    artifact: str = ""
    version: str = ""
    released: bool = False
    metrics: dict[str, float] = {}
    reasons: tuple[str, ...] = ()
    error: str = ""
    host: str = ""
    job: str = ""
    starts: int = 1
    seen: str = ""
    cancel: str = ""


class RunFolder:
    """The folder of a run that this process carries out; holds its lock until `close`.

    echo: write what goes into the log to the standard output as well, as a job's log.
    """

    def __init__(self, state: Path, run: str, echo: bool = False) -> None:
        self.path, self._echo = _folder(state, run), echo
        make_folders(self.path)
        self._lock: BinaryIO = (self.path / LOCK).open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UsageError(f"run {run} is being carried out already") from None
        self._events, self._log = (self.path / EVENTS).open("ab"), (self.path / LOG).open("ab")
        self._guard = threading.Lock()

    def write(self, record: RunRecord) -> None:
        """Replace the record."""
        replace_file(self.path / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=1))

    def tell(self, event: Event) -> None:
        """Append an event, and its line to the log."""
        with self._guard:
            self._events.write(msgspec.json.encode(event) + b"\n")
            self._events.flush()
            self._write(f"{event.at} {line(event)}\n")

    def note(self, text: str) -> None:
        """Append some lines to the log."""
        with self._guard:
            self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")
        self._log.write(data)
        self._log.flush()
        if self._echo:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def close(self) -> None:
        """Let go of the run; whoever waits for it goes on."""
        self._events.close()
        self._log.close()
        self._lock.close()


def is_run(text: str) -> bool:
    """Whether a text can be a run's id."""
    return bool(_RUN.fullmatch(text)) and ".." not in text


def new_run() -> str:
    """A fresh run's id, which sorts by time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{short_id()[:6]}"


def list_runs(state: Path) -> list[RunRecord]:
    """All runs, newest first; one whose process is gone without an end is `lost`."""
    with suppress(FileNotFoundError):
        names = sorted(os.listdir(state / "runs"), reverse=True)
        return [record for name in names if (record := _read(state / "runs" / name)) is not None]
    return []


def find_run(state: Path, text: str) -> RunRecord:
    """The run with an id, or with an id that begins so when only one does; NotFound else."""
    if _RUN.fullmatch(text) and (record := _read(state / "runs" / text)) is not None:
        return record
    return the_one(text, list_runs(state))


def the_one(text: str, records: Iterable[RunRecord]) -> RunRecord:
    """The only record whose id begins with a text; NotFound when there is none, or several."""
    found = [record for record in records if text and record.run.startswith(text)]
    if len(found) != 1:
        raise NotFound(
            f"there is no run {text!r}" if not found else f"{text!r} begins {len(found)} runs", "see `rdv runs list`"
        )
    return found[0]


def ended_s(state: Path, run: str) -> float | None:
    """When a run ended, in seconds since the epoch, of one that is lost its last sign of life; None while it goes on

    or when it is not known here.
    """
    record = _read(_folder(state, run)) if _RUN.fullmatch(run) and ".." not in run else None
    if record is None or record.state in OPEN:
        return None
    with suppress(ValueError):
        return datetime.fromisoformat(record.ended).timestamp()
    with suppress(OSError):
        return (_folder(state, run) / EVENTS).stat().st_mtime
    return None


def run_events(state: Path, run: str) -> Iterator[Event]:
    """The events of a run so far; a torn last line is left out."""
    with suppress(FileNotFoundError), (_folder(state, run) / EVENTS).open("rb") as lines:
        for text in lines:
            with suppress(msgspec.MsgspecError):
                yield msgspec.json.decode(text, type=Event)


def wait_for_run(state: Path, run: str, timeout_s: float | None = None) -> RunRecord:
    """The record of a run once its process has ended; TimedOut after timeout_s. Blocks without polling the process."""
    record = find_run(state, run)
    path = _folder(state, record.run) / LOCK
    ended = threading.Event()

    def wait() -> None:
        with suppress(OSError), path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        ended.set()

    if record.state == "running":
        threading.Thread(target=wait, name=f"rdv-wait-{run}", daemon=True).start()
        if not ended.wait(timeout_s):
            raise TimedOut(
                f"run {record.run} is still going on after {timeout_s:g} s", f"see `rdv runs show {record.run}`"
            )
    return find_run(state, record.run)


def cancel_run(state: Path, run: str, cluster: Cluster, reason: str = "cancelled") -> RunRecord:
    """Ask a run to end and return its record as it was; of a run that is gone, end the steps that are left."""
    record = find_run(state, run)
    if record.state == "running":
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(record.pid)
            try:
                if _is_alive(_folder(state, record.run)):
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            finally:
                os.close(pidfd)
    else:
        for step, outcome in cluster.steps(record.run).items():
            if not outcome.status.ended:
                cluster.cancel(step, reason)
    return record


def _folder(state: Path, run: str) -> Path:
    if not is_run(run):
        raise NotFound(f"there is no run {run!r}", "see `rdv runs list`")
    return state / "runs" / run


def _read(folder: Path) -> RunRecord | None:
    try:
        record = msgspec.json.decode((folder / RECORD).read_bytes(), type=RunRecord)
    except (OSError, msgspec.MsgspecError):
        return None
    if record.state == "running" and not _is_alive(folder):
        # it may have ended between the two looks: only a record that is still the same was left behind
        with suppress(OSError, msgspec.MsgspecError):
            record = msgspec.json.decode((folder / RECORD).read_bytes(), type=RunRecord)
        if record.state == "running":
            return replace(record, state="lost", error="its process ended without a word")
    return record


def _is_alive(folder: Path) -> bool:
    """Whether a process holds the run's lock."""
    with suppress(FileNotFoundError), (folder / LOCK).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
