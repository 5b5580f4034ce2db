"""The hooks that others may pin are the ones that the scaffold writes, and each is a command that exists."""

import re
from pathlib import Path

import click
import pytest

from rdv.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PINNED = ROOT / ".pre-commit-hooks.yaml"
SCAFFOLDED = ROOT / "cli" / "templates" / "common" / "dot.pre-commit-config.yaml"


def hooks(file: Path) -> dict[str, dict[str, str]]:
    """The hooks of a file by id: their keys, without those that only one kind of file has."""
    found: dict[str, dict[str, str]] = {}
    for line in file.read_text().splitlines():
        key, colon, value = line.strip().removeprefix("- ").partition(": ")
        if line.strip().startswith("- id: "):
            found[value] = {}
        elif colon and found and key not in ("language", "description"):
            found[list(found)[-1]][key] = value
    return found


def test_pinned_and_scaffolded_hooks_are_the_same() -> None:
    """Name, command and files of every hook agree."""
    assert hooks(PINNED) == hooks(SCAFFOLDED)
    assert {"rdv-settings", "rdv-schemas", "rdv-hcl", "rdv-secrets", "rdv-names", "rdv-contracts"} == set(hooks(PINNED))


@pytest.mark.parametrize("name", sorted(hooks(PINNED)))
def test_a_hook_is_a_command(name: str) -> None:
    """What a hook types is taken by the command line, and what it looks at is a pattern."""
    words = hooks(PINNED)[name]["entry"].split()
    assert words[0] == "rdv"
    command: click.Command = cli
    rest, context = words[1:], click.Context(cli)
    while isinstance(command, click.Group):
        found = command.get_command(context, rest[0])
        assert found is not None, rest
        command, rest = found, rest[1:]
    command.make_context(words[1], rest, resilient_parsing=False)
    re.compile(hooks(PINNED)[name].get("files", ""))
