"""How subscribers notice gateways: sockets in a folder, or what the catalog of their environment says."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rdv.addresses import address
from rdv.backends import select
from rdv.backends.ports_services import Catalog, Found
from rdv.config import Project
from rdv.serving.bus.port import Identity, Subscription
from rdv.serving.folder_changes import FolderChanges
from rdv.serving.follow import WAIT_S, keep_looking
from rdv.threads import tell_loop

if TYPE_CHECKING:
    from rdv.serving.certificates import KeptCertificate

SUFFIX = ".sock"
_log = logging.getLogger("rdv.dial")

Join = Callable[[Identity], Awaitable[Subscription]]
"""Takes a seat at one gateway."""
Tell = Callable[[Mapping[str, Join]], None]


class Noticing(Protocol):
    """A way to notice gateways."""

    async def follow(self, tell: Tell) -> None:
        """Tell all gateways that are there, by name, now and whenever that may have changed. Runs until cancelled."""
        ...


class SocketFolder:
    """Gateways of this host: each is a socket in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def follow(self, tell: Tell) -> None:
        """Tell the sockets that there are, at every change of the folder and at least once a second."""
        from rdv.serving.bus.frames import subscribe

        self._folder.mkdir(parents=True, exist_ok=True)
        with FolderChanges(self._folder) as changes:
            while True:
                paths = sorted(self._folder.glob(f"*{SUFFIX}"))
                tell({path.stem: functools.partial(subscribe, path) for path in paths})
                await changes.wait()


class CatalogGateways:
    """Gateways on any host, as the catalog knows them; while it cannot be asked those last known stay.

    certificate: what to dial them with.
    """

    def __init__(self, catalog: Catalog, service: str, certificate: KeptCertificate) -> None:
        self._catalog, self._service, self._certificate = catalog, service, certificate

    async def follow(self, tell: Tell) -> None:
        """Tell what the catalog says, and keep the certificate up to date meanwhile."""
        loop = asyncio.get_running_loop()
        ended = threading.Event()

        def found(seen: Found) -> None:
            if not ended.is_set():
                tell({one.id: functools.partial(self._join, address(one.host, one.port)) for one in seen.instances})

        look = functools.partial(_look, self._catalog, self._service, lambda seen: tell_loop(loop, found, seen), ended)
        threading.Thread(target=look, name=f"follow {self._service}", daemon=True).start()
        try:
            await self._certificate.keep()
        finally:
            ended.set()

    async def _join(self, at: str, identity: Identity) -> Subscription:
        from rdv.serving.bus.grpc_client import subscribe

        return await subscribe(at, identity, await self._certificate.client(), self._certificate.domain)


def noticing(project: Project, label: str) -> Noticing:
    """How the gateways of a project are noticed. label: who asks, in the certificate that it will show."""
    if select.bus(project).scheme == "frames":
        return SocketFolder(project.run_folder / "bus")
    source, domain = select.certificates(project, label)
    from rdv.serving.certificates import KeptCertificate

    kept = KeptCertificate(source, domain)
    return CatalogGateways(select.catalog(project), select.gateway_service(project), kept)


def _look(catalog: Catalog, service: str, told: Callable[[Found], None], ended: threading.Event) -> None:
    away = False

    def look(known: int | None) -> tuple[Found, int]:
        found = catalog.find(service) if known is None else catalog.watch(service, known, WAIT_S)
        return found, found.index

    def back(found: Found) -> None:
        nonlocal away
        away = False
        told(found)

    def failed(error: Exception) -> None:
        nonlocal away
        if not away:
            _log.warning("%s cannot be looked up now, those known stay: %s", service, error)
        away = True

    keep_looking(look, back, failed, lambda: not ended.is_set(), ended.wait)
