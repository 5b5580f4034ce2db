"""Checks of the servers of an environment: what the backends found, as findings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rdv.cli.doctor.findings import Finding, judge, skipped

if TYPE_CHECKING:
    from rdv.config import Project


def checks(project: Project) -> Iterator[Finding]:
    """Every check of the servers of a project's environment; none when it has no servers."""
    from rdv.backends.diagnosis import every as diagnoses

    if not diagnoses.has_servers(project):
        return
    try:
        for seen in diagnoses.diagnose(project, os.environ):
            if seen.good is None:
                yield skipped(seen.check, seen.found)
            else:
                yield judge(seen.check, seen.good, seen.found, seen.remedy)
    except ModuleNotFoundError as error:
        yield judge("servers", False, f"{error.name} is not installed", "type: pip install 'rdv[cluster]'")
