"""Contracts of consumers: into the store, out of it, and held against schemas and a gateway."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdv.cli import junit as xml
from rdv.cli import output
from rdv.errors import InputError, Refused, Unreachable, UsageError

if TYPE_CHECKING:
    from rdv.backends.contracts_pact import Checked
    from rdv.config import Project
    from rdv.serving.contract_shelf import Row
    from rdv.serving.contracts import Contract, Violation

Record = dict[str, Any]
SCHEMA, GATEWAY, SERVICE = "schema", "gateway", "service"
CHECKED = ["consumer", "interaction", "against", "kept", "problem"]
_ANSWER_S = 5.0


def publish(project: Project, file: Path) -> list[Record]:
    """Record a pact file for each goal that it is about; a record each.

    One whose consumer is this project is recorded as what the service that it names as provider is expected to do.
    """
    from rdv.serving.contract_shelf import Shelf, folder_contracts

    if not file.is_file():
        raise UsageError(f"{file} is no file", "name one pact file")
    (contract,) = folder_contracts(file)
    own, provider = project.name, ""
    if contract.consumer == own and contract.provider != own:
        provider = contract.provider
    elif not contract.goals:
        hint = f"its paths begin with /v1/goals/GOAL/; what this project expects of others names {own!r} as consumer"
        raise InputError(f"{file} asks no goal", hint)
    else:
        _check_goals(project, [contract])
    shelf = Shelf.of(project, provider)
    published = [shelf.publish(contract, goal) for goal in contract.goals or ("",)]
    return [{**_record(row), "new": new} for row, new in published]


def listed(project: Project, goal: str, provider: str) -> list[Record]:
    """A record for each contract that counts."""
    from rdv.serving.contract_shelf import Shelf

    return [_record(row) for row in Shelf.of(project, provider).rows(goal) if not row.withdrawn]


def withdraw(project: Project, consumer: str, goal: str, provider: str) -> Record:
    """Record that a consumer expects nothing any more."""
    from rdv.cli.recorded import one_goal
    from rdv.serving.contract_shelf import Shelf

    of = goal if provider else one_goal(project, goal)
    row = Shelf.of(project, provider).withdraw(of, consumer)
    return {"goal": row.goal, "consumer": row.consumer, "number": row.number, "withdrawn": True}


def verify(
    project: Project, goal: str, source: Path | None, url: str, schema_only: bool, junit: Path | None, form: str
) -> None:
    """Print what was looked at, write JUnit, and raise Refused, with consumer and field, unless all of it is kept."""
    from rdv.serving import contract_shelf

    if goal:
        from rdv.cli.recorded import one_goal

        goal = one_goal(project, goal)
    contracts = contract_shelf.folder_contracts(source) if source else contract_shelf.all_contracts(project, goal)
    contracts = [one for one in contracts if not goal or goal in one.goals]
    if not contracts and not schema_only and not url:
        output.note("no consumer has published a contract, so there is nothing to verify")
    broken = contract_shelf.broken_contracts(project, goal, contracts)
    found = schema_records(contracts, broken)
    if contracts and not schema_only:
        found += answer_records(ask_gateway(project, url, contracts), GATEWAY)
    _show(found, junit, form)
    judge(found, broken)


def verify_other(
    project: Project, provider: str, source: Path | None, url: str, junit: Path | None, form: str
) -> None:
    """The same for a running service that is none of rdv's, and of which only its answers can be looked at."""
    from rdv.serving import contract_shelf

    if not url:
        raise UsageError(f"nobody says where {provider} runs", "name its address: --url http://HOST:PORT")
    if source:
        contracts = [one for one in contract_shelf.folder_contracts(source) if one.provider == provider]
    else:
        contracts = contract_shelf.contracts_of_others(project, provider)
    if not contracts:
        raise InputError(f"nobody has recorded what is expected of {provider!r}", "`rdv contract publish FILE` does")
    found = answer_records(ask(provider, url.rstrip("/"), "/", contracts), SERVICE)
    _show(found, junit, form)
    judge(found)


def ask_gateway(project: Project, url: str, contracts: Sequence[Contract]) -> list[Checked]:
    """What a running gateway answers to what consumers send; Unreachable when none does."""
    from rdv.cli.status_views import url as running
    return ask(project.name, (url or running(project)).rstrip("/"), "/healthz", contracts)


def ask(provider: str, at: str, health: str, contracts: Sequence[Contract]) -> list[Checked]:
    """What a service answers to what consumers send; Unreachable when it does not answer at all.

    health: a path that a gateway of rdv answers with 200; of any other service any answer to `/` will do.
    """
    from rdv.backends import contracts_pact

    try:
        with urllib.request.urlopen(at + health, timeout=_ANSWER_S):
            pass
    except urllib.error.HTTPError as error:
        if health != "/":
            raise Unreachable(f"{at}{health} answers {error.code}", "is it a gateway of rdv?") from None
    except (OSError, ValueError) as error:
        hint = "`rdv serve`" if health != "/" else f"start {provider}, or name another --url"
        raise Unreachable(f"{at} does not answer: {getattr(error, 'reason', error)}", hint) from None
    files = {f"{one.consumer} {one.digest}": one.data for one in contracts}
    return contracts_pact.verify(provider, at, files)


def schema_records(contracts: Sequence[Contract], broken: Sequence[Violation]) -> list[Record]:
    """A record an interaction, as the schemas have it; and one for each that they have not got at all."""
    problems: dict[tuple[str, str], list[str]] = {}
    for one in broken:
        told = f"field {one.field}: {one.problem}" if one.field else one.problem
        problems.setdefault((one.consumer, one.interaction), []).append(told)
    asked = [(contract.consumer, one.description) for contract in contracts for one in contract.interactions]
    return [
        {
            "consumer": consumer,
            "interaction": interaction,
            "against": SCHEMA,
            "kept": (consumer, interaction) not in problems,
            "problem": "; ".join(problems.get((consumer, interaction), ())),
            "seconds": 0.0,
        }
        for consumer, interaction in dict.fromkeys([*asked, *problems])
    ]


def answer_records(checked: Sequence[Checked], against: str) -> list[Record]:
    """A record an interaction, as who was asked answered; one that is still pending may fail."""
    return [
        {
            "consumer": one.consumer,
            "interaction": one.interaction,
            "against": against,
            "kept": not one.problem or one.pending,
            "problem": f"pending: {one.problem}" if one.pending and one.problem else one.problem,
            "seconds": one.seconds,
        }
        for one in checked
    ]


def document(found: Sequence[Record]) -> bytes:
    """The records as JUnit XML."""
    cases = [
        xml.Case(
            f"{one['consumer']}: {one['interaction']} ({one['against']})",
            one["seconds"],
            "" if one["kept"] else one["problem"],
        )
        for one in found
    ]
    return xml.document("rdv contract", cases, {"interactions": len(found)})


def judge(found: Sequence[Record], broken: Sequence[Violation] = ()) -> None:
    """Return when everything is kept; else Refused names the first consumer that is broken, and where."""
    missed = [one for one in found if not one["kept"]]
    if not missed:
        return
    if broken:
        told = broken[0].sentence()
    else:
        first = missed[0]
        told = f"consumer {first['consumer']!r}: in {first['interaction']!r}: {first['problem']}"
    more = f", and {len(missed) - 1} more" if len(missed) > 1 else ""
    raise Refused(f"a contract is broken: {told}{more}", "talk to the consumer, or change the schema back")


def _check_goals(project: Project, contracts: Sequence[Contract]) -> None:
    from rdv.serving.contracts import strangers

    unknown = strangers(contracts, [*project.config.goals])
    if unknown:
        known = ", ".join(sorted(project.config.goals)) or "none"
        raise InputError(f"{unknown[0].interaction} is a contract of goal {unknown[0].goal!r}", f"rdv.toml has {known}")


def _record(row: Row) -> Record:
    return {
        "goal": row.goal,
        "consumer": row.consumer,
        "number": row.number,
        "interactions": row.interactions,
        "digest": row.digest[:12],
    }


def _show(found: Sequence[Record], junit: Path | None, form: str) -> None:
    if junit is not None:
        _write(junit, document(found))
    output.rows(found, CHECKED, form, empty="no contract")


def _write(file: Path, data: bytes) -> None:
    from rdv.files import replace_file

    try:
        replace_file(file, data)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", "name another file") from None
