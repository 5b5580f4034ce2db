"""S3 that answers 503, breaks off, overwrites, or is not ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.errors import ConfigError, LostRace, NotAuthorised, Refused, Unreachable

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("s3_keys")]


@pytest.fixture
def store(s3_server: Any) -> Callable[..., Any]:
    """store(endpoint): the bucket of this test, through any endpoint."""
    from rdv.backends.s3.blobs import S3Blobs

    bucket = s3_server.new_bucket()

    def make(endpoint: str = "", name: str = bucket) -> Any:
        return S3Blobs(f"{name}/p?endpoint={endpoint or s3_server.endpoint}&region=us-east-1")

    return make


@pytest.fixture
def proxied(s3_server: Any, store: Callable[..., Any], faulty_proxy: Callable[..., Any]) -> tuple[Any, Any]:
    """A store that has been proven, behind a proxy that works so far."""
    proxy = faulty_proxy(s3_server.port)
    blobs = store(proxy.address)
    blobs.create("first", b"1")
    return blobs, proxy


@pytest.mark.parametrize("fault", ["503", "500", "cut before", "half"])
def test_a_store_that_stumbles_is_asked_again(proxied: tuple[Any, Any], tmp_path: Path, fault: str) -> None:
    """One failure of any kind in the middle of a call is survived, whole bytes arrive."""
    blobs, proxy = proxied
    large = os.urandom(20_000_000)
    (tmp_path / "large").write_bytes(large)
    proxy.faults.extend(["", fault])
    blobs.put("large", tmp_path / "large")
    proxy.faults.append(fault)
    assert blobs.read("large") == large
    proxy.faults.extend(["", fault])
    assert blobs.fetch("large", tmp_path / "into").read_bytes() == large
    proxy.faults.append(fault)
    assert list(blobs.keys("")) == ["first", "large"]


def test_a_store_that_is_down_is_unreachable(proxied: tuple[Any, Any], tmp_path: Path) -> None:
    """What goes on failing is Unreachable, and nothing half is left, neither here nor there."""
    blobs, proxy = proxied
    (tmp_path / "large").write_bytes(os.urandom(20_000_000))
    for call in (
        lambda: blobs.put("large", tmp_path / "large"),
        lambda: blobs.read("first"),
        lambda: blobs.fetch("first", tmp_path / "into"),
        lambda: list(blobs.keys("")),
    ):
        proxy.faults.extend(["503"] * 40)
        with pytest.raises(Unreachable):
            call()
        proxy.faults.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["large"]
    assert list(blobs.keys("")) == ["first"]
    blobs.put("large", tmp_path / "large")


def test_a_write_whose_answer_is_lost_is_not_done_twice(proxied: tuple[Any, Any]) -> None:
    """When the answer to a create is lost, the key holds this create's bytes, whatever the caller is told."""
    blobs, proxy = proxied
    proxy.faults.append("cut after")
    with pytest.raises(LostRace):
        blobs.create("k", b"mine")
    assert blobs.read("k") == b"mine"


def test_a_store_that_overwrites_is_refused(
    s3_server: Any, store: Callable[..., Any], faulty_proxy: Callable[..., Any]
) -> None:
    """A store that says yes to a second create of the probe is refused before anything of ours is written to it."""
    proxy = faulty_proxy(s3_server.port, only="PUT")
    proxy.faults.extend(["200"] * 5)
    with pytest.raises(Refused, match="overwrites"):
        store(proxy.address).create("k", b"1")
    assert store().read("k") is None


def test_the_probe_costs_one_request(
    s3_server: Any, store: Callable[..., Any], faulty_proxy: Callable[..., Any]
) -> None:
    """In a store that was proven once, proving it again takes one request, before the first write only."""
    store().create("a", b"1")
    proxy = faulty_proxy(s3_server.port)
    blobs = store(proxy.address)
    blobs.read("a")
    assert len(proxy.requests) == 1
    blobs.create("b", b"1")
    blobs.create("c", b"1")
    assert len(proxy.requests) == 4


def test_wrong_keys_and_buckets(store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key is NotAuthorised and not shown, no key at all too, and an absent bucket is a matter of rdv.toml."""
    with pytest.raises(ConfigError, match="does not exist"):
        store(name="no-such-bucket").create("k", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-canary")
    with pytest.raises(NotAuthorised) as caught:
        store().read("k")
    assert "wrong-canary" not in str(caught.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NotAuthorised, match="no credentials"):
        store().read("k")
