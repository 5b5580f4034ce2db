"""The keys of `rdv.toml`: how they are written, which ones there are, and which value each one takes.

A key is a tuple of segments, `("goals", "visit", "budget_ms")`. Everything here is read off the declaration in
`rdv.config`; nothing else knows a key's name.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

import msgspec

from rdv.config import Config
from rdv.errors import ConfigError

Key = tuple[str, ...]
REQUIRED = object()
LOCAL = "local"
EMPTY: Mapping[str, Any] = MappingProxyType({})
_BARE = re.compile(r"[A-Za-z0-9_/-]+")
_SEGMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^."]+)')


class Slot(msgspec.Struct, frozen=True):
    """A place that can hold a value: its key, the type it takes, its default (REQUIRED when it has none)."""

    key: Key
    kind: Any
    default: Any


def key_text(key: Key) -> str:
    """A key as people write it: segments joined by dots, quoted where a segment holds anything unusual."""
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part) for part in key)


def parse_key(text: str) -> Key:
    """The key that some text names; quotes keep dots inside a segment. ConfigError when it names none."""
    parts: list[str] = []
    at = 0
    while found := _SEGMENT.match(text, at):
        parts.append(found[2] if found[2] is not None else json.loads(found[0]))
        at = found.end()
        if at == len(text):
            return tuple(parts)
        if text[at] != ".":
            break
        at += 1
    raise ConfigError(f"{text!r} is not a key", "write it like goals.visit.budget_ms")


def environment_name(key: Key) -> str:
    """The environment variable that sets a key: RDV_ and the path, each non-alphanumeric run one underscore."""
    return "RDV_" + re.sub("[^A-Z0-9]+", "_", ".".join(key).upper())


def nearest(word: str, known: Sequence[str]) -> str:
    """The known word that looks most like this one, "" when none does."""
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else ""


def is_table(kind: Any) -> bool:
    """Whether a type holds further keys (a declared table, or names chosen by the user) instead of one value."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) or get_origin(kind) is dict


def _members(kind: Any) -> Mapping[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(kind)}


def slots(tree: Mapping[str, Any], kind: Any = Config, key: Key = ()) -> Iterator[Slot]:
    """Every place there is for the names that `tree` uses; the environment `local` is always one of them."""
    if get_origin(kind) is dict:
        inner = get_args(kind)[1]
        names = [*tree, *([LOCAL] if key == ("environments",) and LOCAL not in tree else [])]
        for name in names:
            if is_table(inner):
                yield from slots(_table(tree.get(name, {}), (*key, name)), inner, (*key, name))
            else:
                yield Slot((*key, name), inner, REQUIRED)
        return
    for name, field in _members(kind).items():
        if is_table(field.type):
            yield from slots(_table(tree.get(name, {}), (*key, name)), field.type, (*key, name))
        else:
            yield Slot((*key, name), field.type, REQUIRED if field.required else msgspec.to_builtins(field.default))


def flatten(tree: Mapping[str, Any], kind: Any = Config, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """The values of a tree by key; ConfigError names an unknown key, or a value where a table belongs."""
    members = None if get_origin(kind) is dict else _members(kind)
    for name, value in tree.items():
        inner = get_args(kind)[1] if members is None else _member(members, name, key).type
        if is_table(inner):
            yield from flatten(_table(value, (*key, name)), inner, (*key, name))
        else:
            yield (*key, name), value


def unflatten(values: Mapping[Key, Any], base: Mapping[str, Any] = EMPTY) -> dict[str, Any]:
    """The tree that has these values at these keys, and elsewhere what `base` has."""
    tree: dict[str, Any] = copy.deepcopy(dict(base))
    for key, value in values.items():
        table = tree
        for part in key[:-1]:
            table = table.setdefault(part, {})
        table[key[-1]] = value
    return tree


def kind_at(key: Key) -> Any:
    """The type of the value that a key takes; ConfigError when it is unknown or names a whole table."""
    kind: Any = Config
    for at, part in enumerate(key):
        if not is_table(kind):
            raise ConfigError(f"{key_text(key[:at])} is a value, not a table", f"unknown key {key_text(key)}")
        kind = get_args(kind)[1] if get_origin(kind) is dict else _member(_members(kind), part, key[:at]).type
    if is_table(kind):
        raise ConfigError(f"{key_text(key)} is a table", "set its keys one by one")
    return kind


def check_value(key: Key, kind: Any, value: Any) -> None:
    """Raise ConfigError, naming the key down to the list item, unless the value is of the key's type and finite."""
    _check_items(key_text(key), kind, value)
    if _has_non_finite(value):
        raise ConfigError(f"{key_text(key)} holds a number that is not finite", "give a number")
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        what, _, inside = str(error).partition(" - at `$")
        what = what[0].lower() + what[1:].replace("`", "")
        hint = f"one of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else "`rdv config show --origin`"
        raise ConfigError(f"{key_text(key)}{inside.rstrip('`')}: {what}", hint) from None


def value_from_text(kind: Any, text: str) -> Any:
    """The value that a flag's or a variable's text stands for: JSON, plain text where text will do, else a comma list.

    A text that cannot be such a value comes back as it is, for `check_value` to refuse.
    """
    if kind is str:
        return text
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text.split(",") if kind == tuple[str, ...] else text
    if kind == tuple[str, ...] and not isinstance(value, list):
        return text.split(",")
    return text if value is None else value


def _member(members: Mapping[str, msgspec.structs.FieldInfo], name: str, key: Key) -> msgspec.structs.FieldInfo:
    if name in members:
        return members[name]
    raise ConfigError(f"unknown key {key_text((*key, name))}", _suggestion(name, key, list(members)))


def _suggestion(name: str, key: Key, known: Sequence[str]) -> str:
    if close := nearest(name, known):
        return f"did you mean {key_text((*key, close))}?"
    elsewhere = {slot.key[-1]: slot.key for slot in slots({"goals": {"<goal>": {}}, "models": {"<model>": {}}})}
    if close := nearest(name, list(elsewhere)):
        return f"did you mean {'.'.join(elsewhere[close])}?"
    return f"known here: {', '.join(known)}"


def _table(value: Any, key: Key) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise ConfigError(f"{key_text(key)} is a table, not a single value", "set its keys one by one")


def _check_items(text: str, kind: Any, value: Any) -> None:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, Mapping):
        members = _members(kind)
        for name, inner in value.items():
            if name not in members:
                close = nearest(name, list(members))
                hint = f"did you mean {text}.{close}?" if close else f"known here: {', '.join(members)}"
                raise ConfigError(f"unknown key {text}.{name}", hint)
            _check_items(f"{text}.{name}", members[name].type, inner)
    elif get_origin(kind) is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        for at, item in enumerate(value):
            _check_items(f"{text}[{at}]", get_args(kind)[0], item)


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_non_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_has_non_finite(item) for item in value)
    return isinstance(value, float) and not math.isfinite(value)
