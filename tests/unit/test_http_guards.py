"""Which requests are taken in: the rules our HTTP server does not keep for us."""

import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.serving.http.guards import CHUNKED, Admission, check, find, path_of
from rdv.serving.http.types import Refusal, Reply, Route

HOST = ("host", "localhost")
JSON = ("content-type", "application/json")


@dataclass
class Peer:
    """Where a request comes from."""

    client: str


async def nothing(body: bytes) -> Reply:
    return Reply(200, body)


def checked(*items: tuple[str, str], takes_body: bool = True) -> Any:
    """The declared length, or the status and code of the refusal."""
    try:
        return check(items, takes_body, 100)
    except Refusal as refusal:
        return refusal.status, refusal.code


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([HOST, JSON, ("content-length", "0")], 0),
        ([HOST, JSON, ("content-length", "100")], 100),
        ([HOST, JSON], 0),
        ([HOST, JSON, ("transfer-encoding", "Chunked")], CHUNKED),
        ([HOST, ("content-type", "Application/JSON; charset=UTF-8"), ("content-length", "5")], 5),
        ([HOST, JSON, ("content-length", "5"), ("expect", "100-Continue"), ("accept", "*/*"), ("accept", "x/y")], 5),
        ([HOST, JSON, ("content-length", "5"), ("content-encoding", "identity")], 5),
        ([HOST, JSON, ("content-length", "101")], (413, "too_large")),
        ([HOST, JSON, ("content-length", "9" * 5000)], (413, "too_large")),
        ([HOST, JSON, ("content-length", "-1")], (400, "bad_length")),
        ([HOST, JSON, ("content-length", "1e3")], (400, "bad_length")),
        ([HOST, JSON, ("content-length", "\u0661")], (400, "bad_length")),
        ([HOST, JSON, ("content-length", "")], (400, "bad_length")),
        ([HOST, JSON, ("content-length", "5"), ("content-length", "5")], (400, "repeated_header")),
        ([HOST, JSON, ("content-length", "5"), ("transfer-encoding", "chunked")], (400, "bad_length")),
        ([HOST, JSON, ("transfer-encoding", "chunked, chunked")], (400, "bad_transfer_encoding")),
        ([HOST, JSON, ("transfer-encoding", "gzip, chunked")], (400, "bad_transfer_encoding")),
        ([HOST, JSON, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], (400, "repeated_header")),
        ([HOST, JSON, ("transfer-encoding", "")], (400, "bad_transfer_encoding")),
        ([JSON, ("content-length", "5")], (400, "bad_host")),
        ([HOST, HOST, JSON], (400, "repeated_header")),
        ([HOST, ("content-length", "5")], (415, "bad_content_type")),
        ([HOST, ("content-type", "text/plain"), ("content-length", "5")], (415, "bad_content_type")),
        ([HOST, ("content-type", "application/x-python-pickle")], (415, "bad_content_type")),
        ([HOST, JSON, JSON], (400, "repeated_header")),
        ([HOST, JSON, ("content-encoding", "gzip")], (415, "bad_content_encoding")),
        ([HOST, JSON, ("upgrade", "websocket")], (400, "no_upgrade")),
        ([HOST, JSON, ("expect", "a-miracle")], (417, "bad_expectation")),
    ],
)
def test_headers(items: list[tuple[str, str]], expected: object) -> None:
    """Exactly one Host, at most one length or coding, JSON as it is: everything else is refused with its own code."""
    assert checked(*items) == expected


def test_target_must_be_a_path() -> None:
    """A request target with an authority, or with other than ASCII, is refused; a query is no part of a path."""
    for target in (b"http://evil.example/healthz", b"/\xff"):
        with pytest.raises(Refusal) as caught:
            path_of(target)
        assert (caught.value.status, caught.value.code) == (400, "bad_target")
    assert path_of(b"/v1/a%2fb?to=http://elsewhere") == "/v1/a%2fb"


@pytest.mark.parametrize("header", [("content-length", "1"), ("transfer-encoding", "chunked")])
def test_paths_without_body_take_none(header: tuple[str, str]) -> None:
    """A body where none is expected is refused."""
    assert checked(HOST, header, takes_body=False) == (400, "unexpected_body")
    assert checked(HOST, takes_body=False) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["host", "content-length", "transfer-encoding", "content-type", "expect", "upgrade", "x"]),
            st.sampled_from(["1", "chunked", "application/json", "h", "", "100-continue"]) | st.text(max_size=5),
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_whatever_passes_keeps_the_rules(items: list[tuple[str, str]], takes_body: bool) -> None:
    """Any headers at all are refused, or have one Host, no repeated framing and a length within the cap."""
    found = checked(*items, takes_body=takes_body)
    if isinstance(found, tuple):
        assert found[0] in (400, 413, 415, 417)
        return
    names = Counter(name for name, _ in items)
    assert names["host"] == 1
    assert names["upgrade"] == 0
    assert names["content-length"] + names["transfer-encoding"] <= 1
    assert -1 <= found <= 100
    if not takes_body:
        assert found == 0


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/a", 200),
        ("POST", "/a", 405),
        ("get", "/a", 405),
        ("CONNECT", "", 404),
        ("OPTIONS", "*", 404),
        ("GET", "/a/", 404),
        ("GET", "//a", 404),
        ("GET", "/a/../a", 404),
        ("GET", "/A", 404),
        ("GET", "/a\0", 404),
    ],
)
def test_paths_and_methods_are_a_fixed_list(method: str, path: str, expected: int) -> None:
    """Only whole paths of the list with their own methods are served; nothing is resolved or normalised."""
    routes = {"/a": {"GET": Route(nothing), "PUT": Route(nothing)}}
    if expected == 200:
        assert find(routes, method, path) is routes[path][method]
        return
    with pytest.raises(Refusal) as caught:
        find(routes, method, path)
    assert caught.value.status == expected
    assert caught.value.reply("id").headers.count(("allow", "GET, PUT")) == (expected == 405)


@given(st.lists(st.tuples(st.sampled_from(["1.2.3.4", "::1", "10.0.0.1"]), st.booleans()), max_size=60))
def test_admission_bounds_and_balances(moves: list[tuple[str, bool]]) -> None:
    """Never more in flight than allowed, in all and by address whatever the port; released places are used again."""
    admission = Admission(5, 2)
    held: list[tuple[str, str]] = []
    for at, (address, enters) in enumerate(moves):
        if enters:
            full = len(held) == 5 or sum(one == address for one, _ in held) == 2
            with pytest.raises(Refusal) if full else contextlib.nullcontext():
                held.append((address, admission.admit(Peer(f"{address}:{at}"))))
        elif held:
            admission.release(held.pop(0)[1])
        assert admission.in_flight == len(held)
    for _, key in held:
        admission.release(key)
    assert admission.in_flight == 0
    assert not admission._clients


def test_draining_admits_nobody() -> None:
    """A draining listener refuses at once and says when to try again."""
    admission = Admission(5, 5)
    admission.draining = True
    with pytest.raises(Refusal) as caught:
        admission.admit(Peer("1.2.3.4:5"))
    assert ("retry-after", "1") in caught.value.reply("id").headers


def test_refusals_tell_nothing_internal() -> None:
    """A refusal is a code, a message, the request's id and, for a schema, the field; it closes the connection."""
    reply = Refusal(400, "schema", "age: expected a number", field="age").reply("abc")
    assert reply.body == b'{"error":"schema","message":"age: expected a number","request_id":"abc","field":"age"}'
    assert ("connection", "close") in reply.headers
    assert ("connection", "close") not in Refusal(400, "x", "y", close=False).reply("abc").headers
