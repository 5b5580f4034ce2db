"""Log lines: escaped, bounded in rate and size, and never in the way of the process."""

import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.telemetry import BURST, MESSAGE_CHARACTERS, Bucket, JsonLines, RateLimit, json_logs

LOGGER = logging.getLogger("rdv.test")


@pytest.fixture
def lines() -> Iterator[Any]:
    """A function that gives the lines that were logged as objects, and ends the logging."""
    stream = io.StringIO()
    logs = json_logs("gateway", stream=stream)
    logs.__enter__()
    ended = []

    def read() -> list[dict[str, Any]]:
        if not ended:
            ended.append(logs.__exit__(None, None, None))
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    yield read
    read()


@given(st.text(st.characters(), max_size=200))
def test_whatever_is_logged_is_one_line_of_printable_ascii(text: str) -> None:
    """ANSI sequences, line breaks, control characters and lone surrogates arrive escaped, and read back the same."""
    record = LOGGER.makeRecord("rdv.test", logging.INFO, "f", 1, "%s", (text,), None)
    line = JsonLines("gateway").format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == text


def test_lines_say_who_and_when(lines: Any) -> None:
    """A line has time, level, role, process and logger; an exception its kind and a bounded trace."""
    LOGGER.info("hello %s", "world")
    try:
        raise ValueError("x" * 100_000)
    except ValueError:
        LOGGER.exception("failed")
    first, second = lines()
    assert (first["message"], first["level"]) == ("hello world", "info")
    assert (first["role"], first["logger"]) == ("gateway", "rdv.test")
    assert first["at"].endswith("+00:00")
    assert second["error"] == "ValueError"
    assert len(second["trace"]) <= 8000


def test_messages_are_cut(lines: Any) -> None:
    """A message of any length takes a bounded line."""
    LOGGER.info("x" * 1_000_000)
    assert len(lines()[0]["message"]) == MESSAGE_CHARACTERS


def test_floods_are_cut_by_kind(lines: Any) -> None:
    """A message that repeats with other values is let through a few times; others still pass."""
    for at in range(1000):
        LOGGER.warning("request %s failed", at)
    LOGGER.warning("something else")
    found = lines()
    assert len([line for line in found if line["message"].startswith("request")]) <= BURST + 5
    assert found[-1]["message"] == "something else"


def test_suppressed_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line that passes again says how many did not."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limit = RateLimit()
    record = LOGGER.makeRecord("rdv.test", logging.INFO, "f", 1, "again", (), None)
    passed = sum(limit.filter(record) for _ in range(BURST + 7))
    assert passed == BURST
    now = 103.0
    assert limit.filter(record)
    assert record.suppressed == 7  # type: ignore[attr-defined]


@given(st.lists(st.floats(0, 3), max_size=200), st.floats(1, 20), st.floats(0.1, 10))
def test_bucket_never_lets_more_than_its_rate_pass(pauses: list[float], burst: float, per_s: float) -> None:
    """Over any time, at most burst + rate * time pass, and what did not is counted."""
    bucket, now, passed = Bucket(burst, per_s, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        passed += bucket.take(now)
        assert passed <= burst + per_s * now + 1e-6
    assert passed + bucket.turned_away == len(pauses)


def test_reader_that_has_stopped_does_not_stop_the_process() -> None:
    """With a stream that blocks for ever, logging goes on at once and the end is bounded."""
    stuck = threading.Event()

    class Pipe(io.StringIO):
        def write(self, text: str) -> int:
            stuck.wait(30)
            return len(text)

    with json_logs("gateway", stream=Pipe()):
        for at in range(5000):
            LOGGER.info(f"message {at % 90}")
    stuck.set()
