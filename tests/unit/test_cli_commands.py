"""Every command: has help, is in the documents, is found by those who mention it, and costs nothing until called."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from rdv.cli.commands import COMMANDS
from rdv.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "experiments", "backends", "pipelines", "serving", "releases", "cli")
MENTION = re.compile(r"`rdv ([a-z][a-z-]*(?: [a-z][a-z-]*)?)")


def generator() -> ModuleType:
    """The program that writes docs/commands.md."""
    spec = importlib.util.spec_from_file_location("generate_commands", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = generator()
FOUND = {
    context.command_path: command for command, context in GENERATOR.commands(cli, click.Context(cli, info_name="rdv"))
}


def groups() -> dict[str, click.Group]:
    """The groups among the commands."""
    return {path: one for path, one in FOUND.items() if isinstance(one, click.Group)}


@pytest.mark.parametrize("path", sorted(FOUND))
def test_every_command_explains_itself(path: str) -> None:
    """A command has a help page that ends its first sentence, and every option says what it does."""
    command = FOUND[path]
    assert (command.help or "").split("\n")[0].endswith(".")
    for one in command.params:
        assert not isinstance(one, click.Option) or one.help, f"{path} {one.opts}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_overview_says_what_the_command_says(name: str) -> None:
    """The one line in `rdv --help`, which is read without importing the command, is the command's own."""
    assert COMMANDS[name].help == (FOUND[f"rdv {name}"].help or "").split("\n")[0]


def test_the_page_of_commands_is_up_to_date() -> None:
    """docs/commands.md is what `python docs/generate.py` writes."""
    assert GENERATOR.PAGE.read_text() == GENERATOR.page(), "type: python docs/generate.py"


def test_every_reading_command_prints_json() -> None:
    """Whatever shows data takes -o, so that a program can read it."""
    silent = {
        "rdv help", "rdv completion", "rdv logs", "rdv init", "rdv serve", "rdv up", "rdv schedule run",
        "rdv schedule remove", "rdv dev-cluster down", "rdv dev-cluster env", "rdv dev-cluster gitlab",
    }  # fmt: skip
    for path, command in FOUND.items():
        # a stage leaves a record instead
        if not isinstance(command, click.Group) and path not in silent and not path.startswith("rdv ci "):
            assert any("--output" in one.opts for one in command.params), path


def mentions() -> Iterator[tuple[str, str]]:
    """Every command that a string in our code or a document names between backticks, with its place."""
    for room in ROOMS:
        for file in ROOT.joinpath(room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(), str(file))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield from (
                        (f"{file.relative_to(ROOT)}:{node.lineno}", found) for found in MENTION.findall(node.value)
                    )
    for file in (ROOT / "README.md", *ROOT.joinpath("docs").rglob("*.md")):
        yield from ((file.name, found) for found in MENTION.findall(file.read_text()))


def test_every_mentioned_command_exists() -> None:
    """A hint, a help page or a document that tells to type `rdv x y` names a command that there is."""
    wrong = []
    for place, words in mentions():
        first, _, second = words.partition(" ")
        group = groups().get(f"rdv {first}")
        takes_names = first in ("schedule",)
        if f"rdv {first}" not in FOUND or (group and second and not takes_names and second not in group.commands):
            wrong.append(f"{place}: rdv {words}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", sorted(groups()))
def test_a_group_without_its_command_is_a_usage_error(path: str) -> None:
    """A group alone does nothing."""
    from rdv.cli.main import main
    from rdv.errors import Exit

    assert main(path.split()[1:]) == Exit.USAGE


def test_completion_offers_commands_and_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shell completion knows commands, options, and the models and goals of the project at hand."""
    from click.shell_completion import ShellComplete

    (tmp_path / "rdv.toml").write_text(
        '[models."churn/a"]\ngoal = "churn"\n[models."churn/b"]\ngoal = "churn"\n[goals.churn]\n'
    )
    monkeypatch.chdir(tmp_path)
    complete = ShellComplete(cli, {}, "rdv", "_RDV_COMPLETE")
    offered = {tuple(args): [one.value for one in complete.get_completions(list(args), part)] for args, part in (
        ((), "de"), (("train",), ""), (("deploy",), "churn/b"), (("report",), ""), (("train",), "--dr"),
    )}  # fmt: skip
    assert {"demo", "deploy"} <= {one.value for one in complete.get_completions([], "de")}
    assert [one.value for one in complete.get_completions(["train"], "")] == ["churn/a", "churn/b"]
    assert offered[("deploy",)] == ["churn/b"]
    assert offered[("report",)] == ["churn"]
    assert "--dry-run" in [one.value for one in complete.get_completions(["train"], "--dr")]
