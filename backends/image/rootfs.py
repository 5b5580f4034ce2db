"""A small root file system out of this machine's own files: its interpreter, the libraries it loads, a few commands.

It becomes a base image where no registry can be reached, and the chroot of Nomad's `exec` driver where there is no
engine. The wheels that this interpreter makes fit, since it is the same interpreter.
"""

from __future__ import annotations

import os
import shutil
import ssl
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rdv.errors import NotFound, UsageError

USER, UID = "rdv", 10001
_COMMANDS = (
    "basename", "cat", "chmod", "chown", "cp", "cut", "date", "dirname", "env", "false", "find", "grep", "head", "id",
    "ldconfig", "ln", "ls", "mkdir", "mktemp", "mv", "printf", "ps", "readlink", "rm", "sed", "sh", "sleep", "sort",
    "stat", "tail", "tee", "touch", "tr", "true", "uname", "wc",
)  # fmt: skip
_NEEDED = frozenset({"sh", "env", "cat", "grep", "mkdir", "chown"})
_PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
# what wheels load and no wheel brings along; the last ones are parts of libc itself where it is newer
_LIBRARIES = (
    "libgomp.so.1", "libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1",
    "libutil.so.1", "libresolv.so.2", "libnss_files.so.2", "libnss_dns.so.2",
)  # fmt: skip
_OPTIONAL = frozenset(_LIBRARIES[4:])
_NOT_IN_STDLIB = ("site-packages", "dist-packages", "test", "tests", "idlelib", "turtledemo", "tkinter", "config-*")
_NOT_LOADED = ("_tkinter*", "_test*", "_ctypes_test*", "_xxtest*", "xxlimited*")
_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_FOLDERS = ("dev", "etc", "home", "proc", "root", "run", "sys", "usr/bin", "usr/lib", "usr/sbin", "var/lib", "var/tmp")


def make_root(root: Path, programs: Sequence[str] = ()) -> Path:
    """Fill the new folder `root` with a root file system for this interpreter; the same content each time.

    programs: names of what is to be in it as well, with the libraries that they load, such as nginx.
    UsageError when the folder holds something, NotFound when this machine lacks a part.
    """
    if root.exists() and any(root.iterdir()):
        raise UsageError(f"{root} is not empty", "choose a new folder")
    _skeleton(root)
    binaries = [*_interpreter(root), *_commands(root, programs)]
    _libraries(root, [*binaries, *(_library(name) for name in _LIBRARIES if _found(name))])
    _settings(root)
    subprocess.run(["ldconfig", "-r", str(root)], check=True, env={"PATH": _PATH}, capture_output=True)
    shutil.rmtree(root / "var/cache", ignore_errors=True)
    _same_times(root)
    return root


def tar_command(root: Path) -> list[str]:
    """The command that writes a root file system to its output as an archive, the same one for the same content."""
    plain = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]
    return ["tar", "--create", *plain, "--directory", str(root), "."]


def _skeleton(root: Path) -> None:
    for folder in _FOLDERS:
        root.joinpath(folder).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        host = Path("/", name)
        if host.is_symlink():
            root.joinpath(name).symlink_to(os.readlink(host).lstrip("/"))
            root.joinpath("usr", name).mkdir(exist_ok=True)
        elif host.is_dir():
            root.joinpath(name).mkdir(exist_ok=True)
    root.joinpath("tmp").mkdir()
    for name in ("tmp", "var/tmp"):
        root.joinpath(name).chmod(0o1777)


def _interpreter(root: Path) -> Iterator[Path]:
    """Copy the interpreter and the standard library; the files that load libraries.

    Debian's own stays where it is; any other moves to /usr/local, and finds its library from there.
    """
    program = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    stdlib, base = Path(sysconfig.get_path("stdlib")), Path(sys.base_prefix)
    prefix = Path("usr") if base == Path("/usr") else Path("usr/local")
    there = root / prefix / stdlib.relative_to(base)
    if not stdlib.joinpath("ensurepip").is_dir():
        raise NotFound(f"{stdlib} has no ensurepip", "on Debian type: apt-get install -y python3-venv")
    shutil.copytree(stdlib, there, ignore=shutil.ignore_patterns(*_NOT_IN_STDLIB, *_NOT_LOADED))
    there.joinpath("site-packages").mkdir(exist_ok=True)
    bundled = Path("/usr/share/python-wheels")  # where Debian's ensurepip has its wheels
    if prefix == Path("usr") and bundled.is_dir():
        shutil.copytree(bundled, root / "usr/share/python-wheels")
    target = root / prefix / "bin" / program.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(program, target)
    local = root / "usr/local/bin"
    local.mkdir(parents=True, exist_ok=True)
    for name in ("python3", "python"):
        local.joinpath(name).symlink_to(os.path.relpath(target, local))
    yield program
    yield from (stdlib / "lib-dynload" / file.name for file in sorted(there.joinpath("lib-dynload").iterdir()))


def _commands(root: Path, programs: Sequence[str]) -> Iterator[Path]:
    for name in (*_COMMANDS, *programs):
        found = shutil.which(name, path=_PATH)
        if found is None:
            if name in programs:
                raise NotFound(f"this machine has no {name}", f"on Debian type: apt-get install -y {name}")
            if name in _NEEDED:
                raise NotFound(f"this machine has no {name}", "make the base image on another one")
            continue
        yield _copy(root, Path(found))


def _libraries(root: Path, binaries: Iterable[Path]) -> None:
    """Copy every library that the binaries load, and these in turn (ldd tells all of them)."""
    said = subprocess.run(
        ["ldd", *map(str, binaries)], capture_output=True, text=True, env={"PATH": _PATH, "LC_ALL": "C"}, check=False
    ).stdout
    wanted = set()
    for line in said.splitlines():
        name, arrow, place = line.strip().partition(" => ")
        path = (place if arrow else name).split(" (")[0].strip()
        if path == "not found":
            raise NotFound(f"this machine has no {name}", "mend the interpreter, or make the base image elsewhere")
        if path.startswith("/") and not path.endswith(":"):
            wanted.add(path)
    for path in sorted(wanted):
        _copy(root, Path(path))
    for name in _LIBRARIES:
        if _found(name):
            _copy(root, _library(name))


def _copy(root: Path, path: Path) -> Path:
    """Copy a file to where it is, its folder's links resolved; what belongs to a moved interpreter moves along."""
    folder, base = Path(os.path.realpath(path.parent)), Path(os.path.realpath(sys.base_prefix))
    if base != Path("/usr") and folder.is_relative_to(base):
        folder = Path("/usr/local") / folder.relative_to(base)
    target = root / folder.relative_to("/") / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(path, target)
    return path


def _library(name: str) -> Path:
    known = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, env={"PATH": _PATH}, check=True).stdout
    for line in known.splitlines():
        title, arrow, path = line.strip().partition(" => ")
        if arrow and title.split(" ")[0] == name:
            return Path(path)
    raise NotFound(f"this machine has no {name}", "on Debian type: apt-get install -y libgomp1 libstdc++6")


def _found(name: str) -> bool:
    try:
        return bool(_library(name))
    except NotFound:
        if name in _OPTIONAL:
            return False
        raise


def _settings(root: Path) -> None:
    """The few files of /etc that programs look for, and the certificate authorities that this machine trusts."""
    etc = root / "etc"
    etc.joinpath("passwd").write_text(
        f"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
        f"{USER}:x:{UID}:{UID}::/var/lib/{USER}:/bin/false\n"
    )
    etc.joinpath("group").write_text(f"root:x:0:\nnogroup:x:65534:\n{USER}:x:{UID}:\n")
    etc.joinpath("nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    for name in ("os-release", "ld.so.conf", "debian_version"):
        if Path("/etc", name).is_file():
            shutil.copyfile(Path("/etc", name), etc / name)
    if Path("/etc/ld.so.conf.d").is_dir():
        shutil.copytree("/etc/ld.so.conf.d", etc / "ld.so.conf.d")
    bundle = next((path for path in map(Path, _CERTIFICATES) if path.is_file()), None)
    if bundle is None:
        raise NotFound("this machine has no certificate authorities", "type: apt-get install -y ca-certificates")
    kept = etc / "ssl/certs/ca-certificates.crt"
    kept.parent.mkdir(parents=True)
    shutil.copyfile(bundle, kept)
    default = root / ssl.get_default_verify_paths().openssl_cafile.lstrip("/")
    if not default.exists():
        default.parent.mkdir(parents=True, exist_ok=True)
        default.symlink_to("/etc/ssl/certs/ca-certificates.crt")


def _same_times(root: Path) -> None:
    """Give what was written here, links and folders one time, and everything modes that everybody may read."""
    for folder, folders, files in os.walk(root, topdown=False):
        for path in (Path(folder, name) for name in (*folders, *files)):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                path.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
            elif stat.S_ISDIR(mode) and not mode & stat.S_ISVTX:
                path.chmod(0o755)
            if not stat.S_ISREG(mode) or path.is_relative_to(root / "etc"):
                os.utime(path, (0, 0), follow_symlinks=False)
    root.chmod(0o755)
    os.utime(root, (0, 0))
