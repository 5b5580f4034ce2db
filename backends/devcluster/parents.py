"""The jobs that steps are dispatched from, registered ahead in every environment of a dev cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rdv.config import Train


def register_parents(places: Iterable[str], folder: Path, say: Callable[[str], object]) -> None:
    """Register the parent job of each usual resource class at places in Nomad; what is there as it ought to be stays.

    What a project has beside (its task classes, other sizes of steps) it registers by `rdv jobs register`.
    """
    try:
        from rdv.backends.nomad.jobs import NomadJobs
    except ModuleNotFoundError as error:
        say(f"{error.name} is not installed, so no jobs were registered: pip install 'rdv[cluster]'")
        return

    def register(place: str) -> None:
        NomadJobs(folder, place).register(Train().memory_mb, ())

    listed = list(places)
    with ThreadPoolExecutor(len(listed)) as pool:
        list(pool.map(register, listed))
