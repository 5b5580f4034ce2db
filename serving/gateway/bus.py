"""A gateway's end of the bus, as its environment's settings say: where it listens and how workers come to know."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from rdv import __version__
from rdv.addresses import address
from rdv.backends import select
from rdv.backends.ports_services import Instance
from rdv.config import Project, Serve
from rdv.errors import RdvError
from rdv.serving.bus.frames import FramesHub
from rdv.serving.bus.port import Hub, OnLost, OnScores
from rdv.serving.noticing import SUFFIX
from rdv.serving.processes.specs import GATEWAY
from rdv.supervise import TaskOwner
from rdv.threads import in_daemon_thread

TTL_S = 10.0
WITHDRAW_S = 2.0
EVERYWHERE = ("0.0.0.0", "::")
META = ("url", "ops")
_log = logging.getLogger("rdv.gateway")
_refused = functools.partial(_log.warning, "a subscriber was refused: %s")


class GatewayBus(Protocol):
    """A hub, made when there is somebody to tell about scores, and what goes with it."""

    def make(self, on_scores: OnScores, on_lost: OnLost) -> Hub:
        """The hub, which does not listen yet."""
        ...

    async def listen(self) -> str:
        """Take subscribers from now on; where, for people."""
        ...

    def keep(self, owner: TaskOwner, facts: Mapping[str, object]) -> None:
        """Have the owner see to it that workers find the hub. facts: the gateway's, which tell more about it."""
        ...

    async def close(self) -> None:
        """Send what is waiting as far as credit allows, then disconnect everybody."""
        ...


class FramesBus:
    """A socket in a folder; being there is all it takes to be found."""

    def __init__(self, gateway: str, folder: Path) -> None:
        self._gateway, self._path = gateway, folder / f"{gateway}{SUFFIX}"
        self._hub: FramesHub

    def make(self, on_scores: OnScores, on_lost: OnLost) -> Hub:
        """The hub, which does not listen yet."""
        self._hub = FramesHub(self._gateway, on_scores, on_lost, on_refused=_refused)
        return self._hub

    async def listen(self) -> str:
        """Take subscribers from now on; the socket's path."""
        await self._hub.listen(self._path)
        return str(self._path)

    def keep(self, owner: TaskOwner, facts: Mapping[str, object]) -> None:
        """Nothing more is needed."""

    async def close(self) -> None:
        """Send what is waiting as far as credit allows, then disconnect everybody."""
        await self._hub.close()


class GrpcBus:
    """A port, told to the catalog again and again unless a cluster's job does that."""

    def __init__(self, project: Project, gateway: str) -> None:
        source, domain = select.certificates(project, GATEWAY)
        from rdv.serving.bus.grpc_hub import GrpcHub
        from rdv.serving.certificates import KeptCertificate

        self._gateway, self._serve = gateway, project.config.serve
        self._certificate = KeptCertificate(source, domain)
        self._catalog = None if select.is_task() else select.catalog(project)
        self._service = select.gateway_service(project) if self._catalog else ""
        self._new: Callable[[OnScores, OnLost], GrpcHub] = functools.partial(
            GrpcHub,
            gateway,
            on_refused=_refused,
            domain=self._certificate.domain,
            compress_bytes=select.bus(project).compress_kb << 10,
        )
        self._hub: GrpcHub
        self._port = 0

    def make(self, on_scores: OnScores, on_lost: OnLost) -> Hub:
        """The hub, which does not listen yet."""
        self._hub = self._new(on_scores, on_lost)
        return self._hub

    async def listen(self) -> str:
        """Take subscribers from now on; the address."""
        serve = self._serve
        self._port = await self._hub.listen(serve.bus_host, serve.bus_port, await self._certificate.server())
        return address(serve.bus_host, self._port)

    def keep(self, owner: TaskOwner, facts: Mapping[str, object]) -> None:
        """Have the certificate renewed and the gateway announced, until it stops."""
        owner.task("certificate", self._certificate.keep)
        if self._catalog is not None:
            meta = {"version": __version__, **{name: str(facts[name]) for name in META if facts.get(name)}}
            me = Instance(id=self._gateway, host=advertised(self._serve), port=self._port, meta=meta)
            owner.task("catalog", lambda: self._announce(me))
            owner.on_stop("leave the catalog", intake=self._withdraw)

    async def _announce(self, me: Instance) -> None:
        catalog, told = self._catalog, ""
        assert catalog is not None
        while True:
            try:
                await in_daemon_thread("announce", lambda: catalog.announce(self._service, me, TTL_S))
                told = ""
            except RdvError as error:
                if str(error) != told:
                    _log.warning("new workers will not find this gateway: %s", error)
                told = str(error)
            await asyncio.sleep(TTL_S / 4)

    async def _withdraw(self) -> None:
        catalog = self._catalog
        assert catalog is not None
        try:
            async with asyncio.timeout(WITHDRAW_S):
                await in_daemon_thread("withdraw", lambda: catalog.withdraw(self._service, self._gateway))
        except (RdvError, TimeoutError) as error:
            _log.warning("the catalog names this gateway for a while yet: %s", error)

    async def close(self) -> None:
        """Send what is waiting as far as credit allows, then disconnect everybody."""
        await self._hub.close()


def gateway_bus(project: Project, gateway: str) -> GatewayBus:
    """The bus of a project's environment."""
    if select.bus(project).scheme == "frames":
        return FramesBus(gateway, project.run_folder / "bus")
    return GrpcBus(project, gateway)


def advertised(serve: Serve) -> str:
    """The host by which workers dial a gateway."""
    if serve.advertise:
        return serve.advertise
    return serve.bus_host if serve.bus_host not in EVERYWHERE else socket.getfqdn()
