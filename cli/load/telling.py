"""The figures of a load as a terminal, a program and a pipeline are told them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rdv.cli import junit, output

if TYPE_CHECKING:
    from rdv.serving.load.figures import Figures

VERDICTS = ["limit", "measured", "kept"]


def show(goal: str, found: Figures, form: str) -> None:
    """Print the figures."""
    if form in ("json", "jsonl"):
        return output.document(record(goal, found), form)
    errors = sum(found.errors.values())
    latency = {f"{name}_ms": value for name, value in found.latency_ms.items()}
    told = {"goal": goal, "sent": found.sent, "answered": found.answered, "defaults": found.defaults, "errors": errors}
    output.rows([{**told, **latency}], [*told, *latency], form)
    output.section("errors", [{"kind": kind, "requests": n} for kind, n in found.errors.items()], ["kind", "requests"])
    output.section("budget", verdict_records(found), VERDICTS, form)
    if found.waited:
        output.note(f"{found.waited:,} requests waited for a free connection, which counts; see --connections")


def verdict_records(found: Figures) -> list[dict[str, Any]]:
    """A record for each limit, as a person reads it."""
    from rdv.serving.load.budget import shown

    return [
        {"limit": one.entry.text, "measured": shown(one.entry, one.value), "kept": one.kept} for one in found.verdicts
    ]


def record(goal: str, found: Figures) -> dict[str, Any]:
    """Everything that was measured, for a program."""
    made: dict[str, Any] = output.finite(found)
    made["verdicts"] = [
        {"limit": one.entry.text, "value": output.finite(one.value), "allowed": one.entry.limit, "kept": one.kept}
        for one in found.verdicts
    ]
    return {"goal": goal, "valid": not found.invalid, "kept": not found.missed, **made}


def junit_document(goal: str, found: Figures) -> bytes:
    """A case for each limit, and one for the client's own rate, without which the others say nothing."""
    cases = [junit.Case(f"{found.rate:g} requests a second are sent", found.seconds, error=found.invalid)]
    for one in found.verdicts:
        failure = "" if one.kept else one.sentence()
        cases.append(
            junit.Case(one.entry.text, failure=failure, error=found.invalid if one.ours or not found.held else "")
        )
    latency = {f"{name} ms": value for name, value in found.latency_ms.items()}
    facts = {"sent": found.sent, "answered": found.answered, "defaults": found.defaults, **latency}
    return junit.document(f"rdv load {goal}", cases, facts)
