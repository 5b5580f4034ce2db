"""Registry values: what a version is, which one is current, and what was released when.

Keys: `models/<model>/versions/<version>` (created once), `models/<model>/current` (moved by check-and-set) and
`models/<model>/releases/<serial>` (created once, one a move of the pointer); `rollouts/<model>/current` (moved by
check-and-set) and `rollouts/<model>/<number>` (created once, at a rollout's end). Values are JSON; none holds a URL, a
host or a credential, and every reader treats them as untrusted input.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import msgspec

from rdv.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)


class Version(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One published version of a model: the artifact's name within its store, and its digest.

    came_from: the environment that it was brought from, and brought: when; empty where it was trained. created and run
    are of the training, wherever that was.
    """

    model: str
    version: str
    artifact: str
    digest: str
    created: str = ""
    metrics: dict[str, float] = {}
    run: str = ""
    came_from: str = ""
    brought: str = ""


class Pointer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `models/<model>/current` says: serve this version; `previous` is where a rollback goes.

    serial: 1 for the first release of the model, one more for each that follows. kind, at, by: of that release, as
    in its row in the log.
    """

    version: str
    previous: str = ""
    serial: int = 1
    kind: str = "deploy"
    at: str = ""
    by: str = ""


class Release(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a model's append-only release log. kind: `deploy`, `promote` or `rollback`. at: UTC, ISO 8601."""

    serial: int
    kind: str
    version: str
    previous: str
    at: str
    by: str = ""


class Pin(msgspec.Struct, frozen=True):
    """A version that a worker was begun for. It serves that one, as `canary_name(MODEL)`, for as long as the pointer's

    serial is below `serial`; from then on it is a worker as any other and follows the pointer.
    """

    version: str
    serial: int


class RolloutState(StrEnum):
    """How a rollout stands; see `rdv.releases.rollout` for the moves. Ended: promoted, rolled_back."""

    PLANNED = "planned"
    CANARY = "canary"
    JUDGED = "judged"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


class Verdict(StrEnum):
    """What a rollout is judged to deserve; `hold`: nothing yet, which is also what no data means."""

    HOLD = "hold"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


class Rollout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One canary deployment of a version of a model, the only one of its model while it is on.

    number: 1 for the model's first, one more for each that follows. serial: of the release that a promotion will be.
    instead_of: the version that was served at its start. canaries: how many workers; share: of subjects, 0..1. at, by:
    its start; changed, changed_by: its last move; reason: why it ended as it did. mark: of its canaries, in the terms
    of whatever runs them.
    """

    model: str
    number: int
    version: str
    serial: int
    instead_of: str
    canaries: int = 1
    share: float = 0.1
    state: RolloutState = RolloutState.PLANNED
    verdict: Verdict = Verdict.HOLD
    at: str = ""
    by: str = ""
    changed: str = ""
    changed_by: str = ""
    reason: str = ""
    mark: str = ""

    @property
    def on(self) -> bool:
        """Whether it has not ended: its canaries are wanted."""
        return self.state not in (RolloutState.PROMOTED, RolloutState.ROLLED_BACK)

    @property
    def answers(self) -> bool:
        """Whether the subjects of its share are to be answered by its canaries."""
        judged_good = self.state is RolloutState.JUDGED and self.verdict is Verdict.PROMOTE
        return self.state is RolloutState.CANARY or judged_good

    @property
    def pin(self) -> Pin:
        """What its canaries were begun for."""
        return Pin(self.version, self.serial)

    @property
    def salt(self) -> str:
        """What tells its assignment of subjects from all others."""
        return f"{self.model}@{self.version}"


CANARY_SUFFIX = "@canary"


def canary_name(model: str) -> str:
    """The name under which a model's canaries answer, beside the model's own workers."""
    return model + CANARY_SUFFIX


def rollout_key(model: str, number: int | None = None) -> str:
    """The registry key of a model's newest rollout, or of an ended one by its number."""
    return f"rollouts/{model}/" + ("current" if number is None else f"{number:08d}")


def version_key(model: str, version: str = "") -> str:
    """The registry key of a version; with no version the prefix of all of a model's versions."""
    return f"models/{model}/versions/{version}"


def pointer_key(model: str) -> str:
    """The registry key of a model's pointer."""
    return f"models/{model}/current"


def release_key(model: str, serial: int | None = None) -> str:
    """The registry key of a release; with no serial the prefix of all of them."""
    return f"models/{model}/releases/" + ("" if serial is None else f"{serial:08d}")


def model_key(key: str) -> tuple[str, str]:
    """The model and the kind (`version`, `release`, `pointer`) that a registry key is of; empty for any other key."""
    path = key.removeprefix("models/")
    if path == key:
        return "", ""
    if path.endswith("/current"):
        return path.removesuffix("/current"), "pointer"
    model, _, kind = path.rpartition("/")[0].rpartition("/")
    kinds = {"versions": "version", "releases": "release"}
    return (model, kinds[kind]) if model and kind in kinds else ("", "")


def encode(record: msgspec.Struct) -> bytes:
    """A record as JSON, the same bytes for the same content."""
    return msgspec.json.encode(record, order="sorted")


def decode(kind: type[T], value: bytes, key: str) -> T:
    """A record from a registry value; ConfigError names the key when the value is not one."""
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"registry key {key} does not hold a {kind.__name__}: {error}", "see `rdv doctor`") from None
