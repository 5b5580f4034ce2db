"""Who is let in to a bus between hosts, on both sides, and that certificates are renewed without dropping anybody."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop

from rdv.backends.certificates_files import FileCertificates
from rdv.backends.ports import Certificate
from rdv.errors import BusError, ConfigError, Unreachable
from rdv.inputs import RowSchema
from rdv.serving.bus.exchange import Limits
from rdv.serving.bus.grpc_client import subscribe
from rdv.serving.bus.grpc_hub import GrpcHub
from rdv.serving.bus.port import Events, Identity
from rdv.serving.certificates import KeptCertificate

HANG_S = 60.0
LOOK_S = 0.05
EVENTS = Events("visit/events", "gw-1", bytes(16), [b"one"])


class Shown:
    """A source of certificates whose certificate the test sets."""

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate

    def current(self) -> Certificate:
        return self.certificate


class Bench:
    """A hub that wants certificates, and a way to join it with one."""

    def __init__(self, authorities: Any) -> None:
        self.domain = authorities.DOMAIN
        self.shown = Shown(authorities.Authority().certificate())
        self.kept = KeptCertificate(self.shown, self.domain, LOOK_S)
        self.refused: list[str] = []
        self.hub = GrpcHub(
            "gw-1", lambda *_: None, limits=Limits(linger_s=0.05), on_refused=self.refused.append, domain=self.domain
        )
        self.hub.expect("visit/events", RowSchema(), ["recorder"])
        self.subscriptions: list[Any] = []
        self._replicas = iter(range(1000))

    async def open(self) -> None:
        self.port = await self.hub.listen("127.0.0.1", 0, await self.kept.server())
        self._keeping = asyncio.ensure_future(self.kept.keep())

    async def join(self, certificate: Certificate | None, domain: str | None = None) -> Any:
        """Join with a certificate and the authorities that came with it; None: in plain text."""
        identity = Identity("visit/events", "recorder", f"r{next(self._replicas)}", "", credit=8, archive=True)
        credentials = certificate and await KeptCertificate(Shown(certificate)).client()
        asked = self.domain if domain is None else domain
        self.subscriptions.append(await subscribe(f"127.0.0.1:{self.port}", identity, credentials, asked))
        return self.subscriptions[-1]

    async def passes(self, subscription: Any) -> bool:
        """Whether what is published reaches a subscription."""
        self.hub.publish(EVENTS)
        (batch,) = await subscription.receive()
        return bool(batch == EVENTS)

    async def close(self) -> None:
        await self.hub.close()
        for one in self.subscriptions:
            await one.close()
        self._keeping.cancel()


def run(authorities: Any, scenario: Any) -> Bench:
    """Run a scenario on a fresh bench, bounded in time."""

    async def within() -> Bench:
        bench = Bench(authorities)
        await bench.open()
        async with asyncio.timeout(HANG_S):
            try:
                await scenario(bench)
            finally:
                await bench.close()
            while len(asyncio.all_tasks()) > 1:  # the library's own end a moment later
                await asyncio.sleep(0.001)
        return bench

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(within())


def test_both_ends_show_a_certificate(authorities: Any) -> None:
    """With certificates of one authority on both ends the bus works."""
    ours = authorities.Authority()

    async def scenario(bench: Bench) -> None:
        bench.shown.certificate = ours.certificate()
        await asyncio.sleep(4 * LOOK_S)
        assert await bench.passes(await bench.join(ours.certificate(f"worker.{bench.domain}")))

    run(authorities, scenario)


@pytest.mark.parametrize("who", ["in plain text", "without one", "of another authority", "expired"])
def test_strangers_do_not_get_in(authorities: Any, who: str) -> None:
    """A subscriber without a certificate, or with a foreign or old one, does not get as far as hello."""
    ours, other = authorities.Authority(), authorities.Authority("another authority")

    async def scenario(bench: Bench) -> None:
        bench.shown.certificate = ours.certificate()
        await asyncio.sleep(4 * LOOK_S)
        name = f"worker.{bench.domain}"
        if who == "without one":
            credentials = grpc.ssl_channel_credentials(ours.pem)
            with pytest.raises(Unreachable):
                await subscribe(
                    f"127.0.0.1:{bench.port}", Identity("visit/events", "recorder", "r", ""), credentials, bench.domain
                )
            return
        foreign = other.certificate(name)
        shown = {
            "in plain text": None,
            # it trusts our authority, but ours does not know the one that signed it
            "of another authority": Certificate(foreign.chain, foreign.key, ours.pem),
            "expired": ours.certificate(name, life_s=-5.0),
        }[who]
        with pytest.raises(Unreachable):
            await bench.join(shown)

    bench = run(authorities, scenario)
    assert bench.refused == []


def test_gateway_of_another_authority_or_name_is_not_trusted(authorities: Any) -> None:
    """A subscriber speaks to nobody whose certificate it cannot check, or that bears another name than a gateway's."""
    ours, other = authorities.Authority(), authorities.Authority("another authority")

    async def scenario(bench: Bench) -> None:
        for certificate in (other.certificate(), ours.certificate(f"worker.{bench.domain}")):
            bench.shown.certificate = certificate
            await asyncio.sleep(4 * LOOK_S)
            mine = Certificate(*(lambda it: (it.chain, it.key))(other.certificate(f"w.{bench.domain}")), ours.pem)
            with pytest.raises(Unreachable):
                await bench.join(mine)

    run(authorities, scenario)


def test_certificate_of_another_domain_is_refused(authorities: Any) -> None:
    """A workload of another environment, certified by the same authority, is refused with the reason."""
    ours = authorities.Authority()

    async def scenario(bench: Bench) -> None:
        bench.shown.certificate = ours.certificate()
        await asyncio.sleep(4 * LOOK_S)
        with pytest.raises(BusError, match=r"worker.dev.rdv.internal is not one of test.rdv.internal"):
            await bench.join(ours.certificate("worker.dev.rdv.internal"))

    bench = run(authorities, scenario)
    assert ["is not one of" in reason for reason in bench.refused] == [True]


def test_expired_and_renewed(authorities: Any) -> None:
    """Certificates that really expire: standing lines stay, new ones fail until there is a new one, then they are made.

    The same for either end.
    """
    ours = authorities.Authority()

    async def scenario(bench: Bench) -> None:
        bench.shown.certificate = ours.certificate(life_s=2.0)
        await asyncio.sleep(4 * LOOK_S)
        worker = f"worker.{bench.domain}"
        short, begun = ours.certificate(worker, life_s=2.0), time.monotonic()
        standing = await bench.join(short)
        await asyncio.sleep(begun + 3.2 - time.monotonic())
        with pytest.raises(Unreachable):  # the gateway's is over
            await bench.join(ours.certificate(worker))
        bench.shown.certificate = ours.certificate()
        await asyncio.sleep(4 * LOOK_S)
        with pytest.raises(Unreachable):  # the worker's is over
            await bench.join(short)
        assert await bench.passes(standing)
        again = await bench.join(ours.certificate(worker))
        assert len(bench.hub.replicas("visit/events")) == 2
        await standing.close()
        assert await bench.passes(again)

    run(authorities, scenario)


def test_authority_is_replaced(authorities: Any) -> None:
    """While two authorities are trusted, workloads move from one to the other."""
    old, new = authorities.Authority("old"), authorities.Authority("new")

    async def scenario(bench: Bench) -> None:
        worker = f"worker.{bench.domain}"
        for gateway, mine in ((old, old), (old, new), (new, old)):
            one = gateway.certificate()
            bench.shown.certificate = Certificate(one.chain, one.key, old.pem + new.pem)
            await asyncio.sleep(4 * LOOK_S)
            shown = mine.certificate(worker)
            await bench.join(Certificate(shown.chain, shown.key, old.pem + new.pem))

    run(authorities, scenario)


def test_files_are_taken_whole_or_not_at_all(authorities: Any, tmp_path: Path) -> None:
    """Certificate files are read anew, refused while certificate and key do not belong together, and never shown."""
    ours = authorities.Authority()
    ours.write(tmp_path)
    files = FileCertificates(*(tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem")))
    first = files.current()
    old_key = (tmp_path / "key.pem").read_bytes()
    ours.write(tmp_path)
    new_key = (tmp_path / "key.pem").read_bytes()
    (tmp_path / "key.pem").write_bytes(old_key)
    with pytest.raises(ConfigError, match="KEY_VALUES_MISMATCH") as caught:
        files.current()
    assert "PRIVATE" not in str(caught.value)
    (tmp_path / "key.pem").write_bytes(new_key)
    assert files.current() != first
    assert "PRIVATE" not in repr(files.current())
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(ConfigError, match="No such file"):
        files.current()
