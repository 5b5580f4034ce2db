"""Ten thousand mutated requests against a live gateway: only documented statuses, an exact ledger, bounded time."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

Run = Callable[..., None]
REQUESTS = 10_000
CLIENTS = 20
DOCUMENTED = {200, 400, 404, 405, 408, 413, 415, 417, 431, 503}
PIECES = [
    b"\r\n", b"\0", b"\xff", b"Host: y\r\n", b"transfer-encoding: chunked\r\n", b"content-length: 3\r\n", b"1e400",
    b"NaN", b"9" * 400, b"{" * 3000, b"[[[[", b'"a":', b"\xed\xa0\x80", b"%00", b"../", b"HTTP/1.0", b" ", b"\t",
    b"expect: 100-continue\r\n", b"upgrade: websocket\r\n", b"content-encoding: gzip\r\n", b"GET /healthz HTTP/1.1\r\n",
]  # fmt: skip


def body(chance: random.Random) -> bytes:
    """A JSON body that is right in half of all cases."""
    if chance.random() < 0.5:
        return json.dumps({"a": chance.choice([1.5, -999, 0, 1e308]), "plan": "gold"}).encode()
    record: dict[str, Any] = {"a": chance.choice([1.5, -999, 0, 1e308, -5e-324, True, None, "1", [], -1e9])}
    for name in ("b", "plan", "surprise", ""):
        if chance.random() < 0.3:
            record[name] = chance.choice([2, "gold", None, "\u202e\0", {"a": 1}, "x" * 3000])
    return json.dumps(record).encode()


def request(chance: random.Random) -> bytes:
    """One request: whole, or with a few mutations of its bytes."""
    data = body(chance)
    head = b"POST /v1/goals/sum/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    whole = head + b"content-length: %d\r\n\r\n" % len(data) + data
    for _ in range(chance.choice([0, 0, 1, 1, 2, 5])):
        at = chance.randrange(len(whole))
        kind = chance.randrange(4)
        if kind == 0:
            whole = whole[:at] + chance.choice(PIECES) + whole[at:]
        elif kind == 1:
            whole = whole[:at] + bytes([chance.randrange(256)]) + whole[at + 1 :]
        elif kind == 2:
            whole = whole[:at] + whole[at + chance.randrange(1, 20) :]
        else:
            end = at + chance.randrange(1, 60)
            whole = whole[:end] + whole[at:end] + whole[end:]
        whole = whole or b"\r\n"
    return whole


async def one_client(gateway: Any, chance: random.Random, n: int, statuses: Counter[int], scores: list[str]) -> None:
    """Send n requests, some in two pieces, each on its own connection; note every status, and the ids of answers."""
    for _ in range(n):
        data = request(chance)
        cut = chance.randrange(len(data)) if chance.random() < 0.2 else len(data)
        answer = await gateway.first(data[:cut], data[cut:], within_s=0.5)
        if answer is not None and answer.status != 100:
            statuses[answer.status] += 1
            if answer.status == 200 and b"request_id" in answer.body:
                scores.append(answer.json["request_id"])


def test_mutated_requests(run: Run) -> None:
    """Whatever is sent, every status is documented, everything accepted is accounted for, and service goes on."""

    async def scenario(gateway: Any) -> None:
        await gateway.archive("decoy", "sum")
        await gateway.archive("recorder", "sum/events")
        await gateway.worker("champion")
        statuses: Counter[int] = Counter()
        scores: list[str] = []
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        async with asyncio.timeout(240):
            await asyncio.gather(
                *(
                    one_client(gateway, random.Random(seed + at), REQUESTS // CLIENTS, statuses, scores)
                    for at in range(CLIENTS)
                )
            )
            await gateway.until(lambda: quiet(gateway))
        assert set(statuses) <= DOCUMENTED
        assert statuses[200] > REQUESTS // 10
        view = await gateway.status()
        ledger = view["ledger"]
        assert ledger["accepted"] == ledger["answered"] + ledger["defaults"]
        assert set(scores) <= {event.id for event in gateway.events}
        decoy = view["bus"]["sum"]["decoy"]
        assert decoy["answered"] + decoy["dropped"] == ledger["accepted"]
        assert len(set(gateway.seen["decoy"])) == decoy["answered"]
        assert sorted(one.hex() for one in gateway.seen["decoy"]) == sorted(event.id for event in gateway.events)
        assert (await gateway.score({"a": 1})).json["answer"] == 1.0

    run(scenario, serve={"body_ms": 300.0})


async def quiet(gateway: Any) -> bool:
    view = await gateway.status()
    held = [one["waiting"] + one["in_flight"] for topic in view["bus"].values() for one in topic.values()]
    return bool(view["mailboxes"] == 0 and not any(held) and len(gateway.events) >= view["ledger"]["accepted"])
