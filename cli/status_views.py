"""What `rdv status` shows of a running project: goals, models and processes, a record each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.serving.status import ServingStatus

Record = dict[str, Any]


def goal_records(status: ServingStatus) -> list[Record]:
    """A record a goal and gateway: the ledger, and how long answers took."""
    return [
        {
            "goal": goal,
            "gateway": view["gateway"],
            "url": view.get("url", ""),
            "accepted": found["ledger"]["accepted"],
            "answered": found["ledger"]["answered"],
            "defaults": found["ledger"]["defaults"],
            "errors": found["ledger"]["errors"],
            "open": found["ledger"]["open"],
            "balances": found["ledger"]["balances"],
            "budget_ms": found["budget_ms"],
            **quantiles(found["latency"]),
        }
        for view in status.gateways
        for goal, found in view["goals"].items()
    ]


def model_records(status: ServingStatus) -> list[Record]:
    """A record a model and gateway: which version answers, how often it was chosen, how fast and how late it was."""
    return [
        {
            "model": model,
            "goal": goal,
            "gateway": view["gateway"],
            "tiers": "canary model" if found["canary_model"] else ", ".join(map(str, found["tiers"])) or "challenger",
            "version": ", ".join(sorted({one["version"] for one in found["replicas"]})),
            "replicas": len(found["replicas"]),
            "scored": found["scored"],
            "chosen_share": found["choice_share"],
            "late_share": found["late_share"],
            "no_answer_share": found["no_answer_share"],
            **quantiles(found["latency"]),
        }
        for view in status.gateways
        for goal, goal_view in view["goals"].items()
        for model, found in goal_view["models"].items()
    ]


def rollout_records(status: ServingStatus) -> list[Record]:
    """A record a rollout, gateway and arm: who answered its requests, how long that took, how many got the default."""
    return [
        {
            "rollout": model,
            "gateway": view["gateway"],
            "version": found["version"],
            "state": found["state"],
            "share": found["share"],
            "replicas": len(found["replicas"]),
            "subjects": "the share" if arm == "canary" else "all others",
            "answers": tally["answers"],
            "by_canary": tally["by_canary"],
            "defaults": tally["defaults"],
            **quantiles(tally["latency"]),
        }
        for view in status.gateways
        for goal_view in view["goals"].values()
        for model, found in goal_view.get("rollouts", {}).items()
        for arm, tally in found["arms"].items()
    ]


def breaker_records(status: ServingStatus) -> list[Record]:
    """A record a circuit breaker and gateway, of those that are not closed."""
    return [
        {"breaker": one["name"], "gateway": view["gateway"], **one}
        for view in status.gateways
        for one in view.get("breakers", ())
        if one["state"] != "closed"
    ]


def process_records(status: ServingStatus) -> list[Record]:
    """A record a process that `rdv serve` keeps: how it stands and how often it was started again."""
    children = status.supervisor.details.get("children", []) if status.supervisor else []
    assert isinstance(children, list)
    return [
        {
            "process": child["name"],
            "pid": child["pid"] or None,
            "status": child["status"],
            "restarts": max(0, child["starts"] - 1),
            "last_end": child.get("reason", ""),
        }
        for child in children
    ]


def quantiles(latency: Record) -> Record:
    """The two latencies that a person reads, in milliseconds; None before the first request."""
    return {"p50_ms": latency.get("p50_ms"), "p99_ms": latency.get("p99_ms")}


def goal_ledgers(project: Project, goal: str) -> list[Record]:
    """The ledger of a goal in each gateway that runs; Unreachable when none does."""
    from rdv.serving.status import read_status

    return [view["goals"][goal]["ledger"] for view in read_status(project).gateways if goal in view["goals"]]


def url(project: Project) -> str:
    """The address of a gateway that runs; Unreachable when none does."""
    from rdv.serving.status import read_status

    return str(read_status(project).gateways[0]["url"])
