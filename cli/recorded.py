"""What a project's journals and registry tell about a goal: its events, its ledger, its releases."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rdv.errors import NotFound, RdvError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from rdv.config import Project
    from rdv.serving.recording.events import Event


def one_goal(project: Project, goal: str) -> str:
    """The goal that is meant: the one named, or the project's only one."""
    known = sorted(project.config.goals)
    if goal and goal not in known:
        raise NotFound(f"rdv.toml has no goal {goal!r}", f"it has {', '.join(known) or 'none'}")
    if not goal and len(known) != 1:
        raise UsageError(f"rdv.toml has {len(known)} goals", f"name one of {', '.join(known) or 'them'}")
    return goal or known[0]


def events(project: Project, goal: str, last: int) -> list[Event]:
    """The last so many recorded requests of a goal, oldest first."""
    from rdv.serving.recording.decoy import journal_folder
    from rdv.serving.recording.events import decode_event, events_topic
    from rdv.serving.recording.journal import read_journal

    found: deque[Event] = deque(maxlen=last)
    for _, batch in read_journal(journal_folder(project.state, events_topic(goal))):
        found.extend(decode_event(record) for record in getattr(batch, "records", ()))
    return list(found)


def ledger(project: Project, goal: str) -> list[dict[str, Any]]:
    """Records `what, requests, holds`: the running gateways' counters, then the journals matched by id.

    The journals are judged only while nothing of them has been dropped for its size.
    """
    return [*_counted(project, goal), *_matched(project, goal)]


def _counted(project: Project, goal: str) -> list[dict[str, Any]]:
    from rdv.cli.status_views import goal_ledgers

    try:
        ledgers = goal_ledgers(project, goal)
    except RdvError:
        return []  # nothing serves now: the journals tell
    total = {name: sum(one[name] for one in ledgers) for name in ("accepted", "answered", "defaults", "errors", "open")}
    ended = total["accepted"] - total["open"]
    return [
        {"what": "accepted by the gateways that run now", "requests": total["accepted"], "holds": None},
        {"what": "answered by the policy", "requests": total["answered"], "holds": None},
        {"what": "answered by the default", "requests": total["defaults"], "holds": None},
        {"what": "ended with an error", "requests": total["errors"], "holds": None},
        {
            "what": "accepted = answered + defaults + errors",
            "requests": ended,
            "holds": ended == total["answered"] + total["defaults"] + total["errors"],
        },
    ]


def _matched(project: Project, goal: str) -> list[dict[str, Any]]:
    from rdv.serving.recording.decoy import journal_folder
    from rdv.serving.recording.events import events_topic
    from rdv.serving.recording.match import journal_ids, match_ids

    told_in = journal_folder(project.state, events_topic(goal))
    told = list(journal_ids(told_in))
    found = [{"what": "recorded as events", "requests": len(told), "holds": None}]
    for topic, modelling in project.config.goals[goal].modelling_goals(goal).items():
        folder = journal_folder(project.state, topic)
        if modelling.decoy:
            seen = match_ids(told, journal_ids(folder), told)
            twice = not seen.kept_twice and not seen.told_twice
            whole = not shortened(told_in) and not shortened(folder)
            same = twice and not seen.not_kept and not seen.kept_only
            name = "kept by the decoy" + (f" of {topic}" if topic != goal else "")
            found.append({"what": name, "requests": seen.kept, "holds": None})
            line = {"what": f"{name} and recorded, by id, once each", "requests": seen.kept - len(seen.kept_only)}
            found.append({**line, "holds": same if whole else None})
    return found


def shortened(folder: Path) -> bool:
    """Whether the oldest part of a journal was dropped to keep it within its size."""
    from rdv.serving.recording.journal import read_journal

    header = next((header for header, _ in read_journal(folder)), None)
    return header is not None and header.sequence > 1


def release_sheet(project: Project, models: Sequence[str]) -> list[dict[str, Any]]:
    """A record for every release of some models, newest first."""
    from rdv.backends import select
    from rdv.releases.pointer import history

    registry = select.registry(project)
    every = [(one.at, model, one) for model in models for one in history(registry, model)]
    return [
        {"at": at, "model": model, "kind": one.kind, "version": one.version, "instead_of": one.previous, "by": one.by}
        for at, model, one in sorted(every, key=lambda found: found[:2], reverse=True)
    ]
