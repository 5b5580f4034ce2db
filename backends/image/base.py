"""Images and root file systems without a registry: from this machine's files, or by debootstrap from its apt mirror."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rdv.backends.image.build import check_tag, docker, fill_context
from rdv.backends.image.rootfs import UID, make_root, tar_command
from rdv.backends.image.wheels import REQUIREMENTS
from rdv.config import Project
from rdv.errors import NotFound, RdvError, UsageError

_DEBIAN = "python3,python3-venv,libgomp1,libstdc++6,ca-certificates"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# what a program may open before anything is mounted: name, minor number of major 1
_DEVICES = {"null": 3, "zero": 5, "urandom": 9}


def import_base(tag: str, bootstrap: bool = False, programs: Sequence[str] = ()) -> str:
    """Make a base image and hand it to the Docker engine as NAME:TAG; its id.

    bootstrap: a Debian of this machine's release from its apt mirror, with Debian's Python, else this machine's files.
    programs: what is to be in it as well, by the names of programs here, or of packages there.
    """
    check_tag(tag)
    docker("version", "--format", "{{.Server.Version}}")
    with tempfile.TemporaryDirectory(prefix="rdv-base-") as scratch:
        root = Path(scratch, "root")
        debootstrap(root, programs) if bootstrap else make_root(root, programs)
        with subprocess.Popen(tar_command(root), stdout=subprocess.PIPE) as tar:
            made = docker("import", "-", tag, stdin=tar.stdout)
        if tar.returncode:
            raise RdvError(f"tar of {root} ended with exit code {tar.returncode}", "see what it said above")
        return made


def make_chroot(project: Project, root: Path, wheels: Path | None = None, programs: Sequence[str] = ()) -> None:
    """Fill the new folder `root` with what the project's image would hold, for Nomad's `exec` driver; root only.

    programs: of this machine, which are to be in it as well.
    """
    if os.geteuid() != 0:
        raise UsageError("only root can install into another root file system", "run it with sudo")
    make_root(root, programs)
    with tempfile.TemporaryDirectory(prefix="rdv-image-") as scratch:
        context = Path(scratch, "context")
        fill_context(project, context, wheels, ())
        shutil.move(context / "wheels", root / "wheels")
        shutil.move(context / "project", root / "project")
    for name, minor in _DEVICES.items():
        os.mknod(root / "dev" / name, 0o666 | 0o020000, os.makedev(1, minor))
        (root / "dev" / name).chmod(0o666)
    try:
        _install(root)
    finally:
        for name in _DEVICES:
            (root / "dev" / name).unlink()
        shutil.rmtree(root / "wheels")
        shutil.rmtree(root / "opt/pip", ignore_errors=True)
    _links_within(root, root / "opt/rdv/bin")
    state = root / "var/lib/rdv"
    state.mkdir(parents=True, exist_ok=True)
    os.chown(state, UID, UID)


def _links_within(root: Path, folder: Path) -> None:
    """Make absolute links relative: Nomad looks for a task's program from outside, where they lead elsewhere."""
    for link in folder.iterdir():
        if link.is_symlink() and (target := os.readlink(link)).startswith("/"):
            link.unlink()
            link.symlink_to(os.path.relpath(root / target.lstrip("/"), folder))


def chroot_env(root: Path) -> dict[str, str]:
    """Nomad's `chroot_env` for such a folder: it copies folder by folder, and links at the top are lost."""
    pairs = {root / name: f"/{name}" for name in ("usr", "etc", "opt", "project", "var")}
    for name in ("bin", "sbin", "lib", "lib64"):
        link = root / name
        if link.exists():
            pairs[root / os.readlink(link) if link.is_symlink() else link] = f"/{name}"
    return {str(source): target for source, target in pairs.items() if source.exists()}


def debootstrap(root: Path, packages: Sequence[str] = ()) -> Path:
    """A minimal Debian of this machine's own release, from the mirror that its apt uses; for root only."""
    program = shutil.which("debootstrap")
    if program is None:
        raise NotFound("there is no debootstrap on the PATH", "type: apt-get install -y debootstrap")
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    wanted = ",".join((_DEBIAN, *packages))
    argv = [program, "--variant=minbase", f"--include={wanted}", suite, str(root), mirror(suite)]
    if subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), check=False).returncode:
        raise RdvError("debootstrap failed", "see what it said above")
    for leftover in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / leftover, ignore_errors=True)
    return root


def mirror(suite: str) -> str:
    """Where this machine's apt has Debian's packages of a release from, as apt itself tells."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)", "Created-By: Packages"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotFound(f"apt does not tell its mirror: {error}", "make the base from this machine's files") from error
    for line in said.splitlines():
        uri, *release = line.split()
        if release == [suite, "Debian"]:
            return uri
    raise NotFound(f"apt knows no mirror of Debian {suite or '(no release)'}", "type: apt-get update")


def _install(root: Path) -> None:
    """What the Dockerfile runs, here by chroot."""
    pip = ["/opt/pip/bin/pip", "--python", "/opt/rdv/bin/python", "--disable-pip-version-check", "install"]
    wheels = ["--no-index", "--no-cache-dir", "--find-links", "/wheels", "--requirement", f"/wheels/{REQUIREMENTS}"]
    for command in (
        ["python3", "-m", "venv", "/opt/pip"],
        ["python3", "-m", "venv", "--without-pip", "/opt/rdv"],
        [*pip, "--quiet", *wheels],
        ["/opt/rdv/bin/python", "-P", "-c", "import lightgbm, rdv, ssl, sqlite3"],
    ):
        argv = ["chroot", str(root), *command]
        env = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8"}
        out = sys.stderr.fileno()
        ended = subprocess.run(argv, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=out, check=False)
        if ended.returncode:
            raise RdvError(f"{command[0]} failed in {root}: exit code {ended.returncode}", "see what it said above")
