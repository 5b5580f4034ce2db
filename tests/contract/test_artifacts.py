"""Artifacts over any blob store: one publisher wins, what verifies is whole, what is damaged is told."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.artifacts import ArtifactStore, file_entries
from rdv.backends.blobs_dir import DirBlobs
from rdv.backends.ports import Blobs
from rdv.errors import CorruptArtifact, LostRace, Unreachable, UsageError
from rdv.ids import short_id
from rdv.manifest import Manifest

CHILD = """
import importlib, json, sys, tempfile
from pathlib import Path
module, name, arguments, names, size = json.loads(sys.argv[1])
from rdv.backends.artifacts import ArtifactStore, file_entries
from rdv.errors import LostRace
from rdv.ids import short_id
from rdv.manifest import Manifest
store = ArtifactStore(getattr(importlib.import_module(module), name)(*arguments))
print("ready", flush=True)
sys.stdin.readline()
won = []
for one in names:
    with tempfile.TemporaryDirectory(dir=sys.argv[2]) as folder:
        attempt = short_id()
        for part in "ab":
            Path(folder, part).write_bytes(attempt.encode() * size)
        try:
            files = file_entries(Path(folder))
            store.publish(Manifest(name=one, kind="model", attempt=attempt, files=files, task="t"), Path(folder))
            won.append(one)
        except LostRace:
            pass
print(json.dumps(won), flush=True)
"""


@dataclass
class Door:
    """A store and the ways past it. entry: module, class and arguments for a process of its own."""

    blobs: Blobs
    corrupt: Callable[[str, bytes], None]
    entry: tuple[str, str, list[str]]
    size: int = 5000
    """Twelfths of the bytes of a file that takes a while to store."""
    reach_s: float = 0.06
    """How long a publisher lives at most before it is killed."""


class Uncertain:
    """A store whose next create fails, before or after it was done, as a network can make it fail."""

    def __init__(self, blobs: Blobs, done: bool) -> None:
        self._blobs, self._done = blobs, done

    def __getattr__(self, name: str) -> object:
        return getattr(self._blobs, name)

    def create(self, key: str, data: bytes) -> None:
        """Fail once, then let everything through."""
        create, self.create = self._blobs.create, self._blobs.create  # type: ignore[method-assign]
        if self._done:
            create(key, data)
        raise Unreachable("the answer was lost")


class ArtifactsContract:
    """What artifacts promise on every store."""

    @pytest.fixture
    def store(self, door: Door) -> ArtifactStore:
        """An empty artifact store."""
        return ArtifactStore(door.blobs)

    @pytest.fixture
    def made(self, tmp_path: Path) -> Callable[..., tuple[Manifest, Path]]:
        """A function that writes some files and makes their manifest."""

        def make(name: str, **files: bytes) -> tuple[Manifest, Path]:
            folder = tmp_path / f"made-{short_id()}"
            folder.mkdir()
            for path, data in (files or {"model": b"bytes", "notes": b""}).items():
                (folder / path).write_bytes(data)
            entries = file_entries(folder)
            return Manifest(name=name, kind="model", attempt=short_id(), files=entries, task="t"), folder

        return make

    def test_a_published_artifact_is_there(self, store: ArtifactStore, made, tmp_path: Path) -> None:
        """After publishing, the manifest reads back, the files verify, and the name is listed."""
        manifest, folder = made("a/b")
        assert store.manifest("a/b") is None
        assert store.publish(manifest, folder) == manifest
        assert store.manifest("a/b") == manifest
        assert store.fetch(manifest, "model", tmp_path / "into").read_bytes() == b"bytes"
        assert (store.names(), store.names("a/"), store.names("b")) == ({"a/b"}, {"a/b"}, set())
        assert store.verify("a/b") == []
        assert store.orphans() == []

    def test_the_second_publisher_loses_and_leaves_nothing(self, door: Door, store: ArtifactStore, made) -> None:
        """Publishing an existing name is a lost race, whoever does it, and changes nothing in the store."""
        manifest, folder = made("a")
        store.publish(manifest, folder)
        before = list(door.blobs.keys(""))
        other, other_folder = made("a", model=b"other")
        for again in ((other, other_folder), (manifest, folder)):
            with pytest.raises(LostRace):
                store.publish(*again)
        assert list(door.blobs.keys("")) == before
        assert store.manifest("a") == manifest

    def test_a_large_file_of_another_content_is_not_published(self, door: Door, store: ArtifactStore, made) -> None:
        """A large file, whose digest is taken while it is stored, is removed again when it is another one."""
        manifest, folder = made("a", large=b"x" * 9_000_000)
        (folder / "large").write_bytes(b"y" * 9_000_000)
        with pytest.raises(CorruptArtifact, match="large"):
            store.publish(manifest, folder)
        assert list(door.blobs.keys("")) == []
        (folder / "large").write_bytes(b"x" * 9_000_000)
        store.publish(manifest, folder)
        assert store.verify("a") == []

    def test_a_file_that_is_not_the_manifests_is_not_published(self, door: Door, store: ArtifactStore, made) -> None:
        """A file changed after its manifest was made stops the publication, and nothing stays in the store."""
        manifest, folder = made("a")
        (folder / "notes").write_bytes(b"changed")
        with pytest.raises(CorruptArtifact, match="notes"):
            store.publish(manifest, folder)
        assert list(door.blobs.keys("")) == []

    @pytest.mark.parametrize("data", [b"", b"bytez", b"bytes and more"])
    def test_damage_is_told(self, door: Door, store: ArtifactStore, made, tmp_path: Path, data: bytes) -> None:
        """A changed byte or length is found by fetch and by verify, which name file and artifact."""
        manifest, folder = made("a")
        store.publish(manifest, folder)
        door.corrupt(f"a/attempts/{manifest.attempt}/model", data)
        with pytest.raises(CorruptArtifact, match="model of a"):
            store.fetch(manifest, "model", tmp_path / "into")
        assert len(store.verify("a")) == 1
        door.blobs.delete(f"a/attempts/{manifest.attempt}/notes")
        assert len(store.verify("a")) == 2

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"name": "b"}', b"\xff"])
    def test_a_damaged_manifest_is_told(self, door: Door, store: ArtifactStore, made, data: bytes) -> None:
        """A manifest that cannot be read, or is another artifact's, is an error, and its files are no orphans."""
        manifest, folder = made("a")
        store.publish(manifest, folder)
        door.corrupt("a/manifest.json", data)
        with pytest.raises(CorruptArtifact):
            store.manifest("a")
        assert len(store.verify("a")) == 1
        assert store.orphans() == []

    def test_unknown_names(self, store: ArtifactStore) -> None:
        """Verifying an unknown name says so, deleting it does nothing, a path that leaves the store is refused."""
        assert store.verify("absent") == ["there is no artifact absent"]
        store.delete("absent")
        for name in ("../a", "", "a/attempts/b", "manifest.json", "a b"):
            with pytest.raises(UsageError):
                store.manifest(name)

    @pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../../b", ""])
    def test_a_hostile_manifest_reaches_nothing(self, store: ArtifactStore, made, tmp_path: Path, path: str) -> None:
        """A manifest whose file path leads elsewhere is refused in both directions."""
        manifest, folder = made("a")
        entry = type(manifest.files[0])(path, 0, "")
        hostile = Manifest(name="a", kind="model", attempt="b", files=(entry,), task="t")
        with pytest.raises(UsageError):
            store.publish(hostile, folder)
        with pytest.raises(UsageError):
            store.fetch(hostile, path, tmp_path / "into")

    def test_deleting_takes_everything(self, door: Door, store: ArtifactStore, made) -> None:
        """A deleted artifact leaves no key, and its neighbour whose name begins the same stays."""
        for name in ("a", "a2"):
            store.publish(*made(name))
        store.delete("a")
        assert store.names() == {"a2"}
        assert store.verify("a2") == []
        assert all(key.startswith("a2/") for key in door.blobs.keys(""))

    def test_orphans_are_found_and_collected(self, door: Door, store: ArtifactStore, made) -> None:
        """Attempts that no manifest names are told and collected; what is published is neither."""
        manifest, folder = made("a")
        store.publish(manifest, folder)
        door.blobs.put("a/attempts/dead/model", folder / "model")
        door.blobs.put("b/attempts/dead/model", folder / "model")
        orphans = store.orphans()
        assert [(one.name, one.attempt) for one in orphans] == [("a", "dead"), ("b", "dead")]
        assert store.collect(orphans) == 2
        assert store.orphans() == []
        assert store.verify("a") == []

    def test_an_orphan_that_was_published_meanwhile_stays(self, door: Door, store: ArtifactStore, made) -> None:
        """Collecting spares an attempt whose manifest appeared after the orphans were listed."""
        manifest, folder = made("a")
        for entry in manifest.files:
            door.blobs.put(f"a/attempts/{manifest.attempt}/{entry.path}", folder / entry.path)
        orphans = store.orphans()
        store.publish(manifest, folder)
        assert store.collect(orphans) == 0
        assert store.verify("a") == []

    @pytest.mark.parametrize("done", [True, False])
    def test_a_lost_answer_never_breaks_an_artifact(self, door: Door, made, done: bool) -> None:
        """When the answer to the last write is lost, the artifact is either published or can be published again."""
        manifest, folder = made("a")
        store = ArtifactStore(Uncertain(door.blobs, done))
        if done:
            assert store.publish(manifest, folder) == manifest
        else:
            with pytest.raises(Unreachable):
                store.publish(manifest, folder)
            assert store.manifest("a") is None
            store.publish(manifest, folder)
        assert store.verify("a") == []

    def test_an_interrupted_attempt_with_other_bytes_is_refused(self, door: Door, store, made) -> None:
        """Files that an earlier try left under the same attempt are used only if they are the manifest's."""
        manifest, folder = made("a")
        other, other_folder = made("a", model=b"other")
        door.blobs.put(f"a/attempts/{manifest.attempt}/model", other_folder / "model")
        with pytest.raises(CorruptArtifact):
            store.publish(manifest, folder)
        assert store.manifest("a") is None

    def start(self, door: Door, names: list[str], size: int, folder: Path) -> subprocess.Popen[bytes]:
        """A process that publishes artifacts of those names once a line reaches it."""
        job = json.dumps([*door.entry, names, size])
        child = subprocess.Popen([sys.executable, "-c", CHILD, job, str(folder)], stdin=-1, stdout=-1)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child

    def test_of_racing_publishers_one_wins(self, door: Door, store: ArtifactStore, tmp_path: Path) -> None:
        """Of three processes that publish the same twenty artifacts one wins each, whole, with no leftovers."""
        names = [f"race/{at}" for at in range(20)]
        children = [self.start(door, names, 20, tmp_path) for _ in range(3)]
        for child in children:
            child.stdin.write(b"\n")
            child.stdin.flush()
        won = [name for child in children for name in json.loads(child.communicate(timeout=60)[0])]
        assert sorted(won) == sorted(names)
        assert store.names("race/") == set(names)
        assert [problem for name in names for problem in store.verify(name)] == []
        assert store.orphans() == []

    def test_kill_at_any_moment_leaves_nothing_that_verifies_falsely(
        self, door: Door, store: ArtifactStore, tmp_path: Path, full: bool
    ) -> None:
        """After 20 kills (--full: 100) in the middle of publishing every artifact is whole and the one that it was.

        A collection leaves nothing of what was not finished, and a rerun gets to the end.
        """
        every = [f"kill/{at}" for at in range(2000)]
        waits, seen = random.Random(7), dict[str, str]()
        for _ in range(100 if full else 20):
            # what exists is refused quickly; some of it stays among what is tried again
            names = sorted(seen)[:3] + [one for one in every if one not in seen]
            child = self.start(door, names, door.size, tmp_path)
            child.stdin.write(b"\n")
            child.stdin.flush()
            time.sleep(waits.uniform(0.0, door.reach_s))
            child.kill()
            child.communicate()
            for name in store.names() | seen.keys():
                manifest = store.manifest(name)
                assert manifest is not None, f"{name} is gone"
                assert seen.setdefault(name, manifest.attempt) == manifest.attempt, f"{name} was overwritten"
        published = store.names()
        assert published, "nobody lived long enough to publish anything"
        assert [problem for name in published for problem in store.verify(name)] == []
        store.collect(store.orphans())
        for one in store.unfinished(0.0):
            store.discard(one)
        assert store.orphans() == store.unfinished(0.0) == []
        child = self.start(door, sorted(published)[:5] + ["kill/last"], 10, tmp_path)
        assert json.loads(child.communicate(b"\n", timeout=60)[0]) == ["kill/last"]
        assert store.names() == published | {"kill/last"}


class TestDir(ArtifactsContract):
    """Artifacts in a directory."""

    @pytest.fixture
    def door(self, tmp_path: Path) -> Door:
        """A store in a folder that does not exist yet."""
        root = tmp_path / "store"

        def corrupt(key: str, data: bytes) -> None:
            (root / key).chmod(0o644)
            (root / key).write_bytes(data)

        return Door(DirBlobs(root), corrupt, ("rdv.backends.blobs_dir", "DirBlobs", [str(root)]))


@pytest.mark.live
class TestS3(ArtifactsContract):
    """Artifacts in a bucket, whose larger files are uploaded in parts."""

    @pytest.fixture
    def door(self, s3_server: Any, s3_keys: None) -> Door:
        """A bucket of its own."""
        from rdv.backends.s3.blobs import S3Blobs

        bucket = s3_server.new_bucket()
        place = f"{bucket}/p?endpoint={s3_server.endpoint}&region=us-east-1"

        def corrupt(key: str, data: bytes) -> None:
            s3_server.file(bucket, f"p/{key}").write_bytes(data)

        return Door(S3Blobs(place), corrupt, ("rdv.backends.s3.blobs", "S3Blobs", [place]), 800_000, 0.4)


@pytest.mark.live
@pytest.mark.xdist_group("hdfs")
class TestHdfs(ArtifactsContract):
    """Artifacts in a folder of HDFS."""

    @pytest.fixture
    def door(self, hdfs_servers: Any, tmp_path: Path) -> Door:
        """A folder that nobody used before."""
        import hdfs

        from rdv.backends.blobs_hdfs import HdfsBlobs

        root = f"/{tmp_path.parent.name}/{tmp_path.name}"
        place = f"{root}?url={hdfs_servers.url}&user=root"
        client = hdfs.InsecureClient(hdfs_servers.url, user="root")

        def corrupt(key: str, data: bytes) -> None:
            client.write(f"{root}/{key}", data, overwrite=True)

        return Door(HdfsBlobs(place), corrupt, ("rdv.backends.blobs_hdfs", "HdfsBlobs", [place]), 100_000, 0.4)
