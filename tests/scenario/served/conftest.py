"""A served project with exact answers, load on it, and its ledger checked by request id."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.artifacts import file_entries
from rdv.backends.select import artifacts, registry
from rdv.errors import RdvError
from rdv.inputs import InputField, InputSpec
from rdv.manifest import Manifest, ModelInfo
from rdv.records import Pointer, Version, decode, encode, pointer_key, version_key
from rdv.serving.processes.records import RoleRecord, read_records
from rdv.serving.recording.decoy import journal_folder
from rdv.serving.recording.events import events_topic
from rdv.serving.recording.match import Match, match
from rdv.serving.status import ServingStatus, read_status
from rdv.settings import load_project

GOAL, CHAMPION, SECOND = "total", "total/champion", "total/second"
DEFAULT = -1.0
OFFSETS = {(CHAMPION, "v1"): 1e6, (CHAMPION, "v2"): 2e6, (SECOND, "v1"): 3e6}
HANG_S = 60.0
SETTINGS = f"""
[goals.{GOAL}]
schema = "total.json"
budget_ms = 80
default = {DEFAULT}
answer = "number"
tiers = [
  {{ until_ms = 40, models = ["{CHAMPION}"] }},
  {{ until_ms = 80, models = ["{CHAMPION}", "{SECOND}"] }},
]
[models."{CHAMPION}"]
goal = "{GOAL}"
flavour = "sum"
[models."{SECOND}"]
goal = "{GOAL}"
flavour = "sum"
[serve]
port = PORT
drain_s = 3
"""
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
PROGRAM = (
    "import sys; from pathlib import Path; from rdv.settings import load_project\n"
    "from rdv.serving.processes.supervisor import serve\n"
    "serve(load_project(Path(sys.argv[1]), sys.argv[2]))\n"
)


@dataclass
class Seen:
    """What clients saw.

    answers: id to (request number, value, moment); asked: id to the moment before; unknown: moments of broken
    connections.
    """

    answers: dict[str, tuple[int, dict[str, Any], float]] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)
    refused: list[tuple[int, float]] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)
    slow_ms: float = 0.0

    def to_requests_after(self, moment: float) -> list[dict[str, Any]]:
        """The answers to requests that were sent after a moment."""
        return [answer for one, (_, answer, _) in list(self.answers.items()) if self.asked[one] > moment]


class Site:
    """A project folder, its published models, and whoever serves it."""

    GOAL, CHAMPION, SECOND, DEFAULT = GOAL, CHAMPION, SECOND, DEFAULT

    def __init__(
        self, folder: Path, settings: str = SETTINGS, schema: dict[str, Any] = SCHEMA, env: str = "local"
    ) -> None:
        (folder / "rdv.toml").write_text(settings.replace("PORT", str(_free_port())))
        (folder / "total.json").write_text(json.dumps(schema))
        self.folder, self.project = folder, load_project(folder, env, environ={})
        self.registry, self.store = registry(self.project), artifacts(self.project)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "serve.log"

    def publish(self, model: str, version: str, offset: float, **changes: Any) -> None:
        """A version that adds up its inputs and an offset; changes: of its model info."""
        source = self.folder / "made" / model / version
        source.mkdir(parents=True)
        (source / "model.json").write_text(json.dumps({"offset": offset}))
        fields: dict[str, Any] = {
            "file": "model.json",
            "flavour": "sum",
            "kind": "number",
            "inputs": InputSpec((InputField("a"), InputField("b"))),
            "probe_rows": ((1.0, 2.0),),
            "probe_scores": ((3.0 + offset,),),
        }
        self.publish_info(model, version, ModelInfo(**{**fields, **changes}), source)

    def publish_info(self, model: str, version: str, info: ModelInfo, source: Path) -> None:
        """A version made of the files in a folder."""
        name = f"{model.replace('/', '-')}-{version}"
        manifest = Manifest(name=name, kind="model", attempt="a", files=file_entries(source), task="t", model=info)
        self.store.publish(manifest, source)
        record = Version(model=model, version=version, artifact=name, digest=manifest.digest())
        self.registry.put(version_key(model, version), encode(record), 0)

    def deploy(self, model: str, version: str) -> None:
        """Move a pointer."""
        entry = self.registry.get(pointer_key(model))
        before = decode(Pointer, entry.value, "") if entry else Pointer(version="", serial=0)
        pointer = Pointer(version=version, previous=before.version, serial=before.serial + 1)
        self.registry.put(pointer_key(model), encode(pointer))

    def start(self) -> None:
        """Start serving and wait until all of it is up."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, str(self.folder), self.project.env], stdout=log, stderr=log
            )
        self.settled()

    def stop(self) -> int:
        """Ask for a clean stop and return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(HANG_S)

    def end(self) -> None:
        """Leave nothing running, whatever happened."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def settled(self) -> ServingStatus:
        """Wait until every role runs and the gateway sees both models and the archives."""

        def complete() -> ServingStatus | None:
            try:
                status = read_status(self.project)
            except RdvError:
                return None
            goal = status.gateways[0]["goals"][GOAL]
            connected = all(model["replicas"] for model in goal["models"].values())
            return status if connected and goal["archives"] and self.recorder() else None

        return self.until(complete, "everything serves")

    def recorder(self) -> bool:
        """Whether the decoy holds both its seats."""
        return any(one.role == "decoy" and not one.details.get("not_connected") for one in self.records())

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Wait for something to be true and return it."""
        until = time.monotonic() + HANG_S
        while time.monotonic() < until:
            found = true()
            if found:
                return found
            assert self.process is None or self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.02)
        raise AssertionError(f"never: {what}\n{self.log.read_text()[-3000:]}")

    def records(self) -> list[RoleRecord]:
        """The processes that live."""
        return read_records(self.project.run_folder)

    def pid(self, role: str, model: str = "") -> int:
        """The process of a role."""
        return next(one.pid for one in self.records() if one.role == role and one.name == model)

    def replaced(self, role: str, model: str, pid: int) -> None:
        """Wait until a role runs as another process than this one, and everything serves again."""
        self.until(
            lambda: any(one.role == role and one.name == model and one.pid != pid for one in self.records()),
            f"{role} {model} is replaced",
        )
        self.settled()

    def settled_ledger(self) -> dict[str, Any]:
        """The ledger of the goal once nothing is open and every event is out."""

        def quiet() -> dict[str, Any] | None:
            view = read_status(self.project).gateways[0]
            bus = view["bus"]
            rows = [one["waiting"] + one["in_flight"] for topic in bus.values() for one in topic.values()]
            goal, told = view["goals"][GOAL], bus[events_topic(GOAL)]["recorder"]["published"]
            settled = not goal["ledger"]["open"] and not goal["mailboxes"] and told == goal["ledger"]["accepted"]
            return view if settled and not any(rows) else None

        return self.until(quiet, "everything is settled")

    def match(self, seen: Seen) -> Match:
        """The ids that clients were given against both journals."""
        state = self.project.state
        return match(seen.answers.keys(), journal_folder(state, GOAL), journal_folder(state, events_topic(GOAL)))

    @contextlib.contextmanager
    def load(self, clients: int = 4, pause_s: float = 0.01) -> Iterator[Seen]:
        """Clients that ask all the time, each over its own connection, while the block runs."""
        seen, stop, guard = Seen(), threading.Event(), threading.Lock()
        threads = [
            threading.Thread(target=_client, args=(self, seen, stop, guard, number, clients, pause_s))
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            stop.set()
            for thread in threads:
                thread.join(HANG_S)

    def enough(self, seen: Seen, more: int = 20) -> None:
        """Wait until so many more answers have come."""
        count = len(seen.answers)
        self.until(lambda: len(seen.answers) >= count + more, f"{more} more answers")

    def check_answers(self, seen: Seen) -> None:
        """Every answer is the default, or exactly what the model and version that it names compute."""
        for number, answer, _ in list(seen.answers.values()):
            if answer["source"] == "default":
                assert answer["answer"] == DEFAULT
            else:
                assert answer["answer"] == number + 1 + OFFSETS[answer["model"], answer["version"]], answer


def _free_port() -> int:
    """A port for all restarts of a site: clients go on dialling it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _client(
    site: Site, seen: Seen, stop: threading.Event, guard: threading.Lock, number: int, step: int, pause_s: float
) -> None:
    connection: http.client.HTTPConnection | None = None
    while not stop.is_set():
        began = time.monotonic()
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", site.project.config.serve.port, timeout=10)
                connection.connect()
        except OSError:
            connection = None  # nobody listens: no request was sent
            stop.wait(0.02)
            continue
        try:
            sent = json.dumps({"a": number, "b": 1})
            connection.request("POST", f"/v1/goals/{GOAL}/score", sent, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException):
            with guard:
                seen.unknown.append(time.monotonic())
            connection.close()
            connection = None
            continue
        now = time.monotonic()
        with guard:
            if reply.status == 200:
                answer = json.loads(body)
                seen.asked[answer["request_id"]] = began
                seen.answers[answer["request_id"]] = (number, answer, now)
                seen.slow_ms = max(seen.slow_ms, (now - began) * 1e3)
            else:
                seen.refused.append((reply.status, now))
        if reply.getheader("connection") == "close":
            connection.close()
            connection = None
        number += step
        stop.wait(pause_s)


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """A function that makes a project, with other settings, schema and environment when given; not served yet."""
    made: list[Site] = []

    def make(settings: str = SETTINGS, schema: dict[str, Any] = SCHEMA, env: str = "local") -> Site:
        folder = tmp_path / f"site-{len(made)}"
        folder.mkdir()
        made.append(Site(folder, settings, schema, env))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.end()


@pytest.fixture
def settings_text() -> str:
    """The settings that every site has."""
    return SETTINGS


@pytest.fixture
def offsets() -> dict[tuple[str, str], float]:
    """What each version of each model adds."""
    return OFFSETS


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A project with two published models, that nobody serves yet."""
    made = make_site()
    for (model, version), offset in OFFSETS.items():
        made.publish(model, version, offset)
    for model in (CHAMPION, SECOND):
        made.deploy(model, "v1")
    return made


@pytest.fixture
def on_bus(authorities: Any) -> Callable[[Any, str], Any]:
    """A function that has a site's roles talk over a bus of this name; `grpc`: with certificates on both ends."""

    def chosen(site: Any, bus: str) -> Any:
        if bus == "grpc":
            place = authorities.Authority().write(site.folder)
            with (site.folder / "rdv.toml").open("a") as file:
                file.write(f'[environments.local]\nbus = "{place}"\n')
        return site

    return chosen
