"""From when to when certificates are valid, read from their PEM: Python's `ssl` tells that of no own certificate.

Only the way to the validity is walked (RFC 5280, 4.1): certificate, its signed part, the fifth field of that or the
fourth where no version is told.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime

import msgspec

from rdv.errors import ConfigError

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _TIME = 0x30, 0xA0, 0x17, 0x18


class Validity(msgspec.Struct, frozen=True, order=True):
    """A certificate's time, in epoch seconds."""

    until: float
    begins: float


def validities(pem: bytes) -> list[Validity]:
    """The times of all certificates in some PEM, in their order; ConfigError for one that is none."""
    try:
        return [_validity(ssl.PEM_cert_to_DER_cert(one.decode())) for one in _PEM.findall(pem)]
    except (ValueError, IndexError) as error:
        raise ConfigError(f"a certificate cannot be read: {error}", "see `openssl x509 -text -in FILE`") from None


def _validity(der: bytes) -> Validity:
    signed = _fields(_value(_value(der, _SEQUENCE), _SEQUENCE))
    at = 4 if signed[0][0] == _VERSION else 3
    tag, times = signed[at]
    if tag != _SEQUENCE:
        raise ValueError("its validity is not where it belongs")
    begins, until = (_moment(*one) for one in _fields(times))
    return Validity(until, begins)


def _moment(tag: int, text: bytes) -> float:
    """Epoch seconds of a time: its year has two digits (1950 to 2049) or four."""
    year = {_UTC_TIME: 2, _TIME: 4}[tag] if tag in (_UTC_TIME, _TIME) else 0
    if not year:
        raise ValueError(f"{tag:#x} is no time")
    told = text.decode()
    century = "" if year == 4 else "19" if told[:2] >= "50" else "20"
    return datetime.strptime(century + told, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _value(der: bytes, tag: int) -> bytes:
    """The content of the first element, which must be of a kind."""
    found, content, _ = _element(der)
    if found != tag:
        raise ValueError(f"{found:#x} stands where {tag:#x} belongs")
    return content


def _fields(der: bytes) -> list[tuple[int, bytes]]:
    """The elements of a sequence: kind and content."""
    found = []
    while der:
        tag, content, der = _element(der)
        found.append((tag, content))
    return found


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Kind and content of the first element, and what follows it."""
    tag, length, at = der[0], der[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, at = int.from_bytes(der[2 : 2 + count]), 2 + count
    if len(der) < at + length:
        raise ValueError("it is cut off")
    return tag, der[at : at + length], der[at + length :]
