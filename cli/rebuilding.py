"""Restoring a registry from what the artifact store knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rdv.cli.output import note
from rdv.errors import Exit, Refused

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.releases.rebuild import Step


def plan(project: Project) -> list[Step]:
    """What registry and artifact store do not agree about."""
    from rdv.backends import select
    from rdv.backends.registry_logged import same_row
    from rdv.releases import rebuild

    entries = select.plain_registry(project).list(rebuild.MODELS)
    here = {key: entry.value for key, entry in entries.items()}
    logged = select.registry_log(project).rows(rebuild.MODELS)
    return rebuild.plan(here, logged, same_row, select.artifacts(project).manifest)


def carry_out(project: Project, steps: Sequence[Step]) -> int:
    """Do what a plan says; how many keys were written."""
    from rdv.backends import select
    from rdv.releases import rebuild

    return rebuild.carry_out(steps, select.plain_registry(project), select.registry_log(project).add)


def records(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """A record a step."""
    return [{"model": one.model, "key": one.key, "what": one.what.value, "why": one.why} for one in steps]


def verdict(steps: Sequence[Step], done: int | None) -> int:
    """The exit code of a rebuild that wrote so many keys, None for a plan; Refused when something differs."""
    from rdv.releases.rebuild import What, to_do

    todo, differs = len(to_do(steps)), [step for step in steps if step.what is What.DIFFERS]
    if done is not None:
        note(f"wrote {done} keys")
    elif todo:
        note(f"{todo} keys would be written; add --yes to write them")
    if differs:
        models = ", ".join(sorted({step.model for step in differs}))
        raise Refused(
            f"{len(differs)} keys differ from the artifact store's log, so nothing of {models} is restored",
            "what is in the registry stays; delete there what is wrong, then run this again",
        )
    return Exit.CHANGES if done is None and todo else Exit.OK
