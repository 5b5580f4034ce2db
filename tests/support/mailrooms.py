"""What a mailroom is given by the tests that open mailboxes themselves: a wheel, and who waits for an answer."""

from __future__ import annotations

from rdv.serving.gateway.mailbox import Mailbox
from rdv.serving.gateway.wheel import Tick


class Waiter:
    """Counts how often a request was told that it is settled."""

    def __init__(self) -> None:
        self.results, self.gone = 0, False

    def done(self) -> bool:
        return self.gone or self.results > 0

    def set_result(self, result: None, /) -> None:
        assert not self.done()
        self.results += 1


class Looks:
    """A wheel whose time is the test's."""

    def __init__(self) -> None:
        self.items: list[tuple[float, Mailbox]] = []

    def add(self, box: Mailbox, moment: float) -> Tick[Mailbox]:
        self.items.append((moment, box))
        tick: Tick[Mailbox] = Tick()
        tick.live = 1
        return tick

    def advance(self, now: float) -> None:
        """Look at everything that is due by now, what is added meanwhile included."""
        for _ in range(100):
            due = [one for one in self.items if one[0] <= now]
            self.items = [one for one in self.items if one[0] > now]
            for _, box in due:
                box.room.due(box, now)
            if not due:
                return
        raise AssertionError("the mailroom asks to be looked at for ever")
