"""What the gateway owes a hostile client, over raw sockets: each limit, each refusal, and what follows on the wire."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from raw_http import BODY, HOST, JSON, PATH, chunked, head, post

Run = Callable[..., None]

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


def test_in_flight_is_bounded(run: Run) -> None:
    """Beyond the bound a request is refused at once with 503 and Retry-After, and its place is free again after it."""

    async def scenario(gateway: Any) -> None:
        release = asyncio.Event()
        await gateway.worker("champion", delay_s=0.3)
        held = [asyncio.ensure_future(gateway.score({"a": 1})) for _ in range(2)]
        await gateway.until(lambda: gateway.has_open(2))
        refused = await gateway.score({"a": 1})
        assert (refused.status, refused.json["error"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert [(await one).status for one in held] == [200, 200]
        assert (await gateway.score({"a": 1})).status == 200
        release.set()

    run(scenario, serve={"max_in_flight": 2})


def test_one_client_is_bounded(run: Run) -> None:
    """One address may have so many requests in flight, whatever its ports."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.3)
        held = asyncio.ensure_future(gateway.score({"a": 1}))
        await gateway.until(lambda: gateway.has_open(1))
        refused = await gateway.score({"a": 1})
        assert (refused.status, refused.json["error"]) == (503, "client_limit")
        assert (await held).status == 200

    run(scenario, serve={"per_client": 1})


def test_health_is_answered_under_overload(run: Run) -> None:
    """Health is answered when no more requests are admitted."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.3)
        held = asyncio.ensure_future(gateway.score({"a": 1}))
        await gateway.until(lambda: gateway.has_open(1))
        assert (await gateway.call("GET", "/healthz")).json == {"status": "ok"}
        await held

    run(scenario, serve={"max_in_flight": 1})


def test_errors_tell_nothing_internal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of ours is a 500 with a request id, without a word of what happened."""
    from rdv.serving.gateway.answers import Answers

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
