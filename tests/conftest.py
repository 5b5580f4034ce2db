"""What every test gets: a clean environment, `require`, a check that nothing was left behind."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

IN_CI = os.environ.get("RDV_CI") == "1"
# `make test-cluster` asks for the tests marked `live`, and then nothing that they need may be missing.
LIVE = os.environ.get("RDV_LIVE") == "1"
ENVIRON = dict(os.environ)
# Inherited by whatever a test starts, however deep, so that a leftover is found even after its parent is gone.
TOKEN_NAME = "PYTEST_LEAK_TOKEN"
TOKEN = f"{TOKEN_NAME}={os.getpid()}-{time.monotonic_ns()}"
LEAK_GRACE_S = 5.0

settings.register_profile("default", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=300)
settings.load_profile("ci" if IN_CI else "default")


def pytest_configure() -> None:
    """Take Ctrl-C as usual also where whoever started this in the background had it ignored: tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """--full: the long form of the tests that have one."""
    parser.addoption("--full", action="store_true", help="the long form of tests with many kills (minutes a store)")


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether the long form was asked for."""
    return bool(pytestconfig.getoption("--full"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A table of the contract suites that ran: port, adapter, how many tests passed, failed and were skipped."""
    counts: dict[str, dict[str, int]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, member in getattr(report, "user_properties", ()):
                if name == "member" and (report.when == "call" or outcome != "passed"):
                    counts.setdefault(member, {}).setdefault(outcome, 0)
                    counts[member][outcome] += 1
    if counts:
        terminalreporter.section("contract suites: port x adapter")
        for member, found in sorted(counts.items()):
            port, _, adapter = member.partition(" ")
            told = ", ".join(f"{number} {outcome}" for outcome, number in found.items())
            terminalreporter.line(f"{port:<12}{adapter:<16}{told}")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without the caller's RDV_* settings."""
    for name in [name for name in os.environ if name.startswith("RDV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(TOKEN_NAME, TOKEN.partition("=")[2])


@pytest.fixture(scope="session")
def in_ci() -> bool:
    """True where the machine is ours and nothing may be missing."""
    return IN_CI


@pytest.fixture(scope="session")
def is_live() -> bool:
    """True where the tests that need real servers were asked for."""
    return LIVE


@pytest.fixture(scope="session")
def environ() -> dict[str, str]:
    """The caller's environment, which says where the servers are, without RDV_* settings of other kinds."""
    return {name: value for name, value in ENVIRON.items() if name == "RDV_SERVERS" or not name.startswith("RDV_")}


@pytest.fixture(scope="session")
def require(in_ci: bool) -> Callable[..., str]:
    """A function that makes sure of a thing the test cannot do without.

    require(name, found=None, remedy=""): the path of the program `name`, or `name` when a module of that name can be
    imported; `found` (path or truth value) replaces this search, for anything that is neither. Absent: the test skips
    with the reason, in CI it fails.
    """

    def ensure(name: str, found: object = None, remedy: str = "") -> str:
        at = found if found is not None else shutil.which(name) or (_importable(name) and name)
        if not at:
            reason = f"{name} is not here" + (f"; {remedy}" if remedy else "")
            (pytest.fail if in_ci else pytest.skip)(reason)
        return str(at)

    return ensure


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """live_server("consul:ConsulServer", client): a real server, not started, closed with the session at the latest.

    client: the Python package that the tests talk to it with; options: of the server's class. Not asked for live tests:
    the test skips; asked for, and something is missing: it fails.
    """
    with contextlib.ExitStack() as stack:

        def make(path: str, client: str, **options: Any) -> Any:
            module, _, name = path.partition(":")
            if not LIVE:
                pytest.skip(f"needs a real server ({module}); type: make test-cluster")
            if not _importable(client):
                pytest.fail(f"{client} is not installed; type: pip install -e '.[cluster]'")
            from rdv.errors import NotFound

            kind = getattr(importlib.import_module(f"rdv.backends.devcluster.{module}"), name)
            try:
                server = kind(tmp_path_factory.mktemp(module), ENVIRON, **options)
            except NotFound as error:
                pytest.fail(str(error))
            stack.callback(server.close)
            return server

        yield make


@pytest.fixture(scope="session")
def live_servers_folder() -> Path:
    """Where the real servers' programs are, for a test that starts them by typing commands."""
    if not LIVE:
        pytest.skip("needs real servers (dev-cluster); type: make test-cluster")
    from rdv.backends.devcluster.programs import servers_folder

    return servers_folder(ENVIRON)


@pytest.fixture(scope="session")
def consul_server(live_server: Callable[..., Any]) -> Any:
    """One Consul for the whole session: every test takes a prefix of its own."""
    server = live_server("consul:ConsulServer", "consul")
    server.start()
    return server


@pytest.fixture(scope="session")
def s3_server(live_server: Callable[..., Any]) -> Any:
    """One S3 server for the whole session: every test takes a bucket of its own."""
    server = live_server("s3:S3Server", "boto3")
    server.start()
    return server


@pytest.fixture(scope="session")
def hdfs_servers(live_server: Callable[..., Any]) -> Any:
    """One HDFS for the whole session: every test takes a folder of its own."""
    server = live_server("hdfs:HdfsServers", "hdfs")
    server.start()
    return server


@pytest.fixture(scope="session")
def vault_server(live_server: Callable[..., Any]) -> Any:
    """One Vault for the whole session: every test takes paths of its own."""
    server = live_server("vault:VaultServer", "hvac")
    server.start()
    return server


@pytest.fixture(scope="session")
def nomad_servers(live_server: Callable[..., Any]) -> Any:
    """One Nomad cluster for the whole session: every test takes a namespace of its own."""
    servers = live_server("nomad:NomadServers", "nomad")
    servers.start()
    return servers


def _module(name: str, *path: str) -> Any:
    """A module of helpers below this folder, by its path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent.joinpath(*path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def towns() -> Any:
    """The module with projects on real servers, which scenarios and the contract suite of schedules share."""
    return _module("towns", "scenario", "on_cluster", "town.py")


@pytest.fixture(scope="session")
def cluster_benches() -> Any:
    """The module with the benches over the cluster port, which the contract suite and scenarios share."""
    return _module("cluster_benches", "contract", "cluster", "bench.py")


@pytest.fixture(scope="session")
def authorities() -> Any:
    """The module with certificate authorities for tests."""
    return _module("authorities", "authority.py")


@pytest.fixture(scope="session")
def issuers() -> Any:
    """The module with who signs id_tokens for tests."""
    return _module("issuers", "issuer.py")


@pytest.fixture
def issuer(issuers: Any, tmp_path: Path, require: Callable[..., str]) -> Iterator[Any]:
    """Who signs id_tokens."""
    require("openssl", remedy="apt-get install -y openssl")
    made = issuers.Issuer(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def repositories() -> Any:
    """The module with projects in repositories, which tests of pipelines and of images share."""
    return _module("repositories", "scenario", "gitlab", "repository.py")


@pytest.fixture(scope="session")
def gitlab_ci_local(is_live: bool) -> str:
    """The program that runs pipelines, fetched when it is not there and live tests are asked for."""
    if not is_live:
        pytest.skip("needs gitlab-ci-local; type: make test-cluster")
    program = Path(__file__).parents[1] / "ci/gitlab_ci_local"
    made = subprocess.run([program], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip().splitlines()[-1]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Any]:
    """A private package index, running, with nothing in it."""
    with _module("index_servers", "index_server.py").index_server(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def new_dev_cluster() -> Iterator[Callable[[], Any]]:
    """new_dev_cluster(): a whole cluster on ports of its own, not up yet, gone with the session at the latest."""
    with contextlib.ExitStack() as stack:

        def make() -> Any:
            if not LIVE:
                pytest.skip("needs the real servers; type: make test-cluster")
            from rdv.backends.devcluster.cluster import DevCluster

            # not below pytest's folder: sockets in here have long names of their own
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rdv-dc-")), "cluster")
            made = DevCluster(folder, ENVIRON, tied=True)
            stack.callback(made.down)
            return made

        yield make


@pytest.fixture(scope="session")
def dev_cluster(new_dev_cluster: Callable[[], Any]) -> Any:
    """One whole cluster for the session, without HDFS and Docker; tests take names of their own and break nothing."""
    made = new_dev_cluster()
    made.up()
    return made


@pytest.fixture
def no_nomad_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without settings for Nomad."""
    for name in ("NOMAD_ADDR", "NOMAD_TOKEN", "NOMAD_NAMESPACE", "NOMAD_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nomad_bench(nomad_servers: Any, cluster_benches: Any, no_nomad_environment: None) -> Callable[[Path], Any]:
    """nomad_bench(folder): a namespace of the session's Nomad for a project in that folder."""
    return lambda folder: cluster_benches.OnNomad(folder, nomad_servers)


@pytest.fixture
def s3_keys(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The S3 server's keys in the environment, and nothing of the caller's that boto3 would read."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


@pytest.fixture(autouse=True)
def no_leaks(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails the test that leaves a process running or an asyncio task pending."""
    pending: list[str] = []
    # asyncio.run() cancels in silence whatever the main coroutine left behind; this is where it does so.
    cancel_all = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

    def note_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
        pending.extend(repr(task.get_coro()) for task in asyncio.all_tasks(loop))
        cancel_all(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", note_and_cancel)
    before = _pids()
    yield
    left = _wait_for_exit(before)
    for pid in left:
        _kill(pid)
    assert not left, f"the test left processes running: {left}"
    assert not pending, f"the test left asyncio tasks pending: {pending}"


def _pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def _wait_for_exit(before: set[int]) -> dict[int, str]:
    """Command lines of processes that the test started and that outlive the grace; no wait when there are none."""
    until = time.monotonic() + LEAK_GRACE_S
    while True:
        left = {pid: command for pid in _pids() - before if (command := _ours(pid))}
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.02)


def _ours(pid: int) -> str:
    """Command line of a live process that this one started, directly or not; empty for any other."""
    try:
        folder = Path("/proc", str(pid))
        state, parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[:2]
        command = folder.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        # multiprocessing keeps these two for the life of the process that uses it.
        if state in "ZX" or "multiprocessing.resource_tracker" in command or "multiprocessing.forkserver" in command:
            return ""
        started_here = TOKEN.encode() in folder.joinpath("environ").read_bytes().split(b"\0")
        return command if started_here or int(parent) == os.getpid() else ""
    except (OSError, ValueError):
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
