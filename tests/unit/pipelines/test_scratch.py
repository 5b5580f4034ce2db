"""Scratch folders: gone with their owner, and never taken from a living one."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

from rdv.pipelines.scratch import scratch_folder, sweep_scratch

HOLD = """
import sys, time
from pathlib import Path
from rdv.pipelines.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("x")
    print("holding", flush=True)
    time.sleep(60)
"""


def test_a_scratch_folder_ends_with_its_block(tmp_path: Path) -> None:
    """The folder is there within the block, nobody sweeps it meanwhile, and nothing is left after it."""
    with scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("x")
        assert sweep_scratch(tmp_path) == 0
        assert folder.is_dir()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    """While its process lives a folder stays; after kill -9 the next sweep removes it."""
    process = subprocess.Popen([sys.executable, "-P", "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert sweep_scratch(tmp_path) == 0
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert sweep_scratch(tmp_path) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_makers_and_sweepers_may_meet_at_any_moment(tmp_path: Path) -> None:
    """While others sweep all the time, every folder that a block was given stays as long as the block."""
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            sweep_scratch(tmp_path)

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        for _ in range(200):
            with scratch_folder(tmp_path) as folder:
                (folder / "file").write_text("x")
                assert (folder / "file").read_text() == "x"
    finally:
        stop.set()
        for sweeper in sweepers:
            sweeper.join()
    assert sweep_scratch(tmp_path / "nowhere") == 0
