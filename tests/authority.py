"""A certificate authority for tests, whose certificates last as long as a test wants."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rdv.backends.ports import Certificate

PEM = serialization.Encoding.PEM
DOMAIN = "test.rdv.internal"
SETTING = f"grpc:?tls=files&cert=cert.pem&key=key.pem&ca=ca.pem&domain={DOMAIN}"


class Authority:
    """One authority. name: of its own certificate."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.pem = self._signed(self._name, self._key.public_key(), x509.BasicConstraints(True, 0), 86400.0)

    def _signed(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType, life_s: float
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        # certificates know whole seconds only
        begin, end = now - datetime.timedelta(minutes=1), now + datetime.timedelta(seconds=life_s)
        made = x509.CertificateBuilder(
            self._name, name, key, x509.random_serial_number(), not_valid_before=begin, not_valid_after=end
        )
        return made.add_extension(extension, critical=False).sign(self._key, hashes.SHA256()).public_bytes(PEM)

    def certificate(self, name: str = f"gateway.{DOMAIN}", life_s: float = 3600.0) -> Certificate:
        """A certificate for a name, good for either end."""
        key = ec.generate_private_key(ec.SECP256R1())
        chain = self._signed(_named(name), key.public_key(), x509.SubjectAlternativeName([x509.DNSName(name)]), life_s)
        plain = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Certificate(chain, plain, self.pem)

    def write(self, folder: Path, name: str = f"gateway.{DOMAIN}", life_s: float = 3600.0) -> str:
        """Put (or replace) a certificate's files into a folder; the setting of a bus that uses them."""
        made = self.certificate(name, life_s)
        for file, data in (("cert.pem", made.chain), ("key.pem", made.key), ("ca.pem", made.authorities)):
            (folder / file).write_bytes(data)
        return SETTING


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
