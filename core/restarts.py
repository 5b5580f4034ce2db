"""The decision what happens after a death: again, how soon, or no more. Pure; tasks and processes share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How deaths are answered.

    The first death within `window_s` waits `first_s`, each further one `factor` times as long, up to `ceiling_s`;
    every wait is spread by +-`jitter` (a share, 0..1). From the `fast`th death within the window on, the decision
    says that restarts come too fast. limit: restarts within the window before giving up; None: never give up.
    """

    first_s: float = 0.1
    factor: float = 2.0
    ceiling_s: float = 10.0
    jitter: float = 0.2
    window_s: float = 60.0
    fast: int = 5
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again after so many seconds; too_fast: it has died `fast` times within the policy's window."""

    after_s: float
    too_fast: bool
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not start it again."""

    reason: str


def recent(policy: RestartPolicy, deaths: Sequence[float], now: float) -> list[float]:
    """The deaths that still count at `now`; keep only these, and the list stays bounded by the restart rate."""
    return [died for died in deaths if now - died <= policy.window_s]


def after_death(
    policy: RestartPolicy, deaths: Sequence[float], now: float, chance: float, cause: str
) -> Again | GiveUp:
    """What to do about the last of some deaths.

    deaths: times of all deaths including the one just seen, seconds of any clock that never goes back, as `now`.
    chance: a random number in [0, 1) that spreads the wait. cause: what the death was, for the reason.
    """
    count = max(1, len(recent(policy, deaths, now)))
    window = f"{count} time{'s' if count > 1 else ''} in {policy.window_s:g} s"
    if policy.limit is not None and count > policy.limit:
        return GiveUp(f"{cause}; it ended {window}, and {policy.limit} restarts are allowed")
    # the exponent is capped so that a long crash loop cannot overflow the power
    wait_s = min(policy.ceiling_s, policy.first_s * policy.factor ** min(count - 1, 64))
    after_s = max(0.0, wait_s * (1 + policy.jitter * (2 * chance - 1)))
    too_fast = count >= policy.fast
    said = f"{cause}; restart in {after_s:.2f} s" + (f"; restarts too fast: it ended {window}" if too_fast else "")
    return Again(after_s, too_fast, said)
