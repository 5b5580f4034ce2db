"""Whether a model file can be loaded and computes what its manifest says, found out in a child that may die of it.

A damaged LightGBM file kills or hangs the process that loads it more often than not, and CatBoost's loader can crash
as well, so no serving process loads a file that has not been through here. The file's checksum is compared before.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rdv.errors import ModelUnloadable, RdvError
from rdv.flavours import Predictor, load_predictor, width_of
from rdv.inputs import compile_encoder
from rdv.manifest import ModelInfo
from rdv.probe_rows import from_probe_rows
from rdv.processes import die_with_parent, how_it_ended
from rdv.serving.processes.limited import Ended, Limits, run_limited

if TYPE_CHECKING:
    from rdv.inputs import Matrix

RELATIVE_TOLERANCE = 1e-6
ABSOLUTE_TOLERANCE = 1e-9
_NICENESS = 10
_OUTPUT_BYTES = 64 << 20
_HINT = "the version stays published and is not served: publish another or roll back"


class ProbeOrder(msgspec.Struct, frozen=True):
    """What the child is asked. parent: the process it must not outlive."""

    info: ModelInfo
    file: str
    parent: int
    cpu_s: float


class ProbeResult(msgspec.Struct, frozen=True):
    """What the child found: scores (n, width), null for NaN, or why it refuses the file."""

    scores: list[list[float | None]] = []
    error: str = ""


def limits_for(size_bytes: int) -> Limits:
    """What probing a file of this size may take: far more than a sound file of that size needs."""
    seconds = 10.0 + size_bytes / 5e6
    return Limits(wall_s=2 * seconds, cpu_s=seconds, memory_bytes=(1 << 30) + 32 * size_bytes)


def probe(info: ModelInfo, file: Path, limits: Limits | None = None) -> None:
    """Return when a child could load the file within its limits and reproduced the manifest's probe scores.

    Raises ModelUnloadable with the reason otherwise. Blocks; to be called off the event loop.
    """
    limits = limits or limits_for(file.stat().st_size)
    order = ProbeOrder(info, str(file), os.getpid(), limits.cpu_s)
    argv = [sys.executable, "-P", "-m", "rdv.serving.worker.probe", "{result}"]
    reason = judge(info, run_limited(argv, msgspec.json.encode(order), limits))
    if reason:
        raise ModelUnloadable(f"{file.name} was refused by its probe: {reason}", _HINT)


def judge(info: ModelInfo, ended: Ended) -> str:
    """Why a probe's end speaks against the file; empty when nothing does. Pure."""
    if ended.over:
        return f"loading and scoring it {ended.over}"
    if ended.code != 0:
        said = f" ({ended.tail.splitlines()[-1]})" if ended.tail else ""
        return f"the process that loaded it ended: {how_it_ended(ended.code)}{said}"
    try:
        result = msgspec.json.decode(ended.result, type=ProbeResult)
    except msgspec.MsgspecError as error:
        return f"the process that loaded it wrote no result: {error}"
    return result.error or differences(info, result.scores)


def differences(info: ModelInfo, scores: Sequence[Sequence[float | None]]) -> str:
    """The first way in which scores are not the manifest's probe scores, or not such a model's at all; else empty.

    scores: (n, width), None or NaN where there is none. With no probe scores in the manifest only shape and range
    are looked at. Pure.
    """
    for at, row in enumerate(scores):
        values = [value for value in row if value is not None and abs(value) < float("inf")]
        if len(row) != width_of(info) or len(values) != len(row):
            return f"row {at} is scored {list(row)}, which is not {width_of(info)} usable number(s)"
        if info.kind == "probability" and not 0 <= values[0] <= 1:
            return f"row {at} has the probability {values[0]}"
    if info.probe_scores and len(scores) != len(info.probe_scores):
        return f"{len(scores)} rows were scored where the manifest has {len(info.probe_scores)}"
    for at, (row, wanted) in enumerate(zip(scores, info.probe_scores, strict=False)):
        if len(wanted) != len(row):
            return f"the manifest has {len(wanted)} scores for row {at} of a model that yields {len(row)}"
        for value, score in zip(row, wanted, strict=True):
            tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * abs(score)
            if value is None or not abs(value - score) <= tolerance:
                return f"row {at} is scored {value!r}, the manifest says {score!r}"
    return ""


def probe_matrix(info: ModelInfo) -> Matrix:
    """The manifest's probe rows as the model's matrix; a row of zeros for a manifest without any."""
    import numpy as np

    if not info.probe_rows:
        return np.zeros((1, len(info.inputs.fields)), dtype=np.float64)
    schema, rows = from_probe_rows(info.inputs, info.probe_rows)
    return compile_encoder(info.inputs, schema)(rows)


def confirm(info: ModelInfo, predictor: Predictor) -> None:
    """Return when a loaded predictor, in this very process, reproduces the manifest's probe scores.

    Raises ModelUnloadable. It is the warm-up at the same time: code and trees are in the caches afterwards.
    """
    reason = differences(info, predictor.predict(probe_matrix(info)).tolist())
    if reason:
        raise ModelUnloadable(f"the loaded model differs from its manifest: {reason}", _HINT)


def _limit_ourselves(order: ProbeOrder) -> None:
    """Take what the file must not have: time, core dumps, the disk, the serving processes' turn, a life of its own."""
    die_with_parent(order.parent)
    cpu_s = max(1, round(order.cpu_s))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_OUTPUT_BYTES, _OUTPUT_BYTES))
    os.nice(_NICENESS)


def _find(order: ProbeOrder) -> ProbeResult:
    try:
        predictor = load_predictor(order.info, Path(order.file))
        scores = predictor.predict(probe_matrix(order.info)).tolist()
    except RdvError as error:
        return ProbeResult(error=str(error))
    return ProbeResult(scores=[[value if value == value else None for value in row] for row in scores])


def main() -> None:
    """The child's side: order on stdin, result on the descriptor named by the argument."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=ProbeOrder)
    _limit_ourselves(order)
    os.write(int(sys.argv[1]), msgspec.json.encode(_find(order)))
    os._exit(0)


if __name__ == "__main__":
    main()
