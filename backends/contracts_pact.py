"""Contracts held against a running service by pact's own verifier, in a process of its own.

The verifier is compiled code that writes on standard output and holds the interpreter; whatever it does there, only
that process sees it. It needs no network but the service.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from rdv.errors import ConfigError, RdvError, TimedOut

_ANSWER_S = 10.0
_EACH_S = 15.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


class Order(msgspec.Struct, frozen=True):
    """What the child is told: where the service is, where the pact files and the results are."""

    provider: str
    url: str
    folder: str
    results: str
    answer_s: float


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """An interaction that was asked for. problem: empty when the answer was as expected."""

    consumer: str
    interaction: str
    seconds: float
    problem: str = ""
    pending: bool = False


def verify(provider: str, url: str, files: Mapping[str, bytes]) -> list[Checked]:
    """Every interaction of some pact files, asked of the service at `url`.

    files: name to content. ConfigError without pact-python, TimedOut when the verifier does not end, RdvError when it
    ends without results.
    """
    if importlib.util.find_spec("pact") is None:
        raise ConfigError("contracts need pact-python, which is not installed", "pip install 'rdv[contracts]'")
    with tempfile.TemporaryDirectory(prefix="rdv-pact-") as place:
        pacts, results = Path(place, "pacts"), Path(place, "results.json")
        pacts.mkdir()
        for at, data in enumerate(files.values()):
            (pacts / f"{at:05d}.json").write_bytes(data)
        order = Order(provider, url, str(pacts), str(results), _ANSWER_S)
        count = sum(data.count(b'"description"') for data in files.values())
        told = _run(order, _ANSWER_S + _EACH_S * count)
        try:
            found = msgspec.json.decode(results.read_bytes())
        except (OSError, msgspec.MsgspecError):
            raise RdvError(f"pact's verifier ended without results: {told[-300:]}", "run it again") from None
    return checked(found)


def checked(results: Mapping[str, Any]) -> list[Checked]:
    """The verifier's own results as records; RdvError when it failed before it asked anything."""
    asked = results.get("interactionResults") or []
    if not asked and not results.get("result", False):
        errors = [_problem(one.get("mismatch")) for one in results.get("errors", ())]
        raise RdvError(f"pact's verifier could not begin: {'; '.join(errors) or 'no reason was given'}", "see the file")
    return [
        Checked(
            consumer=str(one.get("consumer", "")),
            interaction=str(one.get("description", "")),
            seconds=_seconds(str(one.get("duration", ""))),
            problem="" if one.get("result") == "OK" else _problem(one.get("mismatch")),
            pending=bool(one.get("pending", False)),
        )
        for one in asked
    ]


def _run(order: Order, limit_s: float) -> str:
    """Run the child; what it wrote."""
    host = urlsplit(order.url).hostname or ""
    direct = ",".join(part for part in (os.environ.get("NO_PROXY", ""), host) if part)
    environment = {**os.environ, "PACT_DO_NOT_TRACK": "true", "NO_PROXY": direct, "no_proxy": direct}
    argv = [sys.executable, "-P", "-m", "rdv.backends.contracts_pact_child"]
    try:
        ended = subprocess.run(
            argv,
            input=msgspec.json.encode(order),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise TimedOut(f"pact's verifier did not end within {limit_s:g} s", "does the gateway answer?") from None
    return " ".join(ended.stdout.decode(errors="replace").split())


def _problem(mismatch: Any) -> str:
    if not isinstance(mismatch, Mapping):
        return str(mismatch) if mismatch else "it failed, for no reason that pact gives"
    listed = mismatch.get("mismatches")
    if not isinstance(listed, list) or not listed:
        return str(mismatch.get("message") or mismatch.get("error") or mismatch.get("type") or mismatch)
    return "; ".join(dict.fromkeys(_one(part) for part in listed if isinstance(part, Mapping)))


def _one(part: Mapping[str, Any]) -> str:
    path = str(part.get("path", "")).removeprefix("$").lstrip(".")
    return f"{path}: {part.get('mismatch')}" if path else str(part.get("mismatch") or part.get("type"))


def _seconds(text: str) -> float:
    found = _DURATION.search(text)
    return float(found[1]) / (1000 if found[2] == "ms" else 1) if found else 0.0
