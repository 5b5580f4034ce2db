"""One Docker engine on a socket of its own, and nothing of it outside its folder once it is closed.

It makes no network: no bridge, no firewall rule, no changed sysctl, so there is none to put back, and several run at
once. Containers take the host's network (`network_mode = "host"`, where the other servers of this machine are) or none.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.programs import clean_environment, find_program
from rdv.backends.image.rootfs import tar_command
from rdv.errors import NotFound, RdvError, UsageError

INSTALL = "type: apt-get install -y docker.io"
# what engines and their containerd make beside what they are told to use
_TRACES = (
    "/etc/docker/key.json", "/etc/docker", "/opt/containerd/bin", "/opt/containerd/lib", "/opt/containerd",
    "/run/containerd/s", "/run/containerd", "/run/docker/plugins", "/run/docker",
)  # fmt: skip
# where every containerd's shims listen; one that was killed leaves its socket
_SHIMS = Path("/run/containerd/s")
_GONE_S = 10.0
# a unix socket's path has 107 characters, and containerd has one of 39 below this folder
_LONGEST = 107 - len("/exec/containerd/containerd.sock.ttrpc")
_LOOK_S = 0.02
_ANSWER_S = 5.0


def docker_config(folder: Path) -> dict[str, Any]:
    """The engine's configuration, given as a file because the machine's own would count otherwise."""
    return {
        "data-root": str(folder / "data"),
        "exec-root": str(folder / "exec"),
        "pidfile": str(folder / "docker.pid"),
        "hosts": [f"unix://{folder}/docker.sock"],
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
        "ip-masq": False,
        "userland-proxy": False,
        "cgroup-parent": cgroup_of(folder),
        "shutdown-timeout": 5,
    }


def cgroup_of(folder: Path) -> str:
    """The control group of an engine's containers: its own, so that it can be removed."""
    return f"/rdv-docker-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


class DockerEngine:
    """A Docker engine with its data below a folder, for root only. Keeps its images over stop and start."""

    def __init__(self, folder: Path, environ: Mapping[str, str], tied: bool = True) -> None:
        if os.geteuid() != 0:
            raise UsageError("only root can start a Docker engine", "use the exec or raw_exec driver, or become root")
        if len(str(folder)) > _LONGEST:
            raise UsageError(f"{folder} is too long for a Docker engine's sockets", "choose a folder further up")
        engine, self._client = (_find(name, environ) for name in ("dockerd", "docker"))
        self.folder, self.socket = folder, folder / "docker.sock"
        self.address = f"unix://{self.socket}"
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "daemon.json"
        config.write_text(json.dumps(docker_config(folder), indent=1))
        self.environ = {**clean_environment(environ), "DOCKER_HOST": self.address, "DOCKER_CONFIG": f"{folder}/client"}
        argv = [str(engine), f"--config-file={config}"]
        self.process = ServerProcess("docker", argv, clean_environment(environ), folder / "docker.log", tied)

    def start(self) -> None:
        """Start it and wait until it answers."""
        note_traces(self.folder)
        self.process.start()
        self.settle()

    def settle(self) -> None:
        """Wait until it answers."""
        self.process.until(self.is_ready, "ready")

    def is_ready(self) -> bool:
        """Whether it answers."""
        connection = http.client.HTTPConnection("localhost", timeout=_ANSWER_S)
        try:
            with socket.socket(socket.AF_UNIX) as connection.sock:
                connection.sock.settimeout(_ANSWER_S)
                connection.sock.connect(str(self.socket))
                connection.request("GET", "/_ping")
                return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def close(self) -> None:
        """End its containers and itself, and leave no process, mount or file outside its folder behind."""
        if self.process.pid:
            with suppress(RdvError):
                if running := self.call("ps", "--all", "--quiet").decode().split():
                    self.call("rm", "--force", "--volumes", *running)
        self.process.stop()
        self.clear()

    def clear(self) -> None:
        """Take away what is left of it when it has been stopped, by whomever."""
        remove_traces(self.folder)

    def wipe(self) -> None:
        """Lose all images and containers, while it is stopped."""
        remove_traces(self.folder)
        for part in ("data", "exec", "client"):
            shutil.rmtree(self.folder / part, ignore_errors=True)

    def call(self, *arguments: str, stdin: IO[bytes] | None = None, limit_s: float = 600.0) -> bytes:
        """What the docker command prints; RdvError with what it says when it fails."""
        argv = [str(self._client), *arguments]
        ended = subprocess.run(
            argv, env=self.environ, stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False
        )
        if ended.returncode:
            said = ended.stderr.decode(errors="replace").strip()[-2000:]
            raise RdvError(f"docker {arguments[0]} failed: {said}", f"see {self.process.log}")
        return ended.stdout

    def import_root(self, root: Path, name: str) -> str:
        """Make an image, NAME:TAG, from the root file system in a folder; its id."""
        with subprocess.Popen(tar_command(root), stdout=subprocess.PIPE, env=self.environ) as tar:
            made = self.call("import", "-", name, stdin=tar.stdout).decode().strip()
        if tar.returncode:
            raise RdvError(f"tar of {root} failed: exit code {tar.returncode}", "see what it said above")
        return made

    def load(self, archive: Path) -> str:
        """Take in the images of an archive of `docker save`; what was said about it."""
        with archive.open("rb") as file:
            return self.call("load", "--quiet", stdin=file).decode().strip()


def note_traces(folder: Path) -> None:
    """Write down, the first time, which files outside its folder an engine would be the first to make."""
    with suppress(FileExistsError), folder.joinpath("absent").open("x") as file:
        file.write("".join(f"{path}\n" for path in _TRACES if not os.path.lexists(path)))


def remove_traces(folder: Path) -> None:
    """End what a stopped engine left running, and take away its mounts, control groups and files outside its folder.

    Works from another process than the one that started the engine; twice is fine.
    """
    end = time.monotonic() + _GONE_S
    while left := [pid for pid in _pids() if _belongs(pid, folder)]:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end:
            raise RdvError(f"processes of the engine in {folder} do not end: {left}", "end them by hand")
        time.sleep(_LOOK_S)
    below = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((one for one in below if one.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", mount], check=False, capture_output=True)
    for group in Path("/sys/fs/cgroup").glob(f"**/{cgroup_of(folder)[1:]}"):
        _remove_empty(group)
    _remove_dead_sockets(_SHIMS)
    absent = folder / "absent"
    for trace in absent.read_text().split() if absent.exists() else ():
        with suppress(OSError):  # in use by another engine, or holding what is not ours
            path = Path(trace)
            path.rmdir() if path.is_dir() else path.unlink()


def _find(name: str, environ: Mapping[str, str]) -> Path:
    try:
        return find_program(name, environ)
    except NotFound as error:
        raise NotFound(error.what, INSTALL) from None


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _belongs(pid: int, folder: Path) -> bool:
    """Whether a live process is part of the engine in a folder: named on its command line, or its root is in there."""
    process = Path("/proc", str(pid))
    with suppress(OSError, IndexError):
        if process.joinpath("stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return False
        command = process.joinpath("cmdline").read_bytes().split(b"\0")
        inside = f"{folder}/exec/".encode()
        if Path(os.fsdecode(command[0])).name.startswith(("containerd", "docker")):
            return any(inside in word for word in command)
        if os.readlink(process / "ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            return False
        root = process.joinpath("mountinfo").read_text().partition("\n")[0]
        return f"{folder}/data/" in root
    return False


def _remove_dead_sockets(folder: Path) -> None:
    open_ones = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()}
    for path in folder.glob("*"):
        if path.is_socket() and str(path) not in open_ones:
            path.unlink(missing_ok=True)


def _remove_empty(group: Path) -> None:
    for inner in sorted((one for one in group.rglob("*") if one.is_dir()), reverse=True):
        with suppress(OSError):
            inner.rmdir()
    with suppress(OSError):
        group.rmdir()
