"""The build context of an image: what goes in of a project, and what never does."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import parse_qs

import msgspec

from rdv.config import Project
from rdv.errors import UsageError
from rdv.settings import FILE

# by name, in any folder: what rdv, git and tools keep, and what holds secrets wherever it turns up
LEFT_OUT = (".*", "__pycache__", "*.pyc", "*.pem", "*.key", "*.p12", "*.token", "*_token", "id_rsa*", "id_ed25519*")


def copy_project(project: Project, target: Path, exclude: Sequence[str] = ()) -> tuple[str, ...]:
    """Copy a project's files, owned and written by nobody but root in the image; what was left out, by path.

    exclude: patterns for names or for paths below the project. Left out beside these: hidden files, virtual
    environments, and whatever holds secrets: by its name, by rdv.toml's naming it, or by its mode 0600 or stricter
    where rdv.toml itself may be read by others.
    """
    secret = {(project.folder / path).resolve() for path in _secret_files(project)}
    private = stat.S_IMODE((project.folder / FILE).stat().st_mode) & 0o077 != 0
    left: list[str] = []
    target.mkdir(parents=True)
    for path in _walk(project.folder, exclude, left):
        name = path.relative_to(project.folder)
        if path.resolve() in secret or (private and path.is_file() and not path.stat().st_mode & 0o077):
            left.append(name.as_posix())
        elif path.is_symlink() and not path.resolve().is_relative_to(project.folder.resolve()):
            raise UsageError(f"{name} links to a file outside the project", "copy it, or leave it out with --exclude")
        elif path.is_dir():
            (target / name).mkdir(mode=0o755)
        else:
            shutil.copy2(path, target / name)
            (target / name).chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    return tuple(sorted(left))


def digest_folder(folder: Path) -> str:
    """A digest of the files below a folder: paths, modes and contents, no times."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            mode = stat.S_IMODE(path.stat().st_mode)
            digest.update(f"{path.relative_to(folder).as_posix()}\0{mode:o}\0{content}\n".encode())
    return digest.hexdigest()


def _walk(folder: Path, exclude: Sequence[str], left: list[str]) -> Iterator[Path]:
    """Files and folders in order, folders first; a linked folder is one file to this and is refused by who copies."""

    def goes(path: Path) -> bool:
        name, below = path.name, path.relative_to(folder).as_posix()
        out = any(fnmatch(name, one) for one in LEFT_OUT) or (path / "pyvenv.cfg").exists()
        if out or any(fnmatch(name, one) or fnmatch(below, one) for one in exclude):
            left.append(below)
            return False
        return True

    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if goes(Path(place, name)))
        yield from (Path(place, name) for name in folders)
        yield from (Path(place, name) for name in sorted(files) if goes(Path(place, name)))


def _secret_files(project: Project) -> Iterator[str]:
    """Files that rdv.toml names for secrets: `NAME_file=PATH` in a place, and the file of `env:PATH`."""
    for environment in project.config.environments.values():
        for place in msgspec.structs.asdict(environment).values():
            scheme, _, rest = str(place).partition(":")
            path, _, query = rest.partition("?")
            yield from (value for name, values in parse_qs(query).items() if name.endswith("_file") for value in values)
            if scheme == "env" and path:
                yield path
