"""A Docker engine of our own: it runs containers without a network of its own, and leaves the machine as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.image.rootfs import make_root, tar_command

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("engine")]
ANSWER_S = 60.0
TRACES = ("/run/docker", "/run/containerd", "/opt/containerd", "/etc/docker/key.json")


def machine(folder: Path) -> dict[str, Any]:
    """What an engine could change of this machine: interfaces, firewall, forwarding, mounts, groups, files."""
    rules = [
        subprocess.run([name], capture_output=True, text=True, timeout=ANSWER_S, check=False).stdout
        for name in ("iptables-save", "ip6tables-save")
        if shutil.which(name)
    ]
    return {
        "interfaces": sorted(os.listdir("/sys/class/net")),
        "rules": [[line for line in text.splitlines() if not line.startswith(("#", ":"))] for text in rules],
        "policies": [[line.split("[")[0] for line in text.splitlines() if line.startswith(":")] for text in rules],
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line],
        "groups": [str(path) for path in Path("/sys/fs/cgroup").glob("*/rdv-docker-*") if str(folder) in str(path)],
        "files": [str(path) for path in map(Path, TRACES) if path.exists()],
    }  # fmt: skip


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the engine's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.append(process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [command for command in found if f"{folder}/exec" in command]


@pytest.fixture(scope="module")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of this machine's files."""
    return make_root(tmp_path_factory.mktemp("root") / "root")


def test_an_engine_leaves_the_machine_as_it_was(live_server: Callable[..., Any], small_root: Path) -> None:
    """Running containers or none, closed or killed: no interface, rule, mount, group, process or file stays."""
    engine = live_server("docker:DockerEngine", "nomad")
    before = machine(engine.folder)
    engine.start()
    engine.import_root(small_root, "base:1")
    assert engine.call("run", "--rm", "--network", "none", "base:1", "id", "-u").strip() == b"0"
    engine.call("run", "--detach", "--network", "host", "base:1", "sleep", "600")
    assert machine(engine.folder)["rules"] == before["rules"]
    engine.close()
    assert machine(engine.folder) == before
    assert not processes_of(engine.folder)
    engine.start()
    assert b"base" in engine.call("images")
    engine.call("run", "--detach", "--network", "none", "--init", "base:1", "sleep", "600")
    engine.process.kill()
    engine.close()
    assert machine(engine.folder) == before
    assert not processes_of(engine.folder)
    assert "600" not in " ".join(_commands_in(engine.folder))
    engine.wipe()
    assert not (engine.folder / "data").exists()


def _commands_in(folder: Path) -> list[str]:
    """Commands of live processes whose root is one of the engine's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{folder}/data" in process.joinpath("mountinfo").read_text().partition("\n")[0]:
                found.append(process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def test_a_root_file_system_is_the_same_each_time(small_root: Path, tmp_path: Path) -> None:
    """Two root file systems of one machine are the same archive, and their Python has what training needs."""
    pieces = []
    for root in (small_root, make_root(tmp_path / "again")):
        with subprocess.Popen(tar_command(root), stdout=subprocess.PIPE) as tar:
            pieces.append(subprocess.run(["sha256sum"], stdin=tar.stdout, capture_output=True, check=True).stdout)
    assert pieces[0] == pieces[1]
    script = "import bz2, ctypes, lzma, sqlite3, ssl, venv, ensurepip; ctypes.CDLL('libgomp.so.1')\n"
    script += "assert ssl.create_default_context().get_ca_certs()"
    env = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.run(["chroot", str(small_root), "python3", "-c", script], env=env, check=True, timeout=ANSWER_S)
