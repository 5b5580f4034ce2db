"""What runs the canaries of a rollout where that is a cluster: begun, watched, promoted or dropped, each call again.

The row says what is wanted; the cluster is asked how it stands every time, and never trusted to have kept it. On one
machine nobody is told anything: the supervisor there follows the rows by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rdv.backends.ports_services import Canaries, CanaryState
from rdv.errors import LostRace, Refused, RolloutFailed, TimedOut
from rdv.manifest import Manifest
from rdv.records import Rollout, RolloutState

LOOK_S = 0.25


class Actuator:
    """The canaries of a project's environment."""

    def __init__(self, canaries: Canaries, sleep: Callable[[float], None] = time.sleep) -> None:
        self._canaries, self._sleep = canaries, sleep

    def begin(self, row: Rollout, manifest: Manifest | None = None, timeout_s: float = 0.0) -> str:
        """Have a rollout's canaries run, as many as it says, and return their mark; those that are right stay.

        manifest: of their version, when the cluster is to bring its file. LostRace when another change of the model's
        job, such as the end of earlier canaries, is still on its way after timeout_s.
        """
        if row.mark and not self.is_resized(row):
            return row.mark
        until = time.monotonic() + timeout_s
        while True:
            try:
                return self._canaries.start(row.model, row.pin, row.canaries, manifest)
            except LostRace:
                if time.monotonic() >= until:
                    raise
            self._sleep(LOOK_S)

    def is_resized(self, row: Rollout) -> bool:
        """Whether a rollout is to have another number of canaries than it has; failed and ended ones stay as they are.

        So is one whose number was changed by a command that was killed before it wrote down the new mark.
        """
        if not row.mark:
            return False
        state = self._canaries.look(row.model, row.mark)
        if state.state == "gone":
            return bool(self._canaries.find(row.model, row.pin))
        return state.state in ("starting", "healthy") and state.wanted != row.canaries

    def check(self, row: Rollout) -> str:
        """Why a rollout's canaries have not started yet, empty when nothing keeps them.

        Refused when they will not come, or were ended by somebody else.
        """
        if not row.mark or not row.on:
            return ""
        state = self._canaries.look(row.model, row.mark)
        if state.state in ("failed", "gone"):
            hint = state.remedy or f"see `rdv rollouts {row.model}`"
            raise Refused(f"the canaries of {row.model} have {_ended(state)}", hint)
        return state.reason if state.state == "starting" else ""

    def end(self, row: Rollout, timeout_s: float) -> None:
        """Do what an ended rollout asks for: every worker is what its canaries were, or its canaries are asked to end.

        RolloutFailed when promoted ones have failed meanwhile, TimedOut; both leave the pointer as it is.
        """
        mark = self._mark(row)
        if not mark:
            return
        if row.state is not RolloutState.PROMOTED:
            self._canaries.drop(row.model, mark)
            return
        until = time.monotonic() + timeout_s
        while True:
            state, missing = self._canaries.look(row.model, mark), ""
            if state.state == "healthy":
                missing = self._promote(row, mark)
            elif state.state == "failed":
                raise RolloutFailed(
                    f"{row.version} of {row.model} is served, and its canaries have {_ended(state)}",
                    "the workers that were there before have taken it up and stay: see `rdv status`",
                )
            elif state.state in ("promoted", "gone"):
                return
            if time.monotonic() >= until:
                told = f"the workers of {row.model} are not what its canaries are yet: {missing or state.state}"
                raise TimedOut(told, f"`rdv promote {row.model}` goes on waiting")
            self._sleep(LOOK_S)

    def _promote(self, row: Rollout, mark: str) -> str:
        """Ask for it; why it cannot be at this moment, as when one of them is being started again."""
        try:
            self._canaries.promote(row.model, mark)
        except Refused as not_yet:
            return not_yet.what
        return ""

    def _mark(self, row: Rollout) -> str:
        """The mark of a rollout's canaries, also when who began or resized them was killed before writing it down.

        Empty: there are none.
        """
        if row.mark and self._canaries.look(row.model, row.mark).state != "gone":
            return row.mark
        return self._canaries.find(row.model, row.pin) or row.mark


def _ended(state: CanaryState) -> str:
    reason = state.reason or "somebody else changed their job"
    return f"failed: {reason}" if state.state == "failed" else f"gone: {reason}"
