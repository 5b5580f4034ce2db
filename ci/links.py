"""Make links/rdv mirror package_dir, for tools that read paths instead of importing (mypy, pyright)."""

import configparser
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def packages(root: pathlib.Path = ROOT) -> dict[str, str]:
    """Folder of each mapped package, in setup.cfg's order."""
    cfg = configparser.ConfigParser()
    cfg.read(root / "setup.cfg")
    lines = cfg["options"]["package_dir"].strip().splitlines()
    return {name.strip(): folder.strip() for name, _, folder in (line.partition("=") for line in lines)}


def wanted(root: pathlib.Path) -> dict[pathlib.Path, pathlib.Path]:
    """Target of each link: a folder per sub-package, a file per entry of the root package."""
    found = {}
    for name, folder in packages(root).items():
        dest = root.joinpath("links", *name.split("."))
        if "." in name:
            found[dest] = root / folder
        else:
            found |= {dest / entry.name: entry for entry in (root / folder).iterdir() if entry.name != "__pycache__"}
    return found


def make(root: pathlib.Path = ROOT) -> pathlib.Path:
    """The link tree, brought up to date in place: a checker that reads it meanwhile never sees it empty."""
    links, targets = root / "links", wanted(root)
    for dest, target in targets.items():
        dest.parent.mkdir(parents=True, exist_ok=True)
        to = os.path.relpath(target, dest.parent)
        if not (dest.is_symlink() and os.readlink(dest) == to):
            dest.unlink(missing_ok=True)
            dest.symlink_to(to)
    for folder in {dest.parent for dest in targets}:
        for entry in folder.iterdir():
            if entry.is_symlink() and entry not in targets:
                entry.unlink()
    return links


if __name__ == "__main__":
    make()
