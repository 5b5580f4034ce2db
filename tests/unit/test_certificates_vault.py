"""When a certificate of Vault's is renewed, and what is shown while it cannot be."""

from typing import Any

import pytest

from rdv.backends.ports import Certificate
from rdv.backends.vault.certificates import VaultCertificates
from rdv.clock import ManualClock
from rdv.errors import Unreachable


class Vault:
    """Issues numbered certificates for ttl_s, or nothing while it is down."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.issued, self.asked, self.down = clock, 0, 0, False

    def issue(self, mount: str, role: str, name: str, ttl_s: float) -> Certificate:
        self.asked += 1
        if self.down:
            raise Unreachable("Vault does not answer")
        assert (mount, role, name) == ("pki", "rdv-dev", "worker.dev.rdv.internal")
        self.issued += 1
        return Certificate(b"chain %d" % self.issued, b"key", b"ca", self.clock.now() + ttl_s)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def vault(clock: ManualClock) -> Vault:
    return Vault(clock)


@pytest.fixture
def certificates(clock: ManualClock, vault: Any) -> VaultCertificates:
    return VaultCertificates(vault, "pki", "rdv-dev", "worker.dev.rdv.internal", 90.0, clock)


def test_renewed_at_two_thirds(certificates: VaultCertificates, vault: Vault, clock: ManualClock) -> None:
    """A certificate is kept for two thirds of its life, then another one is shown."""
    first = certificates.current()
    clock.advance(59.0)
    assert certificates.current() is first
    clock.advance(2.0)
    second = certificates.current()
    assert (second.chain, second.until) == (b"chain 2", clock.now() + 90.0)
    assert vault.asked == 2


def test_last_one_stays_while_it_is_valid(certificates: VaultCertificates, vault: Vault, clock: ManualClock) -> None:
    """While Vault is down the last certificate is shown, Vault asked now and then; when it is over there is none."""
    first = certificates.current()
    vault.down = True
    clock.advance(61.0)
    assert [certificates.current(), certificates.current()] == [first, first]
    assert vault.asked == 2
    clock.advance(6.0)
    assert certificates.current() is first
    assert vault.asked == 3
    clock.advance(30.0)
    with pytest.raises(Unreachable):
        certificates.current()
    vault.down = False
    assert certificates.current().chain == b"chain 2"


def test_without_vault_there_is_none(certificates: VaultCertificates, vault: Vault) -> None:
    """Without a first certificate the error says why."""
    vault.down = True
    with pytest.raises(Unreachable, match="does not answer"):
        certificates.current()
