"""A load from the command's words to its verdict: whom to ask, what to send, what to write and say."""

from __future__ import annotations

import asyncio
import gc
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rdv.cli import output
from rdv.cli.load.telling import junit_document, show
from rdv.errors import ConfigError, InputError, NotFound, RdvError, Refused, Unreachable, UsageError

if TYPE_CHECKING:
    from rdv.schema import GoalSchema
    from rdv.serving.load.budget import Entry
    from rdv.serving.load.client import Address, Sent
    from rdv.serving.load.figures import Figures

DISTINCT = 5_000
ANSWER_S = 5.0


@dataclass(frozen=True)
class Plan:
    """What was asked for, checked."""

    goal: str
    rate: float
    seconds: float
    warm_s: float
    budget: tuple[Entry, ...]
    connections: int
    seed: int
    file: Path | None

    @classmethod
    def of(
        cls, goal: str, rate: float, duration: str, limits: str, warm_up: str, connections: int, seed: int,
        file: Path | None,
    ) -> Plan:  # fmt: skip
        """The plan that a command's words make; UsageError names what makes none."""
        from rdv.serving.load import budget

        seconds = budget.parse_duration(duration, "--for")
        warm_s = 0.0 if warm_up.strip() in ("0", "0s") else budget.parse_duration(warm_up, "--warm-up")
        budget.check_rate(rate, seconds + warm_s)
        return cls(goal, rate, seconds, warm_s, budget.parse_budget(limits), connections, seed, file)


@dataclass(frozen=True)
class Target:
    """Whom to send to, and what."""

    goal: str
    urls: tuple[str, ...]
    requests: tuple[bytes, ...]

    @property
    def addresses(self) -> list[Address]:
        """Where the gateways listen."""
        return [_address(url) for url in self.urls]


def find(plan: Plan, url: str, folder: Path | None, env: str, overrides: dict[str, str]) -> Target:
    """The gateways and the requests of a plan; nothing is sent yet but a question for the schema where that is due."""
    from rdv.serving.load.client import http_request

    if url:
        _address(url)
    if url and plan.goal and folder is None and not env and not overrides:
        goal = plan.goal
        urls: tuple[str, ...] = (url.rstrip("/"),)
        schema = None if plan.file else _asked_schema(urls[0], goal)
    else:
        from rdv.cli.recorded import one_goal
        from rdv.schema import load_schema
        from rdv.serving.status import read_status
        from rdv.settings import load_project

        project = load_project(folder, env, overrides)
        goal = one_goal(project, plan.goal)
        urls = (url.rstrip("/"),) if url else tuple(str(view["url"]) for view in read_status(project).gateways)
        schema = None if plan.file else load_schema(project.config.goals[goal], project.folder)
    bodies = read_bodies(plan.file) if schema is None else made_bodies(schema, plan)
    path = _path(urls[0], goal)
    host = urlsplit(urls[0]).netloc
    return Target(goal, urls, tuple(http_request(host, path, body) for body in bodies))


def made_bodies(schema: GoalSchema, plan: Plan) -> list[bytes]:
    """Valid requests made up from a schema, as many as are sent, to a limit above which they repeat."""
    from rdv.schema import probes
    from rdv.serving.load.client import arrivals

    total = min(DISTINCT, arrivals(plan.rate, plan.seconds + plan.warm_s))
    return [json.dumps(one).encode() for one in probes(schema, plan.seed, total)]


def read_bodies(file: Path | None) -> list[bytes]:
    """The requests of a file of JSON lines; InputError names the line that is no JSON object."""
    assert file is not None
    try:
        lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", "--requests names a file of JSON lines") from None
    for number, line in enumerate(lines, 1):
        try:
            fine = isinstance(json.loads(line), dict)
        except (ValueError, RecursionError):
            fine = False
        if not fine:
            raise InputError(f"line {number} of {file} is no JSON object", "one request a line")
    if not lines:
        raise InputError(f"{file} holds no request", "one JSON object a line")
    return lines


def run(plan: Plan, target: Target, form: str, xml: Path | None, html: Path | None) -> None:
    """Send, write what was asked for, print, and raise unless all is within the budget."""
    from rdv.serving.load.client import arrivals

    output.note(
        f"sending {arrivals(plan.rate, plan.seconds):,} requests over {plan.seconds:g} s to {', '.join(target.urls)}"
    )
    found = measure(plan, target)
    if xml is not None:
        _write(xml, junit_document(target.goal, found))
    if html is not None:
        from rdv.cli.load.page import page

        _write(html, page(target.goal, target.urls, found).encode())
    show(target.goal, found, form)
    verdict(target, found)


def measure(plan: Plan, target: Target) -> Figures:
    """Send everything and say what came of it; Unreachable when nobody listens."""
    import uvloop

    from rdv.serving.load import figures
    from rdv.serving.load.client import Client, arrivals

    fates = figures.Fates()

    async def send() -> list[Sent]:
        client = Client(target.requests, plan.rate, plan.seconds + plan.warm_s, fates.told)
        await client.run(target.addresses, plan.connections)
        return client.sent

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            sent = runner.run(send())
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"{' and '.join(target.urls)}: {_why(error)}", "is a gateway there? `rdv serve`") from None
    finally:
        gc.enable()
    warm = arrivals(plan.rate, plan.warm_s) if plan.warm_s else 0
    counted = sent[warm:]
    if not counted:
        raise RdvError("this machine was so late that no request was sent in time", "give a lower --rate")
    return figures.figures(counted, fates, plan.rate, plan.seconds, plan.budget)


def verdict(target: Target, found: Figures) -> None:
    """Return when the run is valid and within its budget; else raise what says why, in one sentence."""
    if found.invalid:
        hint = "give a lower --rate, or let it run where nothing else does"
        raise RdvError(f"the result is not valid: {found.invalid}", hint)
    if found.sent == sum(found.errors.values()) and not any(kind.startswith("HTTP") for kind in found.errors):
        raise Unreachable(
            f"none of {found.sent:,} requests to {' and '.join(target.urls)} was answered", "see `rdv status`"
        )
    if found.missed:
        told = ", ".join(one.sentence() for one in found.missed)
        kinds = ", ".join(f"{times:,} x {kind}" for kind, times in list(found.errors.items())[:3])
        more = f" ({kinds})" if any(one.entry.name == "errors" for one in found.missed) else ""
        raise Refused(f"the load on {target.goal} is outside its budget: {told}{more}", "see --html and `rdv status`")


def _write(file: Path, data: bytes) -> None:
    from rdv.files import replace_file

    try:
        replace_file(file, data)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", "name another file") from None


def _asked_schema(url: str, goal: str) -> GoalSchema:
    """The request schema that a gateway itself publishes."""
    from rdv.schema import compile_schema

    at = f"{url}/v1/goals/{goal}/openapi.json"
    try:
        with urllib.request.urlopen(at, timeout=ANSWER_S) as answer:
            told = json.load(answer)
        path = next(iter(told["paths"].values()))
        return compile_schema(path["post"]["requestBody"]["content"]["application/json"]["schema"], at)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise NotFound(f"the gateway at {url} has no goal {goal!r}", "see `rdv status` there") from None
        raise Unreachable(f"{at} answers {error.code}", "is it a gateway of rdv?") from None
    except OSError as error:
        raise Unreachable(f"{url}: {_why(error)}", "is a gateway there? `rdv serve`") from None
    except (ValueError, KeyError, TypeError, StopIteration, AttributeError):
        raise ConfigError(f"{at} is no description of a goal", "is it a gateway of rdv?") from None


def _address(url: str) -> Address:
    from rdv.serving.load.client import Address

    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no address of a gateway", "write it as http://host:8080")
    return Address(parts.hostname, port, parts.scheme == "https")


def _path(url: str, goal: str) -> str:
    from rdv.serving.openapi import score_path

    return urlsplit(url).path.rstrip("/") + score_path(goal)


def _why(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason) or type(error).__name__
