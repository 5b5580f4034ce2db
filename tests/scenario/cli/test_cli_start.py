"""`rdv --help` as a process: quick, because it imports nothing that it does not need."""

import json
import subprocess
import sys

HEAVY = {
    "luigi", "numpy", "pandas", "scipy", "lightgbm", "catboost", "boto3", "botocore", "nomad", "consul", "hvac", "hdfs",
    "httptools", "uvloop", "msgspec", "rich", "prometheus_client", "asyncio",
}  # fmt: skip
PROGRAM = """
import json, sys
from rdv.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]), file=sys.stderr)
"""


def loaded_by(*arguments: str) -> tuple[int, set[str], str]:
    """Exit code, top-level modules that a command has loaded, and its output."""
    run = subprocess.run([sys.executable, "-P", "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
    code, names = json.loads(run.stderr.splitlines()[-1])
    return code, set(names), run.stdout


def test_help_loads_nothing_heavy() -> None:
    """The overview of all commands is shown without loading a single library beside click."""
    code, names, shown = loaded_by("--help")
    assert code == 0
    assert "demo" in shown
    assert not names & HEAVY


def test_the_version_loads_nothing_heavy() -> None:
    """`rdv --version` says one line and loads no more than the help does."""
    code, names, shown = loaded_by("--version")
    assert code == 0
    assert shown.startswith("rdv ")
    assert not names & HEAVY


def test_a_command_loads_its_own_module_only() -> None:
    """The help page of one command imports that command and no other."""
    code, names, shown = loaded_by("train", "--help")
    assert code == 0
    assert "--dry-run" in shown
    assert not names & HEAVY


def test_python_m_is_the_same_command() -> None:
    """`python -m rdv.cli` is `rdv`, so that the interpreter can be chosen."""
    run = subprocess.run(
        [sys.executable, "-P", "-m", "rdv.cli", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("rdv ")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """`rdv help output | head -1` ends quietly when its reader has enough."""
    command = f"{sys.executable} -P -m rdv.cli help output | head -c 1"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in run.stderr
    assert "Exception" not in run.stderr
