"""Options that several commands share, and the project that they choose."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rdv.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from rdv.config import Project

Command = TypeVar("Command", bound=Callable[..., Any])

FORMATS = ("table", "json", "jsonl", "md")


class Named(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.4 on
    """A name from a section of rdv.toml, offered by shell completion and not checked here."""

    def __init__(self, section: str) -> None:
        self.section, self.name = section, section.rstrip("s")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        folder = ctx.params.get("folder") or Path.cwd()
        return [CompletionItem(name) for name in names(self.section, Path(folder)) if name.startswith(incomplete)]


MODEL = Named("models")
GOAL = Named("goals")


def names(section: str, folder: Path) -> list[str]:
    """The names under a section of the nearest rdv.toml at or above a folder; none when there is no readable file."""
    import tomllib

    for place in (folder, *folder.absolute().parents):
        file = place / "rdv.toml"
        if file.is_file():
            try:
                found = tomllib.loads(file.read_text()).get(section, {})
            except (OSError, ValueError):
                return []
            return sorted(found) if isinstance(found, dict) else []
    return []


def pairs(items: Iterable[str], option: str) -> dict[str, str]:
    """`KEY=VALUE` texts as a dict; UsageError names the option and the text that is none."""
    made = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{option} {item!r} is not KEY=VALUE", f"for example `{option} serve.port=8081`")
        made[key.strip()] = value.strip()
    return made


def settings(command: Command) -> Command:
    """Add --project, --env and --set, handed to the command as `folder`, `env` and `overrides`."""

    @click.option("--project", "folder", type=click.Path(path_type=Path), help="Folder at or below rdv.toml.")
    @click.option("--env", default="", help="Environment of rdv.toml (or set RDV_ENV); local unless told otherwise.")
    @click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Override a value of rdv.toml; repeatable.")
    @functools.wraps(command)
    def with_settings(*args: Any, sets: tuple[str, ...], **kwargs: Any) -> Any:
        return command(*args, overrides=pairs(sets, "--set"), **kwargs)

    return with_settings  # type: ignore[return-value]


def project(command: Command) -> Command:
    """Add --project, --env and --set, and hand the command the `project` that they choose."""

    @settings
    @functools.wraps(command)
    def with_project(*args: Any, folder: Path | None, env: str, overrides: dict[str, str], **kwargs: Any) -> Any:
        from rdv.settings import load_project

        return command(*args, project=load_project(folder, env, overrides), **kwargs)

    return with_project  # type: ignore[return-value]


def output(command: Command) -> Command:
    """Add -o, handed to the command as `form`."""
    option = click.option(
        "-o", "--output", "form", type=click.Choice(FORMATS), default="table", help="How to print. [table]"
    )
    return option(command)


def yes(command: Command) -> Command:
    """Add --yes, handed to the command as `yes`."""
    return click.option("--yes", is_flag=True, help="Do it without asking.")(command)


def confirm(question: str, yes: bool) -> None:
    """Return when the user agrees; Interrupted when not, UsageError when there is nobody to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is here to answer", "add --yes to go on without asking")
    if not click.confirm(question, err=True):
        raise Interrupted("nothing was changed")


def require_model(project: Project, model: str) -> None:
    """Raise NotFound, naming the nearest, when rdv.toml has no such model."""
    from rdv.cli.groups import nearest
    from rdv.errors import NotFound

    if model not in project.config.models:
        known = sorted(project.config.models)
        raise NotFound(f"rdv.toml has no model {model!r}{nearest(model, known)}", "see `rdv models list`")
