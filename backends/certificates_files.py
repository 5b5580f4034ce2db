"""Certificates in files, which somebody else replaces in time."""

from __future__ import annotations

import ssl
from pathlib import Path

from rdv.backends.ports import Certificate
from rdv.errors import ConfigError

_HINT = "name PEM files that belong together: ?tls=files&cert=FILE&key=FILE&ca=FILE"


class FileCertificates:
    """The certificate in three PEM files: a chain, its key, and the authorities whose certificates are taken."""

    def __init__(self, cert: Path, key: Path, ca: Path) -> None:
        self._cert, self._key, self._ca = cert, key, ca

    def current(self) -> Certificate:
        """What the files hold now; ConfigError when they cannot be used, as in the middle of being replaced."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self._cert, self._key)
            context.load_verify_locations(self._ca)
            return Certificate(self._cert.read_bytes(), self._key.read_bytes(), self._ca.read_bytes())
        except ssl.SSLError as error:
            problem = error.reason or "no PEM"
        except OSError as error:
            problem = error.strerror or "unreadable"
        raise ConfigError(f"the bus's certificate in {self._cert}, {self._key}, {self._ca}: {problem}", _HINT)
