"""The image of a pipeline: whether there is one, its name by content, and the project's tests in it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from rdv.cli.output import note
from rdv.errors import RdvError, Refused
from rdv.settings_keys import environment_name

if TYPE_CHECKING:
    from rdv.config import Project

_TREE_CHARS = 16
_TOOLS = ("pytest", "hypothesis")
_MORE_TOOLS = "tests/requirements.txt"
OWN_CONTRACTS = "own"
"""Where the test stage leaves what the tests say that this service expects of others, below its reports."""
_PLACES = ("cluster", "services")


def wants_image(project: Project, env: str) -> bool:
    """Whether an environment's nodes run images, as its places say by driver=docker."""
    return any(options(project, env, place).get("driver") == "docker" for place in _PLACES)


def options(project: Project, env: str, place: str) -> dict[str, str]:
    """The options of one of an environment's places."""
    text = str(getattr(project.config.environments[env], place, ""))
    return dict(parse_qsl(text.partition("?")[2]))


def image_tag(project: str, tree: str, registry: str) -> str:
    """The name of the image of some content: the same content has the same, on whichever branch it came.

    registry: what a container registry's names begin with, may be empty.
    """
    name = re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-") or "project"
    return f"{registry or name}:{tree[:_TREE_CHARS]}"


def is_there(tag: str, registry: str) -> bool:
    """Whether an image is there already: in this engine, or in the registry, from which it is fetched then."""
    from rdv.backends.image.build import docker

    try:
        docker("image", "inspect", "--format", "{{.Id}}", tag, limit_s=60)
        return True
    except RdvError:
        pass
    if not registry:
        return False
    try:
        docker("pull", "--quiet", tag)
        return True
    except RdvError:
        return False


def push(tag: str) -> None:
    """Give an image to the registry that its name says."""
    from rdv.backends.image.build import docker

    docker("push", "--quiet", tag)


def with_image(project: Project, env: str, image: str) -> dict[str, str]:
    """Environment variables in which an environment's places name an image; none without one."""
    found = {}
    for place in _PLACES if image else ():
        text = str(getattr(project.config.environments[env], place, ""))
        if options(project, env, place).get("driver") == "docker":
            plain = re.sub(r"(?<=[?&])image=[^&]*&?", "", text).rstrip("&?")
            name = environment_name(("environments", env, place))
            found[name] = f"{plain}{'&' if '?' in plain else '?'}image={image}"
    return found


def run_tests(project: Project, image: str, report: Path) -> None:
    """Run the project's tests, in an image when there is one; Refused when one of them fails.

    What the tests need beside the image is made here and shown to it read-only: no test tool is released. Contracts
    that the tests make are left beside the report.
    """
    from rdv.serving.contract_shelf import OWN_FOLDER

    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    argv, environ = _inside(project, image, report) if image else _here(report)
    note("$ " + " ".join(argv))
    code = subprocess.run(argv, cwd=project.folder, env=environ, stdin=subprocess.DEVNULL, check=False).returncode
    if code == 1:
        raise Refused("a test of the project fails", f"see {report.name} and what pytest said above")
    if code:
        raise RdvError(f"the tests could not be run: {argv[0]} ended with {code}", "see what it said above")
    made = project.folder / OWN_FOLDER
    if made.is_dir() and not image:
        shutil.copytree(made, report.parent / OWN_CONTRACTS, dirs_exist_ok=True)


def _here(report: Path) -> tuple[list[str], Mapping[str, str]]:
    return [sys.executable, "-P", "-m", "pytest", f"--junitxml={report}"], os.environ


def _inside(project: Project, image: str, report: Path) -> tuple[list[str], Mapping[str, str]]:
    from rdv.backends.image.build import FOLDER, PYTHON
    from rdv.serving.contract_shelf import OWN_FOLDER

    tools, own = _tools(project.folder), report.parent / OWN_CONTRACTS
    own.mkdir(exist_ok=True)
    for folder in (report.parent, own):
        folder.chmod(0o777)  # the image's user writes the report
    mounts = ["--volume", f"{tools}:/opt/tools:ro", "--volume", f"{report.parent}:/out"]
    mounts += ["--volume", f"{own}:{FOLDER}/{OWN_FOLDER}"]
    sets = ["--env", "PYTHONPATH=/opt/tools", "--env", "HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis"]
    command = [PYTHON, "-P", "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml=/out/{report.name}"]
    run = ["docker", "run", "--rm", "--init", "--network", "none", "--workdir", FOLDER]
    return [*run, *mounts, *sets, image, *command], os.environ


def _tools(folder: Path) -> Path:
    """A folder with what the tests need beside the image: pytest, Hypothesis, and what the project's file names."""
    more = folder / _MORE_TOOLS
    text = more.read_text() if more.is_file() else ""
    tools = folder / ".rdv" / "ci-tools" / hashlib.sha256(text.encode()).hexdigest()[:12]
    if not tools.is_dir():
        argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        argv += ["--target", str(tools), *_TOOLS, *(["-r", str(more)] if text else [])]
        if subprocess.run(argv, check=False).returncode:
            shutil.rmtree(tools, ignore_errors=True)
            raise RdvError("pip could not make what the tests need", "see what it said above")
    return tools
