"""Where the servers' programs are, and the environment that they run in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from rdv.errors import NotFound
from rdv.files import replace_file

INSTALL = "type: make servers"


def cache_folder(environ: Mapping[str, str]) -> Path:
    """What rdv keeps in the user's cache folder."""
    cache = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".cache")
    return Path(cache, "rdv")


def servers_folder(environ: Mapping[str, str]) -> Path:
    """The folder of binaries and jars: RDV_SERVERS, else the user's cache folder."""
    return Path(environ.get("RDV_SERVERS") or cache_folder(environ) / "servers")


def write_private(path: Path, text: str) -> bool:
    """Make a file for this user's eyes have a text; whether it was there with another one."""
    try:
        before = path.read_text()
    except FileNotFoundError:
        before = text
    replace_file(path, text.encode(), 0o600)
    return before != text


def find_program(name: str, environ: Mapping[str, str]) -> Path:
    """A server's program: the one `make servers` built, else the one on the PATH; NotFound with the remedy."""
    built = servers_folder(environ) / "bin" / name
    if os.access(built, os.X_OK, effective_ids=True):
        return built
    if on_path := shutil.which(name, path=environ.get("PATH", "")):
        return Path(on_path)
    raise NotFound(f"no {name}, neither in {built.parent} nor on the PATH", INSTALL)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a server needs and nothing else: proxies and CA bundles of the caller stop some of them."""
    return {name: environ[name] for name in ("PATH", "HOME", "LANG") if name in environ}
