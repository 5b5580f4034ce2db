"""Manifests are read by several threads at once, first of all of them in a fresh process."""

import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys, threading
from rdv.manifest import Manifest, decode_manifest, encode_manifest
data = encode_manifest(Manifest(name="a", kind="model", attempt="1", files=(), task="t"))
ready = threading.Barrier(8)
gc.set_threshold(1)
sys.setswitchinterval(1e-6)
def read():
    ready.wait()
    for _ in range(5):
        decode_manifest(data, "a")
threads = [threading.Thread(target=read) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
"""


@pytest.mark.parametrize("attempt", range(8))
def test_threads_may_read_the_first_manifest_together(attempt: int) -> None:
    """No thread crashes the process, whoever comes first."""
    ended = subprocess.run([sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
