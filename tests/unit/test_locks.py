"""Locks that die with their holder."""

import subprocess
import threading
from pathlib import Path

from rdv.locks import Locks


def test_locks_exclude_and_wake(tmp_path: Path) -> None:
    """One holder has a lock at a time; who waits is woken when the holder closes; other names are free."""
    one, other = Locks(tmp_path / "locks"), Locks(tmp_path / "locks")
    assert one.take("a")
    assert not other.take("a")
    assert other.held_elsewhere("a")
    assert not one.held_elsewhere("a")
    assert other.take("b")
    waiter = threading.Thread(target=other.wait_until_free, args=("a",))
    waiter.start()
    one.close()
    waiter.join(20)
    assert not waiter.is_alive()
    other.close()


def test_a_lock_lasts_as_long_as_any_sharer(tmp_path: Path) -> None:
    """A lock handed to another program is held until that program ends too."""
    one, other = Locks(tmp_path / "locks"), Locks(tmp_path / "locks")
    assert one.take("a")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(one.fd,)):
        one.close()
        assert other.held_elsewhere("a")
        assert not other.take("a")
    assert not other.held_elsewhere("a")
    assert other.take("a")
    other.close()
