"""A gateway and a worker killed at 300 requests a second, as those see it who ask the gateways without a proxy."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.live
MODEL = "visit/m"
RATE = 150.0
"""Requests a second, at each of two gateways."""
CONNECTIONS = 16
"""At each gateway, each with one request at a time: so many may be in a gateway's hands when it dies."""
BODY = json.dumps({"age": 3}).encode()
REQUEST = (
    b"POST /v1/goals/visit/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


@dataclass
class Seen:
    """What those who ask one gateway saw. cut: requests that were sent, and whose answer never came.

    unheard: those of them on connections that had not had an answer yet.
    """

    answered: int = 0
    defaults: int = 0
    cut: int = 0
    unheard: int = 0
    others: int = 0


class Askers:
    """Keep asking a gateway over a few connections, each made again when it breaks; a life of the gateway a count.

    Whoever ends a life says so: the kernel still takes connections for a process that is about to be gone.
    """

    def __init__(self, url: str) -> None:
        self._port, self._stop = int(urlsplit(url).port or 0), threading.Event()
        self.lives = [Seen()]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> Askers:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def next_life(self) -> None:
        """From now on connections are made to the gateway's next process; the one before has to be gone."""
        self.lives.append(Seen())

    async def _all(self) -> None:
        await asyncio.gather(*(self._one() for _ in range(CONNECTIONS)))

    async def _one(self) -> None:
        pause = CONNECTIONS / RATE
        while not self._stop.is_set():
            seen = self.lives[-1]
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:  # nobody took it, so nothing was asked
                await asyncio.sleep(pause)
                continue
            due, heard = time.monotonic(), False
            while not self._stop.is_set():
                due = max(due + pause, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
                if not await _asked(reader, writer, seen, heard):
                    break
                heard = True
            writer.close()


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen, heard: bool) -> bool:
    """Whether a request was answered; not, when the connection was closed before. heard: whether another one was."""
    if reader.at_eof():
        return False
    try:
        writer.write(REQUEST)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        [length] = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.startswith(b"content-length")]
        data = await reader.readexactly(int(length))
    except (OSError, asyncio.IncompleteReadError):
        seen.cut += 1
        seen.unheard += not heard
        return False
    if head.split()[1] != b"200":
        seen.others += 1
    elif json.loads(data)["model"]:
        seen.answered += 1
    else:
        seen.defaults += 1
    return True


def test_what_a_killed_gateway_had_in_hand_is_all_that_is_lost(serving: Any) -> None:
    """A killed gateway costs at most what was in flight there, a killed worker nothing; all else is in the ledgers.

    Each is started again where it was, and every worker has found the new gateway and every gateway the new worker.
    """
    serving.train(2.0)
    serving.rdv("deploy", MODEL, "--timeout", "0")
    serving.settings(gateways=2, replicas=2, proxies=0)
    serving.apply()
    before = serving.whole()
    killed, other = before["gateways"]
    gone = {killed["pid"], before["workers"][0]["pid"]}
    with Askers(killed["url"]) as dying, Askers(other["url"]) as living:
        answers(serving, dying, living)
        os.kill(killed["pid"], signal.SIGKILL)
        serving.town.until(lambda: not Path("/proc", str(killed["pid"])).exists())
        dying.next_life()
        answers(serving, living)
        os.kill(before["workers"][0]["pid"], signal.SIGKILL)
        serving.until(lambda now: not pids(now) & gone)
        serving.whole()
        answers(serving, dying, living)
    print(f"killed: {dying.lives}; the other: {living.lives}")
    now = {one["gateway"]: one["goals"]["visit"]["ledger"] for one in serving.rdv("status", "-o", "json")["gateways"]}
    first, last = dying.lives
    assert first.answered
    assert first.cut - first.unheard <= CONNECTIONS
    [alone] = living.lives
    for seen, ledger in ((last, now[killed["gateway"]]), (alone, now[other["gateway"]])):
        assert (seen.cut, seen.others) == (0, 0)
        assert ledger["balances"] is True
        assert (ledger["answered"], ledger["defaults"]) == (seen.answered, seen.defaults)
        assert ledger["accepted"] == seen.answered + seen.defaults
    for role, model in (("gateway", ""), ("worker", MODEL)):
        assert any(one.restarts for one in serving.job(role, model).instances)


def answers(serving: Any, *askers: Askers) -> None:
    """Wait until each of these has had some more answers from whoever answers it now."""
    for one in askers:
        seen = one.lives[-1]
        enough = seen.answered + RATE / 2
        serving.town.until(lambda seen=seen, enough=enough: seen.answered >= enough)


def pids(now: Any) -> set[int]:
    """The processes of gateways and workers in a status."""
    return {one["pid"] for one in (*now["gateways"], *now["workers"])}
