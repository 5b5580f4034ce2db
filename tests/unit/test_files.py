"""Files: whole or not at all, create-only, durable, and no scratch file left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import LostRace
from rdv.files import copy_file, create_file, make_folders, replace_file, sweep


def test_a_created_file_has_its_bytes_and_leaves_no_scratch(tmp_path: Path) -> None:
    """Creating makes the folders above, the file with its bytes, and nothing else."""
    create_file(tmp_path / "a" / "b", b"bytes")
    assert (tmp_path / "a" / "b").read_bytes() == b"bytes"
    assert os.listdir(tmp_path / "a") == ["b"]


@pytest.mark.parametrize("occupy", ["file", "folder", "link"])
def test_creating_over_anything_loses_the_race(tmp_path: Path, occupy: str) -> None:
    """Whatever has the name already stays as it is, and the creator is told."""
    path = tmp_path / "it"
    if occupy == "file":
        path.write_bytes(b"first")
    elif occupy == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    for create in (lambda: create_file(path, b"second"), lambda: copy_file(Path(__file__), path)):
        with pytest.raises(LostRace):
            create()
    assert os.listdir(tmp_path) == ["it"]
    assert occupy != "file" or path.read_bytes() == b"first"


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_a_replaced_file_has_the_last_bytes(tmp_path_factory: pytest.TempPathFactory, versions: list[bytes]) -> None:
    """After any series of replacements the file holds the last content, alone in its folder."""
    folder = tmp_path_factory.mktemp("replace")
    for data in versions:
        replace_file(folder / "it", data)
    assert (folder / "it").read_bytes() == versions[-1]
    assert os.listdir(folder) == ["it"]


def test_a_copy_is_not_the_source(tmp_path: Path) -> None:
    """What is copied stays as it was when the source changes in place."""
    source = tmp_path / "source"
    source.write_bytes(b"before")
    copy_file(source, tmp_path / "copy")
    source.write_bytes(b"after!")
    assert (tmp_path / "copy").read_bytes() == b"before"


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """An error while copying leaves neither a file of that name nor a scratch file."""
    with pytest.raises(IsADirectoryError):
        copy_file(tmp_path, tmp_path / "copy")
    assert os.listdir(tmp_path) == []


def test_a_file_where_a_folder_belongs_is_told(tmp_path: Path) -> None:
    """A path below a file is an error, not a lost race."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        make_folders(tmp_path / "file" / "below")
    with pytest.raises(NotADirectoryError):
        create_file(tmp_path / "file" / "below", b"")


def test_sweeping_spares_what_is_being_written(tmp_path: Path) -> None:
    """A killed writer's scratch file is removed, a living writer's is not, and its file appears whole."""
    code = (
        "import os, sys; from pathlib import Path; import rdv.files as files\n"
        "link = os.link\n"
        "os.link = lambda *names: (print('at', flush=True), sys.stdin.readline(), link(*names))\n"
        "files.create_file(Path(sys.argv[1]) / sys.argv[2], b'whole')\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], stdin=-1, stdout=-1) for name in ("a", "b")
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"at\n"
    writers[0].send_signal(signal.SIGKILL)
    writers[0].wait()
    assert sweep(tmp_path) == 1
    writers[1].communicate(b"\n", timeout=20)
    writers[0].communicate()
    assert writers[1].returncode == 0
    assert os.listdir(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == b"whole"
    assert sweep(tmp_path / "absent") == 0
