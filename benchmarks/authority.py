"""A certificate authority for a benchmark, and certificates of it for both ends of a bus."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DOMAIN = "bench.rdv.internal"
LIFE = datetime.timedelta(days=1)


def write_certificates(folder: Path) -> str:
    """An authority and a certificate that serves gateway and workers alike; the setting of a bus that uses them."""
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench authority")])

    def signed(name: x509.Name, public: ec.EllipticCurvePublicKey, extension: x509.ExtensionType) -> bytes:
        made = x509.CertificateBuilder(
            ca_name, name, public, x509.random_serial_number(), not_valid_before=now, not_valid_after=now + LIFE
        )
        return made.add_extension(extension, False).sign(ca_key, hashes.SHA256()).public_bytes(_PEM)

    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    names = x509.SubjectAlternativeName([x509.DNSName(f"gateway.{DOMAIN}")])
    (folder / "ca.pem").write_bytes(signed(ca_name, ca_key.public_key(), x509.BasicConstraints(True, 0)))
    (folder / "cert.pem").write_bytes(signed(own, key.public_key(), names))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain))
    return f"grpc:?tls=files&cert=cert.pem&key=key.pem&ca=ca.pem&domain={DOMAIN}"


_PEM = serialization.Encoding.PEM
