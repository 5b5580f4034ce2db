"""A new project is green at once: its own tests, its hooks, in the time that somebody is willing to wait."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

FLOOR_S = 60.0
"""From `rdv init` to the end of the first `make test`, rdv being installed."""


def run(folder: Path, *argv: str) -> str:
    """What a command prints that ends well, with this environment's programs on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, "PATH": path}, check=False
    )
    assert ended.returncode == 0, f"{argv}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout + ended.stderr


@pytest.fixture
def tested(
    tmp_path: Path, require: Callable[..., str], record_property: Callable[[str, object], None]
) -> Callable[[str], Path]:
    """tested(template): a new project whose `make test` has ended well, within a minute of processor time."""
    require("make", remedy="apt-get install -y make")

    def make(template: str) -> Path:
        begun, before = time.monotonic(), os.times()
        run(tmp_path, "rdv", "init", "shop", "--template", template)
        said = run(tmp_path / "shop", "make", "test")
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        record_property("seconds", round(time.monotonic() - begun, 1))
        print(f"{template}: {time.monotonic() - begun:.1f} s by the clock, {used:.1f} s of a processor")
        assert " passed" in said
        assert used < FLOOR_S
        return tmp_path / "shop"

    return make


@pytest.mark.parametrize("template", ["empty", "library"])
def test_a_new_project_passes_its_own_tests(template: str, tested: Callable[[str], Path]) -> None:
    """`rdv init`, then `make test`, ends well within a minute of processor time, from every template."""
    tested(template)


def test_a_new_service_passes_its_tests_and_hooks(tested: Callable[[str], Path], require: Callable[..., str]) -> None:
    """So does one of a service; then, in a new repository, every hook passes on every file, and nothing that rdv keeps

    would be committed.
    """
    git, shop = require("git", remedy="apt-get install -y git"), tested("tabular")
    run(shop, git, "init", "-q")
    run(shop, git, "add", "--all")
    hooks = shutil.which("pre-commit", path=str(Path(sys.executable).parent))
    assert hooks, "pre-commit belongs to the development environment"
    said = run(shop, hooks, "run", "--all-files")
    assert said.count("Passed") >= 4
    assert "Failed" not in said
    staged = run(shop, git, "diff", "--cached", "--name-only").split()
    assert not [name for name in staged if name.startswith((".rdv/", ".hypothesis", "rdv-ci"))]
    assert {".gitlab-ci.yml", "ci/gitlab/pipeline.yml", ".pre-commit-config.yaml", "rdv.toml"} <= set(staged)
