"""Make links/rdv mirror package_dir, for tools that read paths instead of importing (mypy, pyright)."""

import configparser
import os
import pathlib
import shutil

ROOT = pathlib.Path(__file__).resolve().parent.parent


def packages(root: pathlib.Path = ROOT) -> dict[str, str]:
    """Folder of each mapped package, in setup.cfg's order."""
    cfg = configparser.ConfigParser()
    cfg.read(root / "setup.cfg")
    lines = cfg["options"]["package_dir"].strip().splitlines()
    return {name.strip(): folder.strip() for name, _, folder in (line.partition("=") for line in lines)}


def make(root: pathlib.Path = ROOT) -> pathlib.Path:
    """The fresh link tree: a folder per sub-package, a file per module of the root package."""
    links = root / "links"
    shutil.rmtree(links, ignore_errors=True)
    for name, folder in packages(root).items():
        dest = links.joinpath(*name.split("."))
        if "." in name:
            dest.parent.mkdir(parents=True, exist_ok=True)
            dest.symlink_to(os.path.relpath(root / folder, dest.parent))
            continue
        dest.mkdir(parents=True)
        for entry in (root / folder).iterdir():
            if entry.name != "__pycache__":
                (dest / entry.name).symlink_to(os.path.relpath(entry, dest))
    return links


if __name__ == "__main__":
    make()
