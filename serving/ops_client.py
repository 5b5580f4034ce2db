"""What gateways, workers and decoys of a cluster tell on their ops listeners, found by the catalog."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from rdv.backends import select
from rdv.backends.ports_services import Instance
from rdv.config import Project
from rdv.errors import RdvError, Unreachable
from rdv.serving.processes.records import RoleRecord
from rdv.serving.processes.specs import DECOY, GATEWAY, WORKER

ANSWER_S = 2.0
FIND_S = 0.5
"""How long what the catalog said is taken as it was: asking those that it named is faster than asking it."""


class Told:
    """What all of them told at one moment. gateways: their own views. silent: by id, why others did not."""

    def __init__(self) -> None:
        self.gateways: list[dict[str, Any]] = []
        self.workers: list[RoleRecord] = []
        self.decoys: list[RoleRecord] = []
        self.silent: dict[str, str] = {}


class Ops:
    """Asks the ops listeners of a project's environment, again and again."""

    def __init__(self, project: Project) -> None:
        self._catalog, self._project = select.catalog(project), project
        self._found: dict[str, Sequence[Instance]] = {}
        self._at = float("-inf")

    def look(self) -> Told:
        """What they tell now. Unreachable, NotAuthorised: the catalog cannot be asked."""
        found, told = self.instances(), Told()
        asked = [(role, one) for role, listed in found.items() for one in listed]
        with ThreadPoolExecutor(max(1, len(asked))) as pool:
            answers = list(pool.map(lambda pair: _status(*pair), asked))
        for (role, one), answer in zip(asked, answers, strict=True):
            if isinstance(answer, str):
                told.silent[one.id] = answer
            elif isinstance(answer, RoleRecord):
                (told.workers if role == WORKER else told.decoys).append(answer)
            else:
                told.gateways.append(answer)
        return told

    def instances(self) -> dict[str, Sequence[Instance]]:
        """By role, those that pass their checks, as the catalog has said within the last half second."""
        if time.monotonic() - self._at > FIND_S:
            names = {role: select.service(self._project, role) for role in (GATEWAY, WORKER, DECOY)}
            self._found = {role: self._catalog.find(name).instances for role, name in names.items()}
            self._at = time.monotonic()
        return self._found


def get(address: str, path: str) -> bytes:
    """What a listener (host:port) answers to a GET; Unreachable when it does not, within 2 s."""
    connection = http.client.HTTPConnection(address, timeout=ANSWER_S)
    try:
        with contextlib.closing(connection):
            connection.request("GET", path)
            reply = connection.getresponse()
            data = reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{address} did not answer {path}: {error}", "see `rdv status`") from error
    if reply.status != 200:
        raise Unreachable(f"{address} answered {reply.status} to {path}: {data[:200].decode(errors='replace')}")
    return data


def record_of(instance: Instance) -> RoleRecord:
    """What a worker or a decoy tells of itself; Unreachable."""
    found: RoleRecord = _decoded(f"{instance.host}:{instance.port}", RoleRecord)
    return found


def _status(role: str, instance: Instance) -> dict[str, Any] | RoleRecord | str:
    try:
        if role != GATEWAY:
            return record_of(instance)
        if "ops" not in instance.meta:
            return f"gateway {instance.id} has no ops listener"
        view: dict[str, Any] = _decoded(instance.meta["ops"], dict)
        return view
    except RdvError as error:
        return str(error)


def _decoded(address: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(get(address, "/status"), type=kind)
    except msgspec.MsgspecError as error:
        raise Unreachable(f"{address} answered something else than a status: {error}", "is it rdv's?") from error
