"""Serving jobs as Nomad is to have them, and what its records say about them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rdv.backends.nomad.services_canaries import NomadCanaries, before_pin, pinned, state_of
from rdv.backends.nomad.services_child import listens
from rdv.backends.nomad.services_drafts import job_id, order, pin_text, read_pin, service_draft
from rdv.backends.nomad.services_files import bring, brings, carry, failure, source
from rdv.backends.nomad.services_follow import Following, cause, deployment_mark
from rdv.backends.nomad.services_view import instances_of, is_rolling, placement, tries, why
from rdv.backends.ports_services import Applied, ServiceJob
from rdv.errors import ConfigError, NotAuthorised, NotFound, RdvError, Refused, RolloutFailed, Unreachable
from rdv.manifest import FileEntry, Manifest, ModelInfo
from rdv.records import Pin

PIN = Pin("2026-11-26-abc", 3)


def draft(role: str = "worker", **changes: Any) -> Any:
    """A job of a project called shop."""
    options = changes.pop("options", {"driver": "raw_exec"})
    model, pin = ("a/b", PIN) if role == "worker" else ("", None)
    anew = changes.pop("anew", "")
    job = ServiceJob(project="shop", env="dev", role=role, model=model, **changes)  # type: ignore[arg-type]
    return service_draft("dev", options, "rdv/dev", lambda what: f"dev-shop-{what}", job, pin=pin, anew=anew)


def test_a_model_with_a_slash_has_a_job_without() -> None:
    """Nomad's paths end in words of their own, so an id has no slash."""
    assert job_id("shop", "worker", "churn/lightgbm") == "rdv-shop-worker-churn.lightgbm"
    assert job_id("shop", "gateway") == "rdv-shop-gateway"


def test_proxies_come_last() -> None:
    """What others need is begun before them."""
    assert sorted(["proxy", "gateway", "worker", "decoy"], key=order) == ["decoy", "worker", "gateway", "proxy"]


def test_a_pin_survives_its_text() -> None:
    """A pin is read from what it was written as, and nothing else is one."""
    assert read_pin(pin_text(PIN)) == PIN
    assert [read_pin(text) for text in ("", "x", "x:1", "3:")] == [None] * 4


def test_a_worker_is_told_where_its_pointer_is() -> None:
    """The pointer's key stands below the environment's prefix in Consul."""
    made = draft(pointer="models/a/b/current", reload="template")
    assert made.variables["pointer"] == "rdv/dev/models/a/b/current"
    assert (made.variables["service"], made.variables["pin"]) == ("dev-shop-worker", "3:2026-11-26-abc")


def test_every_variable_is_the_templates() -> None:
    """A template declares exactly what it is given."""
    for role in ("gateway", "worker", "decoy", "proxy"):
        made = draft(role)
        declared = {line.split('"')[1] for line in made.hcl().splitlines() if line.startswith("variable ")}
        assert declared == set(made.variables), role


def test_a_stop_is_not_cut_off_by_nomad() -> None:
    """There is time for a clean stop and some more, but never more than a Nomad client gives."""
    assert [draft("gateway", stop_s=stop_s).variables["kill_s"] for stop_s in (5.0, 60.0)] == ["15s", "30s"]


def test_under_docker_proxies_need_an_image_of_their_own() -> None:
    """The project's image has no nginx."""
    with pytest.raises(ConfigError, match="proxy_image"):
        draft("proxy", options={"driver": "docker", "image": "a:1"})


def test_an_instance_listens_where_nomad_says() -> None:
    """Ports are taken from the environment that Nomad makes, with their hosts."""
    environ = {"NOMAD_PORT_ops": "4000", "NOMAD_IP_ops": "10.0.0.1", "NOMAD_PORT_http": "x", "PORT": "1"}
    assert listens(environ) == {"ops": ("10.0.0.1", 4000)}


def test_canaries_differ_in_nothing_but_their_pin() -> None:
    """The job of canaries is the job that is there, with a pin and a number; that one stays as it is."""
    words = ["m", "worker", "a/b", "template", ""]
    task = {"Config": {"command": "python", "args": words}, "Services": [{"Name": "s"}]}
    job = {"ID": "j", "Meta": {"rdv_model": "a/b"}, "TaskGroups": [{"Count": 2, "Update": None, "Tasks": [task]}]}
    made = pinned(job, PIN, 3)
    [group] = made["TaskGroups"]
    assert group["Tasks"][0]["Config"]["args"] == ["m", "worker", "a/b", "template", "3:2026-11-26-abc"]
    assert (group["Update"]["Canary"], group["Count"]) == (3, 2)
    assert read_pin(made["Meta"]["rdv_pin"]) == PIN
    assert job["TaskGroups"][0]["Update"] is None  # type: ignore[index]
    assert task["Config"]["args"][-1] == ""  # type: ignore[index]


def test_dropped_canaries_leave_what_was_before_the_first_of_them() -> None:
    """However often their number was changed; without such a version there is nothing to go back to."""
    texts = ["1:old", "", pin_text(PIN), pin_text(PIN), pin_text(PIN)]
    versions: list[dict[str, Any]] = [{"Version": at, "Meta": {"rdv_pin": text}} for at, text in enumerate(texts)]
    assert before_pin(reversed(versions), versions[4]) == 1
    assert before_pin(versions[:1], versions[0]) is None
    assert before_pin(versions, versions[1]) == 0


def manifest(files: tuple[FileEntry, ...], info: ModelInfo) -> Manifest:
    """A model's."""
    return Manifest(name="v/1", kind="model", task="t", attempt="x", created="", files=files, model=info)


def test_a_job_that_brings_a_file_names_the_secret_and_no_key() -> None:
    """The newest version's file only, beside a project's own artifacts; another job can be told to bring the same."""
    come_from = source("s3:b/p?endpoint=http://s3:9000&secret=s3", "vault:secret/rdv/dev?address=http://v")
    own = {"RelativeDest": "local/own"}
    job: Any = {"TaskGroups": [{"Tasks": [{"Vault": {"Role": "rdv-dev"}, "Artifacts": [own]}]}]}
    bare = copy.deepcopy(job)
    for digest in ("a" * 64, "b" * 64):
        info = ModelInfo(flavour="sum", file="m.json", kind="number", inputs=(), probe_rows=(), probe_scores=())
        files = (FileEntry("m.json", 3, digest),)
        bring(job, come_from, manifest(files, info))
    task = job["TaskGroups"][0]["Tasks"][0]
    first, second = task["Artifacts"]
    assert (first, second["RelativeDest"]) == (own, f"local/fetched/{'b' * 64}")
    assert second["GetterSource"] == "s3::http://s3:9000/b/p/v/1/attempts/x/m.json"
    assert second["GetterOptions"]["aws_access_key_secret"] == "${secret.rdv_store.secret_key}"
    assert [one["Path"] for one in task["Secrets"]] == ["secret/rdv/dev/s3"]
    assert (brings(job), brings(bare)) == (True, False)
    other = copy.deepcopy(bare)
    carry(other, job)
    assert other == job
    bring(job, come_from, None)
    assert not brings(job)


@pytest.mark.parametrize(
    ("store", "secrets"),
    [("dir:x", "vault:secret/a"), ("s3:b?secret=s3", "vault:secret/a"), ("s3:b?endpoint=http://s&secret=s3", "env:"),
     ("s3:b?endpoint=http://s", "vault:secret/a")],
)  # fmt: skip
def test_elsewhere_workers_fetch(store: str, secrets: str) -> None:
    """Nomad brings nothing unless the store is an S3 server whose keys are in Vault."""
    assert source(store, secrets) is None


@pytest.mark.parametrize(
    ("status", "group", "state"),
    [
        ("running", {"DesiredCanaries": 2, "HealthyAllocs": 1}, "starting"),
        ("running", {"DesiredCanaries": 2, "HealthyAllocs": 2}, "healthy"),
        ("running", {"DesiredCanaries": 2, "HealthyAllocs": 3, "Promoted": True}, "promoting"),
        ("successful", {"DesiredCanaries": 2, "HealthyAllocs": 3, "Promoted": True}, "promoted"),
        ("failed", {"DesiredCanaries": 2, "HealthyAllocs": 0}, "failed"),
        ("cancelled", {"DesiredCanaries": 2, "HealthyAllocs": 0}, "gone"),
    ],
)
def test_how_canaries_stand(status: str, group: dict[str, Any], state: str) -> None:
    """Their deployment tells it, and no more of them are healthy than there are."""
    deployment = {"ID": "d", "Status": status, "StatusDescription": "because", "TaskGroups": {"worker": group}}
    found = state_of("4", PIN, deployment, [])
    assert (found.state, found.wanted) == (state, 2)
    assert found.healthy <= found.wanted
    assert ("because" in found.reason) == (state == "failed")


class Promoting:
    """A Nomad with one deployment, which is asked to be promoted once and answers with an error. done: all the same."""

    def __init__(self, error: RdvError, done: bool) -> None:
        self._error, self._done = error, done
        self._deployment = {"ID": "d", "JobVersion": 4, "CreateIndex": 9, "Status": "running"}

    def deployments(self, job_id: str) -> list[dict[str, Any]]:
        """The one."""
        return [self._deployment]

    def deployment(self, deployment: str) -> dict[str, Any]:
        """The one."""
        return self._deployment

    def promote(self, deployment: str) -> None:
        """Do it, or not, and fail."""
        if self._done:
            self._deployment = {**self._deployment, "Status": "successful"}
        raise self._error


@pytest.mark.parametrize("error", [Refused("can't promote terminal deployment"), Unreachable("no answer")])
def test_canaries_that_are_promoted_are_not_refused(error: RdvError) -> None:
    """Promoted by another one a moment before, or by this call whose answer was lost: fine; not promoted is told."""
    canaries = NomadCanaries("dev?driver=exec", "rdv/dev", "shop", "dev")
    canaries._api = Promoting(error, done=True)  # type: ignore[assignment]
    canaries.promote("a/b", "4")
    canaries._api = Promoting(error, done=False)  # type: ignore[assignment]
    with pytest.raises(type(error)):
        canaries.promote("a/b", "4")


def allocation(name: str, index: int, **changes: Any) -> dict[str, Any]:
    """An allocation that runs."""
    events = [{"Type": "Started"}, {"Type": "Terminated", "DisplayMessage": "Exit Code: 3"}]
    states = {"worker": {"Restarts": 2, "Events": events}}
    usual = {"ID": name, "CreateIndex": index, "DesiredStatus": "run", "ClientStatus": "running", "TaskStates": states}
    return {**usual, **changes}


def test_instances_are_those_that_are_to_run() -> None:
    """Stopped allocations are none; the others come oldest first, with why they do not run."""
    listed = [
        allocation("c", 9, ClientStatus="failed", DeploymentStatus={"Healthy": False, "Canary": True}),
        allocation("a", 1, DeploymentStatus={"Healthy": True}),
        allocation("b", 5, DesiredStatus="stop"),
    ]
    old, new = instances_of(listed)
    assert (old.id, old.state, old.healthy, old.restarts, old.reason) == ("a", "running", True, 2, "")
    assert (new.id, new.state, new.healthy, new.canary) == ("c", "failed", False, True)
    assert "Exit Code: 3" in new.reason


def test_what_cannot_be_placed_says_why() -> None:
    """An evaluation that found no room names what there is too little of."""
    metric = {"DimensionExhausted": {"memory": 1}, "ConstraintFiltered": {"missing drivers": 1}}
    [said] = placement({"FailedTGAllocs": {"worker": metric}})
    assert "memory" in said
    assert "missing drivers" in said
    assert not list(placement({}))


def test_a_deployment_that_ended_is_not_on_its_way() -> None:
    """Nor is none."""
    assert [is_rolling(one) for one in (None, {"Status": "successful"}, {"Status": "running"})] == [False, False, True]
    assert list(why({"ClientStatus": "failed", "ClientDescription": "lost", "TaskStates": None})) == ["lost"]


class Flaky:
    """A Nomad that answers a look at a deployment as told, the last answer again and again."""

    def __init__(self, *answers: RdvError | str) -> None:
        self._answers = list(answers)

    def deployment(self, deployment: str) -> dict[str, Any]:
        """The next answer."""
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, RdvError):
            raise answer
        group = {"DesiredTotal": 1, "PlacedAllocs": 1, "HealthyAllocs": 1}
        return {"ID": deployment, "Status": answer, "TaskGroups": {"g": group}}

    def made_by(self, deployment: str) -> list[dict[str, Any]]:
        """What a deployment has made: nothing."""
        return []


def followed(*answers: RdvError | str, timeout_s: float = 60.0) -> Any:
    """What became of following a deployment of such a Nomad."""
    applied = Applied(job="g", name="gateway", mark=deployment_mark({"ID": "d"}))
    api: Any = Flaky(*answers)
    return Following(api, applied, lambda text: None).until_done(timeout_s)


def test_a_server_that_was_away_may_have_forgotten_for_a_moment() -> None:
    """After a silence neither an unknown deployment nor an unknown token ends the following; without one both do."""
    gone, unknown, nobody = Unreachable("away"), NotFound("none"), NotAuthorised("who?")
    assert followed("running", gone, unknown, nobody, "successful").healthy == 1
    for error in (unknown, nobody):
        with pytest.raises(type(error)):
            followed("running", error, "successful")


def test_a_limit_that_ends_in_silence_is_no_slow_change() -> None:
    """When the time is up while Nomad does not answer, that is what is told."""
    with pytest.raises(Unreachable, match="away"):
        followed("running", Unreachable("away"), timeout_s=0.3)


def test_a_failed_change_says_how_to_try_it_again() -> None:
    """The spec would be the same, so another word is needed."""
    with pytest.raises(RolloutFailed, match="--anew"):
        followed("failed")


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        ([], ""),
        (["a1: gateway: Terminated: Exit Code: 3"], " (a1: gateway: Terminated: Exit Code: 3)"),
        (["a1: Failed tasks"], " (a1: Failed tasks)"),
        (["a1: Failed tasks", "a1: Terminated", "a1 | no", "a1 |  ", "b2: Terminated", "b2 | no module"],
         " (a1: Terminated, and its last line is 'no module')"),
    ],
)  # fmt: skip
def test_a_failure_is_told_in_one_sentence(reasons: list[str], told: str) -> None:
    """Of many events and lines of a failed change, the first event and the last line stand in its error."""
    assert cause(reasons) == told


def test_canaries_that_wait_for_a_decision_are_nobodys_change() -> None:
    """A deployment whose canaries are not promoted is a rollout's; a promoted one, and one without, is not."""
    groups: list[dict[str, Any]] = [{"DesiredCanaries": 2}, {"DesiredCanaries": 2, "Promoted": True}, {}]
    assert [tries({"TaskGroups": {"g": one}}) for one in groups] == [True, False, False]


def test_another_word_makes_another_specification() -> None:
    """What has all instances replaced is in the job's meta, and in no other job's."""
    assert draft(anew="x").variables["meta"]["rdv_anew"] == "x"
    assert "rdv_anew" not in draft().variables["meta"]


SAID = (
    'failed to download artifact "s3::http://s3:9000/b/p/train/a%3D1/attempts/x/m.json": getter subprocess failed: '
    "exit status 1: failed to download artifact: operation error S3: GetObject, exceeded maximum number of attempts, "
    "3, https response error StatusCode: 503, RequestID: , HostID: , api error ServiceUnavailable: Service Unavailable"
)


def undelivered(*kinds: str) -> dict[str, Any]:
    """An allocation with these events."""
    events = [{"Type": kind, "DisplayMessage": SAID if kind == "Failed Artifact Download" else kind} for kind in kinds]
    return {"ID": "a" * 36, "TaskStates": {"worker": {"Events": events}}}


def test_a_download_that_failed_is_told_by_what_it_was_of() -> None:
    """The file's address, its artifact and the cause without the noise; a task that has started since is no such."""
    come_from = source("s3:b/p?endpoint=http://s3:9000&secret=s3", "vault:secret/rdv/dev?address=http://v")
    found = failure(undelivered("Failed Artifact Download", "Not Restarting", "Alloc Unhealthy"), come_from)
    assert found is not None
    assert (found.source, found.artifact) == ("http://s3:9000/b/p/train/a%3D1/attempts/x/m.json", "train/a=1")
    assert found.why == (
        "operation error S3: GetObject, exceeded maximum number of attempts, 3, https response error StatusCode: 503, "
        "api error ServiceUnavailable: Service Unavailable"
    )
    assert failure(undelivered("Failed Artifact Download", "Started", "Terminated"), come_from) is None
    assert failure(undelivered("Started"), come_from) is None


class Undelivered:
    """A Nomad whose canaries of job version 4 have no file."""

    def __init__(self, status: str) -> None:
        self._status = status

    def job(self, job_id: str) -> dict[str, Any]:
        """The one job."""
        return {"ID": job_id, "Version": 4, "Meta": {"rdv_pin": pin_text(PIN)}}

    def deployments(self, job_id: str) -> list[dict[str, Any]]:
        """The one deployment."""
        group = {"DesiredCanaries": 1}
        return [{"ID": "d", "JobVersion": 4, "CreateIndex": 9, "Status": self._status, "TaskGroups": {"worker": group}}]

    def made_by(self, deployment: str) -> list[dict[str, Any]]:
        """Its allocation."""
        return [undelivered("Failed Artifact Download", "Not Restarting")]


@pytest.mark.parametrize(("status", "state"), [("running", "starting"), ("failed", "failed")])
def test_canaries_without_their_file_say_so(status: str, state: str) -> None:
    """While Nomad still tries and when it has given up: the download, of what, and what to type."""
    store, secrets = "s3:b/p?endpoint=http://s3:9000&secret=s3", "vault:secret/rdv/dev?address=http://v"
    canaries = NomadCanaries("dev?driver=exec", "rdv/dev", "shop", "dev", store=store, secrets=secrets)
    canaries._api = Undelivered(status)  # type: ignore[assignment]
    found = canaries.look("a/b", "4")
    assert (found.state, found.reason.startswith("Nomad could not download http://s3:9000/b/p/train/")) == (state, True)
    assert "`rdv artifacts verify train/a=1 --env dev`" in found.remedy
