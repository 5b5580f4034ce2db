"""The stages of a library: its package built, and published to a private index."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdv.cli.output import note
from rdv.errors import ConfigError, LostRace, NotAuthorised, RdvError, Unreachable, UsageError

Told = dict[str, Any]
DIST = "dist"
_LAST_LINES = 6
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def package(folder: Path) -> Told:
    """Build the package of a project's folder, through its sources; name, version and the files with their digests."""
    about = read_project(folder)
    for old in (folder / DIST).glob("*"):
        old.unlink()
    said = run(("build", "--outdir", str(folder / DIST), str(folder)), folder)
    if said:
        raise RdvError(f"the package could not be built: {said}", "see what it said above")
    return {**about, "files": digests(folder / DIST)}


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder by name."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def read_project(folder: Path) -> Told:
    """The name and version that pyproject.toml gives; ConfigError when it gives none."""
    try:
        table = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        return {"name": str(table["name"]), "version": str(table["version"])}
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        what = f"pyproject.toml gives no name and version: {error!r}"
        raise ConfigError(what, "`rdv init NAME --template library` shows one") from None


def publish(folder: Path, built: Told) -> Told:
    """Give what was built in a project's folder to the private index; UsageError for a tag that is not its version."""
    tag = os.environ.get("CI_COMMIT_TAG", "").removeprefix("v")
    if tag and tag != built["version"]:
        hint = "change the version and tag again; a version is published once"
        raise UsageError(f"the tag says {tag}, and the package is {built['version']}", hint)
    for name in ("TWINE_REPOSITORY_URL", "TWINE_USERNAME", "TWINE_PASSWORD"):
        if not os.environ.get(name):
            hint = "set it as a masked variable of the project"
            raise UsageError(f"the variable {name} is missing, by which the index is reached", hint)
    for name, digest in built["files"].items():
        file = folder / DIST / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise UsageError(f"{DIST}/{name} is not what the package stage built", "run `rdv ci package` again")
    files = [str(folder / DIST / name) for name in built["files"]]
    if said := run(("twine", "upload", "--non-interactive", "--disable-progress-bar", *files), folder):
        raise refusal(said, built["version"])
    return {"index": os.environ["TWINE_REPOSITORY_URL"], **built}


def refusal(said: str, version: str) -> RdvError:
    """The error for what twine said last."""
    if re.search(r"HTTPError: (400|409)|already exists", said):  # 400 is what PyPI itself says, and those like it
        return LostRace(f"the index has a version {version} already", "a version is published once: raise it")
    if any(code in said for code in ("401", "403")):
        return NotAuthorised(f"the index refused the upload: {said}", "check TWINE_USERNAME and TWINE_PASSWORD")
    if any(word in said.lower() for word in ("connection", "max retries", "resolve", "timed out")):
        return Unreachable(f"the index does not answer: {said}", "check TWINE_REPOSITORY_URL")
    return RdvError(f"the upload failed: {said}", "see what twine said above")


def run(arguments: Sequence[str], folder: Path) -> str:
    """Run a module of Python, its words on stderr as they come; its last lines when it failed, else nothing."""
    note("$ python -m " + " ".join(arguments))
    argv = [sys.executable, "-P", "-m", *arguments]
    said: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for text in process.stdout:
            sys.stderr.write(text)
            said.append(text)
    told = " ".join(_COLOUR.sub("", " ".join(said)).split())
    return (told or f"it ended with {process.returncode}") if process.returncode else ""
