"""The wheels of an image, made outside it: rdv as it is here, what it and the project need, the project itself."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rdv.config import Project
from rdv.errors import NotFound, RdvError, UsageError

REQUIREMENTS = "requirements.txt"
# of an installed distribution: what the installer wrote for this place only
_OF_THE_PLACE = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})
_NOT_SOURCE = ("build", "dist", "links", "*.egg-info", "__pycache__", "node_modules", ".*")
_WHEEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl")


def extras_of(project: Project) -> tuple[str, ...]:
    """The extras of rdv that a project's image needs: the cluster's clients, and what its models are made with."""
    models = project.config.models.values()
    found = {"cluster"}
    found |= {"catboost" for model in models if model.flavour == "catboost"}
    found |= {"parquet" for model in models if model.data.lower().endswith((".parquet", ".pq"))}
    return tuple(sorted(found))


def make_wheels(project: Project, folder: Path) -> None:
    """Fill a folder with every wheel that the image installs. pip says on stderr what it does."""
    if importlib.util.find_spec("pip") is None:
        raise NotFound(f"{sys.executable} has no pip to make wheels with", "type: python -m ensurepip")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rdv-wheels-") as scratch:
        own = _own_wheel(importlib.metadata.distribution("rdv"), Path(scratch))
        wanted = [f"{own}[{','.join(extras_of(project))}]"]
        if (project.folder / REQUIREMENTS).is_file():
            wanted += ["--requirement", str(project.folder / REQUIREMENTS)]
        if is_package(project.folder):
            wanted.append(str(copy_source(project.folder, Path(scratch, "project"))))
        _pip_wheel(folder, wanted)


def is_package(folder: Path) -> bool:
    """Whether a project's folder is something that pip can install."""
    if (folder / "setup.py").is_file():
        return True
    try:
        return "project" in tomllib.loads((folder / "pyproject.toml").read_text())
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        return False


def copy_source(folder: Path, target: Path) -> Path:
    """Copy a source tree without what was generated: building in the tree itself would leave files there."""

    def ignored(place: str, names: list[str]) -> set[str]:
        made = shutil.ignore_patterns(*_NOT_SOURCE)(place, names)
        return made | {name for name in names if Path(place, name, "pyvenv.cfg").exists()}

    shutil.copytree(folder, target, ignore=ignored, symlinks=True)
    return target


def repack(installed: Distribution, folder: Path) -> Path:
    """Make a wheel of a distribution from its installed files: the same code, whatever any index holds by that name."""
    wheel = folder / f"{installed.name.replace('-', '_')}-{installed.version}-py3-none-any.whl"
    record = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(installed.files or (), key=str):
            inside = file.parts
            if ".." in inside or "__pycache__" in inside or Path(file).is_absolute():
                continue
            if inside[0].endswith(".dist-info") and inside[-1] in _OF_THE_PLACE:
                continue
            data = file.read_binary()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{file.as_posix()},sha256={digest},{len(data)}")
            archive.writestr(zipfile.ZipInfo(file.as_posix()), data)
        name = f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info/RECORD"
        archive.writestr(zipfile.ZipInfo(name), "\n".join([*record, f"{name},,", ""]))
    return wheel


def versions(folder: Path) -> Mapping[str, str]:
    """Name to version of the wheels in a folder; UsageError for one that is there twice, or when rdv is not."""
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*.whl")):
        if match := _WHEEL.fullmatch(file.name):
            name = re.sub(r"[-_.]+", "-", match["name"]).lower()
            if found.setdefault(name, match["version"]) != match["version"]:
                raise UsageError(f"{folder} holds {name} twice: {found[name]} and {match['version']}", "remove one")
    if "rdv" not in found:
        raise UsageError(f"{folder} holds no wheel of rdv", "give an empty folder to have it filled")
    return found


def requirements(wheels: Mapping[str, str], extras: Iterable[str]) -> str:
    """The requirements file that installs exactly these wheels, and names what the extras lack."""
    lines = [f"{name}=={version}" for name, version in sorted(wheels.items()) if name != "rdv"]
    return "\n".join([f"rdv[{','.join(extras)}]=={wheels['rdv']}", *lines, ""])


def digest_wheels(folder: Path) -> str:
    """A digest of the wheels' contents; times and compression do not count."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(file) as archive:
            for entry in sorted(archive.infolist(), key=lambda one: one.filename):
                if not entry.filename.endswith(".dist-info/RECORD"):
                    digest.update(f"{entry.filename}\0{entry.file_size}\0{entry.CRC}\n".encode())
    return digest.hexdigest()


def _own_wheel(installed: Distribution, scratch: Path) -> Path:
    """rdv's own wheel: from its source tree where it is installed editable, else from what is installed."""
    told = json.loads(installed.read_text("direct_url.json") or "{}")
    if not told.get("dir_info", {}).get("editable"):
        return repack(installed, scratch)
    source = Path(unquote(urlsplit(told["url"]).path))
    if not source.joinpath("setup.cfg").is_file():
        raise NotFound(f"rdv is installed editable from {source}, which is not there", "install it again")
    _pip_wheel(scratch, ["--no-deps", str(copy_source(source, scratch / "source"))])
    (wheel,) = scratch.glob("rdv-*.whl")
    return wheel


def _pip_wheel(folder: Path, arguments: list[str]) -> None:
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--wheel-dir", str(folder)]
    ended = subprocess.run([*argv, *arguments], stdout=sys.stderr.fileno(), check=False)
    if ended.returncode:
        raise RdvError("pip could not make the image's wheels", "see what it said above")
