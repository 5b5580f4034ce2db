"""Nomad's HTTP API as python-nomad calls it, in rdv's errors.

python-nomad's own methods do where they can. Its `request` is used for: blocking queries (its methods take no index
and drop the headers), dispatch (its idempotency token goes out under a name that Nomad has no field for), parsing with
variables (it has none), nodes with their resources (it does not ask for them), and logs and files of an allocation (it
returns errors of a node as text, and reads a whole log into memory).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from nomad import Nomad
from nomad.api import exceptions
from requests.adapters import HTTPAdapter

from rdv.backends.allocation import own_token
from rdv.backends.nomad.drafts import DRIVER_HINT
from rdv.errors import ConfigError, LostRace, NotAuthorised, NotFound, RdvError, Unreachable, UsageError

_ANSWER_S = 10.0
_CONNECTIONS = 64
DEFAULT_ADDRESS = "http://127.0.0.1:4646"
_CHUNK_BYTES = 65536
_OPTIONS = (
    "address", "token_file", "region", "python", "folder", "driver", "image", "pipelines", "vault", "template_s",
    "nginx", "proxy_image", "templates",
)  # fmt: skip
DRIVERS = ("raw_exec", "exec", "docker")
_TOKEN_HINT = "set NOMAD_TOKEN, or name a file in the place: ?token_file=PATH"


@dataclass(frozen=True, slots=True)
class Planned:
    """Nomad's plan of a job: the index of the one that is there (0: none), the difference, and all that it told."""

    index: int
    diff: dict[str, Any]
    told: dict[str, Any]


class NomadApi:
    """The calls that the cluster adapter makes, on one namespace."""

    def __init__(self, namespace: str, options: dict[str, str]) -> None:
        self.namespace = namespace or "default"
        self._token_file, self._region = options.get("token_file"), options.get("region")
        address = self._named = options.get("address")
        if address and (urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname):
            raise ConfigError(f"{address!r} is no address of Nomad", "write it as http://host:4646")
        # the environment's address would beat host and port, and certificates are not checked unless told so
        self._nomad = Nomad(
            address=address,
            namespace=self.namespace,
            region=self._region,
            verify=True,
            timeout=int(_ANSWER_S),
            session=self._session(),
        )
        self._where = f"Nomad at {self._nomad.address or DEFAULT_ADDRESS}"

    def parse(self, job_id: str, hcl: str, variables: str) -> dict[str, Any]:
        """A job from HCL, under an id: a label cannot be a variable."""
        with self._translated(f"job {job_id}"):
            body = {"JobHCL": hcl, "Variables": variables, "Canonicalize": True}
            job: dict[str, Any] = self._nomad.jobs.request("parse", json=body, method="post").json()
        job["ID"] = job["Name"] = job_id
        return job

    def plan(self, job: dict[str, Any]) -> Planned:
        """What submitting a job would change."""
        with self._translated(f"job {job['ID']}"):
            answer = self._nomad.job.plan_job(job["ID"], {"Job": job}, diff=True)
        return Planned(int(answer["JobModifyIndex"]), answer["Diff"], answer)

    def submit(self, job: dict[str, Any], index: int | None = None) -> None:
        """Register a job; with an index only over the job of that index (0: only as a new one), else LostRace."""
        enforced = {} if index is None else {"EnforceIndex": True, "JobModifyIndex": index}
        with self._translated(f"job {job['ID']}"):
            self._nomad.job.register_job(job["ID"], {"Job": job, **enforced})

    def register(self, job_id: str, hcl: str, variables: str) -> None:
        """Register a job from HCL under an id, whatever is there."""
        self.submit(self.parse(job_id, hcl, variables))

    def jobs(self, prefix: str = "", chosen: str = "", meta: bool = False) -> list[dict[str, Any]]:
        """The jobs whose id begins so, in short; chosen: a filter expression. meta: with what their meta blocks say."""
        with self._translated(f"jobs {prefix}*"):
            found: list[dict[str, Any]] = self._nomad.jobs.get_jobs(
                prefix=prefix, filter_=chosen or None, meta=meta or None
            )
        return found

    def nodes(self) -> list[dict[str, Any]]:
        """All nodes with what they have."""
        with self._translated("the nodes"):
            found: list[dict[str, Any]] = self._nomad.nodes.request(params={"resources": "true"}, method="get").json()
        return found

    def allocation(self, allocation: str) -> dict[str, Any]:
        """An allocation, in whichever namespace this token may read; NotFound when it was collected."""
        with self._translated(f"allocation {allocation}"):
            found: dict[str, Any] = self._nomad.allocation.get_allocation(allocation)
        return found

    def dispatch(self, parent: str, payload: bytes, meta: dict[str, str], token: str) -> tuple[str, bool]:
        """Dispatch a child of a parameterized job: its id, and whether it was there already under this token."""
        body = {"Payload": base64.b64encode(payload).decode(), "Meta": meta, "IdempotencyToken": token}
        with self._translated(f"job {parent}"):
            answer = self._nomad.job.request(parent, "dispatch", json=body, method="post").json()
        return str(answer["DispatchedJobID"]), not answer["EvalID"]

    def stop(self, job_id: str) -> None:
        """Stop a job and keep its record; absent is fine."""
        try:
            with self._translated(f"job {job_id}"):
                self._nomad.job.deregister_job(job_id)
        except NotFound:
            return

    def purge(self, job_id: str) -> None:
        """Stop a job and forget it; absent is fine."""
        try:
            with self._translated(f"job {job_id}"):
                self._nomad.job.deregister_job(job_id, purge=True)
        except NotFound:
            return

    def job(self, job_id: str) -> dict[str, Any]:
        """A job; NotFound when it was collected or purged."""
        with self._translated(f"job {job_id}"):
            found: dict[str, Any] = self._nomad.job.get_job(job_id)
        return found

    def allocations(self, job_id: str, index: int = 0, wait_s: float = 0.0) -> tuple[int, list[dict[str, Any]]]:
        """A job's allocations and their index; with an index, as soon as it differs, at the latest after wait_s."""
        params = {"index": str(index), "wait": f"{max(1, int(wait_s * 1000))}ms"} if index else {}
        with self._translated(f"job {job_id}"):
            answer = self._nomad.job.request(
                job_id, "allocations", params=params, method="get", timeout=_ANSWER_S + wait_s * 17 / 16
            )
        return int(answer.headers.get("X-Nomad-Index", 0)), answer.json()

    def evaluations(self, job_id: str) -> list[dict[str, Any]]:
        """A job's evaluations."""
        with self._translated(f"job {job_id}"):
            found: list[dict[str, Any]] = self._nomad.job.get_evaluations(job_id)
        return found

    def log(self, allocation: str, task: str, offset: int) -> Iterator[bytes]:
        """What a task has written to its output from an offset on, in chunks; nothing when there is nothing (more).

        Unreachable while its node does not answer.
        """
        params = {"task": task, "type": "stdout", "plain": "true", "origin": "start", "offset": str(offset)}
        path = f"fs/logs/{allocation}"
        try:
            with self._translated(path):
                answer = self._client(path, params, stream=True)
                with answer:
                    yield from answer.iter_content(_CHUNK_BYTES)
        except (NotFound, _Broken):  # the task has not written, or its folder was collected
            return

    def file(self, allocation: str, path: str) -> bytes:
        """A file of an allocation, empty when there is none."""
        return self._file(f"fs/cat/{allocation}", {"path": path})

    def _file(self, path: str, params: dict[str, str]) -> bytes:
        try:
            with self._translated(path):
                data: bytes = self._client(path, params).content
        except (NotFound, _Broken):  # the task has not written, or its folder was collected
            return b""
        return data

    def _client(self, path: str, params: dict[str, str], stream: bool = False) -> requests.Response:
        client: Any = self._nomad.client.cat
        answer: requests.Response = client._request(
            method="get", endpoint=f"v1/client/{path}", params=params, timeout=_ANSWER_S, stream=stream
        )
        return answer

    def _session(self) -> requests.Session:
        """Connections for as many threads as wait at once; each call reads the token anew, since agents replace it."""
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))

        def identify(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if token := self._token():
                request.headers["X-Nomad-Token"] = token
            if self._named and not self._region:  # inside an allocation the environment names that one's region
                request.url = _without_region(str(request.url))
            return request

        session.auth = identify
        return session

    def _token(self) -> str | None:
        if own := own_token("nomad"):
            return own
        try:
            return Path(self._token_file).read_text().strip() if self._token_file else None
        except OSError as error:
            raise NotAuthorised(f"{self._token_file} cannot be read: {error.strerror}", _TOKEN_HINT) from error

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except exceptions.URLNotAuthorizedNomadException as error:
            raise NotAuthorised(f"{self._where} refused {what} of namespace {self.namespace}", _TOKEN_HINT) from error
        except exceptions.URLNotFoundNomadException as error:
            if "No path to node" in getattr(error.nomad_resp, "text", ""):
                raise Unreachable(f"the node of {what} does not answer", "is its agent running?") from error
            raise NotFound(f"{self._where} has no {what} in namespace {self.namespace}", "was it purged?") from error
        except exceptions.BaseNomadException as error:
            raise self._in_our_words(what, error.nomad_resp) from error
        except requests.RequestException as error:
            raise Unreachable(f"{self._where} does not answer ({type(error).__name__})", "check the address") from error

    def _in_our_words(self, what: str, response: object) -> RdvError:
        if not isinstance(response, requests.Response):
            kind = type(response).__name__
            return Unreachable(f"{self._where} does not answer ({kind})", "check the address and the server")
        said = response.text.strip()[:400]
        # dispatch answers 500 for everything that is wrong with a request
        if "parameterized job not found" in said or "job not found" in said:
            return NotFound(f"{self._where} has no {what} in namespace {self.namespace}", "register it first")
        if "Enforcing job modify index" in said:
            return LostRace(f"{what}: somebody else changed it meanwhile", "look at the plan again")
        if "not enabled but used in the job" in said:
            return ConfigError(f"{self._where} has no Vault, which {what} asks for", "leave `vault=` out of the place")
        if "Payload exceeds" in said:
            return UsageError(f"{what}: {said}", "put the data into an artifact and its name into the payload")
        if response.status_code >= 500 and ("No cluster leader" in said or "rpc error" in said or not said):
            return Unreachable(f"{self._where} cannot serve {what} now: {said}", "try again")
        return _Broken(f"{self._where} failed on {what}: {said} (status {response.status_code})", "see its log")


class _Broken(RdvError):
    """An answer that means nothing else."""


def parse_place(place: str) -> tuple[str, dict[str, str]]:
    """Namespace and options of a place; ConfigError when it is none."""
    namespace, _, query = place.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown or "/" in namespace:
        hint = f"write nomad:namespace?option=value&..., the options being {', '.join(_OPTIONS)}"
        raise ConfigError(f"{place!r} is not a place in Nomad", hint)
    if "driver" not in options:
        raise ConfigError(f"the place nomad:{place} names no driver", DRIVER_HINT)
    driver, image = options["driver"], options.get("image", "")
    if driver not in DRIVERS:
        raise ConfigError(f"driver {driver!r} runs no steps", f"use one of {', '.join(DRIVERS)}")
    if bool(image) != (driver == "docker"):
        raise ConfigError(f"the driver {driver} {'needs an' if driver == 'docker' else 'has no'} image", "see `image=`")
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2] or image.partition("@")[2]
    if image and tag in ("", "latest"):
        raise ConfigError(f"image {image!r} has no tag of its own", "write NAME:TAG, the tag not being `latest`")
    if not _is_positive(options.get("template_s", "1")):
        raise ConfigError(f"template_s={options['template_s']} is no number of seconds", "for example template_s=300")
    return namespace, options


def _is_positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _without_region(url: str) -> str:
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "region"]
    return parts._replace(query=urlencode(kept)).geturl()
