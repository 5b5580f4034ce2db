"""What `rdv check` looks at, each as cases: one that is well, or one for every problem."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rdv.cli.check.hcl import hcl_problem
from rdv.cli.check.secrets import secrets_in
from rdv.cli.junit import Case
from rdv.errors import ConfigError, InputError, RdvError

if TYPE_CHECKING:
    from rdv.config import Project

_NAMES_S = 120.0
_MOST_BYTES = 1_000_000
_SKIPPED = {".git", ".rdv", "rdv-ci", "__pycache__", ".venv", ".hypothesis", ".pytest_cache", "node_modules"}


def findings(project: Project, name: str) -> list[Case]:
    """The cases of a check."""
    problems = list(_CHECKS[name](project))
    return [Case(name, failure=one) for one in problems] or [Case(name)]


def settings(project: Project) -> Iterator[str]:
    """What rdv.toml says that cannot work."""
    from rdv.settings import check

    yield from check(project)


def schemas(project: Project) -> Iterator[str]:
    """Schemas of no goal, which nobody would look at, and those with a problem."""
    from rdv.schema import load_schema

    used = set()
    for goal in project.config.goals.values():
        if isinstance(goal.schema, str):
            used.add((project.folder / goal.schema).resolve())
        try:
            load_schema(goal, project.folder)
        except ConfigError as error:
            yield str(error)
    for file in sorted(project.folder.glob("schemas/*.json")):
        if file.resolve() not in used:
            yield f"{file.relative_to(project.folder)} is the schema of no goal; name it in rdv.toml, or remove it"


def api(project: Project) -> Iterator[str]:
    """Documentation that is not what the schemas say."""
    from rdv.cli.api_page import documents

    for goal in sorted(project.config.goals):
        try:
            for path, text in documents(project, goal).items():
                if not path.is_file() or path.read_text() != text:
                    yield f"{path.relative_to(project.folder)} is not what the schema says; type: rdv api"
        except ConfigError:
            return  # another check says so


def hcl(project: Project) -> Iterator[str]:
    """Job files that no HCL parser would take."""
    for file in sorted(project.folder.glob("nomad/**/*.hcl")):
        problem = hcl_problem(file.read_text(errors="replace"))
        if problem:
            yield f"{file.relative_to(project.folder)}: {problem}"


def contracts(project: Project) -> Iterator[str]:
    """What the schemas break of the contracts in the project's folder; those in a store `rdv plan` looks at."""
    from rdv.serving.contract_shelf import all_contracts, broken_contracts

    try:
        for one in broken_contracts(project, contracts=all_contracts(project, stored=False)):
            yield one.sentence()
    except InputError as error:
        yield str(error)
    except ConfigError:
        return  # another check says so


def secrets(project: Project) -> Iterator[str]:
    """Places in files of the project that look like keys and passwords."""
    for file in committed(project.folder):
        if file.is_file() and not file.is_symlink() and file.stat().st_size <= _MOST_BYTES:
            for line, what in secrets_in(file.read_bytes().decode(errors="replace")):
                place = f"{file.relative_to(project.folder)}:{line}"
                yield f"{place} holds {what}; keep it in Vault or in a file that is not committed"


def committed(folder: Path) -> list[Path]:
    """The files that git knows or would add; without git, every file that is not generated."""
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout
        return sorted(folder / name for name in listed.split("\0") if name)
    except (OSError, subprocess.CalledProcessError):
        every = (path for path in folder.rglob("*") if not _SKIPPED & set(path.relative_to(folder).parts))
        return sorted(path for path in every if path.is_file())


def names(project: Project) -> Iterator[str]:
    """Models whose artifacts have other names in another process: nothing of theirs would ever be found again.

    A name may hold neither a time, nor a random number, nor the order of a set.
    """
    for model in sorted(project.config.models):
        try:
            one, other = (named(project, model, unlike) for unlike in ({"PYTHONHASHSEED": "1"}, _ELSEWHERE))
        except RdvError as error:
            yield str(error)
            continue
        if one != other:
            first = next((name for name in one if name not in other), "")
            yield f"{model}: the artifact {first} has another name in the next process; keep times and sets out of it"


_ELSEWHERE = {"PYTHONHASHSEED": "2", "TZ": "Pacific/Kiritimati", "LC_ALL": "C"}


def named(project: Project, model: str, unlike: Mapping[str, str]) -> list[str]:
    """The names of a model's artifacts as a process with this in its environment finds them."""
    argv = [sys.executable, "-P", "-m", "rdv.pipelines.partial_names", str(project.folder), model]
    with tempfile.TemporaryDirectory(prefix="rdv-names-") as state:
        environ = {**os.environ, **unlike, "RDV_STATE": state, "RDV_ENV": "local"}
        ended = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=_NAMES_S, check=False)
    if ended.returncode:
        raise RdvError(f"{model}: {ended.stderr.strip().splitlines()[-1]}")
    found: list[str] = json.loads(ended.stdout)
    return found


_CHECKS: Mapping[str, Callable[[Project], Iterator[str]]] = {
    "settings": settings, "schemas": schemas, "api": api, "contracts": contracts, "hcl": hcl, "secrets": secrets,
    "names": names,
}  # fmt: skip
