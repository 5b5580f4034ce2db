"""Jobs as they ought to be: which template, which variables, under which id.

A step's parent job is named by what it runs: another interpreter, image or template is another job, so that projects
which share a namespace do not take each other's.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rdv.backends.ports import Resources, TaskClass
from rdv.errors import UsageError
from rdv.ids import digest_bytes

STEP_PREFIX, TASK_PREFIX = "rdv-step-", "rdv-task-"
# where `rdv image build` puts them
IMAGE_PYTHON, IMAGE_FOLDER = "/opt/rdv/bin/python", "/project"
DRIVER_HINT = (
    "write driver=docker&image=NAME:TAG or driver=exec into the place (`cluster`, `services` of [environments.NAME]); "
    "driver=raw_exec, for development, keeps no task apart from another"
)
CPU_MHZ = 500
RESTARTS = 2
WALL_S = 86400.0
Variables = dict[str, Any]


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it ought to be. template: a file of `rdv.nomad_templates`. variables: all that it declares.

    about: what it is for, in a word or two, for people. folder: where a project has templates of its own, each in the
    place of ours of the same name; empty: nowhere.
    """

    id: str
    namespace: str
    template: str
    variables: Variables
    about: str = ""
    folder: str = ""

    def hcl(self) -> str:
        """The template's text: the project's own, or ours."""
        own = Path(self.folder, self.template)
        if self.folder and own.is_file():
            return own.read_text()
        return importlib.resources.files("rdv.nomad_templates").joinpath(self.template).read_text()

    def values(self) -> str:
        """The variables in HCL; text in them is text, not a template of Nomad's."""
        lines = (f"{name} = {_hcl(value)}\n" for name, value in self.variables.items())
        return "".join(lines)


def step_draft(namespace: str, options: Mapping[str, str], resources: Resources) -> Draft:
    """The parent job of a resource class's steps. options: of the place."""
    variables: Variables = {
        **where_it_runs(namespace, options),
        "cpu_mhz": resources.cpus * CPU_MHZ,
        "memory_mb": resources.memory_mb,
    }
    made = Draft(id="", namespace=namespace, template="step.nomad.hcl", variables=variables, about="steps of pipelines")
    mark = digest_bytes((made.hcl() + made.values()).encode())[:6]
    return msgspec.structs.replace(made, id=f"{STEP_PREFIX}{resources.memory_mb}mb-{resources.cpus}cpu-{mark}")


def task_draft(namespace: str, options: Mapping[str, str], task: TaskClass, folder: str) -> Draft:
    """The job of a task class. folder: where its project lies here.

    Its id has no slash: Nomad's own paths end in words such as `evaluate`, which a task may be called as well.
    """
    parts = [task.project, task.model.replace("/", "."), task.family]
    job = TASK_PREFIX + ".".join(part for part in parts if part)
    if any(character.isspace() or character == "\0" for character in job):
        raise UsageError(f"{job!r} cannot be the id of a job", "name project and models without blanks")
    told = {
        "env": task.env,
        "memory_mb": task.memory_mb,
        "model": task.model,
        "reads": task.reads,
        "task": task.task,
        "wall_s": WALL_S,
    }
    variables: Variables = {
        **where_it_runs(namespace, options),
        "cpu_mhz": CPU_MHZ,
        "memory_mb": task.memory_mb,
        "folder": project_folder(options, folder),
        "told": json.dumps(told, sort_keys=True),
        "about": f"{task.task}, reads {', '.join(task.reads) or 'nothing'}",
        "wall_s": WALL_S,
        "restarts": RESTARTS,
    }
    about = str(variables["about"])
    return Draft(id=job, namespace=namespace, template="task.nomad.hcl", variables=variables, about=about)


def task_prefix(task: TaskClass) -> str:
    """How the ids of the jobs of all task classes of a task's project begin."""
    return f"{TASK_PREFIX}{task.project}."


def project_folder(options: Mapping[str, str], folder: str) -> str:
    """Where a project lies on the nodes. folder: where it lies here."""
    return options.get("folder") or (IMAGE_FOLDER if options.get("driver") == "docker" else folder)


def where_it_runs(namespace: str, options: Mapping[str, str]) -> Variables:
    """What a place says about every job's task: `namespace`, `driver`, `image`, `python` and the role `vault`."""
    driver = options["driver"]
    return {
        "namespace": namespace,
        "driver": driver,
        "image": options.get("image", ""),
        "python": options.get("python") or (IMAGE_PYTHON if driver == "docker" else sys.executable),
        "vault": options.get("vault", ""),
    }


def _hcl(value: Any) -> str:
    text = json.dumps(value)
    return text.replace("${", "$${").replace("%{", "%%{") if isinstance(value, str) else text
