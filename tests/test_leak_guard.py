"""The guard that every other test relies on: what it must catch, and what it must let pass."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
HEAD = """import asyncio, os, subprocess, sys

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
"""
LEAKS = {
    "a child": "    subprocess.Popen(SLEEP)",
    "a grandchild whose parent is gone": "    os.spawnvp(os.P_WAIT, 'sh', ['sh', '-c', 'sleep 60 & exit 0'])",
    "a task": (
        "    async def leave():\n"
        "        globals()['kept'] = asyncio.get_running_loop().create_task(asyncio.sleep(60))\n"
        "    asyncio.run(leave())"
    ),
}
HARMLESS = {
    "a child that has ended": "    subprocess.run([sys.executable, '-c', ''], check=True)",
    "a child that is just ending": "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(0.3)'])",
    "a task that was awaited": "    asyncio.run(asyncio.wait_for(asyncio.sleep(0), 1))",
}


def run(tmp_path: Path, body: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a pytest run over one test with this body, under our conftest."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text().replace("LEAK_GRACE_S = 5.0", "LEAK_GRACE_S = 1.0"))
    (tmp_path / "test_it.py").write_text(f"{HEAD}\ndef test_it():\n{body}\n")
    plugins = ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"]
    command = [sys.executable, "-P", "-m", "pytest", "-q", *plugins, "-c", "/dev/null", "--rootdir", tmp_path, tmp_path]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("body", LEAKS.values(), ids=LEAKS)
def test_a_leak_fails_the_test_that_made_it(tmp_path: Path, body: str) -> None:
    """A process or task that outlives its test turns the test's teardown into a failure that names it."""
    outcome = run(tmp_path, body)
    assert outcome.returncode == 1, outcome.stdout
    assert "the test left" in outcome.stdout


@pytest.mark.parametrize("body", HARMLESS.values(), ids=HARMLESS)
def test_what_has_ended_is_no_leak(tmp_path: Path, body: str) -> None:
    """Processes that ended, or end within the grace, and awaited tasks pass."""
    outcome = run(tmp_path, body)
    assert outcome.returncode == 0, outcome.stdout
