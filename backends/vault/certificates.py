"""Certificates from Vault's PKI engine, renewed before their time is over."""

from __future__ import annotations

import logging
import threading

from rdv.backends.ports import Certificate
from rdv.backends.vault.secrets import VaultSecrets
from rdv.clock import Clock, SystemClock
from rdv.errors import RdvError

_RENEW_AT = 2 / 3
_AGAIN_S = 5.0
_log = logging.getLogger("rdv.certificates")


class VaultCertificates:
    """Certificates for one name, from a role of a PKI engine; safe over threads. The key never leaves this process."""

    def __init__(
        self, vault: VaultSecrets, mount: str, role: str, name: str, ttl_s: float, clock: Clock | None = None
    ) -> None:
        self._vault, self._mount, self._role, self._name, self._ttl_s = vault, mount, role, name, ttl_s
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._now: Certificate | None = None
        self._due = 0.0

    def current(self) -> Certificate:
        """The certificate to show now: a new one from two thirds of the last one's life on.

        While none can be had the last one stays, as long as it is valid; then Unreachable or NotAuthorised.
        """
        with self._lock:
            now = self._clock.now()
            if self._now is not None and now < self._due:
                return self._now
            try:
                issued = self._vault.issue(self._mount, self._role, self._name, self._ttl_s)
            except RdvError as error:
                if self._now is None or now >= self._now.until:
                    raise
                self._due = now + min(_AGAIN_S, (self._now.until - now) / 4)
                _log.warning("the certificate of %s is not renewed yet: %s", self._name, error)
                return self._now
            self._now, self._due = issued, now + (issued.until - now) * _RENEW_AT
            return issued
