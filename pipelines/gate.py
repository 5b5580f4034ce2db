"""The gate before publication: what was found about a model, and whether it may be published. Pure."""

from __future__ import annotations

import msgspec

from rdv.pipelines.metrics import at_least_as_good

TOLERANCE = 1e-9


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What validation found. Counts are of rows or documents.

    value: the metric on the test part. champion: the present champion's value on the same rows, None when there is
    none or it cannot score them (champion_note says why). different: distinct score vectors among `rows` test rows.
    unusable: test rows without a finite, well-formed answer; probes: documents made from the schema,
    probes_unusable: those without one. round_trip: largest difference of scores after loading in a fresh process.
    replayed: raw requests sent through decoder, packing, encoder and predictor, replay: largest difference to the
    training side's scores. invalid: rows of the test part that are no valid requests, invalid_example: why not.
    """

    metric: str
    maximise: bool
    value: float | None
    floor: float | None
    champion: float | None = None
    champion_note: str = ""
    rows: int
    different: int
    unusable: int
    probes: int = 0
    probes_unusable: int = 0
    probe_example: str = ""
    round_trip: float = 0.0
    replayed: int = 0
    replay: float = 0.0
    invalid: int = 0
    invalid_example: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """Whether a model may be published, why not, and what was found."""

    passed: bool
    reasons: tuple[str, ...]
    evidence: Evidence


def judge(evidence: Evidence) -> Verdict:
    """The verdict on some evidence; every reason against is told, not only the first."""
    reasons = (*_worth(evidence), *_answers(evidence), *_agreement(evidence))
    return Verdict(not reasons, reasons, evidence)


def _worth(found: Evidence) -> list[str]:
    if found.value is None:
        return [f"{found.metric} is not defined on the test part"]
    reasons = []
    if found.floor is not None and not at_least_as_good(found.maximise, found.value, found.floor):
        reasons.append(f"{found.metric} {found.value:.6g} on the test part misses the floor {found.floor:.6g}")
    if found.champion is not None and not at_least_as_good(found.maximise, found.value, found.champion):
        reasons.append(
            f"{found.metric} {found.value:.6g} on the test part is worse than the champion's {found.champion:.6g}"
        )
    return reasons


def _answers(found: Evidence) -> list[str]:
    reasons = []
    if found.different < 2:
        reasons.append(f"it gives the same answer to all {found.rows} test rows")
    if found.unusable:
        reasons.append(f"{found.unusable} of {found.rows} test rows get no usable answer")
    if found.probes_unusable:
        reasons.append(
            f"{found.probes_unusable} of {found.probes} documents made from the schema get no usable answer, "
            f"for example {found.probe_example}"
        )
    return reasons


def _agreement(found: Evidence) -> list[str]:
    reasons = []
    if not found.round_trip <= TOLERANCE:
        reasons.append(f"loaded in a fresh process its scores differ by up to {found.round_trip:.3g}")
    if not found.replay <= TOLERANCE:
        reasons.append(f"replayed as requests its scores differ from training's by up to {found.replay:.3g}")
    if not found.replayed:
        example = f", for example {found.invalid_example}" if found.invalid_example else ""
        reasons.append(f"none of the test rows is a valid request{example}")
    return reasons
