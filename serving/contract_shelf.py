"""Where it is kept what consumers expect: create-only rows of an artifact store, folders beside rdv.toml.

`@contracts/<provider>/<goal>/<consumer>/<number>`: the newest of a consumer and goal counts; `{}` withdraws it. The
provider is a project, or a service that projects call, which has no goals.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from rdv.backends import select
from rdv.backends.ports import Blobs
from rdv.config import Project
from rdv.errors import InputError, NotFound, UsageError
from rdv.schema import load_schema
from rdv.serving.contracts import Contract, Violation, read_contract, strangers, violations

PREFIX = "@contracts/"
WITHDRAWN = b"{}"
FOLDER = "contracts/consumers"
OWN_FOLDER = "contracts/own"
_NO_GOAL = "@"
"""The segment of those who have no goals; no name is encoded as this."""
_PLAIN = re.compile(rb"[A-Za-z0-9._-]")
_MAX_NAME = 200
_TAKEN = (".", "..", "attempts", "manifest.json")
"""Segments that mean something else in a store."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A contract in the store. goal: empty for a service without goals. number: 1 for a consumer's first with it;

    withdrawn: it expects nothing now.
    """

    goal: str
    consumer: str
    number: int
    digest: str
    interactions: int
    withdrawn: bool = False


class Shelf:
    """What is expected of one provider, in a store that others may use as well."""

    def __init__(self, blobs: Blobs, provider: str) -> None:
        self._blobs, self._prefix = blobs, f"{PREFIX}{_encoded(provider)}/"

    @classmethod
    def of(cls, project: Project, provider: str = "") -> Shelf:
        """The shelf of a provider in the store of a project's environment; by default the project's own."""
        return cls(select.blobs(project), provider or project.name)

    def publish(self, contract: Contract, goal: str) -> tuple[Row, bool]:
        """Make a contract the one that counts for its consumer and a goal; its row, and whether that was new.

        LostRace when somebody else publishes for the same consumer at this moment.
        """
        number, data = self._newest(goal, contract.consumer)
        new = data != contract.data
        if new:
            number += 1
            self._blobs.create(self._key(goal, contract.consumer, number), contract.data)
        return _row(goal, contract, number), new

    def withdraw(self, goal: str, consumer: str) -> Row:
        """Have a consumer expect nothing of a goal any more; NotFound when it does not expect anything."""
        number, data = self._newest(goal, consumer)
        if data in (b"", WITHDRAWN):
            told = f"consumer {consumer!r} has no contract{f' with {goal}' if goal else ''}"
            raise NotFound(told, "see `rdv contract list`")
        self._blobs.create(self._key(goal, consumer, number + 1), WITHDRAWN)
        return Row(goal=goal, consumer=consumer, number=number + 1, digest="", interactions=0, withdrawn=True)

    def rows(self, goal: str = "") -> list[Row]:
        """The contracts that count, by goal and consumer, those that were withdrawn among them."""
        return [
            Row(goal=at, consumer=consumer, number=number, digest="", interactions=0, withdrawn=True)
            if data == WITHDRAWN
            else _row(at, read_contract(data, key), number)
            for at, consumer, number, key, data in self._current(goal)
        ]

    def contracts(self, goal: str = "") -> list[Contract]:
        """The contracts that count, each once."""
        found = {data: key for _, _, _, key, data in self._current(goal) if data != WITHDRAWN}
        return [read_contract(data, key) for data, key in found.items()]

    def _current(self, goal: str) -> list[tuple[str, str, int, str, bytes]]:
        newest: dict[tuple[str, str], str] = {}
        for key in self._blobs.keys(self._prefix + (f"{_encoded(goal)}/" if goal else "")):
            at, consumer, _ = key.removeprefix(self._prefix).split("/")
            newest[at, consumer] = key  # keys come sorted
        made = []
        for (at, consumer), key in newest.items():
            data = self._blobs.read(key)
            if data is not None:
                of = "" if at == _NO_GOAL else _decoded(at)
                made.append((of, _decoded(consumer), int(key.rpartition("/")[2]), key, data))
        return made

    def _newest(self, goal: str, consumer: str) -> tuple[int, bytes]:
        keys = list(self._blobs.keys(self._key(goal, consumer)))
        if not keys:
            return 0, b""
        return int(keys[-1].rpartition("/")[2]), self._blobs.read(keys[-1]) or b""

    def _key(self, goal: str, consumer: str, number: int = 0) -> str:
        name = _encoded(consumer)
        if len(name) > _MAX_NAME:
            raise InputError(f"the consumer's name {consumer[:40]!r}... is too long", f"at most {_MAX_NAME} characters")
        return f"{self._prefix}{_encoded(goal) if goal else _NO_GOAL}/{name}/" + (f"{number:08d}" if number else "")


def folder_contracts(path: Path) -> list[Contract]:
    """The contracts in a file, or in all JSON files below a folder; InputError when there is none."""
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    try:
        found = [read_contract(file.read_bytes(), str(file)) for file in files]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "name a pact file, or a folder of them") from None
    if not found:
        raise InputError(f"{path} holds no contract", "pact files end in .json")
    return found


def contracts_of_others(project: Project, provider: str) -> list[Contract]:
    """What is recorded for a service that projects call: in the store, and in `contracts/own`, each once."""
    local = [one for one in _local(project, OWN_FOLDER) if one.provider == provider]
    return list({one.data: one for one in [*local, *Shelf.of(project, provider).contracts()]}.values())


def _local(project: Project, name: str) -> list[Contract]:
    """The contracts in a folder of a project, which need not be there."""
    folder = project.folder / name
    return folder_contracts(folder) if folder.is_dir() and any(folder.rglob("*.json")) else []


def all_contracts(project: Project, goal: str = "", stored: bool = True) -> list[Contract]:
    """What is recorded for a project: in its environment's store and in `contracts/consumers`, each once.

    stored: whether the store is asked at all.
    """
    local, kept = _local(project, FOLDER), Shelf.of(project).contracts(goal) if stored else []
    found = {one.data: one for one in [*local, *kept] if not goal or goal in one.goals}
    return list(found.values())


def broken_contracts(project: Project, goal: str = "", contracts: list[Contract] | None = None) -> list[Violation]:
    """What the project's schemas, as they are in its folder now, would break of what consumers expect.

    contracts: those that are looked at; all that are recorded for the environment, when None.
    """
    looked_at = all_contracts(project, goal) if contracts is None else contracts
    goals = project.config.goals
    found = strangers(looked_at, [*goals]) if not goal else []
    for name in [goal] if goal else goals:
        if any(name in one.goals for one in looked_at):
            found += violations(name, goals[name], load_schema(goals[name], project.folder), looked_at)
    return found


def _row(goal: str, contract: Contract, number: int) -> Row:
    count = sum(one.goal == goal for one in contract.interactions) if goal else len(contract.interactions)
    return Row(goal=goal, consumer=contract.consumer, number=number, digest=contract.digest, interactions=count)


def _encoded(name: str) -> str:
    """A name as a segment of a key, reversibly: anything but plain characters as ~ and two hexadecimal digits."""
    made = "".join(chr(byte) if _PLAIN.fullmatch(bytes([byte])) else f"~{byte:02X}" for byte in name.encode())
    return f"~{ord(made[0]):02X}{made[1:]}" if made in _TAKEN else made


def _decoded(segment: str) -> str:
    return re.sub(rb"~([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), segment.encode()).decode()
