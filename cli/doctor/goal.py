"""The doctor's own goal: models that add up their inputs, so that every answer can be checked exactly.

A real gateway, bus, workers and decoy serve it as processes in a temporary folder, on a free port.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rdv.cli.children import Server, last_words
from rdv.cli.doctor.findings import Finding, judge
from rdv.errors import StepFailed

if TYPE_CHECKING:
    from rdv.config import Project

GOAL = "sum"
OFFSETS: Mapping[str, float] = {"sum/plain": 0.0, "sum/thousand": 1000.0}
FIELDS = ("a", "b", "c")
REQUESTS = 200
VERSION = "v1"
START_S, STOP_S, ANSWER_S = 60.0, 20.0, 10.0
LARGEST = 2**40

SETTINGS = """\
project = "doctor"
[goals.sum]
budget_ms = 2000
default = -1
answer = "number"
canary_model = "sum/thousand"
tiers = [{ until_ms = 1900, models = ["sum/plain"] }]
[goals.sum.schema]
type = "object"
required = ["a", "b", "c"]
additionalProperties = false
[goals.sum.schema.properties]
a = { type = "integer" }
b = { type = "integer" }
c = { type = "integer" }
[models."sum/plain"]
goal = "sum"
flavour = "sum"
[models."sum/thousand"]
goal = "sum"
flavour = "sum"
[serve]
port = 0
journal_mb = 64
segment_mb = 8
"""


def check() -> Finding:
    """Whether requests that go all the way come back exactly right, from every model, once each."""
    with tempfile.TemporaryDirectory(prefix="rdv-doctor-") as folder:
        project = build(Path(folder))
        with serving(project) as address:
            asked, took_ms = ask(address)
        problems = [*wrong_answers(asked), *wrong_scores(project, asked)]
    found = problems[0] if problems else f"{len(asked)} answers exact, median {statistics.median(took_ms):.2g} ms"
    remedy = "run it again; if it stays, report it with what `rdv doctor -o json` prints"
    return judge("built-in goal", not problems, found, remedy)


def build(folder: Path) -> Project:
    """A project in a folder with both models published and released."""
    from rdv.backends import select
    from rdv.clock import SystemClock
    from rdv.records import Version, encode, version_key
    from rdv.releases import pointer
    from rdv.settings import load_project

    (folder / "rdv.toml").write_text(SETTINGS)
    project = load_project(folder, environ={})
    store, registry = select.artifacts(project), select.registry(project)
    for model, offset in OFFSETS.items():
        made = publish(store, model, offset, folder)
        version = Version(model=model, version=VERSION, artifact=made.name, digest=made.digest())
        registry.put(version_key(model, VERSION), encode(version), expect=0)
        pointer.deploy(registry, model, VERSION, "doctor", SystemClock())
    return project


def publish(store: Any, model: str, offset: float, folder: Path) -> Any:
    """The manifest of a model that adds an offset to the sum of its inputs, published."""
    from rdv.backends.artifacts import file_entries
    from rdv.inputs import InputField, InputSpec
    from rdv.manifest import Manifest, ModelInfo

    files = folder / "made" / model
    files.mkdir(parents=True)
    (files / "model.json").write_text(json.dumps({"offset": offset}))
    inputs = InputSpec(tuple(InputField(name) for name in FIELDS))
    info = ModelInfo(
        "model.json", "sum", "number", inputs, probe_rows=((1.0, 2.0, 3.0),), probe_scores=((offset + 6.0,),)
    )
    manifest = Manifest(
        name=f"doctor/{model}", kind="model", attempt="1", files=file_entries(files), task="doctor", model=info
    )
    return store.publish(manifest, files)


@contextmanager
def serving(project: Project) -> Iterator[tuple[str, int]]:
    """Serve a project by processes of its own while the block lasts; host and port of its gateway once it is ready."""
    from rdv.cli.waiting import ready_status
    from rdv.serving.status import wait_until_served

    log = project.state / "serve.log"
    server = Server(project.folder, log)
    try:
        found = ready_status(project, START_S, server.check)
        for model in OFFSETS:
            wait_until_served(project, model, VERSION, START_S)
        address = urlsplit(str(found.gateways[0]["url"]))
        assert address.hostname is not None
        assert address.port is not None
        yield address.hostname, address.port
    finally:
        code = server.stop(STOP_S)
    if code:
        raise StepFailed(f"serving ended with {code}: {last_words(log.read_bytes())}")


def ask(address: tuple[str, int]) -> tuple[dict[str, tuple[int, Any]], list[float]]:
    """Send requests one by one; the expected sum and the answer's document by request id, and the times they took."""
    chance, asked, took_ms = random.Random(0), {}, []
    with closing(http.client.HTTPConnection(*address, timeout=ANSWER_S)) as connection:
        for _ in range(REQUESTS):
            body = {name: chance.randint(-LARGEST, LARGEST) for name in FIELDS}
            began = time.monotonic()
            headers = {"content-type": "application/json"}
            connection.request("POST", f"/v1/goals/{GOAL}/score", json.dumps(body), headers)
            reply = connection.getresponse()
            document = json.loads(reply.read())
            took_ms.append((time.monotonic() - began) * 1e3)
            if reply.status != 200:
                raise StepFailed(f"the gateway answered {reply.status}: {document}")
            asked[document["request_id"]] = (sum(body.values()), document)
    return asked, took_ms


def wrong_answers(asked: Mapping[str, tuple[int, Any]]) -> list[str]:
    """What is wrong with the answers: each must be the exact sum, from the preferred model."""
    return [
        f"the sum is {wanted}, the answer of {document['model'] or 'the default'} was {document['answer']}"
        for wanted, document in asked.values()
        if document["answer"] != wanted or document["source"] != "tier 1"
    ]


def wrong_scores(project: Project, asked: Mapping[str, tuple[int, Any]]) -> list[str]:
    """What is wrong with the records: every model's score of every request, exact, and the decoy's row, once each."""
    from rdv.cli.recorded import events
    from rdv.serving.recording.decoy import journal_folder
    from rdv.serving.recording.events import events_topic
    from rdv.serving.recording.match import match

    matched = match(asked, journal_folder(project.state, GOAL), journal_folder(project.state, events_topic(GOAL)))
    problems = [
        f"{len(ids)} requests are {name.replace('_', ' ')} by the decoy or the recorder"
        for name in ("not_kept", "not_told", "kept_twice", "told_twice", "kept_only", "told_only")
        if (ids := getattr(matched, name))
    ]
    for event in events(project, GOAL, REQUESTS):
        found = {score.model: score.values for score in event.scores}
        wanted = {model: (asked[event.id][0] + offset,) for model, offset in OFFSETS.items() if event.id in asked}
        if found != wanted:
            problems.append(f"the models scored {found}, exact is {wanted}")
    return problems
