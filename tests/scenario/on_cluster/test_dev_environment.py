"""An environment of a whole dev cluster, as a person gets it: identities, rights and secrets as in production."""

from __future__ import annotations

import base64
import re
import shutil
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live
MODEL = "visit/m"
ENV = "staging"


@pytest.fixture
def person(dev_cluster: Any, towns: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A person's project in an environment, and the tokens of that person in a folder that can go away."""
    for name in ("NOMAD_TOKEN", "CONSUL_HTTP_TOKEN", "VAULT_TOKEN", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    tokens = tmp_path / "tokens"
    shutil.copytree(dev_cluster.token_file(ENV, "consul").parent, tokens)
    theirs = str(dev_cluster.token_file(ENV, "consul").parent)
    places = {port: place.replace(theirs, str(tokens)) for port, place in dev_cluster.environments()[ENV].items()}
    project = tmp_path / "project"
    project.mkdir()
    return towns.Town(project, places, dev_cluster.servers.nomads["batch"], ENV)


def test_a_pipeline_needs_nobodys_tokens(person: Any, tmp_path: Path) -> None:
    """From its start on a pipeline and its steps use their own identities: it ends well without the person's tokens."""
    person.mark("hold")
    run = person.rdv("train", MODEL, "-P", "offset=1.0", "--on-cluster", "--detach", "-o", "json")["run"]
    person.until(person.trained)
    (tmp_path / "tokens").rename(tmp_path / "away")
    person.mark("go")
    person.until(lambda: (person.folder / "trained").exists() and not steps(person))
    (tmp_path / "away").rename(tmp_path / "tokens")
    ended = person.rdv("runs", "wait", run, "-o", "json")
    assert (ended["state"], ended["trained"]) == ("done", 1)
    assert person.rdv("train", MODEL, "-P", "offset=1.0", "-o", "json")["trained"] == 0
    person.rdv("schedule", MODEL, "--cron", "0 0 1 1 *", "-P", "offset=1.0", "-o", "json")
    person.rdv("schedule", "run", MODEL)
    [entry] = person.rdv("schedule", "history", MODEL, "-o", "json")
    assert (entry["status"], entry["exit_code"]) == ("succeeded", 0)
    person.rdv("schedule", "remove", MODEL, "--yes")


class Seen:
    """Environment and command line of every process of Nomad's tasks in the environment, while it looks."""

    def __init__(self) -> None:
        self.told: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    environ = (process / "environ").read_bytes()
                    if f"NOMAD_NAMESPACE={ENV}".encode() in environ:
                        self.told |= {environ, (process / "cmdline").read_bytes()}
                except OSError:
                    continue

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()


def test_no_secret_shows_on_the_cluster(person: Any, dev_cluster: Any, tmp_path: Path) -> None:
    """Trainings, a failed one among them, by steps, as a job and by a schedule leave no secret and no token: not in

    jobs, payloads, allocations, logs and files on the node, nor in the registry, the bucket, the project, what was
    printed, and what processes show.
    """
    seen, said = Seen(), list[str]()
    try:
        person.mark("fail")
        said.append(str(person.rdv("train", MODEL, "-P", "offset=11.0", code=1)))
        for arguments in (
            ("train", MODEL, "-P", "offset=11.0"), ("train", MODEL, "-P", "offset=12.0", "--on-cluster"),
            ("jobs", "register"), ("schedule", MODEL, "--cron", "0 0 1 1 *", "-P", "offset=11.0"),
            ("schedule", "run", MODEL), ("runs", "list"), ("jobs", "list"), ("doctor", "--quick"),
        ):  # fmt: skip
            said.append(str(person.rdv(*arguments)))
    finally:
        seen.close()
    s3 = dev_cluster.servers.s3
    secrets = [file.read_text().strip() for file in (tmp_path / "tokens").iterdir()] + [s3.access_key, s3.secret_key]
    places = [*nomads(person, dev_cluster), *files(person, dev_cluster), *(("a process", one) for one in seen.told)]
    places += [("said", text.encode()) for text in said]
    registry = person.project_registry().list("")
    places += [(f"registry {key}", entry.value) for key, entry in registry.items()]
    for kind in ("job ", "allocation ", "payload ", "log ", "node ", "bucket ", "project ", "registry ", "a process"):
        assert any(name.startswith(kind) for name, _ in places), kind
    forms = {one.encode() for one in secrets} | {base64.b64encode(one.encode())[:-4] for one in secrets}
    assert [name for name, data in places for form in forms if form in data] == []
    # a workload's own tokens are in the environment that Nomad gave it, and nowhere else
    token = re.compile(rb"hv[sb]\.[\w-]{20}|eyJ[\w-]{20,}\.eyJ[\w-]{20,}")
    assert [name for name, data in places if name != "a process" and token.search(data)] == []
    person.rdv("schedule", "remove", MODEL, "--yes")


def nomads(person: Any, dev_cluster: Any) -> Iterator[tuple[str, bytes]]:
    """What Nomad's interface tells about everything in the environment."""
    nomad = person.servers
    for namespace in (ENV, f"{ENV}-pipelines"):
        where = f"namespace={namespace}"
        for stub in nomad.call("GET", f"/v1/jobs?{where}").json():
            job = nomad.call("GET", f"/v1/job/{stub['ID']}?{where}")
            yield f"job {stub['ID']}", job.body + nomad.call("GET", f"/v1/job/{stub['ID']}/versions?{where}").body
            if payload := base64.b64decode(job.json().get("Payload") or ""):
                yield f"payload {stub['ID']}", zlib.decompress(payload)
        yield f"evaluations {namespace}", nomad.call("GET", f"/v1/evaluations?{where}").body
        for stub in nomad.call("GET", f"/v1/allocations?{where}").json():
            yield f"allocation {stub['ID']}", nomad.call("GET", f"/v1/allocation/{stub['ID']}").body
            for task in stub["TaskStates"] or ():
                for kind in ("stdout", "stderr"):
                    log = f"/v1/client/fs/logs/{stub['ID']}?task={task}&type={kind}&plain=true"
                    yield f"log {stub['ID']}", nomad.call("GET", log).body


def files(person: Any, dev_cluster: Any) -> Iterator[tuple[str, bytes]]:
    """The files of the project, of the bucket, and of the allocations but for their folders of secrets."""
    tops = {
        "project": person.folder,
        "bucket": dev_cluster.servers.s3.file(f"rdv-{ENV}", ""),
        "node": dev_cluster.folder / "nomad-batch" / "client" / "alloc",
    }
    for kind, top in tops.items():
        for path in top.rglob("*"):
            if path.is_file() and not path.is_symlink() and not {"secrets", "private"} & set(path.parts):
                yield f"{kind} {path}", path.read_bytes()


def steps(person: Any) -> bool:
    """Whether the pipeline of the person's environment goes on."""
    found = person.servers.call("GET", f"/v1/jobs?namespace={ENV}-pipelines").json()
    return any("/dispatch-" in one["ID"] and one["Status"] != "dead" for one in found)
