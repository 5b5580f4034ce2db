"""Which model's score a request is answered with, and when: pure functions of a mailbox, a clock and a seed.

A policy is data (`Policy`), named by the digest of that data, and compiled once into a `Decider`. Asked at any
moment it settles, waits, or gives the default. Models are bits of a mask, in the order of `Decider.models`.
Source of the tier schedule: Dunning & Friedman, Machine Learning Logistics (2017), ch. 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from rdv.config import Goal, Tier
from rdv.errors import ConfigError
from rdv.ids import digest_bytes

VERSION_DIGITS = 12

Default = float | tuple[float, ...]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be said about choosing. `first_answer`: whichever model of `models` scores first, within the budget.

    `tiers`: until `until_ms` after acceptance only the tier's models may answer, at each moment the best of those
    present; then the next tier's; the last tier lasts until the budget ends. A tier none of whose models can still
    answer is passed at once. budget_ms: when the default answers, unless the score of any model in the policy is
    there after all. default: of the shape the goal asks for.
    """

    budget_ms: float
    default: Default
    kind: Literal["tiers", "first_answer"] = "tiers"
    tiers: tuple[Tier, ...] = ()
    models: tuple[str, ...] = ()

    def version(self) -> str:
        """Twelve hexadecimal digits of the digest of everything that the policy says."""
        return digest_bytes(msgspec.json.encode(self, order="sorted"))[:VERSION_DIGITS]

    def schedule(self) -> tuple[Tier, ...]:
        """The policy's tiers, whatever its kind."""
        return (Tier(self.budget_ms, self.models),) if self.kind == "first_answer" else self.tiers

    def chosen(self) -> tuple[str, ...]:
        """All models that the policy may answer with, best first."""
        return tuple(dict.fromkeys(model for tier in self.schedule() for model in tier.models))


class Decision(msgspec.Struct, frozen=True):
    """What a policy says now. model >= 0: answer with this model's score, its `tier` from 1. Else wait until

    `look_ms` after acceptance and ask again, or sooner if a score comes or is lost; or, with a `reason`, the default.
    """

    model: int = -1
    tier: int = 0
    look_ms: float = 0.0
    reason: str = ""


def policy_of(goal: Goal, models: Sequence[str]) -> Policy:
    """The policy that `rdv.toml` declares for a goal; without tiers its models in their order, until the budget ends.

    models: the goal's models without its canary models.
    """
    tiers = goal.tiers or ((Tier(goal.budget_ms, tuple(models)),) if models else ())
    return Policy(budget_ms=goal.budget_ms, default=goal.default, tiers=tiers)


def decode_policy(data: bytes) -> Policy:
    """The policy in a JSON document; ConfigError says what is wrong with it."""
    try:
        return msgspec.json.decode(data, type=Policy)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"the policy cannot be read: {error}", "see `rdv help settings`") from None


def encode_policy(policy: Policy) -> bytes:
    """The policy as JSON, the same bytes for the same policy."""
    return msgspec.json.encode(policy, order="sorted")


def check_policy(policy: Policy, goal: Goal, models: Collection[str], canary_models: Collection[str]) -> list[str]:
    """What is wrong with a policy for a goal, one sentence each; empty when it may be put in force.

    models: all models of the goal.
    """
    problems = [*_check_times(policy), *_check_default(policy.default, goal)]
    chosen = policy.chosen()
    problems += [f"model {name!r} does not serve this goal" for name in chosen if name not in models]
    problems += [f"model {name!r} is a canary model, which is never chosen" for name in chosen if name in canary_models]
    problems += [
        f"tier {at} names a model twice"
        for at, tier in enumerate(policy.schedule(), 1)
        if len(set(tier.models)) < len(tier.models)
    ]
    if (policy.kind == "tiers") == bool(policy.models):
        problems.append("`models` belongs to a first_answer policy, `tiers` to a tiers policy")
    return problems


def _check_times(policy: Policy) -> list[str]:
    if not (math.isfinite(policy.budget_ms) and policy.budget_ms > 0):
        return ["budget_ms is not a positive number"]
    before, problems = 0.0, []
    for at, tier in enumerate(policy.tiers, 1):
        if not before < tier.until_ms <= policy.budget_ms:
            problems.append(f"tier {at} ends at {tier.until_ms} ms, not after {before} ms and by the budget's end")
        if not tier.models:
            problems.append(f"tier {at} has no models")
        before = tier.until_ms
    return problems


def _check_default(default: Default, goal: Goal) -> list[str]:
    values = default if isinstance(default, tuple) else (default,)
    if not all(math.isfinite(value) for value in values):
        return ["the default is not finite"]
    if goal.answer == "labels":
        fits = isinstance(default, tuple) and len(default) == len(goal.labels)
        return [] if fits else [f"the default must be {len(goal.labels)} numbers, one a label"]
    if isinstance(default, tuple):
        return ["the default must be one number"]
    if goal.answer == "probability" and not 0.0 <= default <= 1.0:
        return ["the default is a probability, so it must be within 0..1"]
    return []


class ArmRecord(NamedTuple):
    """How a request was assigned in one rollout. share: of subjects; assigned: to the canary."""

    model: str
    version: str
    share: float
    assigned: bool


class ArmTally(Protocol):
    """Who counts what became of the requests of one arm."""

    def settled(self, place: int, elapsed_s: float) -> None:
        """A request of it is answered: with the score of the model at a place, or (negative) with the default."""
        ...


class Decider:
    """A compiled policy. decide(present, possible, elapsed_ms, seed) -> Decision is pure.

    present: bits of the models whose score is there; possible: of those that may still score; seed: random
    bytes, the same at each call for a request. Bits follow `models`; other bits (canary models, say) do not matter.
    arms, propensity, tallies: of rollouts that are on, see `rdv.serving.gateway.arms`.
    """

    __slots__ = (
        "_mask",
        "_rank",
        "_tiers",
        "arms",
        "decide",
        "default",
        "first_look_ms",
        "models",
        "policy",
        "propensity",
        "tallies",
        "version",
    )

    def __init__(self, policy: Policy, models: Sequence[str]) -> None:
        """models: those of the goal, in the order of the masks' bits; must hold every model the policy names."""
        self.policy, self.version, self.models = policy, policy.version(), tuple(models)
        self.default = policy.default if isinstance(policy.default, tuple) else (policy.default,)
        places = {name: at for at, name in enumerate(self.models)}
        schedule = policy.schedule()
        ends = [*(tier.until_ms for tier in schedule[:-1]), policy.budget_ms]
        self._tiers = [
            _CompiledTier(end, [places[name] for name in tier.models], number)
            for number, (end, tier) in enumerate(zip(ends, schedule, strict=False), 1)
        ]
        self._rank = [answer for tier in self._tiers for answer in tier.answers]
        self._mask = sum({bit for bit, _ in self._rank})
        self.first_look_ms = ends[0]
        self.arms: tuple[ArmRecord, ...] = ()
        self.propensity = 1.0
        self.tallies: Sequence[ArmTally] = ()
        self.decide: Callable[[int, int, float, bytes], Decision] = self._by_tiers

    def _by_tiers(self, present: int, possible: int, elapsed_ms: float, seed: bytes) -> Decision:
        for tier in self._tiers:
            if elapsed_ms < tier.until_ms:
                if present & tier.mask:
                    return _best(tier.answers, present)
                if possible & tier.mask:
                    return tier.wait
        if present & self._mask:
            return _best(self._rank, present)
        return OVERDUE if elapsed_ms >= self.policy.budget_ms else NOBODY


OVERDUE = Decision(reason="no score within the budget")
NOBODY = Decision(reason="no model can answer")


class _CompiledTier:
    __slots__ = ("answers", "mask", "until_ms", "wait")

    def __init__(self, until_ms: float, models: list[int], number: int) -> None:
        self.until_ms = until_ms
        self.mask = sum(1 << model for model in models)
        self.wait = Decision(look_ms=until_ms)
        self.answers = [(1 << model, Decision(model, number)) for model in models]


def _best(answers: list[tuple[int, Decision]], present: int) -> Decision:
    for bit, decision in answers:
        if present & bit:
            return decision
    raise ConfigError("no model of these is present")
