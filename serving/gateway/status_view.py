"""What a gateway tells about itself: goals, policies, replicas, ledgers and latencies, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from rdv.breaker import BOOK
from rdv.serving.gateway.app import Gateway
from rdv.serving.gateway.desk import Desk
from rdv.serving.gateway.policies import PolicyBoard


def gateway_view(gateway: Gateway, board: PolicyBoard, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that `rdv status` shows of one gateway. facts: addresses and the like, put beside it."""
    traffic: dict[str, dict[str, Any]] = {}
    for (topic, name), one in gateway.hub.traffic().items():
        traffic.setdefault(topic, {})[name] = asdict(one)
    return {
        "gateway": gateway.id,
        **facts,
        "draining": gateway.draining,
        "refused": {str(status): times for status, times in sorted(gateway.refusals.items())},
        "goals": {goal: _goal_view(gateway, desk, board) for goal, desk in gateway.desks.items()},
        "bus": traffic,
        "breakers": BOOK.views(),
    }


def _goal_view(gateway: Gateway, desk: Desk, board: PolicyBoard) -> dict[str, Any]:
    room, plan = desk.room, desk.plan
    replicas = [one for lane in desk.lanes for one in gateway.hub.replicas(lane.topic)]
    ledger = room.ledger
    settled = ledger.answered + ledger.defaults
    return {
        "budget_ms": desk.decider.policy.budget_ms,
        "policy": msgspec.to_builtins(board.state(plan.goal)),
        "ledger": {**msgspec.to_builtins(ledger), "balances": ledger.balances()},
        "default_share": ledger.defaults / settled if settled else 0.0,
        "mailboxes": len(room.boxes),
        "latency": room.latency.summary(),
        "models": {
            name: {
                "topic": topic,
                "canary_model": name in plan.canary_models,
                "tiers": [at for at, tier in enumerate(desk.decider.policy.schedule(), 1) if name in tier.models],
                "replicas": [
                    {"replica": one.replica, "version": one.version}
                    for one in replicas
                    if (one.topic, one.name) == (topic, name)
                ],
                **room.tallies[place].summary(settled),
            }
            for place, (name, topic) in enumerate(plan.models.items())
        },
        "rollouts": desk.trials.view(),
        "canaries": {
            room.models[trial.canary]: room.tallies[trial.canary].summary(settled)
            for trial in desk.trials.known.values()
        },
        "archives": [{"name": one.name, "replica": one.replica, "topic": one.topic} for one in replicas if one.archive],
    }
