"""What the stages of a pipeline hand on to each other: one record a stage in the folder `rdv-ci`, and their order."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from rdv.errors import ConfigError, UsageError

FOLDER = "rdv-ci"
ORDER: Mapping[str, tuple[str, ...]] = {
    "lint": (),
    "build": (),
    "test": ("build",),
    "train": ("build", "test"),
    "staging": ("build", "train"),
    "contract": ("staging",),
    "load": ("staging",),
    "canary": ("staging", "contract", "load"),
    "promote": ("canary",),
    "rollback": ("canary",),
    "unit": (),
    "package": ("unit",),
    "publish": ("package",),
}
"""A stage, and those whose records it needs."""


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage leaves. tree: git's name of the content that it was about. told: its own facts."""

    stage: str
    project: str
    tree: str
    commit: str
    at: str
    told: dict[str, Any] = {}


class Content(msgspec.Struct, frozen=True):
    """What is in a working tree: the commit, and git's name of its content, the same whatever led there."""

    commit: str
    tree: str


def content(folder: Path) -> Content:
    """The committed content of a folder; UsageError when it is no repository, or holds what is not committed."""
    commit, tree = _git(folder, "rev-parse", "HEAD"), _git(folder, "rev-parse", "HEAD^{tree}")
    changed = _git(folder, "diff", "--name-only", "HEAD")
    if changed:
        first = changed.splitlines()[0]
        raise UsageError(f"{first} is changed and not committed, so nobody could make this again", "commit it first")
    return Content(commit, tree)


def first_seen(folder: Path, about: Content) -> str:
    """When some content was committed first, as far as the history here tells; ISO 8601."""
    log = _git(folder, "log", "--format=%T %cI", about.commit).splitlines()
    return min((line.partition(" ")[2] for line in log if line.startswith(about.tree)), key=datetime.fromisoformat)


def check_on_main(folder: Path) -> None:
    """Return when the tag that a pipeline is about is on the main branch, or it is about none; UsageError else."""
    tag, main = os.environ.get("CI_COMMIT_TAG", ""), os.environ.get("CI_DEFAULT_BRANCH", "")
    if not tag or not main:
        return
    listing = ("for-each-ref", "--format=%(refname)")
    known = _git(folder, *listing, f"refs/remotes/origin/{main}", f"refs/heads/{main}")
    if not known:
        raise UsageError(f"there is no branch {main} here to look for {tag} on", "give the job GIT_DEPTH: 0")
    holding = _git(folder, *listing, "--contains", "HEAD", *known.splitlines())
    if not holding:
        raise UsageError(f"the tag {tag} is not on {main}", f"merge it into {main} first, and tag what is there")


def leave(folder: Path, stage: str, project: str, about: Content, told: Mapping[str, Any]) -> Path:
    """Write a stage's record; its file."""
    file = folder / FOLDER / f"{stage}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    made = Handover(stage=stage, project=project, tree=about.tree, commit=about.commit, at=at, told=dict(told))
    file.write_text(json.dumps(msgspec.to_builtins(made), indent=1) + "\n")
    return file


def needed(folder: Path, stage: str, project: str, about: Content) -> dict[str, dict[str, Any]]:
    """The facts of the stages before one, by stage.

    UsageError when one of them has left nothing, or was about another content or project.
    """
    return {before: _taken(folder, stage, before, project, about).told for before in ORDER[stage]}


def _taken(folder: Path, stage: str, before: str, project: str, about: Content) -> Handover:
    file = folder / FOLDER / f"{before}.json"
    hint = f"run `rdv ci {before}` first, or let the job of {stage} have its artifacts"
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Handover)
    except FileNotFoundError:
        raise UsageError(f"{stage} comes after {before}, which has left no {FOLDER}/{before}.json", hint) from None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{file} cannot be read: {error}", hint) from None
    if found.project != project:
        raise UsageError(f"{FOLDER}/{before}.json is of the project {found.project}, and this is {project}", hint)
    if found.tree != about.tree:
        other = f"{FOLDER}/{before}.json is about commit {found.commit[:12]}, and this is {about.commit[:12]}"
        raise UsageError(other, hint)
    return found


def _git(folder: Path, *arguments: str) -> str:
    try:
        ended = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"git cannot be run: {error.strerror}", "type: apt-get install -y git") from None
    if ended.returncode:
        said = ended.stderr.strip().splitlines()
        raise UsageError(f"{folder} holds no commit: {said[-1] if said else 'git failed'}", "commit the project first")
    return ended.stdout.strip()
