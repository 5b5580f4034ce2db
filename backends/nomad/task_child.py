"""What Nomad runs for a task class that is dispatched by itself: the same runner as a step's, told by the dispatch.

`python -P -m rdv.backends.nomad.task_child FOLDER JSON PARAMETERS`: where the project lies, what its job says once for
all, and the file of the dispatch's payload, which need not be there. The dispatch's meta comes as Nomad hands it over.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rdv.backends.nomad.step_child import carry_out
from rdv.backends.ports import Resources, StepSpec
from rdv.errors import RdvError, UsageError

ENTRY = "rdv.pipelines.run_task:run"


def main(folder: str, job: str, parameters: Path) -> int:
    """Run the task; its exit code, as in the house: 3 usage, 8 the output is there already, 128 + n after signal n."""
    told = json.loads(job)
    try:
        spec = task_spec(folder, told, _parameters(parameters), os.environ)
    except RdvError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    return carry_out(spec, Path(os.environ["NOMAD_TASK_DIR"]), Path(os.environ["NOMAD_ALLOC_DIR"]))


def task_spec(folder: str, told: Mapping[str, Any], parameters: dict[str, Any], environ: Mapping[str, str]) -> StepSpec:
    """The step that a dispatch asks for. told: `env`, `model`, `task`, `reads`, `wall_s`, `memory_mb` of its job."""
    run = environ["NOMAD_JOB_ID"]
    payload = {
        **{name: told[name] for name in ("env", "model", "task", "reads")},
        "inputs": environ.get("NOMAD_META_input", ""),
        "output": environ["NOMAD_META_output"],
        "period": environ.get("NOMAD_META_period", ""),
        "parameters": parameters,
        "run": run,
    }
    limits = Resources(memory_mb=int(told["memory_mb"]), wall_s=float(told["wall_s"]))
    return StepSpec(
        run="by-hand", name="task", token=run, entry=ENTRY, payload=payload, resources=limits, folder=folder
    )


def _parameters(file: Path) -> dict[str, Any]:
    """The hyperparameters of a dispatch's payload, none when there is no payload."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return {}
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise UsageError(f"the payload is no JSON: {error}", 'write {"learning_rate": 0.1}') from None
    if not isinstance(found, dict):
        raise UsageError("the payload is no JSON object", 'write {"learning_rate": 0.1}')
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
