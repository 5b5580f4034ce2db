"""The contract of the registry port. A further adapter joins by a class with a `door` fixture of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rdv.backends.guarded import GuardedRegistry
from rdv.backends.ports import Registry
from rdv.backends.registry_sqlite import SqliteRegistry
from rdv.breaker import Breaker
from rdv.errors import LostRace, UsageError

HANG_S = 180.0
CHILD = """
import importlib, json, sys
module, name, arguments, job, key, count = json.loads(sys.argv[1])
registry = getattr(importlib.import_module(module), name)(*arguments)
from rdv.errors import LostRace
print("ready", flush=True)
sys.stdin.readline()
if job == "create":
    won = []
    for at in range(count):
        try:
            registry.put(f"{key}/{at}", str(sys.argv[2]).encode(), 0)
            won.append(at)
        except LostRace:
            continue
    print(json.dumps(won), flush=True)
    sys.exit()
done = 0
while done < count:
    if job == "fill":
        registry.put(key, str(done).encode() * 5000)
        done += 1
        print(done, flush=True)
        continue
    entry = registry.get(key)
    try:
        registry.put(key, str(int(entry.value) + 1 if entry else 1).encode(), entry.index if entry else 0)
        done += 1
    except LostRace:
        continue
print(json.dumps(done), flush=True)
"""


@dataclass
class Door:
    """How a test reaches a registry: `open` the port, `peek` past it, `entry` = module, class, arguments."""

    open: Callable[[], Registry]
    peek: Callable[[str], bytes | None]
    entry: tuple[str, str, list[str]]

    def start(self, job: str, key: str, count: int, value: str = "") -> subprocess.Popen[bytes]:
        """A process that, after a line, counts a key up (`count`), overwrites it (`fill`) or creates below it."""
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps([*self.entry, job, key, count]), value], stdin=-1, stdout=-1
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child


def go(child: subprocess.Popen[bytes]) -> None:
    """Let a ready process begin."""
    assert child.stdin is not None
    child.stdin.write(b"\n")
    child.stdin.flush()


operations = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete", "list", "get"]),
        st.sampled_from(["a", "a/b", "a/c", "b"]),
        st.sampled_from(["any", "absent", "present", "stale"]),
        st.binary(max_size=5),
    ),
    max_size=30,
)


class RegistryContract:
    """What every registry promises."""

    @pytest.fixture
    def registry(self, door: Door) -> Registry:
        """The registry under test, empty."""
        return door.open()

    def test_what_is_put_is_there(self, door: Door, registry: Registry) -> None:
        """A value of any bytes, empty or of the largest size, is stored as it is and read back with its index."""
        assert registry.get("k") is None
        for value in (b"", bytes(range(256)), b"x" * 512 * 1024):
            entry = registry.put("k", value)
            assert entry.index > 0
            assert (registry.get("k"), door.peek("k")) == (entry, value)

    def test_a_value_that_is_too_large_is_refused(self, registry: Registry) -> None:
        """A value above 512 KB is refused, and the old one stays."""
        registry.put("k", b"old")
        with pytest.raises(UsageError, match="bytes"):
            registry.put("k", b"x" * (512 * 1024 + 1))
        assert registry.get("k").value == b"old"

    @pytest.mark.parametrize(
        "key", ["", "/", "/a", "a//b", "a/", "..", "a/../b", "a b", "é", "a\0", "a" * 256, "\ud800"]
    )
    def test_keys_outside_the_alphabet_are_refused(self, registry: Registry, key: str) -> None:
        """Every method refuses a key outside the alphabet."""
        for call in (
            lambda: registry.get(key),
            lambda: registry.put(key, b""),
            lambda: registry.delete(key),
            lambda: registry.watch(key, 0, 0),
        ):
            with pytest.raises(UsageError):
                call()

    @given(operations)
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors])
    def test_it_behaves_as_a_table_with_check_and_set(self, door: Door, steps: list) -> None:
        """Any series of calls does what it does on a plain table, and indexes only grow."""
        registry = door.open()
        for key in registry.list(""):
            registry.delete(key)
        table: dict[str, tuple[bytes, int]] = {}
        newest = 0
        for what, key, how, value in steps:
            index = table[key][1] if key in table else 0
            expect = {"any": None, "absent": 0, "present": index or 7, "stale": index + 1}[how]
            fits = expect is None or expect == index
            if what == "put" and fits:
                entry = registry.put(key, value, expect)
                assert entry.index > newest
                newest, table[key] = entry.index, (value, entry.index)
            elif what == "delete" and fits:
                registry.delete(key, expect)
                table.pop(key, None)
            elif what in ("put", "delete"):
                with pytest.raises(LostRace):
                    registry.put(key, value, expect) if what == "put" else registry.delete(key, expect)
            found = {name: (entry.value, entry.index) for name, entry in registry.list(key).items()}
            assert found == {name: one for name, one in sorted(table.items()) if name.startswith(key)}
            entry = registry.get(key)
            assert (entry and (entry.value, entry.index)) == table.get(key)

    def test_an_index_never_returns(self, registry: Registry) -> None:
        """A key that was deleted and made again has a greater index, so that an old expectation never fits."""
        first = registry.put("k", b"1")
        registry.delete("k")
        with pytest.raises(LostRace):
            registry.put("k", b"2", first.index)
        assert registry.put("k", b"2", 0).index > first.index

    def test_of_racing_creators_one_wins(self, door: Door, registry: Registry) -> None:
        """Of four processes that create the same hundred keys, exactly one wins each, and its value is there."""
        children = {value: door.start("create", "k", 100, value) for value in "abcd"}
        for child in children.values():
            go(child)
        won = {value: json.loads(child.communicate(timeout=HANG_S)[0]) for value, child in children.items()}
        assert sorted(at for mine in won.values() for at in mine) == list(range(100))
        for value, mine in won.items():
            assert all(registry.get(f"k/{at}").value == value.encode() for at in mine)

    def test_no_update_is_lost(self, door: Door, registry: Registry) -> None:
        """Three processes that count one key up by check-and-set end on the sum of all their steps."""
        children = [door.start("count", "k", 60) for _ in range(3)]
        for child in children:
            go(child)
        for child in children:
            child.communicate(timeout=HANG_S)
        assert registry.get("k").value == b"180"

    def test_a_killed_writer_leaves_a_whole_value(self, door: Door, registry: Registry) -> None:
        """After kill -9 in the middle of writing the value is one that was put, and writing goes on."""
        for _ in range(5):
            child = door.start("fill", "k", 100_000)
            go(child)
            for _ in range(20):
                assert child.stdout.readline()
            child.kill()
            child.communicate()
            value = registry.get("k").value
            assert value == value[: len(value) // 5000] * 5000
            registry.put("k", b"0", registry.get("k").index)

    def test_watch_returns_at_once_what_is_new(self, registry: Registry) -> None:
        """A watch that knows an old index, or absence, returns the entry that is there."""
        entry = registry.put("k", b"1")
        assert registry.watch("k", 0, HANG_S) == entry
        newer = registry.put("k", b"2")
        assert registry.watch("k", entry.index, HANG_S) == newer
        assert registry.watch("absent", 3, HANG_S) is None

    def test_watch_ends_when_its_time_is_over(self, registry: Registry) -> None:
        """A watch on a key that does not change returns what it knows when its time is over."""
        entry = registry.put("k", b"1")
        begun = time.monotonic()
        assert registry.watch("k", entry.index, 0.2) == entry
        assert registry.watch("absent", 0, 0.0) is None
        assert time.monotonic() - begun >= 0.2

    @pytest.mark.parametrize("change", ["put", "delete", "create"])
    def test_watch_wakes_on_a_change(self, door: Door, registry: Registry, change: str) -> None:
        """A change of any kind, made through another object, ends a watch; changes of other keys do not."""
        if change != "create":
            registry.put("k", b"0")
        index = registry.get("k").index if change != "create" else 0
        seen: list = []
        watcher = threading.Thread(target=lambda: seen.append(door.open().watch("k", index, HANG_S)))
        watcher.start()
        other = door.open()
        for at in range(5):
            other.put("other", str(at).encode())
        watcher.join(0.1)
        assert watcher.is_alive()
        if change == "delete":
            other.delete("k")
        else:
            other.put("k", b"1")
        watcher.join(HANG_S)
        assert [entry and entry.value for entry in seen] == [None if change == "delete" else b"1"]

    def test_a_watcher_ends_on_the_last_value(self, door: Door, registry: Registry) -> None:
        """However fast another process writes, a watcher that follows ends on the last value, in order."""
        child = door.start("fill", "k", 200)
        go(child)
        values, index = [], 0
        while not values or values[-1] != 199:
            entry = registry.watch("k", index, HANG_S)
            values.append(int(entry.value[: len(entry.value) // 5000]))
            index = entry.index
        child.communicate(timeout=HANG_S)
        assert values == sorted(values)

    def test_threads_may_share_it(self, registry: Registry) -> None:
        """One object used by several threads loses nothing."""

        def count() -> None:
            for _ in range(25):
                while True:
                    entry = registry.get("k")
                    try:
                        registry.put("k", str(int(entry.value) + 1).encode(), entry.index)
                        break
                    except LostRace:
                        continue

        registry.put("k", b"0")
        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_S)
        assert registry.get("k").value == b"100"

    def test_it_survives_a_fork(self, registry: Registry) -> None:
        """A forked child uses the object it inherited, and the parent's goes on working."""
        registry.put("k", b"parent")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if registry.get("k").value == b"parent" and registry.put("k", b"child") else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert registry.get("k").value == b"child"
        assert registry.put("k", b"again").index > 0


class TestSqlite(RegistryContract):
    """The embedded registry: one SQLite file."""

    @pytest.fixture
    def door(self, tmp_path: Path) -> Iterator[Door]:
        """A registry in a file that does not exist yet."""
        import sqlite3

        path = tmp_path / "state" / "registry.sqlite"
        opened: list[SqliteRegistry] = []

        def make() -> SqliteRegistry:
            opened.append(SqliteRegistry(path))
            return opened[-1]

        def peek(key: str) -> bytes | None:
            connection = sqlite3.connect(path)
            row = connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
            connection.close()
            return row and row[0]

        yield Door(make, peek, ("rdv.backends.registry_sqlite", "SqliteRegistry", [str(path)]))
        for registry in opened:
            registry.close()


class TestGuarded(RegistryContract):
    """Any registry behind a circuit breaker, which changes nothing while it is closed."""

    @pytest.fixture
    def door(self, tmp_path: Path) -> Iterator[Door]:
        """The embedded registry behind a breaker."""
        path, opened, breaker = tmp_path / "registry.sqlite", [], Breaker("registry")

        def make() -> Registry:
            opened.append(GuardedRegistry(SqliteRegistry(path), breaker))
            return opened[-1]

        def peek(key: str) -> bytes | None:
            entry = SqliteRegistry(path).get(key)
            return entry.value if entry else None

        yield Door(make, peek, ("rdv.backends.registry_sqlite", "SqliteRegistry", [str(path)]))
        for registry in opened:
            registry.close()
        assert breaker.view()["opened"] == 0


@pytest.mark.live
class TestConsul(RegistryContract):
    """A Consul server, the registry below a prefix of its own."""

    @pytest.fixture
    def door(self, consul_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
        """A prefix that nobody used before, and a token that may use nothing else."""
        from rdv.backends.consul.registry import ConsulRegistry

        for name in [name for name in os.environ if name.startswith("CONSUL_")]:
            monkeypatch.delenv(name)
        prefix = f"rdv/{tmp_path.parent.name}-{tmp_path.name}"
        token = tmp_path / "token"
        name = f"contract-{tmp_path.parent.name}-{tmp_path.name}"
        token.write_text(consul_server.new_token(name, f'key_prefix "{prefix}/" {{ policy = "write" }}'))
        place = f"{prefix}?address={consul_server.address}&token_file={token}"

        def peek(key: str) -> bytes | None:
            found = consul_server.call("GET", f"/v1/kv/{prefix}/{key}?raw")
            return found.body if found.ok else None

        return Door(lambda: ConsulRegistry(place), peek, ("rdv.backends.consul.registry", "ConsulRegistry", [place]))
