"""A catalog in Consul: services of an agent, each with a check that it must pass again and again.

py-consul does all of it, but for the index rules (`blocking_queries`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

from rdv.backends.blocking_queries import Pace, block_s, next_index
from rdv.backends.catalog_rules import check_announced, check_instance_id, check_service
from rdv.backends.consul.client import ConsulClient, parse_place
from rdv.backends.ports_services import Found, Instance
from rdv.clock import Clock, SystemClock
from rdv.errors import Unreachable

ID = "instance"
"""The service's meta that holds the instance's id; without it, it is Consul's own of the service."""

# how long an instance that says nothing stays listed as critical; Consul takes no less than a minute
_FORGOTTEN_S, _FORGOTTEN_TTLS = 60.0, 10


class ConsulCatalog:
    """Services of the agent that a place names (see `consul.client`), found wherever Consul knows them.

    place: `prefix?address=URL&token_file=PATH&datacenter=NAME`; the prefix is that of the services' names, which
    whoever names them obeys (`select.gateway_service`). An instance is announced to one agent and withdrawn there.
    """

    def __init__(self, place: str, clock: Clock | None = None) -> None:
        self._consul = ConsulClient(parse_place(place)[1])
        self._clock = clock or SystemClock()
        self._told: dict[str, tuple[Instance, float, str | None]] = {}

    def announce(self, service: str, instance: Instance, ttl_s: float) -> None:
        """Pass the instance's check; register it first when the agent does not know it as it is."""
        check_announced(service, instance, ttl_s)
        at, token = _service_id(service, instance.id), self._consul.token()
        told = (instance, ttl_s, token)
        with self._consul.translated(f"service {service}"):
            if self._told.get(at) == told and self._pass(at, token):
                return
            self._told.pop(at, None)
            self._register(service, instance, ttl_s, token)
            if not self._pass(at, token):  # what was critical stays so until its check is passed
                raise Unreachable(f"{self._consul.where} has lost {at} at once", "announce it again")
        self._told[at] = told

    def withdraw(self, service: str, instance_id: str) -> None:
        """Deregister the instance with the agent; absent is fine."""
        at = _service_id(check_service(service), check_instance_id(instance_id))
        self._told.pop(at, None)
        with self._consul.translated(f"service {service}"):
            self._consul.api().agent.service.deregister(at, token=self._consul.token())

    def find(self, service: str) -> Found:
        """The instances of which every check passes, those of their nodes as well."""
        return self._look(check_service(service))[1]

    def watch(self, service: str, index: int, wait_s: float) -> Found:
        """What is found as soon as its index differs from `index`, at the latest after wait_s."""
        check_service(service)
        until, pace, asked = self._clock.monotonic() + wait_s, Pace(), 0
        while True:
            told, found = self._look(service, asked, block_s(until - self._clock.monotonic()))
            now = self._clock.monotonic()
            if found.index != index or now >= until:
                return found
            asked = next_index(asked, told)
            time.sleep(max(0.0, min(pace.pause_s(now, random.random()), until - now)))

    def _look(self, service: str, index: int = 0, wait_s: float = 0.0) -> tuple[int, Found]:
        blocking = {"index": index, "wait": f"{int(wait_s * 1000) or 1}ms"} if index else {}
        with self._consul.translated(f"service {service}"):
            token = self._consul.token()
            told, entries = self._consul.api().health.service(service, passing=True, token=token, **blocking)
        return int(told), Found.of(_instances(entries))

    def _register(self, service: str, instance: Instance, ttl_s: float, token: str | None) -> None:
        forgotten_s = max(_FORGOTTEN_S, _FORGOTTEN_TTLS * ttl_s)
        check = {"TTL": f"{int(ttl_s * 1000)}ms", "DeregisterCriticalServiceAfter": f"{int(forgotten_s)}s"}
        at = _service_id(service, instance.id)
        self._consul.api().agent.service.register(
            service,
            service_id=at,
            address=instance.host,
            port=instance.port,
            meta={**instance.meta, ID: instance.id},
            check={**check, "CheckID": _check_id(at), "Status": "passing"},
            replace_existing_checks=True,
            token=token,
        )

    def _pass(self, at: str, token: str | None) -> bool:
        """Whether the agent knew the check and takes it for passed."""
        return bool(self._consul.api().agent.check.ttl_pass(_check_id(at), token=token))


def _service_id(service: str, instance_id: str) -> str:
    return f"{service}.{instance_id}"


def _check_id(service_id: str) -> str:
    return f"alive.{service_id}"


def _instances(entries: list[dict[str, Any]]) -> Iterator[Instance]:
    """One instance an id: of several with the same, the one that was registered last."""
    last = {}
    for entry in sorted(entries, key=lambda entry: int(entry["Service"].get("CreateIndex", 0))):
        service = entry["Service"]
        meta = dict(service.get("Meta") or {})
        name = meta.pop(ID, "") or service["ID"]
        host = service.get("Address") or entry["Node"]["Address"]
        last[name] = Instance(id=name, host=host, port=int(service["Port"]), meta=meta)
    yield from last.values()
