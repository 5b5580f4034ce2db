"""When certificates end, read from their PEM, against a library that knows all of them."""

import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from rdv.backends.certificate_times import Validity, validities
from rdv.errors import ConfigError

KEYS = (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate())
MOMENTS = st.datetimes(datetime.datetime(1950, 1, 2), datetime.datetime(9999, 12, 31), allow_imaginary=False)


def made(name: str, begins: datetime.datetime, until: datetime.datetime, key: int, extensions: int) -> bytes:
    """A certificate as PEM, long names and many extensions making its lengths long."""
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        who, who, KEYS[key].public_key(), x509.random_serial_number(), not_valid_before=begins, not_valid_after=until
    )
    names = [x509.DNSName(f"n{at}.example") for at in range(extensions)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    algorithm = hashes.SHA256() if key == 0 else None
    return builder.sign(KEYS[key], algorithm).public_bytes(serialization.Encoding.PEM)


@given(st.text("ab .", min_size=1, max_size=60), MOMENTS, MOMENTS, st.integers(0, 1), st.integers(0, 30))
def test_times_are_read_as_they_were_written(
    name: str, one: datetime.datetime, other: datetime.datetime, key: int, extensions: int
) -> None:
    """To the second, in this century and the last, in either form of a time."""
    begins, until = sorted(moment.replace(microsecond=0) for moment in (one, other))
    pem = made(name, begins, until, key, extensions)
    moments = [moment.replace(tzinfo=datetime.UTC).timestamp() for moment in (until, begins)]
    assert validities(b"text before\n" + pem + b"\nand after\n" + pem) == [Validity(*moments)] * 2


@given(st.binary(max_size=200))
def test_what_is_no_certificate_is_told(junk: bytes) -> None:
    """Any other bytes in the place of a certificate are one error, and never something read from beyond their end."""
    with pytest.raises(ConfigError, match="openssl x509"):
        validities(ssl.DER_cert_to_PEM_cert(junk or b"0").encode())


@given(st.integers(0, 400))
def test_a_certificate_that_is_cut_off_is_told(at: int) -> None:
    """Wherever it ends too soon."""
    whole = made("a", datetime.datetime(2026, 1, 1), datetime.datetime(2027, 1, 1), 0, 5)
    der = ssl.PEM_cert_to_DER_cert(whole.decode())
    with pytest.raises(ConfigError):
        validities(ssl.DER_cert_to_PEM_cert(der[: min(at, len(der) - 1)] or b"0").encode())
