"""What a newer rdv would change in a project that `rdv init` made, and how far it may.

The project keeps a record of what was generated. A file that is as it was generated is ours to change; one that
somebody has changed, removed or put there is theirs.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from rdv import __version__
from rdv.errors import ConfigError, UsageError

RECORD = ".rdv-init.json"
# written once: from then on they are the project's own, whatever they hold
_ONCE = ("data/", "schemas/", "docs/", "rdv.toml", "README.md")

State: TypeAlias = Literal["new", "changed", "yours"]


class Record(msgspec.Struct, frozen=True):
    """What a project was made with. files: SHA-256 of each file as it was generated last, by path."""

    template: str
    project: str
    goal: str
    rdv: str
    files: dict[str, str]


class Change(msgspec.Struct, frozen=True):
    """One file that a newer template has otherwise. state `yours`: somebody has changed or removed it, so it stays."""

    file: str
    state: State
    diff: str
    text: str


def digest(text: str) -> str:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def record_text(template: str, project: str, goal: str, files: Mapping[str, str]) -> str:
    """The record of a project that was generated with some files."""
    known = {path: digest(text) for path, text in sorted(files.items()) if not path.startswith(_ONCE)}
    record = Record(template, project, goal, __version__, known)
    return json.dumps(msgspec.to_builtins(record), indent=1) + "\n"


def read_record(folder: Path) -> Record:
    """The record of the project in a folder; UsageError when `rdv init` did not make it."""
    file = folder / RECORD
    try:
        return msgspec.json.decode(file.read_bytes(), type=Record)
    except FileNotFoundError:
        hint = "`rdv init NAME` makes a project with one; copy what you want from there"
        raise UsageError(f"{folder} has no {RECORD}, so nobody knows what was generated", hint) from None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{file} cannot be read: {error}", "take it from the version control again") from None


def changes(folder: Path, record: Record, files: Mapping[str, str]) -> list[Change]:
    """What the files of today's templates would change, in order of their paths."""
    found = []
    for path, text in sorted(files.items()):
        if path.startswith(_ONCE) or record.files.get(path) == digest(text):
            continue
        old = _read(folder / path)
        if old == text:
            continue
        found.append(Change(path, _state(record.files.get(path), old), _diff(path, old or "", text), text))
    return found


def _state(known: str | None, old: str | None) -> State:
    if old is None:
        return "new" if known is None else "yours"
    return "changed" if known is not None and digest(old) == known else "yours"


def apply(folder: Path, record: Record, files: Mapping[str, str], found: list[Change]) -> None:
    """Write the changes to files that are ours, then the record; what is somebody's own is not shown again."""
    from rdv.files import replace_file

    for one in found:
        if one.state != "yours":
            (folder / one.file).parent.mkdir(parents=True, exist_ok=True)
            mode = (folder / one.file).stat().st_mode & 0o777 if (folder / one.file).exists() else 0o644
            replace_file(folder / one.file, one.text.encode())
            (folder / one.file).chmod(mode)
    replace_file(folder / RECORD, record_text(record.template, record.project, record.goal, files).encode())


def shown(found: list[Change]) -> list[dict[str, Any]]:
    """A record a change, for people and programs."""
    return [{"file": one.file, "state": one.state, "diff": one.diff} for one in found]


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _diff(path: str, old: str, new: str) -> str:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), f"a/{path}", f"b/{path}", lineterm="")
    return "\n".join(lines)
