"""Ending a dev cluster, however much of it still runs, so that nothing of it is left on the machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from rdv.backends.devcluster import leftovers, nomad
from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.docker import remove_traces
from rdv.backends.devcluster.environments import CLUSTERS
from rdv.backends.devcluster.servers import is_ready, marks
from rdv.backends.devcluster.state import AGENT, State
from rdv.errors import RdvError, UsageError
from rdv.files import SCRATCH_PREFIX

_ENTRIES = {"environments.toml", "state.json", "tokens", "consul", AGENT, "vault", "s3", "hdfs", "docker"}
_ENTRIES |= {f"nomad-{cluster}" for cluster in CLUSTERS}


def check_ours(folder: Path) -> bool:
    """Whether a folder holds anything; UsageError when that is anything that is not a dev cluster's."""
    entries = {path.name for path in folder.iterdir() if not path.name.startswith(SCRATCH_PREFIX)}
    if foreign := sorted(entries - _ENTRIES):
        what = f"{folder} is no dev cluster's folder: it holds {', '.join(foreign[:3])}"
        raise UsageError(what, "choose another one with --folder")
    return bool(entries)


def take_down(
    folder: Path, state: State | None, own: Mapping[str, ServerProcess], say: Callable[[str], object]
) -> None:
    """End tasks, then servers, then what they left behind, and delete the folder.

    own: processes that this one has started. Others are found by the state, or else by their command lines.
    """
    if state is not None:
        _purge(folder, state, say)
        _stop(folder, state, own)
    for name in _in_order(marks(folder)):
        leftovers.kill(leftovers.processes_with(marks(folder)[name]))
    for cluster in CLUSTERS:
        data = folder / f"nomad-{cluster}"
        leftovers.kill([*leftovers.task_processes(data), *leftovers.log_collectors(data)])
        if state is not None:
            leftovers.remove_cgroups(nomad.cgroup(cluster, state.ports[data.name][0]))
    if not leftovers.processes_with("nomad agent "):  # where groups have no names of a cluster's own (cgroup v1)
        leftovers.remove_cgroups("nomad")
    if (folder / "docker").exists():
        remove_traces(folder / "docker")
    leftovers.unmount(folder)
    _delete(folder)


def _purge(folder: Path, state: State, say: Callable[[str], object]) -> None:
    for cluster in CLUSTERS:
        name = f"nomad-{cluster}"
        if not is_ready(folder, state, name):
            continue
        try:
            nomad.purge(state.ports[name][0], state.secrets[name], folder / name)
        except RdvError as error:  # its tasks are ended by their process ids
            say(f"{name} did not end its jobs: {error.what}")


def _stop(folder: Path, state: State, own: Mapping[str, ServerProcess]) -> None:
    """Stop what the state knows: all are asked, then each is waited for."""
    running = []
    for name in _in_order(state.processes):
        process, known = own.get(name), state.recorded(name)
        if process is None or not process.pid:
            process = ServerProcess(name, (), {}, folder / f"{name}.log", stop_s=20.0)
            if known is None or not process.adopt(known.pid, known.born):
                continue
        process.ask_to_stop()
        running.append(process)
    for process in running:
        process.stop()


def _in_order(names: Mapping[str, object]) -> list[str]:
    """Clients of Nomad before its servers, and those before what they use."""
    return sorted(names, key=lambda name: (not name.endswith("-client"), not name.startswith("nomad"), name))


def _delete(folder: Path) -> None:
    """Delete a folder, but nothing that is still mounted below it."""
    if left := leftovers.mounts_below(folder):
        raise RdvError(f"still mounted: {', '.join(left)}", "type: rdv dev-cluster down, once nothing uses it")
    check_ours(folder)
    shutil.rmtree(folder)
