"""Steps as dispatches of parameterized Nomad jobs, one parent job for each class of resources.

A step's id, specification and outcome are files of the project, as for the embedded cluster: Nomad forgets a job when
it collects its garbage, so an outcome is written down on first sight. What runs goes on when the dispatcher ends.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import structs

from rdv.backends.cluster_local_files import StepFiles, cancel_asked, encode_spec, microseconds, read
from rdv.backends.consul_watch import next_index
from rdv.backends.nomad_api import NomadApi, parse_place
from rdv.backends.nomad_verdict import TASK, combine, judge
from rdv.backends.ports import Outcome, Resources, Status, StepSpec
from rdv.errors import NotFound, Unreachable, UsageError

PAYLOAD_BYTES = 16384
_OUTCOME = "alloc/outcome.json"
_CPU_MHZ = 500
_BLOCK_S = 30.0
# a job without an allocation wakes no query when it is stopped or collected
_QUEUED_S = 2.0
_LOG_S = 0.2
_TRIES = 3


class Link(msgspec.Struct, frozen=True):
    """`nomad.json`: the job that is a step. joined: another dispatcher's, found under the same token."""

    job: str
    joined: bool = False


class NomadCluster:
    """The `Cluster` port on one namespace of a Nomad cluster. Any thread may call anything.

    state: the project's state folder. place: `namespace?address=URL&token_file=PATH&region=NAME&python=PATH`, all
    optional; python: the interpreter with rdv on Nomad's nodes, this one's unless given.
    """

    def __init__(self, state: Path, place: str) -> None:
        namespace, options = parse_place(place)
        self._api, self._files = NomadApi(namespace, options), StepFiles(state)
        self._python = options.get("python", sys.executable)
        self._now_us, self._guard = microseconds(), threading.Lock()
        self._attempts: dict[str, int] = {}
        self._own: dict[str, str] = {}

    def dispatch(self, spec: StepSpec) -> str:
        """Hand a step to Nomad, or join the unfinished one with its token; its id, which sorts by time in its run."""
        body = encode_spec(spec)
        payload = zlib.compress(body, 9)
        if len(payload) > PAYLOAD_BYTES:
            hint = "put the data into an artifact and its name into the payload"
            raise UsageError(f"step {spec.name}: {len(payload)} bytes are more than Nomad's {PAYLOAD_BYTES}", hint)
        with self._guard:
            step = self._files.new_id(spec, next(self._now_us))
            link = self._dispatch(spec, step, payload)
            if own := self._own.get(link.job):
                return own
            self._files.create(step, body)
            self._files.folder(step).joinpath("nomad.json").write_bytes(msgspec.json.encode(link))
            if not link.joined:
                self._own[link.job] = step
        return step

    def wait(self, step: str, timeout_s: float | None = None) -> Outcome:
        """The step's outcome once it has ended, or as it stands after timeout_s. NotFound for an unknown id."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        index, block_s = 0, _QUEUED_S
        while True:
            left = _BLOCK_S if until is None else until - time.monotonic()
            told, outcome = self._look(step, index, max(0.0, min(left, block_s)))
            if outcome.status.ended or (until is not None and time.monotonic() >= until):
                return outcome
            index = next_index(index, told)
            block_s = _QUEUED_S if outcome.status is Status.QUEUED else _BLOCK_S

    def cancel(self, step: str, reason: str) -> None:
        """End a step with its whole process group; leave a joined one to its owner; an ended one stays as it is."""
        folder = self._files.known(step)
        link = self._link(step)
        if self._look(step)[1].status.ended:
            return
        if link.joined:
            self._files.settle(Outcome(step=step, status=Status.CANCELLED, reason=reason, joined=True))
            return
        folder.joinpath("cancel").write_text(reason)
        self._api.stop(link.job)

    def logs(self, step: str, follow: bool = False) -> Iterator[bytes]:
        """The step's output in chunks; with follow, until the step has ended. NotFound for an unknown id."""
        return self._log(self._link(step).job, step, follow)

    def steps(self, run: str) -> Mapping[str, Outcome]:
        """All steps of a run that were dispatched from this project, by id, in order of dispatch."""
        return {step: self._look(step)[1] for step in self._files.of_run(run)}

    def close(self) -> None:
        """Nothing: what was dispatched goes on, and is found again by its files or its token."""

    def _dispatch(self, spec: StepSpec, step: str, payload: bytes) -> Link:
        """Dispatch under the token; a token stays with its job for ever, so an ended one is followed by the next."""
        meta = {"rdv_run": spec.run, "rdv_step": step}
        while True:
            attempt = self._attempts.setdefault(spec.token, 0)
            job, was_there = self._send(spec.resources, payload, meta, f"{spec.token}#{attempt}")
            try:
                record = self._api.job(job)
            except NotFound:  # of dispatches at the same moment Nomad keeps one, and tells each that it is its own
                continue
            if not was_there:
                return Link(job)
            if record["Meta"].get("rdv_step") == step:  # ours: it was the answer that got lost
                return Link(job)
            if record["Status"] != "dead" and not record.get("Stop"):
                return Link(job, joined=True)
            self._attempts[spec.token] = attempt + 1

    def _send(self, resources: Resources, payload: bytes, meta: dict[str, str], token: str) -> tuple[str, bool]:
        parent = f"rdv-step-{resources.memory_mb}mb-{resources.cpus}cpu"
        for left in reversed(range(_TRIES)):
            try:
                return self._api.dispatch(parent, payload, meta, token)
            except NotFound:
                self._register(parent, resources)
            except Unreachable:  # with its token a dispatch may be repeated, whether it was done or not
                if not left:
                    raise
                time.sleep(0.1 * (_TRIES - left))
        return self._api.dispatch(parent, payload, meta, token)

    def _register(self, parent: str, resources: Resources) -> None:
        template = importlib.resources.files("rdv.nomad_templates").joinpath("step.nomad.hcl").read_text()
        variables = {
            "namespace": self._api.namespace,
            "python": self._python,
            "cpu_mhz": resources.cpus * _CPU_MHZ,
            "memory_mb": resources.memory_mb,
        }
        lines = (f"{name} = {json.dumps(value)}\n" for name, value in variables.items())
        self._api.register(parent, template, "".join(lines))

    def _link(self, step: str) -> Link:
        link = read(self._files.known(step) / "nomad.json", Link)
        if link is None:
            raise NotFound(f"there is no step {step!r} on this cluster", "it was dispatched to another one")
        return link

    def _look(self, step: str, index: int = 0, wait_s: float = 0.0) -> tuple[int, Outcome]:
        """The index of a step's allocations and how it stands; a first look at its end is written down."""
        link = self._link(step)
        if recorded := self._files.outcome(step):
            return 0, recorded
        try:
            told, outcome = self._ask(step, link, index, wait_s)
        except NotFound:
            gone = "its record is gone: somebody purged it, or Nomad collected it before anybody looked"
            told, outcome = 0, Outcome(step=step, status=Status.LOST, reason=gone)
        if link.joined:
            outcome = structs.replace(outcome, joined=True)
        return told, self._files.settle(outcome) if outcome.status.ended else outcome

    def _ask(self, step: str, link: Link, index: int, wait_s: float) -> tuple[int, Outcome]:
        told, allocations = self._api.allocations(link.job, index, wait_s)
        job = self._api.job(link.job)
        evaluations = [] if allocations else self._api.evaluations(link.job)
        outcome = judge(step, job, allocations, evaluations)
        if not outcome.status.ended:
            return told, outcome
        said = None
        if allocations:
            newest = max(allocations, key=lambda one: int(one["CreateIndex"]))
            if data := self._api.file(newest["ID"], _OUTCOME):
                said = msgspec.json.decode(data, type=Outcome)
        asked = cancel_asked(self._files.folder(step))
        return told, combine(outcome, said, asked, bool(job.get("Stop")))

    def _log(self, job: str, step: str, follow: bool) -> Iterator[bytes]:
        offset, allocation = 0, ""
        while True:
            ended = not follow or self._look(step)[1].status.ended
            found = self._api.allocations(job)[1]
            newest = max(found, key=lambda one: int(one["CreateIndex"]))["ID"] if found else ""
            if newest != allocation:
                offset, allocation = 0, newest
            while allocation and (data := self._api.log(allocation, TASK, offset)):
                offset += len(data)
                yield data
            if ended:
                return
            time.sleep(_LOG_S)
