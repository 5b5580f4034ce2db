"""The installer of the servers: what it skips, refuses, and leaves when it is interrupted."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[2] / "ci" / "servers" / "install.py"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The installer, with an empty folder for the servers and nothing on the PATH."""
    spec = importlib.util.spec_from_file_location("servers_install", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setenv("RDV_SERVERS", str(tmp_path / "servers"))
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(module, "STEP_S", 0.01)
    monkeypatch.setattr(sys, "argv", ["install"])
    return module


def program(file: Path, says: str) -> None:
    """A program that tells a version."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\necho '{says}'\n")
    file.chmod(0o755)


def built(install: ModuleType) -> None:
    """All servers as the installer leaves them."""
    for server in install.SERVERS:
        folder = install.folder() / "bin"
        program(folder / server.name, "no version")
        install.stamp_of(server, folder).write_text(server.version)


def test_what_is_there_is_left_alone(install: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """With every server built before, there is nothing to do, Go is not needed, and build caches left over go."""
    built(install)
    (install.folder() / "build" / "cache").mkdir(parents=True)
    assert install.main() == 0
    assert capsys.readouterr().out.count(str(install.folder() / "bin")) == 4
    assert not (install.folder() / "build").exists()


@pytest.mark.parametrize(
    ("says", "fits"),
    [("Consul v1.19.2", True), ("v1.17.0", True), ("v1.16.9", False), ("v1.22.0", False), ("git", False)],
)
def test_a_program_on_the_path_must_be_suitable(install: ModuleType, tmp_path: Path, says: str, fits: bool) -> None:
    """A server on the PATH is taken when its version is one that the tests are made for."""
    program(tmp_path / "path" / "consul", says)
    (server,) = (one for one in install.SERVERS if one.name == "consul")
    assert bool(install.ready(server, tmp_path)) is fits


def test_another_version_is_built_anew(install: ModuleType) -> None:
    """A binary that was built of another version than is wanted now does not count."""
    built(install)
    server, folder = install.SERVERS[0], install.folder() / "bin"
    install.stamp_of(server, folder).write_text("0.0.1")
    assert install.ready(server, folder) == ""


def test_the_script_of_hdfs_is_kept_as_it_is_here(install: ModuleType, tmp_path: Path) -> None:
    """Where the jars are there already, a script of an older rdv is replaced, and still a program."""
    folder = tmp_path / "servers" / "hdfs"
    (folder / "lib").mkdir(parents=True)
    (folder / "start").write_text("old")
    install.install_hdfs(tmp_path / "servers", tmp_path / "work")
    assert (folder / "start").read_text() == (FILE.parent / "hdfs" / "start").read_text()
    assert os.access(folder / "start", os.X_OK)
    assert sorted(one.name for one in folder.iterdir()) == ["lib", "start"]


def test_what_is_missing_is_said_first(
    install: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Go, or with too little disk, nothing is begun and the remedy is said; an unknown server is refused."""
    assert install.main() == 1
    assert "no go on the PATH" in capsys.readouterr().err
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1e9}))
    assert install.main() == 1
    assert "RDV_SERVERS=" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["install", "--with", "kafka"])
    with pytest.raises(SystemExit) as caught:
        install.main()
    assert caught.value.code == 2


def test_a_build_that_fails_shows_its_end(install: ModuleType, tmp_path: Path) -> None:
    """A failed build raises with the last lines that it wrote."""
    script = "for at in range(100): print('line', at)\nraise SystemExit(3)"
    with pytest.raises(install.CannotInstall, match="line 99"):
        install.run([sys.executable, "-c", script], tmp_path, dict(os.environ), "a build")


def test_an_interrupted_build_ends_at_once(tmp_path: Path) -> None:
    """Interrupting the installer ends what it started, and says that it can go on."""
    tell = "open('pid.new', 'w').write(str(os.getpid())); os.rename('pid.new', 'pid')"
    build = f"import os, time; {tell}; time.sleep(600)"
    script = (
        f"import os, pathlib, sys; sys.path.insert(0, {str(FILE.parent)!r}); import install\n"
        f"build = [sys.executable, '-c', {build!r}]\n"
        "install.install = lambda extras: install.run(build, pathlib.Path('.'), dict(os.environ), 'a build')\n"
        "sys.argv = ['install']; sys.exit(install.main())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < until:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    assert b"run it again" in child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()
