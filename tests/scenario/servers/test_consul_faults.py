"""Consul stopped, frozen, restarted empty, and answers that never arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.errors import LostRace, NotAuthorised, Unreachable

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("no_consul_environment")]
HANG_S = 180.0


@pytest.fixture
def registry(own_consul: Any, tmp_path: Path) -> Callable[..., Any]:
    """registry(address): a registry of this test below its own prefix."""
    from rdv.backends.consul.registry import ConsulRegistry

    token = tmp_path / "token"
    token.write_text(own_consul.token)

    def make(address: str = "") -> Any:
        return ConsulRegistry(f"{tmp_path.name}?address={address or own_consul.address}&token_file={token}")

    return make


def test_a_stopped_server_is_unreachable_and_comes_back(own_consul: Any, registry: Callable[..., Any]) -> None:
    """Without a server every call is Unreachable; once it is back the values are, and the same object goes on."""
    ours = registry()
    entry = ours.put("k", b"1")
    own_consul.process.stop()
    try:
        for name, *arguments in (("get", "k"), ("put", "k", b"2"), ("list", ""), ("delete", "k"), ("watch", "k", 0, 1)):
            with pytest.raises(Unreachable, match="does not answer"):
                getattr(ours, name)(*arguments)
    finally:
        own_consul.start()
    assert ours.get("k") == entry
    assert ours.put("k", b"2", entry.index).index > entry.index


def test_a_frozen_server_is_found_out(own_consul: Any, registry: Callable[..., Any]) -> None:
    """A server that holds connections and says nothing is Unreachable within seconds, and fine once it runs on."""
    ours = registry()
    entry = ours.put("k", b"1")
    own_consul.process.freeze()
    try:
        with pytest.raises(Unreachable):
            ours.get("k")
    finally:
        own_consul.process.thaw()
    assert ours.get("k") == entry


def test_a_frozen_server_is_waited_for_only_a_few_times(own_consul: Any, registry: Callable[..., Any]) -> None:
    """Behind a breaker a server that says nothing costs its time limit twice, then nothing, until it answers again."""
    from rdv.backends.guarded import GuardedRegistry
    from rdv.breaker import Breaker, BreakerPolicy, State

    breaker = Breaker("registry of dev", BreakerPolicy(failures=2, first_s=2.0))
    ours = GuardedRegistry(registry(), breaker)
    entry = ours.put("k", b"1")
    own_consul.process.freeze()
    try:
        for _ in range(2):
            with pytest.raises(Unreachable, match="does not answer"):
                ours.get("k")
        for _ in range(20):
            with pytest.raises(Unreachable, match="left alone"):
                ours.get("k")
    finally:
        own_consul.process.thaw()
    until = time.monotonic() + HANG_S
    while breaker.state is not State.CLOSED and time.monotonic() < until:
        try:
            assert ours.get("k") == entry
        except Unreachable:
            time.sleep(0.05)
    assert ours.get("k") == entry


def test_a_server_that_comes_back_empty_is_believed(
    own_consul: Any, registry: Callable[..., Any], tmp_path: Path
) -> None:
    """After a loss of all data, and indexes that begin anew, a watch tells of absence and of what comes after."""
    ours = registry()
    for at in range(50):
        entry = ours.put("k", str(at).encode())
    own_consul.process.stop()
    own_consul.wipe()
    own_consul.start()
    assert ours.watch("k", entry.index, HANG_S) is None
    seen: list[Any] = []
    watcher = threading.Thread(target=lambda: seen.append(registry().watch("k", 0, HANG_S)))
    watcher.start()
    made = ours.put("k", b"new", 0)
    watcher.join(HANG_S)
    assert seen == [made]


def test_a_write_whose_answer_is_lost_is_known(
    own_consul: Any, registry: Callable[..., Any], faulty_proxy: Callable[..., Any]
) -> None:
    """A write that was done is told as done although its answer never came; one that was not is Unreachable."""
    proxy = faulty_proxy(own_consul.port, only="PUT")
    ours, direct = registry(proxy.address), registry()
    proxy.faults.append("cut after")
    entry = ours.put("k", b"1", 0)
    assert direct.get("k") == entry
    proxy.faults.append("cut before")
    with pytest.raises(Unreachable):
        ours.put("k", b"2", entry.index)
    assert direct.get("k") == entry
    proxy.faults.append("500")
    with pytest.raises(Unreachable, match="cannot serve"):
        ours.put("k", b"2", entry.index)
    assert ours.put("k", b"2", entry.index).value == b"2"


def test_a_watch_is_no_loop(
    own_consul: Any, registry: Callable[..., Any], faulty_proxy: Callable[..., Any]
) -> None:
    """A watch on a key beside a busy one takes few requests, and ends with its time."""
    proxy = faulty_proxy(own_consul.port)
    direct, begun = registry(), time.monotonic()
    direct.put("k", b"1")
    watcher = threading.Thread(target=lambda: registry(proxy.address).watch("absent", 0, 1.0))
    watcher.start()
    while watcher.is_alive() and time.monotonic() < begun + HANG_S:
        direct.put("absent-but-close", str(time.monotonic()).encode())
    watcher.join()
    assert len(proxy.requests) <= 10


def test_tokens_are_read_anew(own_consul: Any, registry: Callable[..., Any], tmp_path: Path) -> None:
    """A token that may not is NotAuthorised without being shown, and a new one in the same file is taken up."""
    ours = registry()
    weak = own_consul.new_token("weak", 'key_prefix "other/" { policy = "write" }')
    (tmp_path / "token").write_text(weak)
    with pytest.raises(NotAuthorised) as caught:
        ours.put("k", b"1")
    assert weak not in repr(caught.value)
    (tmp_path / "token").write_text(own_consul.token + "\n")
    assert ours.put("k", b"1", 0).value == b"1"
    with pytest.raises(LostRace):
        ours.put("k", b"2", 0)
