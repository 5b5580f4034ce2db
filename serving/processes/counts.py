"""How many processes of each role `rdv serve` is to run: a file in the state folder, which it follows."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from rdv.errors import CorruptState
from rdv.files import make_folders, replace_file

REMOVED = -1
"""What is `declared` of a name that is not to be there, whatever rdv.toml says."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """counts: by role, a worker's with its model (`worker churn/lightgbm`). declared: what rdv.toml said when each was

    set: its number holds again as soon as it is another. revision: of the file, grows with every change.
    """

    revision: int = 0
    counts: dict[str, int] = {}
    declared: dict[str, int] = {}

    @property
    def known(self) -> set[str]:
        """The names that are to be there."""
        return {name for name, declared in self.declared.items() if declared != REMOVED}

    def set(self) -> Counts:
        """The same, whatever rdv.toml said by now: for whoever has read it at its own start."""
        return Counts(revision=self.revision, counts=self.counts)

    def of(self, name: str, declared: int) -> int:
        """How many there are to be, rdv.toml saying so many."""
        said = self.declared.get(name, declared)
        return self.counts.get(name, declared) if said in (declared, REMOVED) else declared


def counts_path(state: Path) -> Path:
    """Where the file is."""
    return state / "serving" / "counts.json"


def read_counts(state: Path) -> Counts:
    """What the file says; nothing of its own when there is none."""
    path = counts_path(state)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Counts)
    except FileNotFoundError:
        return Counts()
    except (OSError, msgspec.MsgspecError) as error:
        raise CorruptState(f"{path} cannot be read: {error}", "delete it; rdv.toml's numbers hold then") from error


@contextmanager
def changing(state: Path) -> Iterator[Counts]:
    """What the file says, while nobody else changes it; see `write_counts`."""
    make_folders(counts_path(state).parent)
    with (counts_path(state).parent / "counts.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield read_counts(state)


def write_counts(state: Path, counts: Counts) -> None:
    """Make the file say this; within `changing`."""
    replace_file(counts_path(state), msgspec.json.encode(counts), 0o600)
