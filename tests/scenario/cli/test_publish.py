"""Packages reach a private index, a real one, once and with the right version only."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from rdv.errors import Exit

ROOT = Path(__file__).resolve().parents[3]


def run(folder: Path, environment: dict[str, str], *argv: str) -> tuple[int, str]:
    """How a command of this environment's Python ends, and what it says last."""
    ended = subprocess.run(
        [sys.executable, "-P", *argv], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    return ended.returncode, (ended.stderr.strip().splitlines() or [""])[-1]


def test_a_library_goes_to_the_index_once(tmp_path: Path, index: Any) -> None:
    """A library's package is built, published, can be downloaded, and a version is never published twice."""
    environment = index.environment()
    assert run(tmp_path, environment, "-m", "rdv.cli", "init", "steps", "--template", "library")[0] == Exit.OK
    folder = tmp_path / "steps"
    commit = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "1"]
    for command in (["init", "-q"], ["add", "--all"], commit):
        subprocess.run(["git", *command], cwd=folder, check=True)
    (folder / "rdv-ci").mkdir()
    stage = ("-m", "rdv.cli", "ci")
    code, said = run(folder, environment, *stage, "publish")
    assert (code, "publish comes after package" in said) == (Exit.USAGE, True)
    assert run(folder, environment, *stage, "unit")[0] == Exit.OK
    assert run(folder, environment, *stage, "package")[0] == Exit.OK

    without = {name: value for name, value in environment.items() if name != "TWINE_PASSWORD"}
    code, said = run(folder, without, *stage, "publish")
    assert (code, "the variable TWINE_PASSWORD is missing" in said) == (Exit.USAGE, True)
    code, said = run(folder, environment | {"CI_COMMIT_TAG": "v9.9.9"}, *stage, "publish")
    assert (code, "the tag says 9.9.9" in said) == (Exit.USAGE, True)
    code, said = run(folder, index.environment("wrong"), *stage, "publish")
    assert (code, "refused the upload" in said) == (Exit.NOT_AUTHORISED, True)
    assert list(index.folder.iterdir()) == []

    assert run(folder, environment | {"CI_COMMIT_TAG": "v0.1.0"}, *stage, "publish")[0] == Exit.OK
    there = sorted(file.name for file in index.folder.iterdir())
    assert there == ["steps-0.1.0-py3-none-any.whl", "steps-0.1.0.tar.gz"]
    code, said = run(folder, environment, *stage, "publish")
    assert (code, "a version is published once" in said) == (Exit.LOST_RACE, True)


def test_an_index_that_is_not_there_is_told(tmp_path: Path, index: Any) -> None:
    """rdv's own publishing ends with 5 when the index does not answer, and with 3 without anything to publish."""
    copy = tmp_path / "copy"
    (copy / "ci").mkdir(parents=True)
    (copy / "ci/publish.py").write_text((ROOT / "ci/publish.py").read_text())
    environment = index.environment()
    code, said = run(copy, environment, "ci/publish.py")
    assert (code, "make package" in said) == (Exit.USAGE, True)
    wheel(copy / "dist")
    nowhere = environment | {"TWINE_REPOSITORY_URL": "http://127.0.0.1:9/"}
    assert run(copy, nowhere, "ci/publish.py")[0] == Exit.UNREACHABLE
    assert run(copy, environment, "ci/publish.py")[0] == Exit.OK
    assert [file.name for file in index.folder.iterdir()] == ["rdv-0.1.0-py3-none-any.whl"]


def wheel(folder: Path) -> None:
    """A wheel of nothing but its name."""
    import zipfile

    folder.mkdir()
    with zipfile.ZipFile(folder / "rdv-0.1.0-py3-none-any.whl", "w") as archive:
        inside = "rdv-0.1.0.dist-info"
        archive.writestr(f"{inside}/METADATA", "Metadata-Version: 2.1\nName: rdv\nVersion: 0.1.0\n")
        archive.writestr(f"{inside}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{inside}/RECORD", "")
