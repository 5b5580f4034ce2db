"""Schedules as periodic Nomad jobs, one a name, each moment of which starts a pipeline."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping

from rdv.backends.nomad.api import NomadApi, parse_place
from rdv.backends.nomad.pipelines import look, pipeline_job
from rdv.backends.ports import PipelineJob
from rdv.cron import Cron
from rdv.errors import NotFound
from rdv.ids import digest_bytes

MARK = "/periodic-"


class NomadTimetable:
    """The `Timetable` port. place, consul: as for `NomadPipelines`, beside whose jobs these are."""

    def __init__(self, place: str, consul: bool) -> None:
        namespace, self._options = parse_place(place)
        self._consul = consul and "pipelines" in self._options
        self._api = NomadApi(self._options.get("pipelines") or namespace, self._options)

    def put(self, name: str, cron: str, request: bytes, on: bool) -> None:
        """Register the periodic job anew; jobs that it has started go on."""
        plain = Cron.parse(cron).plain()
        text = base64.b64encode(zlib.compress(request, 9)).decode()
        job = pipeline_job(self._api, self._options, self._consul, plain, text, on)
        job["ID"] = job["Name"] = job_id(name)
        self._api.submit(job)

    def remove(self, name: str) -> None:
        """Purge the periodic job; jobs that it has started go on."""
        self._api.purge(job_id(name))

    def launched(self, name: str) -> Mapping[str, PipelineJob]:
        """The jobs that Nomad has not yet collected, by id, oldest first."""
        found: dict[str, PipelineJob] = {}
        for short in sorted(self._api.jobs(prefix=job_id(name) + MARK), key=lambda one: str(one["ID"])):
            try:
                found[short["ID"]] = look(self._api, short["ID"])
            except NotFound:  # collected since the listing
                continue
        return found


def job_id(name: str) -> str:
    """The periodic job's id for a name: readable, and of no other name."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60]
    return f"rdv-schedule-{readable}-{digest_bytes(name.encode())[:8]}"
