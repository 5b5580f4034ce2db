"""Validation: everything that the gate wants to know about the chosen model, found out in a step of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from rdv.errors import RdvError
from rdv.flavours import load_predictor
from rdv.inputs import compile_encoder
from rdv.manifest import ModelInfo
from rdv.pipelines.base import Artifact, Context, Inputs, StepResult, Task
from rdv.pipelines.dataset import FeaturesTask, goal_schema, row_schema
from rdv.pipelines.evaluate import REPORT, SCORES, EvaluateTask, Report, model_of, test_scores
from rdv.pipelines.features import Features, read_features, read_table, table_rows
from rdv.pipelines.gate import Evidence, judge
from rdv.pipelines.metrics import metric
from rdv.pipelines.names import Value
from rdv.pipelines.replay_rows import as_requests
from rdv.pipelines.rescore import fresh_scores
from rdv.probe_rows import from_probe_rows
from rdv.schema import probes

if TYPE_CHECKING:
    from rdv.inputs import Matrix

VERDICT = "verdict.json"
REPLAYED_ROWS = 200
PROBES = 200
_SUM_SLACK = 1e-6

Flags = NDArray[np.bool_]


class ValidateTask(Task):
    """Judges the best model: against the floor, the champion, the schema, itself in a fresh process, and the gateway.

    The verdict is an artifact, whatever it says; its name holds the champion's digest.
    """

    family = "validate"
    version = "1"

    def upstream(self) -> dict[str, Task]:
        """What the evaluation read, and its report."""
        evaluate = self.sibling(EvaluateTask)
        return {**evaluate.upstream(), "report": evaluate}

    def requires(self) -> list[Task]:
        """The evaluation, which requires the rest."""
        return [self.sibling(EvaluateTask)]

    def artifacts(self) -> dict[str, str]:
        """The present champion, where there is one."""
        champion = self.context.run().champion()
        return {"champion": champion} if champion else {}

    def external(self) -> dict[str, str]:
        """The digests of the enricher's tables."""
        return self.sibling(FeaturesTask).external()

    def code_modules(self) -> tuple[str, ...]:
        """The modules of the enricher's functions."""
        return self.sibling(FeaturesTask).code_modules()

    def parameters(self) -> dict[str, Value]:
        """The metric, the floor and the goal's schema."""
        model = self.context.model
        chosen = metric(self.context.goal.answer, model.metric, model.direction)
        return {
            "floor": model.floor,
            "maximise": chosen.maximise,
            "metric": chosen.name,
            "model": self.model,
            "schema": self.sibling(FeaturesTask).parameters()["schema"],
        }

    def run_step(self, inputs: Inputs, output_folder: Path, params: Mapping[str, Value]) -> StepResult:
        """Gather the evidence, judge, write the verdict."""
        with tempfile.TemporaryDirectory(prefix="rdv-validate-") as folder:
            evidence = _Examination(self.context, inputs).evidence(Path(folder))
        verdict = judge(evidence)
        (output_folder / VERDICT).write_bytes(msgspec.json.format(msgspec.json.encode(verdict)))
        metrics = {"candidate": evidence.value, "champion": evidence.champion}
        known = {f"{name}_{evidence.metric}": value for name, value in metrics.items() if value is not None}
        return StepResult(metrics=known, extra={"verdict": msgspec.to_builtins(verdict)})


class _Examination:
    """One model under examination, with what is known of it."""

    def __init__(self, context: Context, inputs: Inputs) -> None:
        self._context, self._inputs = context, inputs
        self._info: ModelInfo = model_of(inputs["model"])
        self._file = inputs["model"].fetch(self._info.file)
        self._features: Features = read_features(inputs["features"].fetch)
        self._schema = self._features.about.schema
        self._encode = compile_encoder(self._info.inputs, self._schema)
        self._predictor = load_predictor(self._info, self._file)
        self._table = read_table(inputs["features"].fetch)
        self._test = self._features.indices("test")
        self._scores: Matrix = np.load(inputs["report"].fetch(SCORES), allow_pickle=False)

    def evidence(self, folder: Path) -> Evidence:
        """All of it. folder: an empty one to work in."""
        model = self._context.model
        chosen = metric(self._info.kind, model.metric, model.direction)
        report = msgspec.json.decode(self._inputs["report"].fetch(REPORT).read_bytes(), type=Report)
        champion, note = self._champion(chosen.name)
        probed, unusable, example = self._probes()
        replayed, difference, invalid, why = self._replay()
        return Evidence(
            metric=chosen.name,
            maximise=chosen.maximise,
            value=report.metrics.get(chosen.name),
            floor=model.floor,
            champion=champion,
            champion_note=note,
            rows=len(self._scores),
            different=len(np.unique(self._scores, axis=0)),
            unusable=int((~usable(self._info, self._scores)).sum()),
            probes=probed,
            probes_unusable=unusable,
            probe_example=example,
            round_trip=self._round_trip(folder),
            replayed=replayed,
            replay=difference,
            invalid=invalid,
            invalid_example=why,
        )

    def _champion(self, name: str) -> tuple[float | None, str]:
        """The champion's metric on the same rows; None and why when there is none to be had."""
        if "champion" not in self._inputs:
            return None, "there is no champion yet"
        champion: Artifact = self._inputs["champion"]
        try:
            if (model_of(champion).kind, model_of(champion).labels) != (self._info.kind, self._info.labels):
                return None, "the champion answers something else"
            scores = test_scores(champion, self._features, self._inputs["features"])
        except RdvError as error:
            return None, f"the champion cannot score these rows: {error}"
        value = metric(self._info.kind, name).compute(self._features.answers[self._test], scores)
        return (value, "") if np.isfinite(value) else (None, f"the champion's {name} is {value}")

    def _round_trip(self, folder: Path) -> float:
        """How far a fresh process's scores are from the test part's and from those that training computed."""
        tested = self._encode(table_rows(self._schema, self._table, self._test))
        schema, rows = from_probe_rows(self._info.inputs, self._info.probe_rows)
        probed = compile_encoder(self._info.inputs, schema)(rows)
        before = np.concatenate([self._scores, np.array(self._info.probe_scores).reshape(len(probed), -1)])
        return distance(before, fresh_scores(self._info, self._file, np.concatenate([tested, probed]), folder))

    def _replay(self) -> tuple[int, float, int, str]:
        """Test rows sent as requests: how many, how far off, how many are no valid requests and why not."""
        picked = np.unique(np.linspace(0, len(self._test) - 1, REPLAYED_ROWS).astype(np.int64))
        index = self._test[picked]
        documents = self._table.records(index.tolist(), self._features.about.own)
        sent = as_requests(self._context, documents, table_rows(self._schema, self._table, index))
        if not sent.places:
            return 0, 0.0, sent.invalid, sent.example
        scores = self._predictor.predict(self._encode(sent.rows))
        return len(sent.places), distance(self._scores[picked[sent.places]], scores), sent.invalid, sent.example

    def _probes(self) -> tuple[int, int, str]:
        """Documents made from the schema: how many, how many without a usable answer, and one of those."""
        documents = probes(goal_schema(self._context), self._context.model.seed, PROBES)
        sent = as_requests(self._context, documents)
        if not sent.places:
            return 0, 0, ""
        encode = compile_encoder(self._info.inputs, row_schema(self._context))
        good = usable(self._info, self._predictor.predict(encode(sent.rows)))
        bad = [documents[place] for place, fine in zip(sent.places, good.tolist(), strict=True) if not fine]
        return len(sent.places), len(bad), msgspec.json.encode(bad[0]).decode() if bad else ""


def usable(info: ModelInfo, scores: Matrix) -> Flags:
    """(n,), true where a row's scores are an answer: finite, and a probability or probabilities where asked for."""
    fine = np.isfinite(scores)
    if info.kind != "number":
        fine &= (scores >= 0) & (scores <= 1)
    if info.kind == "labels":
        fine &= np.abs(scores.sum(axis=1, keepdims=True) - 1) <= _SUM_SLACK
    good: Flags = np.logical_and.reduce(fine, axis=1)
    return good


def distance(one: Matrix, other: Matrix) -> float:
    """The largest difference of two score matrices, relative above 1; infinite when shapes or missing values differ."""
    if one.shape != other.shape or not np.array_equal(np.isnan(one), np.isnan(other)):
        return float("inf")
    gap = np.abs(one - other) / np.maximum(1.0, np.abs(one))
    return float(np.nanmax(gap)) if gap.size and not np.isnan(gap).all() else 0.0
