"""A live gateway with workers: what it answers, what it writes down, and how it changes its mind and stops."""

import asyncio
import contextlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rdv.config import Lookup, ModellingGoal

Run = Callable[..., None]
LedgerOf = Callable[[dict[str, Any]], tuple[int, int, int, int, int]]
TWO = ("champion", "runner_up")


def times(factor: float) -> Callable[[Any], Any]:
    return lambda matrix: np.nansum(matrix, axis=1) * factor


def test_answers_are_exact_and_say_where_they_come_from(run: Run, ledger_of: LedgerOf) -> None:
    """Each request is answered with its own score, by name and version, whatever else is in flight."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", version="v7")
        answers = await asyncio.gather(*(gateway.score({"a": at, "b": 0.5}) for at in range(50)))
        for at, answer in enumerate(answers):
            assert answer.status == 200
            told = answer.json
            assert told.pop("elapsed_ms") >= 0
            assert len(told.pop("request_id")) == 32
            assert told == {
                "answer": at + 0.5,
                "model": "champion",
                "version": "v7",
                "source": "tier 1",
                "reason": "",
                "degraded": False,
                "canary": False,
            }
        assert ledger_of(await gateway.status()) == (50, 50, 0, 0, 0)

    run(scenario)


def test_schema_violations_name_the_field(run: Run, ledger_of: LedgerOf) -> None:
    """Input that violates the schema is a 400 naming the field, keeps the connection and enters no ledger."""

    async def scenario(gateway: Any) -> None:
        for body, field in (
            ({"b": 1}, "a"),
            ({"a": "1"}, "a"),
            ({"a": -2000}, "a"),
            ({"a": 1, "plan": 3}, "plan"),
            (b'{"a": NaN}', None),
            (b'{"a": 1e400}', None),
            (b'{"a": 1} x', None),
            (b"[" * 10_000, None),
            (b"", None),
        ):
            answer = await gateway.score(body)
            assert (answer.status, answer.json["error"]) == (400, "schema")
            assert answer.json.get("field") == field or field is None
            assert "connection" not in answer.headers
        assert ledger_of(await gateway.status()) == (0, 0, 0, 0, 0)

    run(scenario)


def test_default_when_nobody_is_there(run: Run, ledger_of: LedgerOf) -> None:
    """Without any worker the default answers at once, marked as degraded and with the reason."""

    async def scenario(gateway: Any) -> None:
        told = (await gateway.score({"a": 1})).json
        assert (told["answer"], told["model"], told["source"]) == (-1.0, None, "default")
        assert (told["reason"], told["degraded"]) == ("no model can answer", True)
        assert told["elapsed_ms"] < 5000
        assert ledger_of(await gateway.status()) == (1, 0, 1, 0, 0)

    run(scenario)


def test_default_at_the_deadline_and_late_scores_in_the_books(run: Run) -> None:
    """A model that is too late costs the request its score; the score is recorded as late and given to nobody."""

    async def scenario(gateway: Any) -> None:
        await gateway.archive("recorder", "sum/events")
        await gateway.worker("champion", delay_s=0.2)
        told = (await gateway.score({"a": 1})).json
        assert (told["source"], told["reason"]) == ("default", "no score within the budget")
        assert told["elapsed_ms"] >= 50.0
        await gateway.until(lambda: recorded(gateway, 1))
        (event,) = gateway.events
        assert [(one.model, one.values, one.late) for one in event.scores] == [("champion", (1.0,), True)]
        assert (event.answer, event.source, event.degraded) == ((-1.0,), "default", True)
        view = await gateway.status()
        assert view["models"]["champion"]["late_share"] == 1.0

    run(scenario, budget_ms=50.0)


async def recorded(gateway: Any, n: int) -> bool:
    return len(gateway.events) >= n


def test_runner_up_answers_in_its_tier(run: Run) -> None:
    """While the champion may still come the runner-up waits; in its own tier it answers, as degraded."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=20.0)
        await gateway.worker("runner_up", times(10))
        told = (await gateway.score({"a": 1})).json
        assert (told["answer"], told["source"], told["degraded"]) == (10.0, "tier 2", True)
        assert told["elapsed_ms"] >= 40.0

    run(scenario, models=TWO, tiers=[(40.0, TWO[:1]), (30_000.0, TWO)])


def test_lost_champion_is_not_waited_for(run: Run) -> None:
    """When the champion's worker is gone, or goes while it has the request, the runner-up answers at once."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("runner_up", times(10))
        assert (await gateway.score({"a": 1})).json["source"] == "tier 2"
        champion = await gateway.worker("champion", delay_s=20.0)
        asked = asyncio.ensure_future(gateway.score({"a": 2}))
        await gateway.until(lambda: in_flight(gateway, "champion"))
        await champion.close()
        assert (await asked).json["answer"] == 20.0

    run(scenario, models=TWO, tiers=[(29_000.0, TWO[:1]), (30_000.0, TWO)])


async def in_flight(gateway: Any, name: str) -> bool:
    return bool((await gateway.status())["bus"]["sum"][name]["in_flight"])


def test_canary_model_scores_and_is_never_chosen(run: Run) -> None:
    """A canary model scores every request, and even alone it is never an answer."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("canary", times(100))
        told = (await gateway.score({"a": 1})).json
        assert (told["source"], told["reason"]) == ("default", "no model can answer")
        await gateway.until(lambda: scored(gateway, "canary", 1))
        assert (await gateway.status())["models"]["canary"]["chosen"] == 0

    run(scenario, models=("champion", "canary"), canary_model="canary")


async def scored(gateway: Any, name: str, n: int) -> bool:
    return bool((await gateway.status())["models"][name]["scored"] == n)


def test_decoy_and_recorder_have_every_request(run: Run, ledger_of: LedgerOf) -> None:
    """Decoy rows and events match accepted requests by id, one each, however fast they came."""

    async def scenario(gateway: Any) -> None:
        await gateway.archive("decoy", "sum")
        await gateway.archive("recorder", "sum/events")
        await gateway.worker("champion")
        answers = [await asyncio.gather(*(gateway.score({"a": at}) for at in range(25))) for _ in range(8)]
        ids = sorted(one.json["request_id"] for batch in answers for one in batch)
        await gateway.until(lambda: recorded(gateway, 200))
        assert sorted(message_id.hex() for message_id in gateway.seen["decoy"]) == ids
        assert sorted(event.id for event in gateway.events) == ids
        assert {(event.model, event.source, event.policy) for event in gateway.events} == {
            ("champion", "tier 1", (await gateway.status())["policy"]["version"])
        }
        assert ledger_of(await gateway.status())[0] == 200

    run(scenario)


def test_stop_flushes_what_was_not_told_yet(run: Run) -> None:
    """A clean stop settles, publishes the last events and hands the decoy its last rows before it hangs up."""
    gateways = []

    async def scenario(gateway: Any) -> None:
        gateways.append(gateway)
        await gateway.archive("decoy", "sum")
        await gateway.archive("recorder", "sum/events")
        await gateway.worker("champion")
        await asyncio.gather(*(gateway.score({"a": at}) for at in range(30)))
        gateway.stop.set()
        await gateway.done
        assert len(gateway.seen["decoy"]) == 30
        assert len(gateway.events) == 30

    run(scenario)
    with pytest.raises(OSError):
        asyncio.run(gateways[0].call("GET", "/healthz"))


def test_stop_drains_requests_in_flight(run: Run) -> None:
    """Requests that are in flight when the stop comes are answered; nobody is admitted any more."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.2)
        held = [asyncio.ensure_future(gateway.score({"a": at})) for at in range(3)]
        await gateway.until(lambda: opened(gateway, 3))
        gateway.stop.set()
        assert [(await one).json["answer"] for one in held] == [0.0, 1.0, 2.0]
        await gateway.done

    run(scenario)


async def opened(gateway: Any, n: int) -> bool:
    return bool((await gateway.status())["ledger"]["open"] == n)


def test_stop_is_bounded_whoever_holds_on(run: Run) -> None:
    """A client that never ends its body, a worker that never answers and an idle connection do not hold up the stop."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=100.0)
        idle, _ = await gateway.connect()
        _, writer = await gateway.connect()
        writer.write(b"POST /v1/goals/sum/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: 50\r\n\r\n{")
        asked = asyncio.ensure_future(gateway.score({"a": 1}))
        await gateway.until(lambda: opened(gateway, 1))
        async with asyncio.timeout(20):
            gateway.stop.set()
            await gateway.done
            with contextlib.suppress(ConnectionResetError):
                assert await idle.read() == b""
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, IndexError):
                await asked

    run(scenario, serve={"drain_s": 0.3, "body_ms": 60_000.0})


def test_drain_refuses_and_is_not_ready(run: Run) -> None:
    """After `POST /drain` new requests are refused with Retry-After and readiness says so; health stays."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion")
        assert (await gateway.admin("POST", "/drain")).status == 202
        refused = await gateway.score({"a": 1})
        assert (refused.status, refused.json["error"]) == (503, "draining")
        ready = await gateway.call("GET", "/readyz")
        assert (ready.status, ready.json["ready"]) == (503, False)
        assert (await gateway.call("GET", "/healthz")).status == 200

    run(scenario)


def test_readiness_is_a_score_round_the_bus(run: Run, ledger_of: LedgerOf) -> None:
    """Ready means that a model of the policy has scored, now; the probe is in no ledger and no archive sees it."""

    async def scenario(gateway: Any) -> None:
        await gateway.archive("decoy", "sum")
        not_ready = await gateway.call("GET", "/readyz")
        assert (not_ready.status, not_ready.json["goals"]) == (503, {"sum": "no model of the policy is connected"})
        await gateway.worker("canary")
        assert (await gateway.call("GET", "/readyz")).status == 503
        await gateway.worker("champion")
        answers = await asyncio.gather(*(gateway.call("GET", "/readyz") for _ in range(10)))
        assert {(one.status, one.body) for one in answers} == {(200, b'{"ready":true,"goals":{"sum":"ready"}}')}
        view = await gateway.status()
        assert ledger_of(view) == (0, 0, 0, 0, 0)
        assert view["bus"]["sum"]["champion"]["published"] == 1
        assert view["bus"]["sum"]["decoy"]["published"] == 0
        assert view["models"]["champion"]["unmatched"] == 0

    run(scenario, models=("champion", "canary"), canary_model="canary")


def test_stuck_worker_is_not_ready(run: Run) -> None:
    """A worker that is connected and does not score is not ready."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=100.0)
        answer = await gateway.call("GET", "/readyz")
        assert answer.json["goals"] == {"sum": "no model of the policy has scored a probe in time"}

    run(scenario, budget_ms=50.0)


def test_labels_are_answered_with_their_scores(run: Run) -> None:
    """A goal of labels answers the likeliest one with every label's score; its default looks the same."""

    async def scenario(gateway: Any) -> None:
        default = (await gateway.score({"a": 1})).json
        assert default["answer"] == {"label": "yes", "scores": {"no": 0.25, "yes": 0.75}}
        await gateway.worker("champion", lambda matrix: np.array([[0.9, 0.1]] * len(matrix)))
        told = (await gateway.score({"a": 1})).json
        assert told["answer"] == {"label": "no", "scores": {"no": 0.9, "yes": 0.1}}

    run(scenario, answer="labels", labels=("no", "yes"), default=(0.25, 0.75))


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1])
def test_unusable_scores_become_the_default(run: Run, value: float) -> None:
    """A score that is no probability is never an answer."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", lambda matrix: np.full(len(matrix), value))
        told = (await gateway.score({"a": 1})).json
        assert (told["answer"], told["source"]) == (0.5, "default")

    run(scenario, answer="probability", default=0.5)


def test_enriched_columns_reach_models_and_decoy(run: Run, tmp_path: Any) -> None:
    """What a lookup adds is in the row that every model sees; what it missed is marked."""
    (tmp_path / "plans.csv").write_text("plan,price\ngold,25.5\n")
    lookup = Lookup(columns={"price": "number"}, table="plans.csv", key="plan")

    async def scenario(gateway: Any) -> None:
        import rdv.serving.bus.frames as frames
        from rdv.inputs import RowSchema
        from rdv.serving.bus.port import Identity, Scores

        schema = RowSchema(("a", "b", "price"), ("plan",))
        identity = Identity("sum", "champion", "r1", "v1", schema)
        subscription = await frames.subscribe(gateway.project.run_folder / "bus" / "gw-1.sock", identity)
        for plan, price, mark in (("gold", 25.5, 0), ("none", math.nan, 1)):
            asked = asyncio.ensure_future(gateway.score({"a": 1, "plan": plan}))
            (batch,) = await subscription.receive()
            row = np.frombuffer(batch.numbers)
            np.testing.assert_equal(row, [1.0, math.nan, price])
            assert (batch.strings, batch.marks[0]) == ([[plan]], mark)
            subscription.send(Scores(batch.reply_to, "v1", batch.ids, np.array([2.0]).tobytes(), 1))
            assert (await asked).json["answer"] == 2.0
        await subscription.close()

    run(scenario, enrich=(lookup,))


def test_modelling_goals_share_a_mailbox(run: Run) -> None:
    """A goal with two modelling goals sends each its own topic and lets the policy choose among all models."""
    from rdv.config import Model

    async def scenario(gateway: Any) -> None:
        await gateway.worker("runner_up", times(3), topic="sum/second")
        assert (await gateway.score({"a": 1})).json["answer"] == 3.0

    models = {"champion": Model(goal="sum", modelling="first"), "runner_up": Model(goal="sum", modelling="second")}
    run(scenario, declared=models, modelling={"first": ModellingGoal(), "second": ModellingGoal()})


def test_openapi_describes_the_endpoint(run: Run) -> None:
    """The published document has the request's schema and every status that the endpoint may answer."""

    async def scenario(gateway: Any) -> None:
        document = (await gateway.call("GET", "/v1/goals/sum/openapi.json")).json
        operation = document["paths"]["/v1/goals/sum/score"]["post"]
        request = operation["requestBody"]["content"]["application/json"]["schema"]
        assert set(request["properties"]) == {"a", "b", "plan"}
        assert request["additionalProperties"] is False
        assert set(operation["responses"]) == {"200", "400", "408", "413", "415", "417", "503"}
        json.dumps(document, allow_nan=False)

    run(scenario)
