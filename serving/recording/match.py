"""Whether every request is where it belongs, by id: accepted by a gateway, kept by the decoy, told in an event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import msgspec

from rdv.ids import MESSAGE_ID_BYTES
from rdv.serving.bus.port import Batch
from rdv.serving.recording.journal import read_journal


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Ids as 32 hexadecimal digits, sorted. accepted: how many there were.

    not_kept, not_told: accepted, but not in the decoy's journal, or in no event. kept_twice, told_twice: written more
    than once. kept_only, told_only: in a journal, but not among the accepted.
    """

    accepted: int
    kept: int
    told: int
    not_kept: tuple[str, ...] = ()
    not_told: tuple[str, ...] = ()
    kept_twice: tuple[str, ...] = ()
    told_twice: tuple[str, ...] = ()
    kept_only: tuple[str, ...] = ()
    told_only: tuple[str, ...] = ()


def match(accepted: Collection[str], requests: Path, events: Path) -> Match:
    """Accepted ids against the ids in a decoy's journal and in a journal of events (their folders)."""
    return match_ids(accepted, journal_ids(requests), journal_ids(events))


def match_ids(accepted: Collection[str], kept: Iterable[str], told: Iterable[str]) -> Match:
    """The same on ids at hand. Pure."""
    wanted, in_decoy, in_events = set(accepted), Counter(kept), Counter(told)
    return Match(
        accepted=len(wanted),
        kept=len(in_decoy),
        told=len(in_events),
        not_kept=_sorted(wanted - in_decoy.keys()),
        not_told=_sorted(wanted - in_events.keys()),
        kept_twice=_sorted(one for one, times in in_decoy.items() if times > 1),
        told_twice=_sorted(one for one, times in in_events.items() if times > 1),
        kept_only=_sorted(in_decoy.keys() - wanted),
        told_only=_sorted(in_events.keys() - wanted),
    )


def journal_ids(folder: Path) -> Iterator[str]:
    """The id of every row in a journal, in order."""
    for _, batch in read_journal(folder):
        yield from batch_ids(batch)


def batch_ids(batch: Batch) -> list[str]:
    """The ids of a batch's rows."""
    text, width = batch.ids.hex(), 2 * MESSAGE_ID_BYTES
    return [text[at : at + width] for at in range(0, len(text), width)]


def _sorted(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(ids))
