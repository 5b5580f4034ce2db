"""rdv's own pipeline, run as GitLab would: it is read whole, and lints, packages and publishes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.live, pytest.mark.xdist_group("gitlab")]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The committed content in a clone, with this environment's tools in the place of those that it would install."""
    folder = tmp_path / "rdv"
    subprocess.run(["git", "clone", "-q", "--local", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "remote", "set-url", "origin", "git@example.org:rdv/rdv.git"], cwd=folder, check=True)
    tools = folder / ".venv"
    tools.symlink_to(Path(sys.executable).parent.parent)
    for source in ("setup.cfg", "pyproject.toml", "ci/venv"):
        os.utime(folder / source, (0, 0))  # older than what make would install again for them
    (tools / ".installed-dev").touch()
    return folder


def run(program: str, folder: Path, *arguments: str, **variables: str) -> str:
    """What a pipeline that ends well says."""
    argv = [program, "--force-shell-executor", *arguments]
    argv += [part for name, value in variables.items() for part in ("--variable", f"{name}={value}")]
    ended = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, f"{ended.stdout[-4000:]}\n{ended.stderr[-2000:]}"
    return ended.stdout + ended.stderr


def test_it_lints_packages_and_publishes(
    clone: Path, gitlab_ci_local: str, index: Any, require: Callable[..., str]
) -> None:
    """Every job is listed; on a tag the wheel that was built and tried is on the private index."""
    require("make", remedy="apt-get install -y make")
    listed = run(gitlab_ci_local, clone, "--list", CI_COMMIT_TAG="v0.1.0")
    for job in ("lint", "types", "guards", "test", "package", "bench", "cluster", "publish"):
        assert f"\n{job} " in listed
    upload = {name: value for name, value in index.environment().items() if name.startswith("TWINE_")}
    run(gitlab_ci_local, clone, "lint", "package", "publish", CI_COMMIT_TAG="v0.1.0", **upload)
    assert "rdv-0.1.0-py3-none-any.whl" in {file.name for file in index.folder.iterdir()}
