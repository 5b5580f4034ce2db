"""The policy's promises, whatever its tiers, and whatever arrives when."""

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rdv.config import Goal, Tier
from rdv.errors import ConfigError
from rdv.serving.gateway.policy import (
    Decider,
    Decision,
    Policy,
    check_policy,
    decode_policy,
    encode_policy,
    policy_of,
)

MODELS = ("champion", "runner_up", "third", "canary")
CANARY = frozenset({"canary"})
CHOOSABLE = MODELS[:3]
GOAL = Goal(schema={}, budget_ms=80.0, default=0.3)
SEED = bytes(16)
EVERYONE = 15
masks = st.integers(0, EVERYONE)
moments = st.floats(0, 100)


@st.composite
def policies(draw: st.DrawFn, cumulative: bool = False) -> Policy:
    """Valid tier policies; cumulative: each tier allows what the one before it allowed, in the same order first."""
    ends = sorted(draw(st.sets(st.integers(1, 80), min_size=1, max_size=4)))
    if not cumulative:
        chosen = [draw(st.permutations(CHOOSABLE))[: draw(st.integers(1, 3))] for _ in ends]
    else:
        order = draw(st.permutations(CHOOSABLE))
        sizes = sorted(draw(st.lists(st.integers(1, 3), min_size=len(ends), max_size=len(ends))))
        chosen = [order[:size] for size in sizes]
    tiers = tuple(Tier(float(end), tuple(models)) for end, models in zip(ends, chosen, strict=True))
    return Policy(budget_ms=80.0, default=0.3, tiers=tiers)


def bit(name: str) -> int:
    return 1 << MODELS.index(name)


def decide(policy: Policy, present: int, possible: int, elapsed_ms: float) -> Decision:
    return Decider(policy, MODELS).decide(present, possible & ~present, elapsed_ms, SEED)


def waits(decision: Decision) -> bool:
    return decision.model < 0 and not decision.reason


@given(policies(), masks, masks, moments)
def test_answers_only_with_scores_that_are_there(policy: Policy, present: int, possible: int, now: float) -> None:
    """A chosen model is in the policy and has scored; a canary model is never chosen."""
    decision = decide(policy, present, possible, now)
    if decision.model >= 0:
        assert present >> decision.model & 1
        assert MODELS[decision.model] in policy.chosen()
        assert MODELS[decision.model] not in CANARY


@given(policies(), masks, masks, moments)
def test_never_waits_for_nobody(policy: Policy, present: int, possible: int, now: float) -> None:
    """It waits only while a model of some tier may still score, and never past the budget."""
    decision = decide(policy, present, possible, now)
    if waits(decision):
        assert now < decision.look_ms <= policy.budget_ms
        assert any(possible & ~present & bit(name) for name in policy.chosen())


@given(policies(), masks, moments)
def test_settles_at_once_when_nobody_else_can_score(policy: Policy, present: int, now: float) -> None:
    """With nobody left to wait for it settles: with a score if any model of the policy is there, else the default."""
    decision = decide(policy, present, 0, now)
    usable = any(present & bit(name) for name in policy.chosen())
    assert not waits(decision)
    assert (decision.model >= 0) == usable


@given(policies(), masks, moments)
def test_never_waits_out_a_window(policy: Policy, present: int, now: float) -> None:
    """When a model that may answer now is there, it answers now, whoever else may still score."""
    tier = next((one for one in policy.tiers[:-1] if now < one.until_ms), policy.tiers[-1])
    assume(now < policy.budget_ms)
    best = next((name for name in tier.models if present & bit(name)), None)
    if best is not None:
        decision = decide(policy, present, EVERYONE, now)
        assert MODELS[decision.model] == best


@given(policies(), masks)
def test_default_at_the_deadline(policy: Policy, possible: int) -> None:
    """At the budget's end nothing is waited for, whoever may still score."""
    decision = decide(policy, 0, possible, policy.budget_ms)
    assert decision.reason == "no score within the budget"


@given(policies(cumulative=True), masks, masks, moments, moments)
def test_settled_stays_settled(policy: Policy, present: int, possible: int, now: float, later: float) -> None:
    """Where tiers only grow, what settles now would settle later too, in the same tier with the same model."""
    early, late = sorted((now, later))
    first, second = decide(policy, present, possible, early), decide(policy, present, possible, late)
    if first.model >= 0:
        assert second.model >= 0
        if first.tier == second.tier:
            assert first == second


@given(policies(), masks, masks, moments)
def test_bits_outside_the_policy_do_not_matter(policy: Policy, present: int, possible: int, now: float) -> None:
    """Scores of models that the policy does not name change nothing."""
    inside = sum({bit(name) for name in policy.chosen()})
    assert decide(policy, present, possible, now) == decide(policy, present & inside, possible & inside, now)


@given(policies(), st.integers(0, 2**32))
def test_a_request_settles_exactly_once_and_in_time(policy: Policy, seed: int) -> None:
    """Played out with random arrivals and losses, every request settles once, at the first moment it can, in time."""
    chance = random.Random(seed)
    arrivals = sorted((chance.uniform(0, 120), name, chance.random() < 0.3) for name in MODELS)
    decider = Decider(policy, MODELS)
    present = ended = 0
    now, look, settled = 0.0, decider.first_look_ms, []
    while not settled:
        if arrivals and arrivals[0][0] <= look:
            now, name, lost = arrivals.pop(0)
            ended |= bit(name)
            present |= 0 if lost else bit(name)
        else:
            now = look
        decision = decider.decide(present, EVERYONE & ~ended, now, SEED)
        if waits(decision):
            assert decision.look_ms > now
            look = decision.look_ms
        else:
            settled.append((now, decision))
    assert len(settled) == 1
    assert settled[0][0] <= policy.budget_ms


def test_schedule_of_the_book() -> None:
    """0-25 ms only the champion; then champion, else runner-up; then the best present; at 80 ms the default."""
    tiers = (Tier(25.0, CHOOSABLE[:1]), Tier(60.0, CHOOSABLE[:2]), Tier(80.0, CHOOSABLE))
    policy = Policy(budget_ms=80.0, default=0.3, tiers=tiers)
    runner_up, third = bit("runner_up"), bit("third")
    assert decide(policy, runner_up, EVERYONE, 10) == Decision(look_ms=25.0)
    assert decide(policy, runner_up, EVERYONE, 25) == Decision(1, 2)
    assert decide(policy, bit("champion") | runner_up, EVERYONE, 30) == Decision(0, 2)
    assert decide(policy, third, EVERYONE, 59) == Decision(look_ms=60.0)
    assert decide(policy, third, EVERYONE, 60) == Decision(2, 3)
    assert decide(policy, runner_up, EVERYONE & ~bit("champion"), 1) == Decision(1, 2)
    assert decide(policy, 0, bit("canary"), 1).reason == "no model can answer"


def test_first_answer_takes_whoever_is_first() -> None:
    """A first_answer policy settles on any of its models at once, the better-ranked of two that are there."""
    policy = Policy(budget_ms=80.0, default=0.3, kind="first_answer", models=("third", "champion"))
    assert decide(policy, bit("champion"), EVERYONE, 0.1) == Decision(0, 1)
    assert decide(policy, bit("champion") | bit("third"), EVERYONE, 0.1) == Decision(2, 1)
    assert decide(policy, bit("runner_up"), EVERYONE, 0.1) == Decision(look_ms=80.0)


@given(policies())
def test_policies_round_trip_and_are_named_by_content(policy: Policy) -> None:
    """A policy decodes to itself, and its version changes when and only when what it says changes."""
    again = decode_policy(encode_policy(policy))
    assert again == policy
    assert again.version() == policy.version()
    other = Policy(budget_ms=policy.budget_ms, default=0.31, tiers=policy.tiers)
    assert other.version() != policy.version()


@given(policies())
def test_valid_policies_pass_the_check(policy: Policy) -> None:
    """A policy whose tiers rise within the budget and name models of the goal may be put in force."""
    assert check_policy(policy, GOAL, MODELS, CANARY) == []


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        (Policy(80.0, 0.3, tiers=(Tier(25.0, ("canary",)),)), "canary model"),
        (Policy(80.0, 0.3, tiers=(Tier(25.0, ("nobody",)),)), "'nobody' does not serve"),
        (Policy(80.0, 0.3, tiers=(Tier(90.0, ("champion",)),)), "by the budget's end"),
        (Policy(80.0, 0.3, tiers=(Tier(25.0, ("champion",)), Tier(25.0, ("third",)))), "not after 25.0 ms"),
        (Policy(80.0, 0.3, tiers=(Tier(math.nan, ("champion",)),)), "ends at nan"),
        (Policy(80.0, 0.3, tiers=(Tier(25.0, ()),)), "has no models"),
        (Policy(80.0, 0.3, tiers=(Tier(25.0, ("champion", "champion")),)), "twice"),
        (Policy(80.0, 1.5, tiers=(Tier(25.0, ("champion",)),)), "within 0..1"),
        (Policy(80.0, math.inf, tiers=(Tier(25.0, ("champion",)),)), "not finite"),
        (Policy(80.0, (0.3, 0.7), tiers=(Tier(25.0, ("champion",)),)), "one number"),
        (Policy(0.0, 0.3), "not a positive number"),
        (Policy(80.0, 0.3, kind="first_answer"), "first_answer"),
        (Policy(80.0, 0.3, models=("champion",)), "first_answer"),
    ],
)
def test_bad_policies_are_refused(policy: Policy, problem: str) -> None:
    """What cannot be put in force is named: models, tiers or a default that do not fit the goal."""
    assert problem in "; ".join(check_policy(policy, GOAL, MODELS, CANARY))


def test_default_of_labels_has_one_value_each() -> None:
    """A goal that answers labels needs a default with a number for each."""
    goal = Goal(schema={}, budget_ms=80.0, default=(0.2, 0.8), answer="labels", labels=("no", "yes"))
    tiers = (Tier(80.0, ("champion",)),)
    assert check_policy(Policy(80.0, (0.2, 0.8), tiers=tiers), goal, MODELS, CANARY) == []
    assert check_policy(Policy(80.0, 0.2, tiers=tiers), goal, MODELS, CANARY)


def test_goal_without_tiers_uses_its_models() -> None:
    """A goal that declares no tiers answers with its models in their order, until the budget ends."""
    assert policy_of(GOAL, CHOOSABLE).tiers == (Tier(80.0, CHOOSABLE),)
    assert decide(policy_of(GOAL, ()), 0, 0, 0.0).reason == "no model can answer"


@pytest.mark.parametrize("document", [b"{", b'{"budget_ms": 80}', b'{"budget_ms": 80, "default": 0, "surprise": 1}'])
def test_unreadable_policies_are_refused(document: bytes) -> None:
    """A document that is no policy is refused with what is wrong."""
    with pytest.raises(ConfigError, match="cannot be read"):
        decode_policy(document)
