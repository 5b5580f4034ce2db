"""The contract of the blob store port. A further adapter joins by a class with a `door` fixture of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rdv.backends.blobs_dir import DirBlobs
from rdv.backends.blobs_routed import SERVED, RoutedBlobs
from rdv.backends.guarded import GuardedBlobs
from rdv.backends.ports import Blobs
from rdv.breaker import Breaker
from rdv.errors import LostRace, NotFound, UsageError

CHILD = """
import importlib, json, sys
*entry, job = json.loads(sys.argv[1])
def made(module, name, arguments):
    parts = [made(*one) if isinstance(one, list) else one for one in arguments]
    return getattr(importlib.import_module(module), name)(*parts)
blobs = made(*entry)
from rdv.errors import LostRace
print("ready", flush=True)
sys.stdin.readline()
won = []
for key, size, letter in job:
    try:
        blobs.create(key, letter.encode() * size)
        won.append(key)
    except LostRace:
        pass
print(json.dumps(won), flush=True)
"""
BAD_KEYS = [
    "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", "a/./b", "a\\b", "a b", "a\nb", "a\0b",
    "é", "a:b", "a*", "%2e%2e/a", "..%2f", "~/../a", "a" * 256, "/".join(["a" * 99] * 11),
    "$HOME", "a\u2215b", "\ud800", "#",
]  # fmt: skip
GOOD_KEYS = ["a", "a.b", "...", ".a", "a/.b/c", "a=1,b=~20+x@y-z_0", "a" * 255, "~", "model/light/2024-01-01/n=1-ab.2"]


@dataclass
class Door:
    """How a test reaches a store: `open` the port, `peek` and `poke` past it, `entry` = module, class, arguments.

    An argument that is a list is such an entry, too.
    """

    open: Callable[[], Blobs]
    peek: Callable[[str], bytes | None]
    poke: Callable[[str, bytes], None]
    entry: tuple[str, str, list[Any]]
    aside: Callable[[], list[str]] = list
    """What lies in the store and is no key, seen past the port."""
    nests: bool = False
    """Whether a key may lie below another one (`a` and `a/b`)."""

    def start(self, job: Sequence[tuple[str, int, str]]) -> subprocess.Popen[bytes]:
        """A process of its own, ready to create keys once a line reaches it."""
        child = subprocess.Popen([sys.executable, "-c", CHILD, json.dumps([*self.entry, job])], stdin=-1, stdout=-1)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child


def go(child: subprocess.Popen[bytes]) -> None:
    """Let a ready process begin."""
    assert child.stdin is not None
    child.stdin.write(b"\n")
    child.stdin.flush()


class BlobsContract:
    """What every blob store promises."""

    @pytest.fixture
    def blobs(self, door: Door) -> Blobs:
        """The store under test, empty."""
        return door.open()

    def test_what_is_created_is_there(self, door: Door, blobs: Blobs) -> None:
        """Created bytes are stored as they are and read back, empty and large ones too."""
        for at, data in enumerate([b"", b"\0\xff", b"x" * 3_000_000]):
            blobs.create(f"k/{at}", data)
            assert door.peek(f"k/{at}") == data
            assert blobs.read(f"k/{at}") == data

    def test_what_somebody_else_stored_is_read(self, door: Door, blobs: Blobs, tmp_path: Path) -> None:
        """Bytes that came into the store past this object are read, fetched and listed."""
        door.poke("k/other", b"theirs")
        assert blobs.read("k/other") == b"theirs"
        assert blobs.fetch("k/other", tmp_path / "into").read_bytes() == b"theirs"
        assert list(blobs.keys("k/")) == ["k/other"]

    def test_absent_keys(self, blobs: Blobs, tmp_path: Path) -> None:
        """Reading an absent key gives None, fetching it NotFound, deleting it nothing, listing nothing."""
        assert blobs.read("absent/key") is None
        with pytest.raises(NotFound):
            blobs.fetch("absent/key", tmp_path / "into")
        blobs.delete("absent/key")
        assert list(blobs.keys("")) == []
        blobs.create("folder/key", b"")
        assert blobs.read("folder") is None

    @pytest.mark.parametrize("again", ["create", "put"])
    @pytest.mark.parametrize("first", ["create", "put"])
    def test_a_written_key_never_changes(self, blobs: Blobs, tmp_path: Path, first: str, again: str) -> None:
        """Whoever comes second to a key is told that the race is lost, and the first bytes stay."""

        def write(way: str, data: bytes) -> None:
            if way == "create":
                return blobs.create("k", data)
            (tmp_path / "source").write_bytes(data)
            return blobs.put("k", tmp_path / "source")

        write(first, b"first")
        with pytest.raises(LostRace):
            write(again, b"second")
        assert blobs.read("k") == b"first"

    def test_a_stored_file_is_independent_of_its_source(self, blobs: Blobs, tmp_path: Path) -> None:
        """What was put stays as it was when the source file changes or goes."""
        source = tmp_path / "source"
        source.write_bytes(b"before")
        blobs.put("a/b", source)
        source.write_bytes(b"after!")
        assert blobs.fetch("a/b", tmp_path / "into").read_bytes() == b"before"
        source.unlink()
        assert blobs.read("a/b") == b"before"

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_keys_outside_the_alphabet_are_refused(self, door: Door, blobs: Blobs, tmp_path: Path, key: str) -> None:
        """Every method refuses a key that could mean another place, before it touches anything."""
        (tmp_path / "source").write_bytes(b"x")
        for call in (
            lambda: blobs.put(key, tmp_path / "source"),
            lambda: blobs.create(key, b"x"),
            lambda: blobs.read(key),
            lambda: blobs.fetch(key, tmp_path / "into"),
            lambda: blobs.delete(key),
        ):
            with pytest.raises(UsageError):
                call()
        assert list(blobs.keys("")) == []

    @pytest.mark.parametrize("prefix", ["/", "a//", "../", "a/../", "\0", "a b", "%", "a/./b"])
    def test_prefixes_outside_the_alphabet_are_refused(self, blobs: Blobs, prefix: str) -> None:
        """A listing refuses a prefix that no key can begin with."""
        with pytest.raises(UsageError):
            list(blobs.keys(prefix))

    @pytest.mark.parametrize("key", GOOD_KEYS)
    def test_the_whole_alphabet_is_kept(self, blobs: Blobs, key: str) -> None:
        """Every key of the alphabet is stored and listed under exactly its name."""
        blobs.create(key, key.encode())
        assert list(blobs.keys("")) == [key]
        assert blobs.read(key) == key.encode()

    def test_keys_below_keys(self, door: Door, blobs: Blobs) -> None:
        """A key below another key is stored where the store can, and refused in so many words where it cannot."""
        blobs.create("a/b", b"1")
        for key in ("a", "a/b/c"):
            if door.nests:
                blobs.create(key, b"2")
                assert blobs.read(key) == b"2"
            else:
                with pytest.raises(UsageError):
                    blobs.create(key, b"2")
        assert blobs.read("a/b") == b"1"

    @given(
        names=st.sets(st.text("ab-.", min_size=1, max_size=3).filter(lambda s: s not in (".", "..")), max_size=5),
        prefix=st.text("ab-./", max_size=4).filter(lambda s: not s.startswith("/") and "//" not in s),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors])
    def test_a_listing_is_every_key_that_begins_so(self, door: Door, names: set[str], prefix: str) -> None:
        """A listing is complete, sorted, and goes by the beginning of the key, not by folders."""
        if {".", ".."} & set(prefix.split("/")[:-1]):
            return
        blobs = door.open()
        stored = sorted({f"{one}/x{other}" for one in names for other in names})
        for key in stored:
            if blobs.read(key) is None:
                blobs.create(key, b"")
        assert list(blobs.keys(prefix)) == [key for key in stored if key.startswith(prefix)]
        for key in stored:
            blobs.delete(key)
        assert list(blobs.keys("")) == []

    def test_a_deleted_key_is_gone_and_can_be_made_again(self, door: Door, blobs: Blobs) -> None:
        """Deleting takes the one key, leaves its neighbours, and frees the name."""
        blobs.create("a/b", b"1")
        blobs.create("a/c", b"2")
        blobs.delete("a/b")
        assert door.peek("a/b") is None
        assert list(blobs.keys("")) == ["a/c"]
        blobs.create("a/b", b"3")
        assert blobs.read("a/b") == b"3"

    def test_a_listing_may_leave_folders_out(self, blobs: Blobs) -> None:
        """What lies below a folder of the name that is to be skipped is not listed, unless the prefix leads into it.

        A key whose last segment is that name is no folder, and stays.
        """
        every = ["k/a/m", "k/a/skip/1", "k/a/skip/2/3", "k/b/skipped/1", "k/c/skip", "k/skip/m"]
        for key in every:
            blobs.create(key, b"")
        assert list(blobs.keys("k/", skip="skip")) == ["k/a/m", "k/b/skipped/1", "k/c/skip"]
        assert list(blobs.keys("", skip="skip")) == ["k/a/m", "k/b/skipped/1", "k/c/skip"]
        assert list(blobs.keys("k/a/skip/", skip="skip")) == ["k/a/skip/1", "k/a/skip/2/3"]
        assert list(blobs.keys("k/a/sk", skip="skip")) == []
        assert list(blobs.keys("k/")) == every

    def test_of_racing_writers_one_wins_sees_half_a_blob(self, door: Door, blobs: Blobs) -> None:
        """While another process creates large blobs, every read is nothing or the whole."""
        size, count = 2_000_000, 10
        child = door.start([(f"k/{at}", size, "x") for at in range(count)])
        go(child)
        for at in range(count):
            while (data := blobs.read(f"k/{at}")) is None:
                assert child.poll() in (None, 0)
            assert len(data) == size
        child.communicate(timeout=60)

    def test_of_racing_writers_one_wins(self, door: Door, blobs: Blobs) -> None:
        """Of four processes that create the same fifty keys, exactly one wins each, and its bytes are there."""
        keys = [f"k/{at}/leaf" for at in range(50)]
        children = {letter: door.start([(key, 1000, letter) for key in keys]) for letter in "abcd"}
        for child in children.values():
            go(child)
        won = {letter: json.loads(child.communicate(timeout=60)[0]) for letter, child in children.items()}
        assert sorted(key for mine in won.values() for key in mine) == sorted(keys)
        for letter, mine in won.items():
            assert all(blobs.read(key) == letter.encode() * 1000 for key in mine)

    def test_a_killed_writer_leaves_whole_keys_only(self, door: Door, blobs: Blobs) -> None:
        """After kill -9 in the middle of writing every listed key is whole, and the rest can still be written."""
        job = [(f"k/{at}", 500_000, "x") for at in range(400)]
        for at in range(3):
            child = door.start(job)
            go(child)
            while len(list(blobs.keys("k/"))) < 10 * (at + 1):
                assert child.poll() is None
            child.kill()
            child.communicate()
            for key in blobs.keys(""):
                assert blobs.read(key) == b"x" * 500_000
        assert blobs.unfinished(3600.0) == []
        for one in blobs.unfinished(0.0):
            blobs.discard(one)
            blobs.discard(one)
        assert blobs.unfinished(0.0) == door.aside() == []
        for key, size, _ in job[:60]:
            if blobs.read(key) is None:
                blobs.create(key, b"x" * size)
            assert len(blobs.read(key) or b"") == size

    def test_creating_beside_deleting(self, door: Door, blobs: Blobs) -> None:
        """Creating keys in a folder that another process keeps emptying never fails."""
        child = door.start([(f"k/l/{at}", 10, "x") for at in range(300)])
        go(child)
        while child.poll() is None:
            for key in blobs.keys("k/l/"):
                blobs.delete(key)
        won = json.loads(child.communicate(timeout=60)[0])
        assert child.returncode == 0
        assert len(won) == 300


class TestDir(BlobsContract):
    """The embedded store: a directory."""

    @pytest.fixture
    def door(self, tmp_path: Path) -> Iterator[Door]:
        """A store in a folder that does not exist yet."""
        root = tmp_path / "store"

        def poke(key: str, data: bytes) -> None:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(data)

        def peek(key: str) -> bytes | None:
            return (root / key).read_bytes() if (root / key).exists() else None

        def aside() -> list[str]:
            return [path.name for path in (root / "%tmp").glob("*")]

        yield Door(lambda: DirBlobs(root), peek, poke, ("rdv.backends.blobs_dir", "DirBlobs", [str(root)]), aside)
        assert {path.name for path in tmp_path.iterdir()} <= {"store", "source", "into"}


class TestGuarded(BlobsContract):
    """Any store behind a circuit breaker, which changes nothing while it is closed."""

    @pytest.fixture
    def door(self, tmp_path: Path) -> Iterator[Door]:
        """The embedded store behind a breaker."""
        root, breaker = tmp_path / "store", Breaker("store")
        entry = ("rdv.backends.blobs_dir", "DirBlobs", [str(root)])
        yield Door(lambda: GuardedBlobs(DirBlobs(root), breaker), DirBlobs(root).read, DirBlobs(root).create, entry)
        assert breaker.view()["opened"] == 0


class TestRouted(BlobsContract):
    """Two directories that behave as one store: what is served in one, everything else in the other."""

    @pytest.fixture
    def door(self, tmp_path: Path) -> Door:
        """Two stores in folders that do not exist yet."""
        roots = [tmp_path / "store" / "served", tmp_path / "store" / "rest"]

        def file(key: str) -> Path:
            return roots[key.split("/")[0] not in SERVED] / key

        def poke(key: str, data: bytes) -> None:
            file(key).parent.mkdir(parents=True, exist_ok=True)
            file(key).write_bytes(data)

        return Door(
            lambda: RoutedBlobs(*map(DirBlobs, roots)),
            lambda key: file(key).read_bytes() if file(key).exists() else None,
            poke,
            (
                "rdv.backends.blobs_routed",
                "RoutedBlobs",
                [["rdv.backends.blobs_dir", "DirBlobs", [str(root)]] for root in roots],
            ),
        )


@pytest.mark.live
class TestS3(BlobsContract):
    """A bucket of an S3 server that keeps its objects as files."""

    @pytest.fixture
    def door(self, s3_server: Any, s3_keys: None) -> Door:
        """A bucket of its own, used below a prefix."""
        from rdv.backends.s3.blobs import S3Blobs

        bucket = s3_server.new_bucket()
        place = f"{bucket}/some/prefix?endpoint={s3_server.endpoint}&region=us-east-1"

        def file(key: str) -> Path:
            path: Path = s3_server.file(bucket, f"some/prefix/{key}")
            path.parent.mkdir(parents=True, exist_ok=True)
            return path

        return Door(
            lambda: S3Blobs(place),
            lambda key: file(key).read_bytes() if file(key).exists() else None,
            lambda key, data: file(key).write_bytes(data) and None,
            ("rdv.backends.s3.blobs", "S3Blobs", [place]),
        )


@pytest.mark.live
@pytest.mark.xdist_group("hdfs")
class TestHdfs(BlobsContract):
    """A folder of HDFS."""

    @pytest.fixture
    def door(self, hdfs_servers: Any, tmp_path: Path) -> Door:
        """A folder that nobody used before; past the port it is reached by the plain client."""
        import hdfs

        from rdv.backends.blobs_hdfs import HdfsBlobs

        root = f"/{tmp_path.parent.name}/{tmp_path.name}"
        place = f"{root}?url={hdfs_servers.url}&user=root"
        client = hdfs.InsecureClient(hdfs_servers.url, user="root")

        def peek(key: str) -> bytes | None:
            if client.status(f"{root}/{key}", strict=False) is None:
                return None
            with client.read(f"{root}/{key}") as stream:
                data: bytes = stream.read()
            return data

        def poke(key: str, data: bytes) -> None:
            client.write(f"{root}/{key}", data)

        def aside() -> list[str]:
            found: list[str] = client.list(f"{root}/%tmp") if client.status(f"{root}/%tmp", strict=False) else []
            return found

        return Door(lambda: HdfsBlobs(place), peek, poke, ("rdv.backends.blobs_hdfs", "HdfsBlobs", [place]), aside)
