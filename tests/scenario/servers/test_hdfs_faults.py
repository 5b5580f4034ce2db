"""HDFS whose datanode is killed in the middle of a write: the right error, nothing lost, nothing half there."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.artifacts import ArtifactStore, file_entries
from rdv.errors import Unreachable
from rdv.ids import short_id
from rdv.manifest import Manifest

pytestmark = pytest.mark.live
HANG_S = 90.0


@pytest.fixture
def own_hdfs(live_server: Callable[..., Any]) -> Iterator[Any]:
    """An HDFS that the test may break."""
    server = live_server("hdfs:HdfsServers", "hdfs")
    server.start()
    yield server
    server.close()


def made(folder: Path, name: str, size: int) -> tuple[Manifest, Path]:
    """A file of so many bytes and the manifest of the artifact that it is."""
    at = folder / short_id()
    at.mkdir()
    (at / "file").write_bytes(os.urandom(size))
    return Manifest(name=name, kind="train", attempt=short_id(), files=file_entries(at), task="t"), at


def test_a_datanode_killed_in_the_middle_of_a_write(own_hdfs: Any, tmp_path: Path) -> None:
    """The writer is told Unreachable; what was published is whole when the servers are back, and publishing goes on.

    Meanwhile the namenode alone lists everything and says Unreachable to whoever wants bytes. What the writer left
    aside is no key, and is collected.
    """
    from rdv.backends.blobs_hdfs import HdfsBlobs

    blobs = HdfsBlobs(f"/faults?url={own_hdfs.url}&user=root")
    store = ArtifactStore(blobs)
    store.publish(*made(tmp_path, "train/there", 3_000_000))
    large = made(tmp_path, "train/large", 400_000_000)
    told: list[BaseException] = []

    def publish() -> None:
        try:
            store.publish(*large)
        except BaseException as error:
            told.append(error)

    # the script that keeps both would end the namenode, too
    os.kill(own_hdfs.process.pid, signal.SIGSTOP)
    writer = threading.Thread(target=publish)
    writer.start()
    until = time.monotonic() + HANG_S
    while not blobs.unfinished(-60.0):
        assert writer.is_alive(), told
        assert time.monotonic() < until
    os.kill(own_hdfs.datanode(), signal.SIGKILL)
    writer.join(HANG_S)
    assert [type(error) for error in told] == [Unreachable], told
    assert store.names() == {"train/there"}
    for call in (lambda: blobs.fetch(next(blobs.keys("train/there/attempts/")), tmp_path / "into"), publish):
        told.clear()
        try:
            call()
        except BaseException as error:
            told.append(error)
        assert [type(error) for error in told] == [Unreachable], told
    assert not (tmp_path / "into").exists()

    own_hdfs.process.stop()
    own_hdfs.start()
    assert store.verify("train/there") == []
    assert store.names() == {"train/there"}
    store.publish(*large)
    assert store.verify("train/large") == []
    store.collect(store.orphans())
    for one in store.unfinished(-60.0):
        store.discard(one)
    assert store.orphans() == store.unfinished(-60.0) == []
