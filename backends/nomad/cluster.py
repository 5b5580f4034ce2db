"""Steps as dispatches of parameterized Nomad jobs, one parent job for each class of resources.

A step's id, specification and outcome are files of the project, as for the embedded cluster: Nomad forgets a job when
it collects its garbage, so an outcome is written down on first sight. What runs goes on when the dispatcher ends.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from rdv.backends.blocking_queries import next_index
from rdv.backends.local.files import StepFiles, cancel_asked, encode_spec, microseconds, read
from rdv.backends.nomad import logs as nomad_logs
from rdv.backends.nomad.api import NomadApi, parse_place
from rdv.backends.nomad.drafts import Draft, project_folder, step_draft
from rdv.backends.nomad.nodes import Nodes
from rdv.backends.nomad.verdict import combine, judge, newest_of
from rdv.backends.ports import Outcome, Resources, Status, StepSpec
from rdv.errors import NotFound, Unreachable, UsageError

PAYLOAD_BYTES = 16384
TEMPLATE_S = 300.0
_OUTCOME = "alloc/outcome.json"
_BLOCK_S = 30.0
# a job without an allocation wakes no query when it is stopped or collected
_QUEUED_S = 2.0
_NODE_S = 60.0
_TRIES = 3
_NS = 1e9
_ENDED = ("complete", "failed", "lost")


class Link(msgspec.Struct, frozen=True):
    """`nomad.json`: the job that is a step. joined: another dispatcher's, found under the same token; owner: its id."""

    job: str
    joined: bool = False
    owner: str = ""


class NomadCluster:
    """The `Cluster` port on one namespace of a Nomad cluster. Any thread may call anything.

    state: the project's state folder. place: `namespace?address=URL&token_file=PATH&region=NAME&python=PATH&
    folder=PATH&driver=NAME&image=NAME:TAG&pipelines=NAMESPACE&vault=ROLE&template_s=SECONDS`, all but the driver
    optional. python: the interpreter with rdv on Nomad's nodes, this one's unless given. folder: where the project lies
    there, unless it is as here. driver: docker with an image, exec, or raw_exec (no isolation). vault: the role that
    steps log in with. template_s: how long a step may wait for a template before it has failed.
    """

    outlived, ordered = True, False

    def __init__(self, state: Path, place: str) -> None:
        namespace, self._options = parse_place(place)
        self._api, self._files = NomadApi(namespace, self._options), StepFiles(state)
        self._nodes = Nodes(self._api)
        self._template_s = float(self._options.get("template_s", TEMPLATE_S))
        self._now_us, self._guard = microseconds(), threading.Lock()
        self._attempts: dict[str, int] = {}
        self._own: dict[str, str] = {}
        self._drafts: dict[Resources, Draft] = {}

    def dispatch(self, spec: StepSpec) -> str:
        """Hand a step to Nomad, or join the unfinished one with its token; its id, which sorts by time in its run."""
        body = encode_spec(spec)
        there = structs.replace(spec, folder=project_folder(self._options, spec.folder))
        payload = zlib.compress(msgspec.json.encode(there), 9)
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
            block_s = _QUEUED_S if outcome.status is Status.QUEUED or outcome.reason else _BLOCK_S

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
        link = self._link(step)
        return nomad_logs.chunks(
            self._api, link.job, (lambda: self._look(step)[1].status.ended) if follow else None
        )

    def steps(self, run: str) -> Mapping[str, Outcome]:
        """All steps of a run that were dispatched from this project, by id, in order of dispatch."""
        return {step: self._look(step)[1] for step in self._files.of_run(run)}

    def close(self) -> None:
        """Nothing: what was dispatched goes on, and is found again by its files or its token."""

    def _dispatch(self, spec: StepSpec, step: str, payload: bytes) -> Link:
        """Dispatch under the token; a token stays with its job for ever, so an ended one is followed by the next."""
        meta = {"rdv_run": spec.run, "rdv_step": step, "rdv_wall_s": f"{spec.resources.wall_s:g}"}
        if by := os.environ.get("NOMAD_ALLOC_ID"):
            meta["rdv_by"] = by
        while True:
            attempt = self._attempts.setdefault(spec.token, 0)
            job, was_there = self._send(spec.resources, payload, meta, f"{spec.token}#{attempt}")
            try:
                record = self._api.job(job)
            except NotFound:  # of dispatches at the same moment Nomad keeps one, and tells each that it is its own
                continue
            if not was_there:
                return Link(job)
            owner = str(record["Meta"].get("rdv_step", ""))
            if owner == step:  # ours: it was the answer that got lost
                return Link(job)
            if record["Status"] != "dead" and not record.get("Stop") and not self._has_ended(job):
                return Link(job, joined=True, owner=owner)
            self._attempts[spec.token] = attempt + 1

    def _has_ended(self, job: str) -> bool:
        """Whether a job that is not dead yet has nothing more to do."""
        allocations = self._api.allocations(job)[1]
        return bool(allocations) and newest_of(allocations)["ClientStatus"] in _ENDED

    def _send(self, resources: Resources, payload: bytes, meta: dict[str, str], token: str) -> tuple[str, bool]:
        draft = self._drafts.get(resources)
        if draft is None:
            draft = self._drafts[resources] = step_draft(self._api.namespace, self._options, resources)
        for left in reversed(range(_TRIES)):
            try:
                return self._api.dispatch(draft.id, payload, meta, token)
            except NotFound:
                self._api.register(draft.id, draft.hcl(), draft.values())
            except Unreachable:  # with its token a dispatch may be repeated, whether it was done or not
                if not left:
                    raise
                time.sleep(0.1 * (_TRIES - left))
        return self._api.dispatch(draft.id, payload, meta, token)

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
            told, outcome, over = self._ask(step, link, index, wait_s)
        except NotFound:
            gone = "its record is gone: somebody purged it, or Nomad collected it before anybody looked"
            told, outcome, over = 0, Outcome(step=step, status=Status.LOST, reason=gone), True
        if link.joined:
            outcome = structs.replace(outcome, joined=True)
        if not outcome.status.ended:
            return told, outcome
        if not over and not link.joined:  # it waits for what will not come
            self._api.stop(link.job)
        return told, self._files.settle(outcome)

    def _ask(self, step: str, link: Link, index: int, wait_s: float) -> tuple[int, Outcome, bool]:
        """Index, outcome, and whether Nomad has nothing more to do for it."""
        told, allocations = self._api.allocations(link.job, index, wait_s)
        job = self._api.job(link.job)
        evaluations = [] if allocations else self._api.evaluations(link.job)
        nodes = self._nodes.all() if evaluations else None
        outcome = judge(step, job, allocations, evaluations, nodes, time.time(), self._template_s)
        if not outcome.status.ended:
            return told, outcome, False
        over = bool(job.get("Stop")) or (bool(allocations) and newest_of(allocations)["ClientStatus"] in _ENDED)
        said = None
        if allocations and over:
            newest = newest_of(allocations)
            try:
                said = self._last_word(newest)
            except Unreachable:
                if time.time() - int(newest.get("ModifyTime") or 0) / _NS < _NODE_S:
                    reason = "it has ended; how is not known while its node does not answer"
                    return told, Outcome(step=step, status=Status.RUNNING, reason=reason), True
        asked = self._asked(step) or (self._asked(link.owner) if link.owner else "")
        if asked and not allocations:
            outcome = Outcome(step=step, status=Status.CANCELLED)
        return told, combine(outcome, said, asked, bool(job.get("Stop"))), over

    def _asked(self, step: str) -> str:
        with suppress(NotFound):  # a joined step's owner may be another project's, and its id anything
            return cancel_asked(self._files.folder(step))
        return ""

    def _last_word(self, allocation: Mapping[str, Any]) -> Outcome | None:
        data = self._api.file(allocation["ID"], _OUTCOME)
        with suppress(msgspec.MsgspecError):  # a node answers with the words of its error where there is no file
            return msgspec.json.decode(data, type=Outcome)
        return None
