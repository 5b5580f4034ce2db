"""The bus with certificates from a real Vault: issued per environment, renewed in time, refused to strangers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from rdv.errors import BusError, NotAuthorised, Unreachable
from rdv.inputs import RowSchema
from rdv.serving.bus.exchange import Limits
from rdv.serving.bus.grpc_client import subscribe
from rdv.serving.bus.grpc_hub import GrpcHub
from rdv.serving.bus.port import Events, Identity
from rdv.serving.certificates import KeptCertificate

pytestmark = pytest.mark.live
HANG_S = 90.0
LIFE_S = 6.0
EVENTS = Events("visit/events", "gw-1", bytes(16), [b"one"])


@pytest.fixture
def vault(live_server: Callable[..., Any]) -> Iterator[Any]:
    """A Vault as the dev cluster wires it, with rights for every environment."""
    from rdv.backends.devcluster.rights import apply_vault

    server = live_server("vault:VaultServer", "hvac")
    server.start()
    apply_vault(server, ("access", "secret"))
    yield server
    server.close()


@pytest.fixture
def certificates(vault: Any, tmp_path: Path) -> Callable[..., Any]:
    """A function that makes what issues certificates to an environment's workloads."""
    from rdv.backends.vault.certificates import VaultCertificates
    from rdv.backends.vault.secrets import VaultSecrets

    def make(env: str, label: str, role: str = "", life_s: float = LIFE_S) -> Any:
        wish = {"policies": [f"rdv-{env}-services"], "period": "1h", "no_parent": True}
        token = tmp_path / f"{env}.token"
        token.write_text(vault.call("POST", "/v1/auth/token/create", wish).json()["auth"]["client_token"])
        secrets = VaultSecrets(f"secret?address={vault.address}&token_file={token}")
        return VaultCertificates(secrets, "pki", role or f"rdv-{env}", f"{label}.{env}.rdv.internal", life_s)

    return make


def test_workloads_are_certified_in_their_environment_only(certificates: Callable[..., Any]) -> None:
    """A workload gets certificates by its environment's role, for names of its environment, and by no other."""
    issued = certificates("dev", "worker").current()
    assert b"BEGIN CERTIFICATE" in issued.chain
    assert b"BEGIN CERTIFICATE" in issued.authorities
    assert 0 < issued.until - time.time() <= LIFE_S + 1
    with pytest.raises(NotAuthorised):
        certificates("dev", "worker", role="rdv-staging").current()
    foreign = certificates("dev", "worker")
    foreign._name = "gateway.production.rdv.internal"
    with pytest.raises(NotAuthorised):
        foreign.current()


def test_bus_outlives_its_certificates_and_vault(vault: Any, certificates: Callable[..., Any]) -> None:
    """Renewed at two thirds of their life, certificates never run out; a standing line outlives them, and Vault."""

    async def scenario() -> None:
        gateway = KeptCertificate(certificates("dev", "gateway"), "dev.rdv.internal", 0.2)
        worker = KeptCertificate(certificates("dev", "worker"), "dev.rdv.internal", 0.2)
        hub = GrpcHub("gw-1", lambda *_: None, limits=Limits(linger_s=0.05), domain=gateway.domain)
        hub.expect("visit/events", RowSchema(), ["recorder"])
        port = await hub.listen("127.0.0.1", 0, await gateway.server())
        lines: list[Any] = []

        async def join(kept: KeptCertificate) -> None:
            who = Identity("visit/events", "recorder", f"r{len(lines)}", "", credit=64, archive=True)
            lines.append(await subscribe(f"127.0.0.1:{port}", who, await kept.client(), gateway.domain))

        async def passes() -> None:
            hub.publish(EVENTS)
            received = [asyncio.ensure_future(line.receive()) for line in lines]
            await asyncio.wait(received, return_when=asyncio.FIRST_COMPLETED)
            for one in received:
                one.cancel()

        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(kept.keep()) for kept in (gateway, worker)]
            begun = time.monotonic()
            while time.monotonic() - begun < 2.5 * LIFE_S:
                await join(worker)
                await passes()
                await asyncio.sleep(LIFE_S / 4)
            strangers = KeptCertificate(certificates("staging", "worker"), "dev.rdv.internal")
            with pytest.raises(BusError, match="worker.staging.rdv.internal is not one of dev.rdv.internal"):
                await join(strangers)
            vault.close()
            await asyncio.sleep(1.5 * LIFE_S)
            with pytest.raises(Unreachable):
                await join(worker)  # nobody renewed it
            await passes()
            await hub.close()
            for line in lines:
                await line.close()
            for task in keeping:
                task.cancel()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.001)

    async def bounded() -> None:
        async with asyncio.timeout(HANG_S):
            await scenario()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
