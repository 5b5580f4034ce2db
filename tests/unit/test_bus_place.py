"""What an environment's `bus` setting may say."""

import pytest

from rdv.bus_place import BusPlace, parse_bus
from rdv.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("frames:", BusPlace()),
        ("grpc:?tls=off", BusPlace(scheme="grpc")),
        ("grpc:?tls=off&compress_kb=64", BusPlace(scheme="grpc", compress_kb=64)),
        (
            "grpc:?tls=files&cert=a/c.pem&key=a/k.pem&ca=ca.pem",
            BusPlace(scheme="grpc", tls="files", cert="a/c.pem", key="a/k.pem", ca="ca.pem"),
        ),
        (
            "grpc:?tls=files&cert=c&key=k&ca=a&domain=x.y",
            BusPlace(scheme="grpc", tls="files", cert="c", key="k", ca="a", domain="x.y"),
        ),
        (
            "grpc:?tls=vault&mount=pki&role=rdv-dev",
            BusPlace(scheme="grpc", tls="vault", mount="pki", role="rdv-dev", domain="dev.rdv.internal"),
        ),
        (
            "grpc:?tls=vault&mount=pki&role=r&domain=x&ttl_s=60",
            BusPlace(scheme="grpc", tls="vault", mount="pki", role="r", domain="x", ttl_s=60.0),
        ),
    ],
)
def test_buses(text: str, place: BusPlace) -> None:
    """Each form of the setting says what it looks like."""
    assert parse_bus(text, "dev") == place


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a bus"),
        ("frames", "is not a bus"),
        ("frames:/tmp", "is not a bus"),
        ("kafka:", "is not a bus"),
        ("grpc:host:1", "is not a bus"),
        ("grpc:", "does not say who is let in"),
        ("grpc:?tls=on", "does not say who is let in"),
        ("grpc:?tls=off&compress_kb=-1", "compress_kb"),
        ("grpc:?tls=off&ca=x", "does not know: ca"),
        ("grpc:?tls=files&cert=c", "does not name ca, key"),
        ("grpc:?tls=files&cert=c&key=k&ca=", "does not name ca"),
        ("grpc:?tls=vault&mount=pki", "does not name role"),
        ("grpc:?tls=vault&mount=pki&role=r&ttl_s=soon", "ttl_s"),
        ("grpc:?tls=vault&mount=pki&role=r&ttl_s=0", "ttl_s"),
        ("grpc:?tls=vault&mount=pki&role=r&ttl_s=inf", "ttl_s"),
    ],
)
def test_no_buses(text: str, reason: str) -> None:
    """What is no bus is refused with the reason: nobody is let in unasked by a slip of the pen."""
    with pytest.raises(ConfigError, match=reason):
        parse_bus(text, "dev")
