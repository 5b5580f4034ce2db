"""Files of a version that Nomad itself brings into a worker's allocation, by an `artifact` block in the job.

Only from a store in S3 whose keys are a secret in Vault: the job names the secret, the Nomad client reads it with the
task's own identity, and neither the job nor what Nomad tells about it holds a key. A file is called by its SHA-256, so
that a worker finds what it wants, and nothing else, whatever was brought. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from rdv.backends.artifacts import file_key
from rdv.manifest import Manifest

Json = Mapping[str, Any]
FOLDER = "fetched"
_SECRET = "rdv_store"
_WHERE = f"local/{FOLDER}/"
# a failed download is a failed start, and takes some 4 s with its own tries: so many of them let a store be away for
# most of the minute in which an instance has to become healthy
_RESTARTS = 10
_FAILED = "Failed Artifact Download"
_SAID = re.compile(r'artifact "(?P<source>[^"]*)": (?P<why>.*)', re.DOTALL)
_NOISE = re.compile(
    r"getter subprocess failed: [^:]*: |failed to download artifact: |RequestID: [^,]*, |HostID: [^,]*, "
)


class Source(msgspec.Struct, frozen=True):
    """A store that a Nomad client can fetch from. url: of its bucket, with the prefix of the keys; secret: in Vault."""

    url: str
    region: str
    secret: str


def source(store: str, secrets: str) -> Source | None:
    """The source that an environment's `artifacts` and `secrets` are; None when it is none and workers fetch."""
    if not store.startswith("s3:") or not secrets.startswith("vault:"):
        return None
    from rdv.backends.s3.blobs import parse_place as s3_place
    from rdv.backends.vault.secrets import parse_place as vault_place

    bucket, prefix, options = s3_place(store.removeprefix("s3:"))
    mount, folder, _ = vault_place(secrets.removeprefix("vault:"))
    endpoint, name = options.get("endpoint", "").rstrip("/"), options.get("secret", "")
    if not endpoint or not name:
        return None
    return Source(f"s3::{endpoint}/{bucket}/{prefix}", options.get("region", "us-east-1"), f"{mount}/{folder}{name}")


def bring(job: dict[str, Any], come_from: Source | None, manifest: Manifest | None) -> None:
    """Have a worker's job bring the model file of an artifact, and no other version's; None: have it bring nothing."""
    [group] = job["TaskGroups"]
    [task] = group["Tasks"]
    artifacts, secrets = _others(task)
    restarts = group.get("RestartPolicy") or {}
    if come_from is not None and manifest is not None and manifest.model is not None and task.get("Vault"):
        artifacts.append(_artifact(come_from, manifest, manifest.model.file))
        secrets.append({"Name": _SECRET, "Provider": "vault", "Path": come_from.secret, "Config": {"engine": "kv_v2"}})
        group["RestartPolicy"] = {**restarts, "Attempts": max(_RESTARTS, int(restarts.get("Attempts") or 0))}
    task["Artifacts"], task["Secrets"] = artifacts or None, secrets or None


def brings(job: Json) -> bool:
    """Whether a job brings a version's file."""
    return any(_is_ours(one) for one in _task(job).get("Artifacts") or ())


def carry(job: dict[str, Any], from_job: Json) -> None:
    """Have a job bring what another one does, as patiently."""
    task, there = _task(job), _task(from_job)
    job["TaskGroups"][0]["RestartPolicy"] = from_job["TaskGroups"][0].get("RestartPolicy")
    artifacts, secrets = _others(task)
    artifacts += [one for one in there.get("Artifacts") or () if _is_ours(one)]
    secrets += [one for one in there.get("Secrets") or () if one["Name"] == _SECRET]
    task["Artifacts"], task["Secrets"] = artifacts or None, secrets or None


class Failure(msgspec.Struct, frozen=True):
    """A download that failed. source: the address of the file; artifact: whose it is."""

    source: str
    artifact: str
    why: str


def failure(allocation: Json, come_from: Source | None) -> Failure | None:
    """Why the file of a version could not be brought to an allocation, which did not start for that; else None."""
    for state in (allocation.get("TaskStates") or {}).values():
        for event in reversed(state.get("Events") or ()):
            if event.get("Type") == "Started":
                break
            said = _SAID.search(event.get("DisplayMessage") or "") if event.get("Type") == _FAILED else None
            if said is not None:
                source = said["source"]
                key = unquote(source.removeprefix(come_from.url if come_from else ""))
                return Failure(source.removeprefix("s3::"), key.partition("/attempts/")[0], _NOISE.sub("", said["why"]))
    return None


def _artifact(come_from: Source, manifest: Manifest, path: str) -> dict[str, Any]:
    return {
        "GetterSource": come_from.url + quote(file_key(manifest, path), safe="/=+"),
        "GetterMode": "file",
        "GetterOptions": {
            "archive": "false",
            "region": come_from.region,
            "aws_access_key_id": f"${{secret.{_SECRET}.access_key}}",
            "aws_access_key_secret": f"${{secret.{_SECRET}.secret_key}}",
        },
        "RelativeDest": f"{_WHERE}{manifest.file(path).sha256}",
    }


def _task(job: Json) -> Any:
    return job["TaskGroups"][0]["Tasks"][0]


def _others(task: Json) -> tuple[list[Json], list[Json]]:
    """Artifacts and secrets that are a project's own."""
    artifacts = [one for one in task.get("Artifacts") or () if not _is_ours(one)]
    return artifacts, [one for one in task.get("Secrets") or () if one["Name"] != _SECRET]


def _is_ours(artifact: Json) -> bool:
    return str(artifact.get("RelativeDest") or "").startswith(_WHERE)
