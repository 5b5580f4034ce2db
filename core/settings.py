"""A project's configuration: found, read, merged and explained."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from rdv.config import Config, Project
from rdv.errors import ConfigError
from rdv.settings_check import check
from rdv.settings_keys import (
    LOCAL,
    REQUIRED,
    Key,
    Slot,
    check_value,
    environment_name,
    flatten,
    key_text,
    kind_at,
    nearest,
    parse_key,
    slots,
    unflatten,
    value_from_text,
)
from rdv.settings_merge import Layer, Merged, merge

__all__ = ["FILE", "RESERVED", "Setting", "check", "explain", "find_project", "kept", "load_project"]

FILE = "rdv.toml"
MASK = "********"
RESERVED: Mapping[str, str] = MappingProxyType(
    {
        "RDV_ENV": "the environment, as --env",
        "RDV_CI": "1: what may be absent on a laptop must be there, else tests fail instead of skipping",
        "RDV_DEBUG": "1: the command shows a traceback beside its error",
        "RDV_LIVE": "1: the tests that need real servers run, and fail where one is absent",
        "RDV_STATE": "the folder of what rdv keeps, instead of .rdv beside rdv.toml",
        "RDV_SERVERS": "the folder of the servers that `make servers` builds",
    }
)
"""Environment variables that are no configuration keys, with their meaning."""

SECRET_PREFIX = "RDV_SECRET_"
"""How the names of environment variables begin that hold secrets, see `rdv.backends.secrets_env`."""

PIPELINE_PREFIX = "RDV_CI_"
"""How the names of environment variables begin that a pipeline's stages read, see `rdv ci`."""

NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})
_SECRET = re.compile(r"(?i)(secret|passw|token|credential|api_?key|private_?key|access_?key)")
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]*@")
# names of folders and files that the local environment keeps in `.rdv`, where `.rdv/<env>` would be
_TAKEN = frozenset({"artifacts", "cache", "journal", "locks", "registry.sqlite", "run", "runs", "serving"})
_ENV_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Setting(msgspec.Struct, frozen=True):
    """One value that holds and where it came from; values that look secret are masked."""

    key: str
    value: Any
    origin: str


def load_project(
    folder: Path | None = None,
    env: str = "",
    overrides: Mapping[str, str] = NO_OVERRIDES,
    environ: Mapping[str, str] = os.environ,
) -> Project:
    """The project whose `rdv.toml` is in `folder` (default: here) or above it, with its configuration merged.

    env: the environment's name, else RDV_ENV, else `local`. overrides: key to text, as `--set key=text` gives them.
    Raises ConfigError naming the key: unknown, missing, of the wrong type, or ambiguous in the environment.
    """
    place = find_project(folder)
    merged = _merged(place, overrides, environ)
    config = msgspec.convert(unflatten({key: one.value for key, one in merged.items()}), Config)
    return Project(place, config, _environment(env or environ.get("RDV_ENV", "") or LOCAL, config), kept(environ))


def kept(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The folder that RDV_STATE names for a project's state; None when it is the project's own."""
    return Path(environ["RDV_STATE"]).absolute() if environ.get("RDV_STATE") else None


def explain(
    folder: Path | None = None,
    env: str = "",
    overrides: Mapping[str, str] = NO_OVERRIDES,
    environ: Mapping[str, str] = os.environ,
) -> list[Setting]:
    """Every setting of a project with its origin, sorted by key; the same arguments and errors as `load_project`."""
    project = load_project(folder, env, overrides, environ)
    merged = _merged(project.folder, overrides, environ)
    return [Setting(key_text(key), _masked(key, one.value), one.origin) for key, one in sorted(merged.items())]


def find_project(folder: Path | None = None) -> Path:
    """The nearest folder with an `rdv.toml`, from `folder` (default: here) upwards; ConfigError when there is none."""
    start = (folder or Path.cwd()).resolve()
    for place in (start, *start.parents):
        if (place / FILE).is_file():
            return place
    raise ConfigError(f"no {FILE} in {start} or above it", "`rdv init` makes one")


def _merged(place: Path, overrides: Mapping[str, str], environ: Mapping[str, str]) -> dict[Key, Merged]:
    read = _read(place / FILE)
    try:
        file = Layer(FILE, dict(flatten(read)))
    except ConfigError as error:
        raise ConfigError(f"{error.what} in {place / FILE}", error.hint) from None
    flags = _flags(overrides)
    named = list(slots(unflatten(flags.values, read)))
    defaults = Layer("default", {slot.key: slot.default for slot in named if slot.default is not REQUIRED})
    merged = merge([defaults, file, _environment_layer(named, environ), flags])
    for slot in named:
        if slot.key not in merged:
            raise ConfigError(f"{key_text(slot.key)} is not set", f"add it to {place / FILE}")
        try:
            check_value(slot.key, slot.kind, merged[slot.key].value)
        except ConfigError as error:
            raise ConfigError(f"{error.what} (from {merged[slot.key].origin})", error.hint) from None
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", "mend that place") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None


def _flags(overrides: Mapping[str, str]) -> Layer:
    values: dict[Key, Any] = {}
    for text, value in overrides.items():
        key = parse_key(text)
        values[key] = value_from_text(kind_at(key), value)
    return Layer("flag --set", values)


def _environment_layer(named: list[Slot], environ: Mapping[str, str]) -> Layer:
    by_name: dict[str, Slot] = {}
    for slot in named:
        name = environment_name(slot.key)
        taken = key_text(by_name[name].key) if name in by_name else RESERVED.get(name, "")
        if taken:
            raise ConfigError(f"{key_text(slot.key)} and {taken} are both {name} in the environment", "rename one")
        by_name[name] = slot
    values: dict[Key, Any] = {}
    origins: dict[Key, str] = {}
    for name, text in environ.items():
        others = name in RESERVED or name.startswith((SECRET_PREFIX, PIPELINE_PREFIX))
        if not name.startswith("RDV_") or others or not text:
            continue
        if name not in by_name:
            close = nearest(name, [*by_name, *RESERVED])
            hint = f"did you mean {close}?" if close else "unset it; `rdv config show` lists the keys"
            raise ConfigError(f"environment variable {name} sets no key of {FILE}", hint)
        slot = by_name[name]
        values[slot.key], origins[slot.key] = value_from_text(slot.kind, text), f"environment {name}"
    return Layer("environment", values, origins)


def _environment(env: str, config: Config) -> str:
    if env not in config.environments:
        known = ", ".join(sorted(config.environments))
        raise ConfigError(f"no environment {env!r} in {FILE}", f"known: {known}; or add [environments.{env}]")
    if not _ENV_NAME.fullmatch(env) or env in _TAKEN:
        raise ConfigError(f"{env!r} cannot name an environment", "use another short lower-case name")
    return env


def _masked(key: Key, value: Any) -> Any:
    if _SECRET.search(key[-1]) and value not in ("", None):
        return MASK
    return _URL_PASSWORD.sub(rf"\1:{MASK}@", value) if isinstance(value, str) else value
