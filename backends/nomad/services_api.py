"""What serving jobs ask of Nomad beyond `NomadApi`: evaluations, deployments, counts, single allocations."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import requests

from rdv.backends.nomad.api import NomadApi
from rdv.errors import LostRace, NotFound, RdvError, Refused

Json = dict[str, Any]
_ANSWER_S = 10.0


class ServicesApi(NomadApi):
    """The calls that the adapters of the Services and Canaries ports make, on one namespace."""

    def begin(self, job: Json, index: int) -> str:
        """Register a job over the one of that index (0: as a new one), else LostRace; the evaluation that follows.

        1.11.3's own check of the index lets two writers both win when they come at the same moment, so the job is read
        back: when it is not what was sent, the other one's stands.
        """
        body = {"Job": job, "EnforceIndex": True, "JobModifyIndex": index}
        answer = self._call("post", f"job/{quote(job['ID'])}", body)
        if int(self.job(job["ID"])["JobModifyIndex"]) != int(answer["JobModifyIndex"]):
            raise LostRace(f"somebody else changed job {job['ID']} at the same moment; theirs stands", "plan again")
        return str(answer["EvalID"])

    def end(self, job_id: str) -> str:
        """Stop a job and keep its record; the evaluation that follows."""
        return str(self._call("delete", f"job/{quote(job_id)}")["EvalID"])

    def evaluation(self, evaluation: str) -> Json:
        """An evaluation; NotFound when it was collected."""
        found: Json = self._call("get", f"evaluation/{evaluation}")
        return found

    def deployment(self, deployment: str) -> Json:
        """A deployment; NotFound when it was collected."""
        found: Json = self._call("get", f"deployment/{deployment}")
        return found

    def newest_deployment(self, job_id: str) -> Json | None:
        """The newest deployment of a job, None when it has none."""
        found: Json | None = self._call("get", f"job/{quote(job_id)}/deployment")
        return found

    def versions(self, job_id: str) -> list[Json]:
        """A job as it was in each of its versions that Nomad keeps: the last six, the newest stable one among them."""
        found: list[Json] = self._call("get", f"job/{quote(job_id)}/versions")["Versions"] or []
        return found

    def version(self, job_id: str, version: int) -> Json:
        """A job as it was in one of its versions; NotFound when that is not kept any more."""
        for one in self.versions(job_id):
            if int(one["Version"]) == version:
                return one
        raise NotFound(f"version {version} of job {job_id} is not kept any more", "see `rdv plan`")

    def deployments(self, job_id: str) -> list[Json]:
        """The deployments of a job that Nomad remembers."""
        found: list[Json] = self._call("get", f"job/{quote(job_id)}/deployments") or []
        return found

    def made_by(self, deployment: str) -> list[Json]:
        """The allocations that a deployment has made; those of a job do not tell by which."""
        found: list[Json] = self._call("get", f"deployment/allocations/{deployment}") or []
        return found

    def revert(self, job_id: str, version: int, prior: int) -> None:
        """Make a job what it was in a version, if it is now that of `prior`; else LostRace."""
        body = {"JobID": job_id, "JobVersion": version, "EnforcePriorVersion": prior}
        self._call("post", f"job/{quote(job_id)}/revert", body)

    def promote(self, deployment: str) -> None:
        """Have a deployment's canaries be what all instances become; Refused while they are not healthy."""
        self._call("post", f"deployment/promote/{deployment}", {"DeploymentID": deployment, "All": True})

    def fail(self, deployment: str) -> None:
        """End a deployment as failed, which stops its canaries; Refused for one that has ended."""
        self._call("post", f"deployment/fail/{deployment}", {})

    def scale(self, job_id: str, group: str, count: int) -> str:
        """Have so many instances; the evaluation that follows. LostRace while a deployment is on its way."""
        body = {"Count": count, "Target": {"Group": group}, "Message": "rdv scale"}
        return str(self._call("post", f"job/{quote(job_id)}/scale", body)["EvalID"])

    def restart(self, allocation: str, task: str) -> None:
        """Start an allocation's task again where it is."""
        self._call("post", f"client/allocation/{allocation}/restart", {"TaskName": task})

    def errors(self, allocation: str, task: str, most_bytes: int) -> bytes:
        """The end of what a task has written to its stderr, empty when it has not or that cannot be had."""
        params = {"task": task, "type": "stderr", "plain": "true", "origin": "end", "offset": str(most_bytes)}
        return self._file(f"fs/logs/{allocation}", params)

    def _call(self, method: str, path: str, body: Json | None = None) -> Any:
        what, place = path.split("?")[0], self._nomad.job
        with self._translated(what):
            answer: requests.Response = place._request(
                method=method, endpoint=f"v1/{path}", params={"namespace": self.namespace}, json=body, timeout=_ANSWER_S
            )
        return answer.json() if answer.content else None

    def _in_our_words(self, what: str, response: object) -> RdvError:
        said = response.text if isinstance(response, requests.Response) else ""
        if "enforcing version" in said.lower():
            return LostRace(f"{what}: somebody else changed it meanwhile", "look at it again")
        if "active deployment" in said:
            return LostRace(f"{what}: it is being changed", "wait for that, then do it again")
        if "healthy allocations" in said or "terminal deployment" in said:
            return Refused(f"{what}: {said.strip()[:200]}", "see `rdv status`")
        return super()._in_our_words(what, response)
