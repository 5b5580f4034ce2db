"""Building a project's image with the docker command, and the tag that says what is in it."""

from __future__ import annotations

import hashlib
import importlib.resources
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, urlencode

import msgspec

from rdv.backends.image.context import copy_project, digest_folder
from rdv.backends.image.wheels import REQUIREMENTS, digest_wheels, extras_of, make_wheels, requirements, versions
from rdv.config import Project
from rdv.errors import NotAuthorised, NotFound, RdvError, TimedOut, Unreachable, UsageError
from rdv.settings import FILE

FOLDER, PYTHON = "/project", "/opt/rdv/bin/python"
_ANSWER_S = 60.0
_TAG_CHARS = 16
_IMAGE_OPTION = re.compile(r"(?<=[?&])image=[^&\"'\s]*")
_NOBODY = ("cannot connect to the docker daemon", "error during connect", "failed to connect")
_NAME = re.compile(r"[a-z0-9]+(?:[._/:-]+[a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# asked of a base image: what wheels have to fit
_ASK = "import platform, sys; print('%d.%d' % sys.version_info[:2], platform.machine(), platform.libc_ver()[0])"


class Built(msgspec.Struct, frozen=True):
    """An image: its id, its name with its tag, and the project's files that are not in it."""

    image: str
    tag: str
    left_out: tuple[str, ...]


def default_base() -> str:
    """The base image for this interpreter's wheels, as registries have it; it holds libgomp, the slim one does not."""
    return f"python:{sys.version_info.major}.{sys.version_info.minor}"


def check_tag(tag: str) -> str:
    """The tag itself; UsageError unless it is NAME:TAG and not `latest`, which engines look for on a hub."""
    if not _NAME.fullmatch(tag) or tag.endswith(":latest"):
        raise UsageError(f"{tag!r} is not NAME:TAG", "write it in full, with another tag than latest: churn:1")
    return tag


def build(
    project: Project, base: str = "", tag: str = "", wheels: Path | None = None, exclude: Sequence[str] = ()
) -> Built:
    """Build a project's image; pip and docker say on stderr what they do.

    base: an image with the Python of this process. tag: NAME:TAG, else the project's name and a digest of the content.
    wheels: a folder of wheels, filled when it is empty and else taken as it is; by default one that is removed again.
    """
    base = base or default_base()
    if tag:
        check_tag(tag)
    check_base(base)
    with tempfile.TemporaryDirectory(prefix="rdv-image-") as scratch:
        context = Path(scratch, "context")
        left = fill_context(project, context, wheels, exclude)
        name_image(context, "")
        tag = tag or content_tag(project, context, base)
        name_image(context, tag)
        noted = Path(scratch, "id")
        arguments = ["--tag", tag, "--build-arg", f"BASE={base}", "--network", "none", "--iidfile", str(noted)]
        docker("build", *arguments, str(context))
        return Built(noted.read_text().strip(), tag, left)


def fill_context(project: Project, context: Path, wheels: Path | None, exclude: Sequence[str]) -> tuple[str, ...]:
    """Put together what the Dockerfile copies; the project's files that were left out."""
    left = copy_project(project, context / "project", exclude)
    inside = context / "wheels"
    if wheels is None:
        make_wheels(project, inside)
    else:
        if not any(wheels.glob("*.whl")):
            make_wheels(project, wheels)
        inside.mkdir()
        for file in wheels.glob("*.whl"):
            shutil.copyfile(file, inside / file.name)
    text = requirements(versions(inside), extras_of(project))
    (inside / REQUIREMENTS).write_text(text)
    (context / "Dockerfile").write_text(dockerfile())
    return left


def name_image(context: Path, tag: str) -> None:
    """Have the places in a context's rdv.toml name this image: what runs in it dispatches its steps into the same one.

    Empty before the tag is known, so that it is no part of what the tag is a digest of.
    """
    file = context / "project" / FILE
    file.write_text(_IMAGE_OPTION.sub(f"image={tag}", file.read_text()))


def content_tag(project: Project, context: Path, base: str) -> str:
    """The tag for what is in a context, on a base: the same for the same content."""
    # an id holds the time at which an image was made
    said = docker("image", "inspect", "--format", "{{json .RootFS}} {{json .Config.Env}}", base, limit_s=_ANSWER_S)
    parts = [said, dockerfile(), digest_wheels(context / "wheels"), digest_folder(context / "project")]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_TAG_CHARS]
    name = re.sub(r"[^a-z0-9]+", "-", project.name.lower()).strip("-")
    return f"{name or 'project'}:{digest}"


def check_base(base: str) -> None:
    """Return when an engine answers and the base's Python can load the wheels that this one makes.

    NotFound without the docker command, Unreachable when no engine answers, UsageError for a base that does not fit.
    """
    docker("version", "--format", "{{.Server.Version}}", limit_s=_ANSWER_S)
    argv = ["run", "--rm", "--network", "none", "--entrypoint", "python3", base, "-c", _ASK]
    theirs = docker(*argv).split()
    ours = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True).stdout.split()
    if theirs != ours:
        raise UsageError(
            f"{base} has Python {' '.join(theirs)} and wheels are made here for {' '.join(ours)}",
            "name another base with --base, or run rdv with that Python",
        )


def cluster_place(place: str, tag: str) -> str:
    """An environment's `cluster` or `services` with this image: the one it has, or a template to fill in."""
    scheme, _, rest = place.partition(":")
    namespace, _, query = rest.partition("?") if scheme == "nomad" else ("NAMESPACE", "", "address=URL")
    options = dict(parse_qsl(query)) | {"driver": "docker", "image": tag, "folder": FOLDER, "python": PYTHON}
    return f"nomad:{namespace}?{urlencode(options, safe=':/')}"


def dockerfile() -> str:
    """The Dockerfile of every project."""
    return importlib.resources.files("rdv.backends.image").joinpath("Dockerfile").read_text()


def docker(command: str, *arguments: str, stdin: IO[bytes] | None = None, limit_s: float | None = None) -> str:
    """What docker prints; a build's words go to stderr as they come. Its failures in rdv's errors, by kind."""
    program = shutil.which("docker")
    if program is None:
        hint = "type: apt-get install -y docker.io; or use Nomad's exec driver, see `rdv image root --help`"
        raise NotFound("there is no docker on the PATH", hint)
    shown = command == "build"
    try:
        ended = subprocess.run(
            [program, command, *arguments],
            stdin=stdin or subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimedOut(f"docker {command} took longer than {limit_s:g} s", "see whether the engine hangs") from None
    if ended.returncode:
        raise failure(command, (ended.stderr or b"").decode(errors="replace"))
    return (ended.stdout or b"").decode(errors="replace").strip()


def failure(command: str, said: str) -> RdvError:
    """The error for what a docker command said as it failed."""
    last = " ".join(said.split())[-600:]
    lower = last.lower()
    if "permission denied" in lower and "sock" in lower:
        return NotAuthorised(f"you may not use the Docker engine: {last}", "join the group docker, or become root")
    if any(one in lower for one in _NOBODY):
        return Unreachable(f"no Docker engine answers: {last}", "start it, or set DOCKER_HOST")
    if "unable to find image" in lower:
        hint = "`rdv image base NAME:TAG` makes one out of this machine where no registry can be reached"
        return NotFound(f"the base image cannot be had: {last}", hint)
    what = f"docker {command} failed" + (f": {last}" if last else "")
    return RdvError(what, "see what it said above" if not last else "mend that")
