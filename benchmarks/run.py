"""All figures against their floors: `make bench`, in short form `make bench-short`; on servers `make bench-cluster`.

Starts whatever it measures, prints a table, writes JSON, and ends with 1 when a figure is below its floor or missing.
The short form measures once where the full form takes medians of 3; so it runs a scenario with a miss again, at most
twice: a slow program misses every time, an unlucky one does not.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import msgspec
from figures import Figure, Floor, Row, better, judge, missing, read_floors
from table import document, table

from rdv.cli.main import terminated_as_interrupted
from rdv.errors import Exit

HERE = Path(__file__).parent
ATTEMPTS = 3
# In the order of the run: what is quick to fail comes first, what fills memory and disk last.
SCENARIOS: dict[str, tuple[str, ...]] = {
    "command_start": ("help-ms", "help-imports"),
    "closed_loop": ("closed-32", "closed-1", "closed-32-share-of-echo", "closed-1-share-of-echo"),
    "open_loop": ("open-100-p50", "open-100-p99", "open-833-p99", "open-833-lost", "open-833-defaults"),
    "grpc_bus": ("grpc-closed-32", "grpc-100-p50"),
    "hot_swap": ("swap-lost", "swap-defaults", "swap-p99"),
    "canary_rollout": ("canary-rollback", "canary-lost", "canary-defaults"),
    "worker_faults": ("kill-missing", "stop-missing"),
    "steps": ("step-overhead", "step-overhead-growth"),
    "grid": ("grid-done-s", "grid-done-mb", "trainings"),
    "gateway_memory": ("gateway-memory-growth",),
}
# With --cluster these instead: each starts the real servers that it measures.
CLUSTER: dict[str, tuple[str, ...]] = {
    "dev_cluster": ("dev-cluster-up",),
    "s3_transfer": ("s3-transfer",),
    "stores_done": ("s3-done-s", "hdfs-done-s"),
    "nomad_steps": ("nomad-steps",),
    "cluster_reload": ("reload-template", "reload-watch"),
    "cluster_canary": ("cluster-canary-rollback", "cluster-canary-lost"),
}


def run_scenario(name: str, floors: dict[str, Floor], short: bool) -> list[Row]:
    """The rows of one scenario; what it did not deliver, for whatever reason, is a failed row that says why."""
    reason = "its scenario did not report it"
    try:
        told = importlib.import_module(name).measure(short)
        seen = [msgspec.convert(figure, Figure) for figure in told]
    except Exception as error:
        traceback.print_exc()
        seen, reason = [], f"{type(error).__name__}: {error}"
    names = {figure.figure for figure in seen}
    if unknown := names - set(floors):
        reason = f"{name} reports {', '.join(sorted(unknown))}, which floors.toml does not know"
    rows = [judge(figure, floors[figure.figure], short) for figure in seen if figure.figure in floors]
    promised = (CLUSTER | SCENARIOS)[name]
    return rows + [missing(figure, floors[figure], short, reason) for figure in promised if figure not in names]


def run_until_it_holds(name: str, floors: dict[str, Floor], attempts: int) -> list[Row]:
    """The rows of the short form of a scenario, each the best of up to so many attempts."""
    rows = run_scenario(name, floors, True)
    for attempt in range(1, attempts):
        missed = [row.figure for row in rows if row.verdict == "FAIL"]
        if not missed:
            break
        print(f"bench: {name} again, attempt {attempt + 1}: {', '.join(missed)} missed", file=sys.stderr, flush=True)
        again = {row.figure: row for row in run_scenario(name, floors, True)}
        rows = [better(row, again.get(row.figure, row)) for row in rows]
    return rows


def arguments(told: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--short", action="store_true", help="one shorter run of everything")
    parse.add_argument("--cluster", action="store_true", help="the scenarios with real servers instead")
    names = ", ".join(SCENARIOS | CLUSTER)
    parse.add_argument("--only", default="", help=f"some scenarios, comma-separated, of: {names}")
    parse.add_argument("--out", type=Path, default=HERE.parent / "build" / "benchmarks.json", help="the JSON file")
    asked = parse.parse_args(told)
    group = CLUSTER if asked.cluster else SCENARIOS
    asked.only = [name for name in asked.only.split(",") if name] or list(group)
    if unknown := [name for name in asked.only if name not in group]:
        parse.error(f"there is no scenario {', '.join(unknown)}; choose from: {', '.join(group)}")
    return asked


def machine() -> str:
    """This machine's class, as floors.toml names them."""
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{os.cpu_count()} vCPU, {memory_gb:.0f} GB, {platform.system()}, CPython {python}"


def main() -> int:
    """Run what is asked for; 0 when every floor holds, else 1; 130 when it was interrupted."""
    asked = arguments()
    floors, rows = read_floors(HERE / "floors.toml"), []
    begun = time.monotonic()
    try:
        with terminated_as_interrupted():  # a scenario ends the servers that it has started
            for name in asked.only:
                from_s = time.monotonic()
                print(f"bench: {name} ...", file=sys.stderr, flush=True)
                rows += run_until_it_holds(name, floors, ATTEMPTS) if asked.short else run_scenario(name, floors, False)
                print(f"bench: {name} {time.monotonic() - from_s:.0f} s", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    about = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "short": asked.short,
        "wall_s": round(time.monotonic() - begun),
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_bytes(document(rows, about))
    print(table(rows))
    failed = [row.figure for row in rows if row.verdict == "FAIL"]
    verdict = f"below their floor: {', '.join(failed)}" if failed else "all floors hold"
    print(f"{about['machine']}; JSON in {asked.out}; {verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
