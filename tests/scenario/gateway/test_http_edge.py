"""What the gateway owes a hostile client, over raw sockets: each limit, each refusal, and what follows on the wire."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

Run = Callable[..., None]
PATH = b"/v1/goals/sum/score"
BODY = b'{"a": 1.5, "b": 2}'
HOST = b"host: x\r\n"
JSON = b"content-type: application/json\r\n"


def post(body: bytes = BODY, *headers: bytes, path: bytes = PATH, length: bytes | None = None) -> bytes:
    size = b"%d" % len(body) if length is None else length
    return b"POST %b HTTP/1.1\r\n%b%b%bcontent-length: %b\r\n\r\n%b" % (path, HOST, JSON, b"".join(headers), size, body)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"POST %b HTTP/1.1\r\n%b%btransfer-encoding: chunked\r\n\r\n" % (PATH, HOST, JSON)
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def head(method: bytes, target: bytes, *headers: bytes) -> bytes:
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, b"".join(headers))


REFUSED = [
    (post(length=b"100000"), 413, "too_large"),
    (head(b"GET", b"/nowhere", HOST), 404, "not_found"),
    (head(b"GET", b"/v1/goals/sum/score/", HOST), 404, "not_found"),
    (head(b"GET", b"/v1/goals/other/score", HOST), 404, "not_found"),
    (head(b"GET", b"/v1/goals/../healthz", HOST), 404, "not_found"),
    (head(b"GET", b"/metrics", HOST), 404, "not_found"),
    (head(b"GET", b"/status", HOST), 404, "not_found"),
    (head(b"OPTIONS", b"*", HOST), 404, "not_found"),
    (head(b"CONNECT", b"evil.example:80", HOST), 404, "not_found"),
    (head(b"GET", PATH, HOST), 405, "method_not_allowed"),
    (head(b"DELETE", b"/healthz", HOST), 405, "method_not_allowed"),
    (head(b"BREW", b"/healthz", HOST), 405, "method_not_allowed"),
    (head(b"GET", b"http://evil.example/healthz", HOST), 400, "bad_target"),
    (head(b"GET", b"/healthz"), 400, "bad_host"),
    (head(b"GET", b"/healthz", HOST, HOST), 400, "repeated_header"),
    (head(b"GET", b"/healthz", HOST, b"host: y\r\n"), 400, "repeated_header"),
    (head(b"GET", b"/healthz", HOST, b"content-length: 5\r\n") + b"hello", 400, "unexpected_body"),
    (head(b"GET", b"/healthz", HOST, b"upgrade: websocket\r\nconnection: upgrade\r\n"), 400, "no_upgrade"),
    (head(b"GET", b"/healthz", HOST, b"upgrade: h2c\r\n"), 400, "no_upgrade"),
    (post(BODY, b"content-encoding: gzip\r\n"), 415, "bad_content_encoding"),
    (post(BODY, b"expect: a-miracle\r\n"), 417, "bad_expectation"),
    (chunked(BODY).replace(b"chunked", b"chunked, chunked"), 400, "bad_transfer_encoding"),
    (chunked(BODY).replace(b"chunked", b"gzip, chunked"), 400, "bad_transfer_encoding"),
    (chunked(*[b"x" * 1000] * 100), 413, "too_large"),
    (chunked(*[b" "] * 400), 413, "too_large"),
    (chunked(BODY, end=b"0\r\nx-behind: 1\r\n\r\n"), 400, "bad_body"),
    (chunked(BODY).replace(b"0\r\n\r\n", b"0;" + b"x" * 700_000), 413, "too_large"),
    (chunked(BODY).replace(b"12\r\n", b"12\n"), 400, "bad_body"),
    (post(BODY, b"content-length: 18\r\n"), 400, "bad_length"),
    (post(BODY, b"transfer-encoding: chunked\r\n"), 400, "bad_length"),
    (head(b"GET", b"/healthz", HOST, b" folded: 1\r\n"), 400, "bad_request"),
    (head(b"GET", b"/healthz", HOST).replace(b"\r\n", b"\n"), 400, "bad_request"),
    (head(b"GET", b"/healthz", b"host : x\r\n"), 400, "bad_request"),
    (head(b"GET", b"/healthz", HOST).replace(b"HTTP/1.1", b"HTTP/2.0"), 400, "bad_version"),
    (b"GET /healthz\r\n\r\n", 400, "bad_version"),
    (head(b"GET", b"/healthz", HOST, *[b"x-%d: 1\r\n" % at for at in range(200)]), 431, "headers_too_large"),
    (head(b"GET", b"/healthz", HOST, b"x: " + b"a" * 40_000 + b"\r\n"), 431, "headers_too_large"),
    (chunked(b"{", end=b"zz\r\n"), 400, "bad_body"),
    (post().replace(b"application/json", b"application/x-www-form-urlencoded"), 415, "bad_content_type"),
    (post().replace(b"application/json", b"application/octet-stream"), 415, "bad_content_type"),
    (post().replace(b"application/json", b"application/yaml"), 415, "bad_content_type"),
    (post().replace(b"application/json", b"multipart/form-data; boundary=x"), 415, "bad_content_type"),
    (post().replace(JSON, b""), 415, "bad_content_type"),
]


@pytest.mark.parametrize("at", range(len(REFUSED)), ids=[f"{code}-{at}" for at, (_, _, code) in enumerate(REFUSED)])
def test_refused_with_its_reason_and_hung_up(run: Run, at: int) -> None:
    """What may not pass is answered with its status, code and request id, and the connection ends."""
    data, status, code = REFUSED[at]

    async def scenario(gateway: Any) -> None:
        # what follows on the connection must never run
        answers, hung_up = await gateway.raw(data + head(b"GET", b"/healthz", HOST))
        assert [one.status for one in answers] == [status]
        assert answers[0].json["error"] == code
        assert set(answers[0].json) == {"error", "message", "request_id"}
        assert answers[0].headers["connection"] == "close"
        assert answers[0].headers["server"] == "rdv"
        assert hung_up
        view = await gateway.status()
        assert view["refused"] == {str(status): 1}
        assert view["ledger"]["accepted"] == 0

    run(scenario, serve={"body_bytes": 20_000})


def test_allowed_methods_are_named(run: Run) -> None:
    """A wrong method is told the right ones."""

    async def scenario(gateway: Any) -> None:
        answers, _ = await gateway.raw(head(b"PUT", PATH, HOST))
        assert answers[0].headers["allow"] == "POST"

    run(scenario)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"".join(b"x%d: 1\r\n" % at for at in range(200)) + b"\r\n",
        post(length=b"99999999999999999999999"),
        post(length=b"-5"),
        post(BODY, b"content-length: 17\r\n"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n" * 20_000,
        b"\0" * 100,
    ],
)
def test_what_the_server_itself_refuses(run: Run, data: bytes) -> None:
    """Bytes that are no HTTP/1.1 within the limits are answered 400 or 431, or with nothing, and hung up on."""

    async def scenario(gateway: Any) -> None:
        answers, hung_up = await gateway.raw(data)
        assert hung_up
        assert all(one.status in (400, 431, 505) for one in answers)
        assert (await gateway.call("GET", "/healthz")).status == 200

    run(scenario)


def test_headers_have_a_deadline(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that drips its headers is hung up on."""
    bounded(monkeypatch, header_ms=200)

    async def scenario(gateway: Any) -> None:
        answers, hung_up = await gateway.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ")
        assert (answers, hung_up) == ([], True)

    run(scenario)


@pytest.mark.parametrize("start", [post(length=b"500"), chunked(b'{"a":', end=b"")], ids=["length", "chunked"])
def test_bodies_have_a_deadline(run: Run, start: bytes) -> None:
    """A body that does not arrive in time is answered 408 and hung up on, and gives its place back."""

    async def scenario(gateway: Any) -> None:
        answers, hung_up = await gateway.raw(start)
        assert (answers[0].status, answers[0].json["error"], hung_up) == (408, "body_timeout", True)
        await gateway.worker("champion")
        assert (await gateway.score({"a": 1})).status == 200

    run(scenario, serve={"body_ms": 100.0, "max_in_flight": 1})


def test_body_deadline_cuts_off_nobody_else(run: Run) -> None:
    """Beside a client that never finishes its body, others are answered all the time."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion")
        slow = asyncio.ensure_future(gateway.raw(post(length=b"500")))
        while not slow.done():
            assert (await gateway.score({"a": 2, "b": 1})).json["answer"] == 3.0
        assert (await slow)[0][0].status == 408

    run(scenario, serve={"body_ms": 300.0})


def test_body_in_pieces_is_one_body(run: Run) -> None:
    """A body that arrives byte by byte, or in chunks, is answered like one that came whole."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion")
        data = post()
        answers, hung_up = await gateway.raw(*[data[at : at + 1] for at in range(len(data))])
        assert (answers[0].json["answer"], hung_up) == (3.5, False)
        answers, _ = await gateway.raw(chunked(BODY[:3], BODY[3:9], BODY[9:]))
        assert answers[0].json["answer"] == 3.5
        answers, _ = await gateway.raw(post(b"", b"expect: 100-continue\r\n", length=b"18"), BODY, pause_s=0.05)
        assert [one.status for one in answers] == [100]

    run(scenario)


def test_in_flight_is_bounded(run: Run) -> None:
    """Beyond the bound a request is refused at once with 503 and Retry-After, and its place is free again after it."""

    async def scenario(gateway: Any) -> None:
        release = asyncio.Event()
        await gateway.worker("champion", delay_s=0.3)
        held = [asyncio.ensure_future(gateway.score({"a": 1})) for _ in range(2)]
        await gateway.until(lambda: is_open(gateway, 2))
        refused = await gateway.score({"a": 1})
        assert (refused.status, refused.json["error"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert [(await one).status for one in held] == [200, 200]
        assert (await gateway.score({"a": 1})).status == 200
        release.set()

    run(scenario, serve={"max_in_flight": 2})


async def is_open(gateway: Any, n: int) -> bool:
    return bool((await gateway.status())["ledger"]["open"] == n)


def test_one_client_is_bounded(run: Run) -> None:
    """One address may have so many requests in flight, whatever its ports."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.3)
        held = asyncio.ensure_future(gateway.score({"a": 1}))
        await gateway.until(lambda: is_open(gateway, 1))
        refused = await gateway.score({"a": 1})
        assert (refused.status, refused.json["error"]) == (503, "client_limit")
        assert (await held).status == 200

    run(scenario, serve={"per_client": 1})


def test_health_is_answered_under_overload(run: Run) -> None:
    """Health is answered when no more requests are admitted."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.3)
        held = asyncio.ensure_future(gateway.score({"a": 1}))
        await gateway.until(lambda: is_open(gateway, 1))
        assert (await gateway.call("GET", "/healthz")).json == {"status": "ok"}
        await held

    run(scenario, serve={"max_in_flight": 1})


@pytest.mark.parametrize("how", ["body", "score", "reset"])
def test_clients_that_vanish_leave_nothing(run: Run, how: str) -> None:
    """Clients that go in the middle of their body, or before their answer, leave no place taken and no mailbox."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.05)
        for _ in range(20):
            _, writer = await gateway.connect()
            writer.write(post(length=b"500") if how == "body" else post())
            await writer.drain()
            if how == "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()
        await gateway.until(lambda: is_settled(gateway))
        assert (await gateway.score({"a": 1})).status == 200

    run(scenario, serve={"max_in_flight": 25})


async def is_settled(gateway: Any) -> bool:
    view = await gateway.status()
    return bool(view["mailboxes"] == 0 and view["ledger"]["open"] == 0)


def test_connection_is_kept_and_pipelined(run: Run) -> None:
    """Well-behaved clients keep their connection; requests sent together are answered in order."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion")
        reader, writer = await gateway.connect()
        writer.write(b"".join(post(json.dumps({"a": at}).encode()) for at in range(10)))
        from_gateway = [await read(reader) for _ in range(10)]
        assert [one["answer"] for one in from_gateway] == [float(at) for at in range(10)]
        writer.write(post(b'{"a": "no"}') + post())
        assert (await read(reader))["error"] == "schema"
        assert (await read(reader))["answer"] == 3.5

    run(scenario)


async def read(reader: asyncio.StreamReader) -> Any:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length"))
    return json.loads(await reader.readexactly(length))


def bounded(monkeypatch: pytest.MonkeyPatch, **change: Any) -> None:
    """Have the gateway's listeners take other bounds than they are configured with."""
    import rdv.serving.gateway_role as role

    bounds = role._bounds
    monkeypatch.setattr(role, "_bounds", lambda serve: replace(bounds(serve), **change))


def test_a_refusal_is_read_although_its_body_was_not(run: Run) -> None:
    """A client that goes on sending a body that was refused still reads why, before the connection ends."""

    async def scenario(gateway: Any) -> None:
        reader, writer = await gateway.connect()
        writer.write(post(b"x" * 200_000, length=b"50000000"))
        await asyncio.sleep(0.05)
        writer.write(b"x" * 200_000)
        assert (await read(reader))["error"] == "too_large"
        assert await reader.read() == b""

    run(scenario)


def test_a_client_that_has_said_all_is_answered(run: Run) -> None:
    """A client that closes its sending side behind its requests gets its answers, then the connection ends."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.05)
        reader, writer = await gateway.connect()
        writer.write(post() + post())
        writer.write_eof()
        assert [(await read(reader))["answer"] for _ in range(2)] == [3.5, 3.5]
        assert await reader.read() == b""

    run(scenario)


def test_who_asks_to_part_is_let_go(run: Run) -> None:
    """Whoever says `connection: close`, or speaks HTTP/1.0, is answered and hung up on; HEAD is refused, bodiless."""

    async def scenario(gateway: Any) -> None:
        for data in (
            head(b"GET", b"/healthz", HOST, b"connection: close\r\n"),
            head(b"GET", b"/healthz", HOST).replace(b"1.1", b"1.0"),
        ):
            answers, hung_up = await gateway.raw(data + data)
            assert ([one.status for one in answers], hung_up) == ([200], True)
        reader, writer = await gateway.connect()
        writer.write(head(b"HEAD", b"/healthz", HOST))
        said = await reader.read()
        assert said.startswith(b"HTTP/1.1 405 ")
        assert said.endswith(b"\r\n\r\n")

    run(scenario)


def test_idle_connections_end_in_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a request is closed after its time, a new one as well as one that has been answered."""
    bounded(monkeypatch, idle_s=0.2)

    async def scenario(gateway: Any) -> None:
        silent, _ = await gateway.connect()
        served, writer = await gateway.connect()
        writer.write(head(b"GET", b"/healthz", HOST))
        assert (await read(served)) == {"status": "ok"}
        assert (await silent.read(), await served.read()) == (b"", b"")

    run(scenario)


def test_idle_connections_make_room(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound on connections the one that has been idle for longest goes; busy ones stay."""
    bounded(monkeypatch, connections=4)

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.3)
        busy, writer = await gateway.connect()
        writer.write(post())
        await gateway.until(lambda: is_open(gateway, 1))
        silent = [(await gateway.connect())[0] for _ in range(6)]
        assert await silent[0].read() == b""
        assert (await read(busy))["answer"] == 3.5
        assert (await gateway.call("GET", "/healthz")).status == 200

    run(scenario)


def test_answers_that_nobody_reads_do_not_pile_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a client that sends and never reads no more is taken in than fits the buffers, and it is hung up on."""
    import rdv.serving.http as http

    monkeypatch.setattr(http, "WRITE_S", 0.5)

    async def scenario(gateway: Any) -> None:
        _, writer = await gateway.connect()
        before = resident_kb()
        with contextlib.suppress(ConnectionError):
            for _ in range(20_000):
                writer.write(head(b"GET", b"/v1/goals/sum/openapi.json", HOST))
                await writer.drain()
        assert resident_kb() - before < 50_000
        assert (await gateway.call("GET", "/healthz")).status == 200

    run(scenario)


def test_a_stop_waits_for_who_is_served(run: Run) -> None:
    """A stopping gateway closes idle connections at once and answers the request in flight, which then ends too."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.3)
        silent, _ = await gateway.connect()
        reader, writer = await gateway.connect()
        writer.write(post())
        await gateway.until(lambda: is_open(gateway, 1))
        gateway.stop.set()
        assert await silent.read() == b""
        assert (await read(reader))["answer"] == 3.5
        assert await reader.read() == b""

    run(scenario)


def test_silent_connections_do_not_stop_service(run: Run) -> None:
    """Hundreds of connections that say nothing leave the others served."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion")
        for _ in range(300):
            await gateway.connect()
        assert (await gateway.score({"a": 1})).status == 200

    run(scenario)


def test_large_bodies_do_not_cost_memory(run: Run) -> None:
    """Bodies beyond the cap are refused before they are read: a hundred of 50 MB each leave the memory as it was."""

    async def scenario(gateway: Any) -> None:
        before = resident_kb()
        for _ in range(100):
            _, writer = await gateway.connect()
            writer.write(post(b"x" * 100_000, length=b"50000000"))
        await gateway.until(lambda: refused_all(gateway))
        assert resident_kb() - before < 100_000

    async def refused_all(gateway: Any) -> bool:
        return bool((await gateway.status())["refused"].get("413") == 100)

    run(scenario)


def resident_kb() -> int:
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1])


def test_errors_tell_nothing_internal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of ours is a 500 with a request id, without a word of what happened."""
    from rdv.serving.answers import Answers

    def fail(self: object, box: object) -> None:
        raise RuntimeError("secret /etc/passwd")

    monkeypatch.setattr(Answers, "reply", fail)

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion")
        answer = await gateway.score({"a": 1})
        assert (answer.status, answer.json["error"]) == (500, "internal")
        assert b"secret" not in answer.body
        assert len(answer.json["request_id"]) == 32

    run(scenario)


def test_port_in_use_is_said(run: Run) -> None:
    """A port that somebody listens on is not shared, and the error says how to choose another."""
    from rdv.errors import ConfigError

    async def scenario(gateway: Any) -> None:
        raise AssertionError("must not start")

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot listen on .*: Address already in use"):
            run(scenario, serve={"port": taken.getsockname()[1]})
