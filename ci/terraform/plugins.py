"""Where a machine keeps Terraform's providers."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

REGISTRY = "registry.terraform.io"
_DEPTH = 4
_SKIPPED = {"proc", "sys", "dev", "run", "tmp", "root", "home", "var", "boot", "mnt", "media"}


def find(source: str) -> pathlib.Path | None:
    """The folder that holds a provider, as `terraform init -plugin-dir` wants it; None when there is none.

    source: its name in the registry, "hashicorp/aws". RDV_TERRAFORM_PLUGINS is looked at first, then the usual places.
    """
    for folder in _places():
        if any(folder.joinpath(REGISTRY, source).glob("*")):
            return folder
    return None


def init(folder: pathlib.Path | None) -> list[str]:
    """The command that makes a module ready: with the providers of a folder, or else with the registry's."""
    return ["init", "-input=false", "-backend=false", *([f"-plugin-dir={folder}"] if folder else [])]


def _places() -> Iterator[pathlib.Path]:
    for name in ("RDV_TERRAFORM_PLUGINS", "TF_PLUGIN_CACHE_DIR"):
        if told := os.environ.get(name):
            yield pathlib.Path(told)
    data = os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local" / "share"
    yield from (pathlib.Path.home() / ".terraform.d" / "plugins", pathlib.Path(data, "terraform", "plugins"))
    for at, folders, _ in os.walk("/"):
        depth = at.count(os.sep) if at != "/" else 0
        if REGISTRY in folders:
            yield pathlib.Path(at)
        folders[:] = [] if depth >= _DEPTH else [one for one in folders if depth or one not in _SKIPPED]
