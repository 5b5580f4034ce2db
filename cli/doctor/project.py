"""Checks of a project: its settings, what it stores, and what runs of it."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rdv.cli.doctor.findings import Finding, judge, run
from rdv.errors import RdvError

if TYPE_CHECKING:
    from rdv.config import Project

MIB = 1 << 20
SPARE_MB = 512
LIBRARIES = {"catboost": "catboost", "lightgbm": "lightgbm"}
AHEAD_S = 60.0


def checks(project: Project) -> Iterator[Finding]:
    """Every check of a project, one after the other."""
    every: dict[str, Callable[[Project], Finding]] = {
        "rdv.toml": settings,
        "flavours": flavours,
        "data files": data_files,
        "state folder": state_folder,
        "disk space": disk_space,
        "open files": open_files,
        "registry": registry,
        "artifacts": artifacts,
        "release times": release_times,
        "journals": journals,
        "process records": process_records,
        "port": port,
    }
    for name, look in every.items():
        yield run(name, lambda look=look: look(project))  # type: ignore[misc]


def settings(project: Project) -> Finding:
    """Whether rdv.toml, its schemas and its tables say nothing that cannot work."""
    from rdv.settings import check

    problems = check(project)
    found = "; ".join(problems) or f"{len(project.config.goals)} goals, {len(project.config.models)} models"
    return judge("rdv.toml", not problems, found, "mend rdv.toml, then `rdv config check`")


def flavours(project: Project) -> Finding:
    """Whether the libraries that the project's models need are installed."""
    from importlib.util import find_spec

    wanted = {model.flavour for model in project.config.models.values()}
    missing = [name for name in sorted(wanted & LIBRARIES.keys()) if find_spec(name) is None]
    remedy = f"type: pip install {' '.join(LIBRARIES[name] for name in missing)}"
    return judge("flavours", not missing, ", ".join(sorted(missing or wanted)) + " missing" * bool(missing), remedy)


def data_files(project: Project) -> Finding:
    """Whether the files that models are trained on are there."""
    named = sorted({model.data for model in project.config.models.values() if model.data})
    missing = [name for name in named if not (project.folder / name).is_file()]
    found = f"{', '.join(missing)} missing" if missing else f"{len(named)} there"
    return judge("data files", not missing, found, "put them where rdv.toml says, or change `data` there")


def state_folder(project: Project) -> Finding:
    """Whether files can be made, locked and made durable where the project keeps its state."""
    from rdv.files import make_folders, replace_file

    file = project.state / f"doctor-{os.getpid()}"
    remedy = f"make {project.state} writable for this user"
    try:
        make_folders(project.state)
        replace_file(file, b"ok")
        file.unlink()
    except OSError as error:
        return judge("state folder", False, f"{project.state}: {error.strerror}", remedy)
    return judge("state folder", True, f"{project.state} is writable", remedy)


def disk_space(project: Project) -> Finding:
    """Whether the journals may grow to their bound and leave some room."""
    used = sum(journal_sizes(project).values())
    wanted_mb = max(0, project.config.serve.journal_mb - used // MIB) + SPARE_MB
    free_mb = shutil.disk_usage(nearest_folder(project.state)).free // MIB
    remedy = "free some space (`rdv artifacts gc`), or lower serve.journal_mb"
    return judge("disk space", free_mb >= wanted_mb, f"{free_mb:,} MB free, {wanted_mb:,} may be needed", remedy)


def nearest_folder(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def open_files(project: Project) -> Finding:
    """Whether the gateway may hold as many connections as it may have requests in flight."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = project.config.serve.max_in_flight + 512
    good = hard == resource.RLIM_INFINITY or hard >= wanted
    return judge("open files", good, f"{hard:,} allowed, {wanted:,} wanted", f"raise the hard limit to {wanted:,}")


def registry(project: Project) -> Finding:
    """Whether the registry opens and every value in it can be read."""
    from rdv.backends import select
    from rdv.cli.stored import registered

    versions, pointers = registered(select.registry(project))
    return judge("registry", True, f"{len(versions)} versions, {len(pointers)} models released", "")


def artifacts(project: Project) -> Finding:
    """Whether every version that may be served at once is stored as its manifest says."""
    from rdv.backends import select
    from rdv.cli.retention import released
    from rdv.cli.stored import registered

    store = select.artifacts(project)
    versions, pointers = registered(select.registry(project))
    needed = released(pointers)
    unknown = needed - {(one.model, one.version) for one in versions}
    problems = [f"{model} points to {version}, which is not published" for model, version in sorted(unknown)]
    for one in versions:
        if (one.model, one.version) in needed:
            problems += [f"{one.model} {one.version}: {problem}" for problem in store.verify(one.artifact)]
    found = "; ".join(problems) or f"{len(needed)} current and previous versions are whole"
    return judge(
        "artifacts", not problems, found, "train again, then `rdv deploy MODEL`; `rdv artifacts verify` tells all"
    )


def release_times(project: Project) -> Finding:
    """Whether the wall clock is not behind what has been released already."""
    from rdv.cli.recorded import release_sheet

    moments = [
        datetime.fromisoformat(one["at"]) for one in release_sheet(project, sorted(project.config.models)) if one["at"]
    ]
    ahead_s = max(((moment - datetime.now(UTC)).total_seconds() for moment in moments), default=0.0)
    found = f"{len(moments)} releases" + (f", the newest {ahead_s:.0f} s from now" if ahead_s > 0 else "")
    return judge("release times", ahead_s <= AHEAD_S, found, "set this machine's clock")


def journals(project: Project) -> Finding:
    """Whether the journals together stay within serve.journal_mb."""
    sizes = journal_sizes(project)
    used_mb, bound_mb = sum(sizes.values()) / MIB, project.config.serve.journal_mb
    found = f"{used_mb:.1f} of {bound_mb:,} MB in {len(sizes)} segments"
    good = used_mb <= bound_mb + project.config.serve.segment_mb
    return judge("journals", good, found, "start `rdv serve` again: it trims them as it writes")


def journal_sizes(project: Project) -> dict[Path, int]:
    """Bytes of every segment of every journal; one that goes meanwhile is left out."""
    found = {}
    for path in (project.state / "journal").rglob("*.seg"):
        try:
            found[path] = path.stat().st_size
        except FileNotFoundError:
            continue
    return found


def process_records(project: Project) -> Finding:
    """Whether every record of a running process is of one that lives."""
    from rdv.serving.processes.records import SUFFIX, read_records, records_folder

    live = read_records(project.run_folder)
    stale = len(list(records_folder(project.run_folder).glob(f"*{SUFFIX}"))) - len(live)
    found = f"{len(live)} processes run, {stale} records are of processes that are gone"
    return judge("process records", stale <= 0, found, "start `rdv serve`: it clears them away")


def port(project: Project) -> Finding:
    """Whether the gateway's port is free, or taken by a gateway of this project."""
    serve = project.config.serve
    try:
        with socket.create_server((serve.host, serve.port), family=family(serve.host)) as server:
            return judge("port", True, f"{serve.host}:{serve.port or server.getsockname()[1]} is free", "")
    except OSError as error:
        mine = serve.port in our_ports(project)
        taken = f"{serve.host}:{serve.port}: {error.strerror}"
        found = f"{serve.host}:{serve.port} is served by this project" if mine else taken
        return judge("port", mine, found, "choose another: `rdv serve --set serve.port=...`, 0 for any free one")


def family(host: str) -> socket.AddressFamily:
    """The address family of a host to listen on."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def our_ports(project: Project) -> set[int]:
    """The ports on which gateways of this project answer now."""
    from rdv.serving.status import read_status

    try:
        return {int(view["port"]) for view in read_status(project).gateways}
    except (RdvError, KeyError, json.JSONDecodeError):
        return set()
