"""From when to when certificates are valid, read from their PEM."""

from __future__ import annotations

import re

import msgspec
from cryptography.x509 import load_pem_x509_certificate

from rdv.errors import ConfigError

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Validity(msgspec.Struct, frozen=True, order=True):
    """A certificate's time, in epoch seconds."""

    until: float
    begins: float


def validities(pem: bytes) -> list[Validity]:
    """The times of all certificates in some PEM, in their order; ConfigError for one that is none."""
    try:
        return [_validity(one) for one in _PEM.findall(pem)]
    except ValueError as error:
        raise ConfigError(f"a certificate cannot be read: {error}", "see `openssl x509 -text -in FILE`") from None


def _validity(pem: bytes) -> Validity:
    read = load_pem_x509_certificate(pem)
    return Validity(read.not_valid_after_utc.timestamp(), read.not_valid_before_utc.timestamp())
