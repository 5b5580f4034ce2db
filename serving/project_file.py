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


def save_project(project: Project) -> Path:
    """Write a project's merged configuration into its run folder and return the file; readable by this user only."""
    make_folders(project.run_folder)
    path = project.run_folder / NAME
    stored = _Stored(str(project.folder), project.env, project.config)
    replace_file(path, msgspec.json.encode(stored), 0o600)
    return path


def read_project(path: Path) -> Project:
    """The project in such a file; ConfigError when it is none."""
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path} does not hold a project: {error}", "start it again with `rdv serve`") from None
    return Project(Path(stored.folder), stored.config, stored.env)
