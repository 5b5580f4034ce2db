"""`rdv image build | base | root`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rdv.cli import options, output
from rdv.cli.groups import HintingGroup

if TYPE_CHECKING:
    from rdv.config import Project

PROGRAMS = "Have also this program of this machine in it, such as nginx; repeatable."
WHEELS = "A folder of wheels, filled when it is empty and else taken as it is."


@click.group(cls=HintingGroup)
def image() -> None:
    """Build the project's container image, a base for it, or a root file system."""


@image.command()
@click.option("--tag", default="", metavar="NAME:TAG", help="Its name; by default the project's and a content digest.")
@click.option("--base", default="", metavar="IMAGE", help="What it is built on. [python:X.Y, as this Python]")
@click.option("--wheels", type=click.Path(file_okay=False, path_type=Path), help=WHEELS)
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Leave files out, by name or path; repeatable.")
@options.project
@options.output
def build(
    tag: str, base: str, wheels: Path | None, exclude: tuple[str, ...], project: Project, form: str
) -> None:
    """Build the image in which steps, gateways and workers of this project run.

    It holds rdv as it is installed here, what rdv and the project's requirements.txt or pyproject.toml need, and the
    project's files, which the image's user may read only. The wheels are made here and the build has no network. Hidden
    files, virtual environments and files with secrets stay out. Prints the image, and the lines for rdv.toml.
    """
    from rdv.backends.image.build import build as build_image
    from rdv.backends.image.build import cluster_place

    made = build_image(project, base, tag, wheels, exclude)
    for path in (one for one in made.left_out if not one.rpartition("/")[2].startswith((".", "__"))):
        output.note(f"left out: {path}")
    settings = project.config.environments[project.env]
    places = {name: cluster_place(getattr(settings, name), made.tag) for name in ("cluster", "services")}
    output.document({"image": made.image, "tag": made.tag, **places}, form)
    if form in output.TEXTS:
        for name, place in places.items():
            output.note(f'for rdv.toml, below [environments.NAME]: {name} = "{place}"')


@image.command()
@click.argument("tag", metavar="NAME:TAG")
@click.option("--debootstrap", is_flag=True, help="A minimal Debian from this machine's apt mirror, with its Python.")
@click.option("--with", "programs", metavar="PROGRAM", multiple=True, help=PROGRAMS)
@options.output
def base(tag: str, debootstrap: bool, programs: tuple[str, ...], form: str) -> None:
    """Make a base image without a registry, and hand it to the Docker engine.

    It is made of this machine's own files: its Python, the libraries that this loads, libgomp, certificates and a few
    commands. With nginx in it, it is also what proxies can run in: `proxy_image=NAME:TAG` of the place `services`.
    """
    from rdv.backends.image.base import import_base

    output.document({"image": import_base(tag, debootstrap, programs), "tag": tag}, form)


@image.command()
@click.argument("root", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--wheels", type=click.Path(file_okay=False, path_type=Path), help=WHEELS)
@click.option("--with", "programs", metavar="PROGRAM", multiple=True, help=PROGRAMS)
@options.project
@options.output
def root(root: Path, wheels: Path | None, programs: tuple[str, ...], project: Project, form: str) -> None:
    """Fill the new FOLDER with what the image would hold, for hosts without a Docker engine.

    Nomad's exec driver gives each task such a root file system: what is printed goes into `chroot_env` of the client's
    configuration. Proxies need nginx in it. Only root can do this.
    """
    from rdv.backends.image.base import chroot_env, make_chroot

    make_chroot(project, root.absolute(), wheels, programs)
    pairs = chroot_env(root.absolute()).items()
    output.rows([{"from": source, "to": target} for source, target in pairs], ["from", "to"], form)
