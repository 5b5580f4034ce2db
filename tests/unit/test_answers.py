"""Answers and events: valid JSON whatever names hold, and events that decode to what was settled."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.config import Goal, Tier
from rdv.errors import InputError
from rdv.records import canary_name
from rdv.serving.gateway.answers import Answers, usable
from rdv.serving.gateway.mailbox import Mailbox
from rdv.serving.gateway.policy import ArmRecord, Decider, Decision, Policy
from rdv.serving.recording.events import Arm, Event, Missing, ScoreRecord, decode_event

MODELS = ("champion", "runner_up")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
finite = st.floats(allow_nan=False, allow_infinity=False)


def settled(decision: Decision, value: Any, version: str = "v1", default: Any = 0.25) -> Mailbox:
    """A settled mailbox without a room."""
    decider = Decider(Policy(80.0, default, tiers=(Tier(80.0, MODELS),)), MODELS)
    box: Any = Mailbox(None, bytes(range(16)), decider, 100.0, 1e9, None)  # type: ignore[arg-type]
    box.decision, box.settled, box.version = decision, 100.0125, version
    box.value = decider.default if value is None else value
    return box  # type: ignore[no-any-return]


@given(texts, finite, st.integers(1, 3))
def test_numbers_read_back_to_the_bit(version: str, value: float, tier: int) -> None:
    """The answer is valid JSON with the score to the bit, whatever text the version is."""
    goal = Goal(schema={}, budget_ms=80.0, default=0.25, answer="number")
    answers = Answers("visit", "gw", goal, MODELS)
    for _ in range(2):
        told = json.loads(answers.reply(settled(Decision(1, tier), value, version)).body)
        assert told == {
            "request_id": bytes(range(16)).hex(),
            "answer": value,
            "model": "runner_up",
            "version": version or None,
            "source": f"tier {tier}",
            "reason": "",
            "degraded": tier > 1,
            "canary": False,
            "elapsed_ms": 12.5,
        }


@given(st.lists(texts, min_size=1, max_size=4, unique=True), st.data())
def test_labels_are_told_with_all_scores(labels: list[str], data: st.DataObject) -> None:
    """Any text may be a label; the likeliest one is told beside every label's score."""
    values = tuple(data.draw(st.lists(finite, min_size=len(labels), max_size=len(labels))))
    goal = Goal(schema={}, budget_ms=80.0, default=values, answer="labels", labels=tuple(labels))
    box = settled(Decision(0, 1), values, default=values)
    told = json.loads(Answers("visit", "gw", goal, MODELS).reply(box).body)["answer"]
    assert told["scores"] == dict(zip(labels, values, strict=True))
    assert told["scores"][told["label"]] == max(values)


def test_the_default_says_why() -> None:
    """The default has no model and no version, a reason, and is degraded."""
    goal = Goal(schema={}, budget_ms=80.0, default=0.25)
    box = settled(Decision(reason="no model can answer"), None, "")
    told = json.loads(Answers("visit", "gw", goal, MODELS).reply(box).body)
    assert (told["answer"], told["model"], told["version"]) == (0.25, None, None)
    assert (told["source"], told["reason"], told["degraded"]) == ("default", "no model can answer", True)


def test_a_canarys_answer_names_its_model_and_says_so() -> None:
    """Answer and event are of the model, with the canary's version; the event says how the request was assigned."""
    goal = Goal(schema={}, budget_ms=80.0, default=0.25)
    answers = Answers("visit", "gw", goal, (*MODELS, *map(canary_name, MODELS)))
    box = settled(Decision(3, 2), 0.5, "v2")
    box.decider.arms, box.decider.propensity = (ArmRecord("runner_up", "v2", 0.1, True),), 0.1
    box.scores = [(3, "v2", 0.5, 100.01, False)]
    told = json.loads(answers.reply(box).body)
    assert (told["model"], told["version"], told["canary"], told["source"]) == ("runner_up", "v2", True, "tier 2")
    event = decode_event(answers.event(box))
    assert (event.model, event.version, event.canary, event.propensity) == ("runner_up", "v2", True, 0.1)
    assert event.arms == (Arm("runner_up", "v2", 0.1, True),)
    assert event.scores[0].model == "runner_up@canary"


@pytest.mark.parametrize("decision", [Decision(1, 2), Decision(reason="no score within the budget")])
def test_events_decode_to_what_was_settled(decision: Decision) -> None:
    """An event has every score with its latency and lateness, every missing model with its reason, and the answer."""
    goal = Goal(schema={}, budget_ms=80.0, default=0.25)
    box = settled(decision, 0.75 if decision.model >= 0 else None, "v9" if decision.model >= 0 else "")
    box.scores = [(1, "v9", 0.75, 100.01, False), (0, "v1", math.inf, 100.09, True)]
    box.lost = [(0, "expired")]
    event = decode_event(Answers("visit", "gw", goal, MODELS).event(box))
    chosen = decision.model >= 0
    assert event == Event(
        id=bytes(range(16)).hex(),
        goal="visit",
        gateway="gw",
        accepted_at=1e9,
        policy=box.decider.version,
        answer=(0.75,) if chosen else (0.25,),
        model="runner_up" if chosen else "",
        version="v9" if chosen else "",
        source="tier 2" if chosen else "default",
        reason=decision.reason,
        degraded=True,
        elapsed_ms=pytest.approx(12.5),
        scores=(
            ScoreRecord("runner_up", "v9", (0.75,), pytest.approx(10.0)),
            ScoreRecord("champion", "v1", (math.inf,), pytest.approx(90.0), True),
        ),
        missing=(Missing("champion", "expired"),),
    )


@given(st.binary(max_size=60))
def test_rubbish_is_no_event(record: bytes) -> None:
    """A record that is no event raises InputError and nothing else."""
    with pytest.raises(InputError):
        decode_event(record)


@given(st.floats() | st.tuples(st.floats(), st.floats()))
def test_usable_is_finite_and_of_the_right_shape(value: Any) -> None:
    """A probability is one number within 0..1, a number any finite one, labels as many finite ones as there are."""
    single = isinstance(value, float)
    assert usable("probability", 1)(value) == (single and 0.0 <= value <= 1.0)
    assert usable("number", 1)(value) == (single and math.isfinite(value))
    assert usable("labels", 2)(value) == (not single and all(map(math.isfinite, value)))
    assert not usable("labels", 3)(value)
