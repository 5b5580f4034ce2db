"""A serving role as an instance of a cluster's job: told everything by its own spec, with its state in its allocation.

The project comes with the job, as it was when the job was applied; what belongs to one instance (its name, where it
listens) comes from the cluster at its start.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from rdv.config import Project
from rdv.errors import RdvError
from rdv.serving.processes.project_file import read_project
from rdv.serving.processes.specs import GATEWAY, pin_of
from rdv.serving.roles import Alone, run_role
from rdv.serving.worker.pointer_file import PointerFile


def main(
    told: Path,
    state: Path,
    instance: str,
    listens: Mapping[str, tuple[str, int]],
    pointer: Path,
    fetched: Path,
    words: Sequence[str],
) -> int:
    """Run a role until it is told to stop; the exit code.

    told: the project's file. instance: this one's name. listens: host and port of `http`, `bus` and `ops`, as far as
    the role has them. fetched: the folder of files that the cluster brings.
    words: the role; of a worker also its model, how it hears of moves, and its pin.
    """
    role, model, reload, pin = [*words, "", "", ""][:4]
    try:
        project = placed(read_project(told), state, listens)
        file = None if reload in ("", "watch") else PointerFile(pointer, followed=reload == "template")
        alone = None if role == GATEWAY else Alone(file, fetched)
        run_role(project, role, model, instance, pin=pin_of(pin), alone=alone)
    except RdvError as error:
        print(f"rdv serve {role} {model}: {error}", file=sys.stderr, flush=True)
        return int(error.exit_code)
    return 0


def placed(project: Project, state: Path, listens: Mapping[str, tuple[str, int]]) -> Project:
    """A project as one instance sees it: where it keeps its state and where it listens."""
    serve = project.config.serve
    if "http" in listens:
        host, port = listens["http"]
        serve = replace(serve, host=host, port=port)
    if "bus" in listens:
        host, port = listens["bus"]
        serve = replace(serve, bus_host=host, bus_port=port)
    if "ops" in listens:
        host, port = listens["ops"]
        serve = replace(serve, host=host, ops_port=port)
    return replace(project, config=replace(project.config, serve=serve), kept=state)
