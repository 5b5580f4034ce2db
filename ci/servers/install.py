"""Nomad, Consul, Vault and an S3 server, built by name from the ordinary registries into the user's cache folder.

Skips what is there or on the PATH in a suitable version. Can be interrupted and run again: a binary appears whole or
not at all, and the build caches stay until everything stands. Needs Go; HDFS (--with hdfs) needs Maven and Java.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
STEP_S = 5.0 if sys.stdout.isatty() else 30.0


@dataclasses.dataclass(frozen=True)
class Server:
    """A Go program: its module and version, the package that is built, what may be on the PATH instead.

    suitable: the oldest version, inclusive, and the first one that is too new. build_gb: disk while it is built.
    """

    name: str
    module: str
    version: str
    package: str
    suitable: tuple[tuple[int, ...], tuple[int, ...]]
    build_gb: float


SERVERS = (
    Server("versitygw", "github.com/versity/versitygw", "1.8.0",
           "github.com/versity/versitygw/cmd/versitygw", ((1, 5), (2,)), 2),
    Server("consul", "github.com/hashicorp/consul", "1.19.2", "github.com/hashicorp/consul", ((1, 17), (1, 22)), 6),
    Server("nomad", "github.com/hashicorp/nomad", "1.11.3", "github.com/hashicorp/nomad", ((1, 11), (1, 12)), 8),
    Server("vault", "github.com/hashicorp/vault", "1.21.0", "github.com/hashicorp/vault", ((1, 17), (3,)), 10),
)  # fmt: skip


class CannotInstall(Exception):
    """Something is missing or a build failed; the message says what to type."""


def say(text: str) -> None:
    """One line of progress."""
    print(f"servers: {text}", flush=True)


def folder() -> pathlib.Path:
    """Where the binaries and jars live: RDV_SERVERS, else the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(os.environ.get("RDV_SERVERS") or pathlib.Path(cache, "rdv", "servers")).absolute()


def version_of(program: str) -> tuple[int, ...]:
    """The version that a program tells, empty when it tells none."""
    for words in (["version"], ["--version"]):
        try:
            told = subprocess.run([program, *words], capture_output=True, text=True, timeout=60, env=clean())
        except (OSError, subprocess.TimeoutExpired):
            return ()
        if found := re.search(r"v?(\d+)\.(\d+)\.(\d+)", told.stdout):
            return tuple(int(part) for part in found.groups())
    return ()


def clean() -> dict[str, str]:
    """An environment without settings for other people's servers."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


def ready(server: Server, bin_folder: pathlib.Path) -> str:
    """Where a suitable binary is already, else empty: the one built here before, else one on the PATH."""
    built, stamp = bin_folder / server.name, stamp_of(server, bin_folder)
    if os.access(built, os.X_OK) and stamp.exists() and stamp.read_text() == server.version:
        return str(built)
    program, (oldest, too_new) = shutil.which(server.name), server.suitable
    return program if program and oldest <= version_of(program) < too_new else ""


def stamp_of(server: Server, bin_folder: pathlib.Path) -> pathlib.Path:
    """The file that says which version a binary of ours is: not every program knows its own."""
    return bin_folder / f".{server.name}.version"


def need_disk(at: pathlib.Path, gb: float) -> None:
    """Refuse before an hour's work rather than after it."""
    while not at.exists():
        at = at.parent
    free = shutil.disk_usage(at).free / 1e9
    if free < gb:
        remedy = "free some, or type: RDV_SERVERS=/a/larger/disk make servers"
        raise CannotInstall(f"{free:.0f} GB free at {at}, the builds need {gb:.0f}; {remedy}")


def need_program(name: str, remedy: str) -> None:
    """Refuse when a build tool is missing."""
    if shutil.which(name) is None:
        raise CannotInstall(f"no {name} on the PATH; {remedy}")


def go_environment(build: pathlib.Path) -> dict[str, str]:
    """The caller's environment with Go's caches inside the build folder, so that deleting it leaves nothing."""
    own = {"GOMODCACHE": build / "mod", "GOCACHE": build / "cache", "GOTMPDIR": build / "tmp"}
    for path in own.values():
        path.mkdir(parents=True, exist_ok=True)
    names = {name: str(path) for name, path in own.items()}
    return {**os.environ, **names, "GOWORK": "off", "CGO_ENABLED": os.environ.get("CGO_ENABLED", "1")}


def run(command: list[str], cwd: pathlib.Path, env: dict[str, str], label: str, total: int = 0) -> None:
    """Run a build, show how far it is, and end it with all its children when we are interrupted."""
    tail: collections.deque[str] = collections.deque(maxlen=40)
    lines = 0
    begun, over = time.monotonic(), threading.Event()

    def show() -> None:  # beside the reading: one large package may take minutes without a line
        while not over.wait(STEP_S):
            of = f" of {total}" if total else ""
            say(f"{label}: {lines}{of} packages, {time.monotonic() - begun:.0f} s")

    with subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, process_group=0,
    ) as child:  # fmt: skip
        threading.Thread(target=show, daemon=True).start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                lines += 1
                tail.append(line)
        except BaseException:
            os.killpg(child.pid, signal.SIGTERM)
            raise
        finally:
            over.set()
    if child.returncode:
        raise CannotInstall(f"{label} failed ({' '.join(command)}):\n{''.join(tail)}")


def build(server: Server, work: pathlib.Path, bin_folder: pathlib.Path) -> None:
    """One server's binary, built in a folder of its own and moved into place when it stands."""
    source, env, begun = work / server.name, go_environment(work), time.monotonic()
    shutil.rmtree(source, ignore_errors=True)
    if (HERE / server.name / "go.mod").exists():
        shutil.copytree(HERE / server.name, source)
    else:
        source.mkdir(parents=True)
        run(["go", "mod", "init", f"rdv/servers/{server.name}"], source, env, f"{server.name}: go.mod")
    say(f"{server.name} {server.version}: fetching its modules")
    run(["go", "get", "-tool", f"{server.package}@v{server.version}"], source, env, f"{server.name}: modules")
    listed = subprocess.run(
        ["go", "list", "-deps", server.package], cwd=source, env=env, capture_output=True, text=True
    )
    total, made = len(listed.stdout.split()), work / "tmp" / f"{server.name}.new"
    say(f"{server.name} {server.version}: compiling {total} packages")
    flags = ["-v", "-trimpath", "-ldflags", "-s -w", "-o", str(made)]
    run(["go", "build", *flags, server.package], source, env, f"{server.name}: compiling", total)
    bin_folder.mkdir(parents=True, exist_ok=True)
    made.chmod(0o755)
    shutil.move(made, bin_folder / f".{server.name}.new")
    (bin_folder / f".{server.name}.new").rename(bin_folder / server.name)
    stamp_of(server, bin_folder).write_text(server.version)
    size_mb = (bin_folder / server.name).stat().st_size / 1e6
    say(f"{server.name} {server.version}: built in {time.monotonic() - begun:.0f} s, {size_mb:.0f} MB")


def install_hdfs(root: pathlib.Path, work: pathlib.Path) -> None:
    """The jars of a namenode and a datanode, and the script that starts them, which is kept as it is here."""
    if (root / "hdfs" / "lib").is_dir():
        shutil.copy2(HERE / "hdfs" / "start", new := root / "hdfs" / ".start")
        new.replace(root / "hdfs" / "start")
        return say(f"hdfs: in {root / 'hdfs'}")
    need_program("mvn", "on Debian type: apt-get install -y maven")
    need_program("java", "on Debian type: apt-get install -y default-jre-headless")
    begun, made = time.monotonic(), work / "hdfs"
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(HERE / "hdfs", made)
    say("hdfs: fetching its jars")
    where = [f"-Dmaven.repo.local={work / 'maven'}", "-DincludeScope=runtime", f"-DoutputDirectory={made / 'lib'}"]
    run(["mvn", "-B", "-f", str(made / "pom.xml"), MAVEN_COPY, *where], made, dict(os.environ), "hdfs: jars")
    root.mkdir(parents=True, exist_ok=True)
    made.rename(root / "hdfs")
    say(f"hdfs: ready in {time.monotonic() - begun:.0f} s")


def delete_caches(work: pathlib.Path) -> None:
    """Remove every build cache; Go writes its module cache read-only."""
    if (work / "mod").is_dir():
        subprocess.run(["go", "clean", "-modcache"], env=go_environment(work))
    shutil.rmtree(work, ignore_errors=True)


def install(extras: set[str]) -> None:
    """Everything that is missing."""
    root = folder()
    bin_folder, work = root / "bin", root / "build"
    missing = []
    for server in SERVERS:
        if at := ready(server, bin_folder):
            say(f"{server.name}: {at}")
        else:
            missing.append(server)
    if missing:
        # the module caches add up until the end, with a build already begun they are there in part
        need_disk(root, sum(server.build_gb for server in missing) - (0 if not work.exists() else 4))
        need_program("go", "install Go 1.25 or newer: https://go.dev/doc/install")
        say(f"building {', '.join(one.name for one in missing)} into {bin_folder}; interrupt and run again as you like")
        for server in missing:
            build(server, work, bin_folder)
    if "hdfs" in extras:
        install_hdfs(root, work)
    if work.exists():
        say("deleting the build caches")
        delete_caches(work)


def main() -> int:
    """0 when everything stands, 1 when something is missing, 130 when interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--with", dest="extras", default="", metavar="hdfs", help="servers beside the four")
    extras = set(filter(None, parser.parse_args().extras.split(",")))
    if extras - {"hdfs"}:
        parser.error(f"--with knows hdfs, not {', '.join(sorted(extras - {'hdfs'}))}")
    try:
        install(extras)
    except CannotInstall as exc:
        print(f"servers: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("servers: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
