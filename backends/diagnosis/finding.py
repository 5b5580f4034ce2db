"""What is wrong with a server, found by asking it: findings as plain values, each with the command that mends it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests

from rdv.errors import NotAuthorised

ANSWER_S = 5.0
# signatures and identities of workloads are refused when clocks differ by minutes; seconds tell that one is adrift
CLOCK_S = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One check of a server. good: None when it could not be looked at."""

    check: str
    good: bool | None
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: its status (0: nobody answered), its body decoded, the server's clock minus ours in seconds.

    why: of no answer. ahead_s: None when the server does not tell its time.
    """

    status: int
    body: Any = None
    ahead_s: float | None = None
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether the status is 200."""
        return self.status == 200

    @property
    def said(self) -> str:
        """Status and text for a person."""
        text = self.body if isinstance(self.body, str) else ""
        return f"status {self.status} {text.strip()[:200]}".strip() if self.status else self.why


class Asked:
    """One server with an HTTP interface. header: the one that carries the token."""

    def __init__(self, name: str, address: str, header: str = "", token: str = "") -> None:
        self.name, self.address = name, address.rstrip("/")
        self._header, self._token = header, token
        self._session = requests.Session()

    @property
    def here(self) -> bool:
        """Whether it is on this machine, as a dev cluster's servers are."""
        return urlsplit(self.address).hostname in ("127.0.0.1", "localhost", "::1")

    def ask(self, path: str, method: str = "GET", body: Any = None, known: bool = True) -> Told:
        """Its answer to a request; known: with the token."""
        headers = {self._header: self._token} if known and self._token else {}
        asked = time.time()
        try:
            reply = self._session.request(method, self.address + path, json=body, headers=headers, timeout=ANSWER_S)
        except requests.RequestException as error:
            return Told(0, why=f"{self.address} does not answer ({type(error).__name__})")
        ahead_s = _ahead_s(reply.headers.get("Date", ""), asked, time.time())
        try:
            return Told(reply.status_code, reply.json(), ahead_s)
        except ValueError:
            return Told(reply.status_code, reply.text, ahead_s)

    def remedy(self, otherwise: str) -> str:
        """What to type: on this machine a dev cluster's `up` mends it."""
        return "type: rdv dev-cluster up" if self.here else otherwise

    def clock(self, told: Told) -> Seen:
        """Whether its clock and ours agree."""
        check = f"{self.name} clock"
        if told.ahead_s is None:
            return Seen(check, None, "it does not tell its time")
        found = f"{abs(told.ahead_s):.0f} s {'ahead of' if told.ahead_s > 0 else 'behind'} this machine's"
        found = found if abs(told.ahead_s) >= 1 else "agrees with this machine's"
        remedy = "run a time service (chrony, systemd-timesyncd) here and there"
        return Seen(check, abs(told.ahead_s) <= CLOCK_S, found, remedy)


def _ahead_s(date: str, asked: float, answered: float) -> float | None:
    """How far a Date header, which has whole seconds, is ahead of our clock while it may have been written."""
    try:
        told = parsedate_to_datetime(date.partition(" GMT")[0] + " GMT")  # Hadoop tells it twice in one header
    except (TypeError, ValueError):
        return None
    server = (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    if server > answered:
        return server - answered
    return min(0.0, server + 1 - asked)


def options_of(place: str) -> tuple[str, dict[str, str]]:
    """What a place names, and its options."""
    named, _, query = place.partition("?")
    return named, dict(parse_qsl(query, keep_blank_values=True))


def token_of(options: Mapping[str, str], environ: Mapping[str, str], variable: str) -> str:
    """The token that a place's file holds, else the environment's, else none. NotAuthorised when it cannot be read."""
    path = options.get("token_file")
    if not path:
        return environ.get(variable, "")
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise NotAuthorised(f"the token file {path} cannot be read: {error.strerror}", "put the token there") from error


def span(seconds: float) -> str:
    """A time that is left, for a person."""
    for unit, name in ((86400, "days"), (3600, "hours")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 60:.0f} minutes"


