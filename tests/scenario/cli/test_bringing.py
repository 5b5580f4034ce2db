"""`rdv deploy --from`: a version goes from one environment of a project into another one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rdv.errors import Exit

MODEL = "churn/lightgbm"
NEXT = ("--env", "next")
BRING = ("deploy", MODEL, *NEXT, "--from", "local")
PLACES = """
[environments.next]
artifacts = "dir:artifacts"
registry = "sqlite:registry.sqlite"
"""


def test_a_version_goes_from_one_environment_to_another(shop: Any) -> None:
    """What the one serves is served by the other, byte for byte, with where it came from; then another, and back."""
    rdv, (first, second) = shop.rdv, shop.versions
    add_environment(shop)
    nothing = rdv(*BRING)
    assert (nothing.returncode, "local serves no version" in nothing.stderr) == (Exit.USAGE, True)
    unknown = rdv(*BRING, "--version", "v0")
    assert (unknown.returncode, "in local" in unknown.stderr) == (Exit.USAGE, True)
    rdv.json("deploy", MODEL, "--version", first)
    assert rdv.json(*BRING, "--timeout", "0")["version"] == first
    here, there = (rdv.json("models", "show", MODEL, first, *env) for env in ((), NEXT))
    assert (there.pop("came_from"), bool(there.pop("brought"))) == ("local", True)
    assert {**here, **there} == here
    assert rdv.json("artifacts", "verify", *NEXT) == []
    [one] = rdv.json("artifacts", "list", *NEXT)
    assert (one["version"], one["pointer"]) == (first, "current")
    again = rdv(*BRING)
    assert again.returncode == Exit.OK
    assert "0 files (0 bytes) copied" in again.stderr
    assert rdv.json(*BRING, "--version", second, "--timeout", "0")["instead_of"] == first
    assert rdv.json("rollback", MODEL, *NEXT, "--timeout", "0")["version"] == first


def test_a_version_is_brought_to_be_tried_out(shop: Any) -> None:
    """With --canary the other environment's rollout begins, and what it tries out is not taken for garbage."""
    rdv, (first, second) = shop.rdv, shop.versions
    add_environment(shop)
    rdv.json(*BRING, "--version", first, "--timeout", "0")
    row = rdv.json(*BRING, "--version", second, "--canary", "1", "--timeout", "0")
    assert (row["version"], row["state"]) == (second, "planned")
    assert rdv.json("artifacts", "gc", "--older-than", "0", *NEXT) == []
    assert rdv(*BRING, "--version", second).returncode == Exit.REFUSED


def test_killed_commands_are_gone_on_with(shop: Any) -> None:
    """Killed when the first file arrives, when the manifest does, and when the record may, the same command ends it."""
    rdv, (first, _) = shop.rdv, shop.versions
    add_environment(shop)
    rdv.json("deploy", MODEL, "--version", first)
    there = shop.folder / ".rdv/next"
    for arrived in ("attempts/*", "manifest.json", "registry.sqlite"):
        kill_when(shop, lambda arrived=arrived: any(there.rglob(arrived)))
        assert rdv.json("artifacts", "verify", *NEXT) == []
    assert rdv.json(*BRING, "--timeout", "0")["version"] == first
    assert rdv.json("artifacts", "verify", *NEXT) == []
    assert [one["version"] for one in rdv.json("models", "list", MODEL, *NEXT)] == [first]


def test_what_differs_is_told_and_not_released(shop: Any) -> None:
    """A damaged byte ends with 1 and a sentence that says where; a name that is another one there, with 8."""
    rdv, (first, second) = shop.rdv, shop.versions
    add_environment(shop)
    rdv.json(*BRING, "--version", first, "--timeout", "0")
    change(shop.folder / ".rdv/artifacts" / rdv.json("models", "show", MODEL, second)["artifact"], "attempts/*/*")
    damaged = rdv(*BRING, "--version", second)
    assert (damaged.returncode, damaged.stderr.count("\n")) == (Exit.FAILED, 1)
    assert "in local" in damaged.stderr
    assert rdv("deploy", MODEL, *NEXT, "--version", second).returncode == Exit.USAGE
    artifact = rdv.json("models", "show", MODEL, first)["artifact"]
    digest = '"sha256": "'
    change(shop.folder / ".rdv/next/artifacts" / artifact, "manifest.json", digest)
    other = rdv(*BRING, "--version", first)
    assert (other.returncode, other.stderr.count("\n")) == (Exit.LOST_RACE, 1)
    assert "another one in next" in other.stderr
    assert rdv.json("models", "list", *NEXT)[0]["current"] == first


def add_environment(shop: Any) -> None:
    """A second embedded environment."""
    with shop.folder.joinpath("rdv.toml").open("a") as file:
        file.write(PLACES)


def kill_when(shop: Any, true: Callable[[], bool]) -> None:
    """Begin to bring the version, and kill that process at a moment; it may have ended before."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "rdv.cli", *BRING, "--timeout", "0"], cwd=shop.folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not true():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()


def change(folder: Path, pattern: str, after: str = "") -> None:
    """Change the first character of a file, or the one behind some text in it."""
    file = next(path for path in sorted(folder.glob(pattern)) if path.is_file())
    file.chmod(0o644)
    text = file.read_bytes()
    at = text.index(after.encode()) + len(after)
    file.write_bytes(text[:at] + (b"0" if text[at : at + 1] != b"0" else b"1") + text[at + 1 :])
