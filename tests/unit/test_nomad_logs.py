"""Logs of a step that ran in more than one allocation, which takes a second node to see on a real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rdv.backends.nomad import logs as nomad_logs
from rdv.errors import Unreachable


class Node:
    """The two calls that reading a log makes. logs: what each allocation has written so far; down: fails so often."""

    def __init__(self) -> None:
        self.logs: dict[str, bytes] = {}
        self.down = 0

    def allocations(self, job: str) -> tuple[int, list[dict[str, Any]]]:
        """All allocations, newest first."""
        return 1, [{"ID": name, "CreateIndex": at} for at, name in enumerate(self.logs)][::-1]

    def log(self, allocation: str, task: str, offset: int) -> Iterator[bytes]:
        """What was written from an offset on, byte by byte."""
        if self.down:
            self.down -= 1
            raise Unreachable("the node does not answer")
        yield from (self.logs[allocation][at : at + 1] for at in range(offset, len(self.logs[allocation])))


def test_a_log_goes_on_in_the_next_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each allocation is read to its end, in the order in which they were made, nothing twice, over failures."""
    monkeypatch.setattr(nomad_logs, "_LOOK_S", 0.0)
    node, turns = Node(), iter(range(100))

    def ended() -> bool:
        turn = next(turns)
        if turn == 0:
            node.logs["b"] = b"one "
        elif turn == 1:
            node.logs["b"] += b"two "
            node.logs["a"] = b"three "
            node.down = 1
        elif turn == 3:
            node.logs["b"] += b"late "
        return turn > 3

    assert b"".join(nomad_logs.chunks(node, "job", ended)) == b"one two three late "  # type: ignore[arg-type]
    assert b"".join(nomad_logs.chunks(node, "job", None)) == b"one two late three "  # type: ignore[arg-type]
    node.down = 1
    with pytest.raises(Unreachable):
        list(nomad_logs.chunks(node, "job", None))  # type: ignore[arg-type]
