"""A request to train as it is handed to another process: a file of the run's folder, or a job's payload."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from rdv.config import Config, Environment, Project
from rdv.errors import ConfigError
from rdv.pipelines.runs.runner import TrainRequest
from rdv.pipelines.step import narrow
from rdv.settings import load_project


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be trained, and in which project. folder: where that lies there.

    config: the project's; None: what rdv.toml says there, when the process begins. environment: where its stores are,
    whatever rdv.toml says. scheduled: whether a schedule asks for it.
    """

    folder: str
    config: Config | None
    env: str
    environment: Environment
    request: TrainRequest
    scheduled: bool = False

    def project(self, kept: Path | None) -> Project:
        """The project with its state in `kept`; ConfigError when there is none."""
        if self.config is not None:
            found = Project(Path(self.folder), self.config, self.env, kept)
        else:
            loaded = load_project(Path(self.folder), "local")
            found = replace(loaded, env=self.env, kept=kept)
        environments = {**found.config.environments, self.env: self.environment}
        return replace(found, config=replace(found.config, environments=environments))


def asked(project: Project, request: TrainRequest, folder: str, whole: bool = True) -> Asked:
    """A request of a project as it is now; not whole: with nothing of the configuration that others do not need."""
    environment = project.config.environments.get(project.env, Environment())
    return Asked(folder, project.config if whole else narrow(project, request.model), project.env, environment, request)


def encode(one: Asked) -> bytes:
    """A request as JSON."""
    return msgspec.json.encode(one)


def decode(data: bytes) -> Asked:
    """A request from what `encode` made; ConfigError when it is none, as when it is another version's."""
    try:
        return msgspec.json.decode(data, type=Asked)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"the request cannot be read: {error}", "is the same rdv installed there?") from None
