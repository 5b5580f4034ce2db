"""A loaded project as a file, so that role processes work with exactly the configuration that was merged once."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rdv.config import Config, Project
from rdv.errors import ConfigError
from rdv.files import make_folders, replace_file

NAME = "project.json"


class _Stored(msgspec.Struct, frozen=True):
    folder: str
    env: str
    config: Config
    kept: str = ""


def encode_project(project: Project) -> bytes:
    """A project's folder, environment and merged configuration as JSON."""
    return msgspec.json.encode(_Stored(str(project.folder), project.env, project.config, str(project.kept or "")))


def decode_project(data: bytes) -> Project:
    """The project that `encode_project` made these bytes of; ConfigError when they are none."""
    try:
        stored = msgspec.json.decode(data, type=_Stored)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"these bytes hold no project: {error}", "both ends must run the same rdv") from None
    return Project(Path(stored.folder), stored.config, stored.env, Path(stored.kept) if stored.kept else None)


def save_project(project: Project) -> Path:
    """Write a project's merged configuration into its run folder and return the file; readable by this user only."""
    make_folders(project.run_folder)
    path = project.run_folder / NAME
    replace_file(path, encode_project(project), 0o600)
    return path


def read_project(path: Path) -> Project:
    """The project in such a file; ConfigError when it is none."""
    try:
        return decode_project(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", "start it again with `rdv serve`") from None
