"""Whether the demo held what it promises. Pure: what was sent, answered, recorded and broken in; lines out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdv.serving.recording.match import Match

OK = 200
DEFAULT = "default"


@dataclass(frozen=True)
class Fault:
    """One thing that was done to a process, and what was seen of it.

    below: answers of a lower tier or by the default while it lasted. restarts: processes that were started for it.
    healed_s: until the model answered again, None when it did not.
    """

    what: str
    below: int
    restarts: int
    healed_s: float | None

    @property
    def traced(self) -> bool:
        """Whether anything was seen of it."""
        return self.below > 0 or self.restarts > 0


@dataclass(frozen=True)
class Line:
    """One line of the ledger or one promise. holds: None for a plain figure."""

    what: str
    requests: int
    holds: bool | None = None

    def record(self) -> dict[str, Any]:
        """The line as one of a table."""
        return {"what": self.what, "requests": self.requests, "holds": self.holds}


def ledger(
    sent: int, answers: Sequence[tuple[str, int]], counted: Mapping[str, int], matched: Match, dropped: int
) -> list[Line]:
    """The ledger by request id.

    answers: (request id, HTTP status) as the client got them. counted: the gateway's own `accepted`, `answered`,
    `defaults`, `errors`. matched: the answered ids against the decoy's journal and the events. dropped: rows that the
    gateway counted as not delivered to the decoy.
    """
    ids = [request for request, status in answers if status == OK]
    ended = counted["answered"] + counted["defaults"] + counted["errors"]
    archived = matched.kept + dropped
    decoy = not (matched.kept_only or matched.kept_twice) and len(matched.not_kept) <= dropped
    told = not (matched.told_only or matched.told_twice or matched.not_told)
    return [
        Line("sent by the client", sent),
        Line("accepted by the gateway", counted["accepted"]),
        Line("answered by the policy", counted["answered"]),
        Line("answered by the default", counted["defaults"]),
        Line("ended with an error", counted["errors"]),
        Line("kept by the decoy", matched.kept),
        Line("counted as dropped before the decoy", dropped),
        Line("lost: sent and never answered with 200", sent - len(ids), sent == len(ids)),
        Line("answered twice", len(ids) - len(set(ids)), len(ids) == len(set(ids))),
        Line("accepted = answered + defaults + errors", ended, ended == counted["accepted"]),
        Line("kept + dropped = accepted", archived, archived == counted["accepted"]),
        Line("kept by the decoy, by id, once each", len(set(ids)) - len(matched.not_kept), decoy),
        Line("recorded as events, by id, once each", len(set(ids)) - len(matched.not_told), told),
    ]


def faults(done: Sequence[Fault]) -> list[Line]:
    """A line a fault: how many answers it changed, and whether it left a trace and healed."""
    return [Line(one.what, one.below, one.traced and one.healed_s is not None) for one in done]


def swap(versions: Sequence[str], answers: Iterable[tuple[str, str]], model: str) -> list[Line]:
    """A line a version of the swapped model: how many answers it gave, and that it gave some.

    versions: in the order of their release. answers: (model, version) of every answer.
    """
    given = Counter(version for name, version in answers if name == model)
    names = ("before the swap", "after the swap")
    return [
        Line(f"answered by {model} {version} {name}", given[version], given[version] > 0)
        for version, name in zip(versions, names, strict=False)
    ]


def broken(lines: Iterable[Line]) -> list[str]:
    """What did not hold."""
    return [line.what for line in lines if line.holds is False]
