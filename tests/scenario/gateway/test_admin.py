"""The admin side of a live gateway: policies that change under traffic, status, metrics, and who may ask."""

import asyncio
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from rdv.backends.select import registry
from rdv.serving.gateway.policies import policy_key

Run = Callable[..., None]
TWO = ("champion", "runner_up")
TIERS = [(15_000.0, TWO[:1]), (30_000.0, TWO)]


def first_answer(*models: str, budget_ms: float = 30_000.0) -> dict[str, Any]:
    return {"kind": "first_answer", "models": list(models), "budget_ms": budget_ms, "default": -1.0}


async def both(gateway: Any) -> None:
    """A champion that adds up and a runner-up that answers ten times as much."""
    await gateway.worker("champion")
    await gateway.worker("runner_up", lambda matrix: np.nansum(matrix, axis=1) * 10)


def test_policy_changes_at_run_time(run: Run) -> None:
    """A policy that is put in force decides the next request, is in the registry, and can be taken back."""

    async def scenario(gateway: Any) -> None:
        await both(gateway)
        before = (await gateway.admin("GET", "/goals/sum/policy")).json
        assert (before["origin"], before["policy"]["tiers"][0]["models"]) == ("rdv.toml", ["champion"])
        assert (await gateway.score({"a": 1})).json["model"] == "champion"
        changed = await gateway.admin("PUT", "/goals/sum/policy", {"policy": first_answer("runner_up")})
        assert (changed.status, changed.json["origin"]) == (200, "registry")
        assert changed.json["version"] != before["version"]
        assert (await gateway.score({"a": 1})).json["answer"] == 10.0
        held = registry(gateway.project).get(policy_key("sum"))
        assert held is not None
        assert json.loads(held.value)["models"] == ["runner_up"]
        back = await gateway.admin("PUT", "/goals/sum/policy", {"policy": None})
        assert (back.json["origin"], back.json["version"]) == ("rdv.toml", before["version"])
        assert (await gateway.score({"a": 1})).json["model"] == "champion"

    run(scenario, models=TWO, tiers=TIERS)


def test_policy_of_another_gateway_is_followed(run: Run) -> None:
    """What another process puts into the registry is in force here too; what does not fit is told, no more."""

    async def scenario(gateway: Any) -> None:
        await both(gateway)
        held = registry(gateway.project)
        held.put(policy_key("sum"), json.dumps(first_answer("runner_up")).encode())
        await gateway.until(lambda: origin(gateway, "registry"))
        assert (await gateway.score({"a": 1})).json["model"] == "runner_up"
        held.put(policy_key("sum"), json.dumps(first_answer("somebody_else")).encode())
        await gateway.until(lambda: has_problem(gateway))
        assert (await gateway.score({"a": 1})).json["model"] == "runner_up"
        held.put(policy_key("sum"), b"{}")
        held.delete(policy_key("sum"))
        await gateway.until(lambda: origin(gateway, "rdv.toml"))
        assert (await gateway.score({"a": 1})).json["model"] == "champion"

    run(scenario, models=TWO, tiers=TIERS)


async def origin(gateway: Any, expected: str) -> bool:
    return bool((await gateway.admin("GET", "/goals/sum/policy")).json["origin"] == expected)


async def has_problem(gateway: Any) -> bool:
    return "somebody_else" in (await gateway.admin("GET", "/goals/sum/policy")).json["problem"]


def test_policy_change_loses_races_and_refuses_nonsense(run: Run) -> None:
    """A change that expects another version than the one in force is 409, one that does not fit the goal 400."""

    async def scenario(gateway: Any) -> None:
        before = (await gateway.admin("GET", "/goals/sum/policy")).json["version"]
        change = {"policy": first_answer("champion"), "expect": before}
        one, two = await asyncio.gather(*(gateway.admin("PUT", "/goals/sum/policy", change) for _ in range(2)))
        assert sorted((one.status, two.status)) == [200, 409]
        for body in (
            {"policy": first_answer("nobody")},
            {"policy": first_answer()},
            {"policy": {**first_answer("champion"), "default": "x"}},
            {"policy": {**first_answer("champion"), "surprise": 1}},
            {},
            [],
        ):
            answer = await gateway.admin("PUT", "/goals/sum/policy", body)
            assert (answer.status, answer.json["error"]) == (400, "policy")
        assert (await gateway.admin("GET", "/goals/other/policy")).status == 404

    run(scenario)


def test_request_keeps_its_policy(run: Run) -> None:
    """A request that is open while the policy changes is settled by the policy it began with, and its event says so."""

    async def scenario(gateway: Any) -> None:
        await gateway.archive("recorder", "sum/events")
        await gateway.worker("runner_up", delay_s=0.1)
        before = (await gateway.admin("GET", "/goals/sum/policy")).json["version"]
        asked = asyncio.ensure_future(gateway.score({"a": 1}))
        await gateway.until(lambda: one_open(gateway))
        await gateway.admin("PUT", "/goals/sum/policy", {"policy": first_answer("champion")})
        assert (await asked).json["source"] == "tier 2"
        await gateway.until(lambda: recorded(gateway))
        assert gateway.events[0].policy == before
        assert (await gateway.score({"a": 1})).json["source"] == "default"

    run(scenario, models=TWO, tiers=TIERS)


async def one_open(gateway: Any) -> bool:
    return bool((await gateway.status())["ledger"]["open"] == 1)


async def recorded(gateway: Any) -> bool:
    return bool(gateway.events)


def test_status_shows_what_happened(run: Run) -> None:
    """The status has goals, policy, replicas with versions, shares, quantiles and the bus's counters."""

    async def scenario(gateway: Any) -> None:
        await both(gateway)
        await asyncio.gather(*(gateway.score({"a": at}) for at in range(20)))
        await gateway.score({"a": "x"})
        view = await gateway.status()
        assert (view["gateway"], view["port"], view["refused"]) == ("gw-1", gateway.facts["port"], {"400": 1})
        champion = view["models"]["champion"]
        assert (champion["choice_share"], champion["chosen_by_tier"], champion["tiers"]) == (1.0, {"1": 20}, [1, 2])
        assert champion["replicas"] == [{"replica": "r1", "version": "v1"}]
        assert champion["latency"]["count"] == 20
        assert 0 < champion["latency"]["p50_ms"] <= champion["latency"]["p99_ms"]
        assert view["bus"]["sum"]["champion"]["published"] == 20
        assert view["latency"]["count"] == 20

    run(scenario, models=TWO, tiers=TIERS)


def test_metrics_are_prometheus_text(run: Run) -> None:
    """The metrics page parses, counts what happened, and has no label that comes from traffic."""

    async def scenario(gateway: Any) -> None:
        await both(gateway)
        for at in range(5):
            await gateway.score({"a": at})
            await gateway.call("GET", f"/{at}")
        page = await gateway.admin("GET", "/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        families = {one.name: one for one in text_string_to_metric_families(page.body.decode())}
        requests = {one.labels["outcome"]: one.value for one in families["rdv_requests"].samples}
        assert (requests["accepted"], requests["answered"], requests["defaults"]) == (5, 5, 0)
        assert [(one.labels, one.value) for one in families["rdv_refused"].samples] == [({"status": "404"}, 5)]
        buckets = [one for one in families["rdv_answer_seconds"].samples if one.name.endswith("_bucket")]
        counts = [one.value for one in buckets]
        assert counts == sorted(counts)
        assert (buckets[-1].labels["le"], counts[-1]) == ("+Inf", 5)
        labels = {name for one in families.values() for sample in one.samples for name in sample.labels}
        known = "goal outcome reason status model kind tier topic name where le breaker"
        assert labels <= set(known.split())

    run(scenario, models=TWO, tiers=TIERS)


def test_admin_is_this_users_alone(run: Run, tmp_path: Path) -> None:
    """Both sockets are 0600, and nothing of the admin side is served on the data port or the reverse."""

    async def scenario(gateway: Any) -> None:
        for name in ("admin", "bus"):
            assert stat.S_IMODE(Path(gateway.facts[name]).stat().st_mode) == 0o600
        for path in ("/metrics", "/status", "/drain", "/goals/sum/policy"):
            assert (await gateway.call("GET", path)).status == 404
        assert (await gateway.admin("POST", "/v1/goals/sum/score", {"a": 1})).status == 404

    run(scenario)
    assert not list((tmp_path / ".rdv" / "run").rglob("*.sock"))
