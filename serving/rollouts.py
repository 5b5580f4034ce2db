"""Following the rollouts of models: a gateway's board, which has its desks do what the rows say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from rdv.backends.ports import Entry, Registry
from rdv.errors import ConfigError
from rdv.records import Rollout, decode, rollout_key
from rdv.serving.follow import follow
from rdv.threads import tell_loop

if TYPE_CHECKING:
    from rdv.serving.gateway.desk import Desk

_log = logging.getLogger("rdv.rollouts")


def follow_rollouts(
    registry: Registry, models: Iterable[str], told: Callable[[str, Rollout | None], None], wanted: Callable[[], bool]
) -> None:
    """Have `told` be called in this loop with a model and its newest rollout, now and after every change of it.

    A row that cannot be read changes nothing, nor does a registry that is away.
    """
    loop = asyncio.get_running_loop()

    def take(model: str, entry: Entry | None) -> None:
        try:
            key = rollout_key(model)
            row = decode(Rollout, entry.value, key) if entry is not None else None
        except ConfigError as error:
            _log.warning("the rollout of %s stays as it was: %s", model, error)
            return
        told(model, row)

    for model in models:

        def heard(entry: Entry | None, model: str = model) -> None:
            tell_loop(loop, take, model, entry)

        def failed(error: Exception, model: str = model) -> None:
            _log.warning("the rollout of %s cannot be watched, it stays as it is: %s", model, error)

        follow(registry, rollout_key(model), heard, failed, wanted)


class RolloutBoard:
    """Keeps each desk's trials what the registry says."""

    def __init__(self, desks: Mapping[str, Desk], registry: Registry) -> None:
        self._desks = {model: desk for desk in desks.values() for model in desk.names}
        self._registry, self._wanted = registry, True

    def start(self) -> None:
        """Follow the registry, from threads that end with the process."""
        follow_rollouts(self._registry, self._desks, self.take, lambda: self._wanted)

    def stop(self) -> None:
        """Follow the registry no longer."""
        self._wanted = False

    def take(self, model: str, row: Rollout | None) -> None:
        """Put a model's newest rollout in force."""
        if row is not None:
            told = f"{row.state}, share {row.share:g}" if row.on else row.state.value
            _log.info("rollout %d of %s, version %s: %s", row.number, model, row.version, told)
        self._desks[model].trials.take(model, row)
