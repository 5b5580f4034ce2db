"""What only the directory store has to promise: links, permissions, leftovers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rdv.backends.blobs_dir import SCRATCH, DirBlobs
from rdv.errors import UsageError


@pytest.mark.parametrize("where", ["outside", "outside/file", "inside"])
def test_symbolic_links_are_never_followed(tmp_path: Path, where: str) -> None:
    """A link inside the store gives access to nothing, wherever it points, and is in no listing."""
    root = tmp_path / "store"
    blobs = DirBlobs(root)
    blobs.create("inside/file", b"stored")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"secret")
    (root / "link").symlink_to(root / "inside" if where == "inside" else tmp_path / where)
    key = "link" if where.endswith("file") else "link/file"
    for call in (
        lambda: blobs.read(key),
        lambda: blobs.fetch(key, tmp_path / "into"),
        lambda: blobs.create("link/new", b""),
        lambda: blobs.put("link/new", tmp_path / "outside" / "file"),
        lambda: blobs.delete(key),
    ):
        with pytest.raises(UsageError, match="symbolic link"):
            call()
    assert list(blobs.keys("")) == ["inside/file"]
    assert os.listdir(tmp_path / "outside") == ["file"]


def test_the_store_itself_may_be_behind_a_link(tmp_path: Path) -> None:
    """A link to the store's folder is the operator's choice and works."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    DirBlobs(tmp_path / "link").create("a/b", b"1")
    assert (tmp_path / "real" / "a" / "b").read_bytes() == b"1"


def test_stored_files_are_read_only(tmp_path: Path) -> None:
    """A stored file has no write permission, so that a careless program cannot change it."""
    DirBlobs(tmp_path).create("a/b", b"1")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o222 == 0


def test_deleting_leaves_no_empty_folders(tmp_path: Path) -> None:
    """A deleted key takes the folders with it that it leaves empty, but never the store."""
    blobs = DirBlobs(tmp_path / "store")
    blobs.create("a/b/c", b"1")
    blobs.delete("a/b/c")
    assert os.listdir(tmp_path / "store") == [SCRATCH]


def test_leftovers_of_a_killed_writer_go_at_the_next_write(tmp_path: Path) -> None:
    """A scratch file whose writer is gone is removed by the next writer and never listed."""
    (tmp_path / SCRATCH).mkdir()
    (tmp_path / SCRATCH / ".tmp-0123456789ab").write_bytes(b"half")
    blobs = DirBlobs(tmp_path)
    assert list(blobs.keys("")) == []
    blobs.create("a", b"1")
    assert os.listdir(tmp_path / SCRATCH) == []
