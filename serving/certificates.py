"""The certificate that a process shows on the bus, kept up to date beside its work."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc.aio

from rdv.backends.ports import Certificate, Certificates
from rdv.threads import in_daemon_thread

LOOK_S = 1.0
_log = logging.getLogger("rdv.certificates")


class KeptCertificate:
    """What `Certificates` gives, looked at every look_s; new connections use the newest, standing ones stay.

    source: None for a bus in plain text. domain: of all names, see `rdv.bus_place`.
    """

    def __init__(self, source: Certificates | None, domain: str = "", look_s: float = LOOK_S) -> None:
        self.domain = domain
        self._source, self._look_s = source, look_s
        self._now: Certificate | None = None
        self._told = ""

    async def keep(self) -> None:
        """Have it renewed in time, for ever; whatever goes wrong is told once and tried again."""
        if self._source is None:
            await asyncio.Event().wait()
        while True:
            try:
                await self._look()
                self._told = ""
            except Exception as error:
                if str(error) != self._told:
                    _log.warning("the bus's certificate is not renewed: %s", error)
                self._told = str(error)
            await asyncio.sleep(self._look_s)

    async def client(self) -> grpc.ChannelCredentials | None:
        """What to dial a gateway with; None in plain text. Raises what the source does when there is none yet."""
        if self._source is None:
            return None
        now = self._now or await self._look()
        return grpc.ssl_channel_credentials(now.authorities, now.key, now.chain)

    async def server(self) -> grpc.ServerCredentials | None:
        """What a gateway listens with; None in plain text. Raises what the source does when there is none yet."""
        if self._source is None:
            return None
        shown = await self._look()

        def renewed() -> Any:  # None: as before
            # called at each handshake, in a thread of gRPC's
            nonlocal shown
            if self._now is None or self._now == shown:
                return None
            shown = self._now
            return _configuration(shown)

        return grpc.dynamic_ssl_server_credentials(_configuration(shown), renewed, require_client_authentication=True)

    async def _look(self) -> Certificate:
        assert self._source is not None
        self._now = await in_daemon_thread("certificate", self._source.current)
        return self._now


def _configuration(shown: Certificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(shown.key, shown.chain)], root_certificates=shown.authorities)
