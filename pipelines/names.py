"""Names: parameters as canonical text, artifacts named by everything that made them.

The text of a value carries its type, reads back and is safe in a path: 31 is `31`, 31.0 is `31.0`, "31" is
`s.31`; 0.1, 0.10 and 1e-1 are all `0.1`. Strings are normalised to NFC; every character outside
letters, digits, `_`, `-` and `.` is `~` and two hexadecimal digits a byte.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

import msgspec

from rdv.errors import UsageError
from rdv.ids import digest_bytes
from rdv.manifest import Manifest
from rdv.pipelines.periods import Period, parse_period

Value: TypeAlias = "bool | int | float | str | Period | tuple[Value, ...] | None"

SEGMENT_BYTES = 200
HASH_DIGITS = 40
_SCOPE_BYTES = 80
_READABLE_BYTES = SEGMENT_BYTES - HASH_DIGITS - 8
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?", re.ASCII)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_TUPLE = re.compile(r"t(0|[1-9][0-9]*)\.", re.ASCII)
_UNSAFE = re.compile(rb"[^A-Za-z0-9_.-]")
_ESCAPE = re.compile(rb"~([0-9a-f]{2})")
_LEAF = re.compile(r"(?P<readable>.*)-(?P<hash>[0-9a-f]{40})(\.(?P<generation>[1-9][0-9]*))?", re.ASCII)


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides an artifact's bytes, and so its name.

    task: `module:Class`. parameters: canonical text of all of them. upstream: role to digest. code: code version.
    family, scope and `shown` parameters are for people: they are in the name's readable part. generation: 1, and
    one more for each forced rerun.
    """

    task: str
    family: str
    scope: str
    period: str
    parameters: dict[str, str]
    upstream: dict[str, str]
    code: str
    shown: tuple[str, ...] = ()
    generation: int = 1


def canonical(value: object) -> str:
    """The one text of a value, type-tagged, reversible and path-safe; UsageError for NaN, infinity, unknown types."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float_text(float(value))
    if isinstance(value, str):
        return "s." + escape(value)
    if isinstance(value, Period):
        return value.text()
    if isinstance(value, tuple | list):
        return f"t{len(value)}." + "+".join(canonical(item) for item in value)
    raise UsageError(f"a parameter cannot be a {type(value).__name__}", "use numbers, text, true, false, none or lists")


@lru_cache(maxsize=4096)
def parse(text: str) -> Value:
    """The value of a canonical text; UsageError for any text that `canonical` does not write."""
    value, rest = _parse(text)
    if rest or canonical(value) != text:
        raise UsageError(f"{text!r} is not the canonical text of a parameter")
    return value


def parameters_text(parameters: Mapping[str, object]) -> str:
    """All parameters as one canonical text, sorted by name: `learning_rate=0.1,num_leaves=31`."""
    return ",".join(f"{name}={text}" for name, text in canonical_parameters(parameters).items())


def canonical_parameters(parameters: Mapping[str, object]) -> dict[str, str]:
    """Canonical text of each parameter, sorted by name; UsageError names the parameter that has none."""
    made = {}
    for name in sorted(parameters):
        if not _KEY.fullmatch(name):
            raise UsageError(f"{name!r} cannot be the name of a parameter", "use letters, digits, `_`, `-` and `.`")
        try:
            made[name] = canonical(parameters[name])
        except UsageError as error:
            raise UsageError(f"parameter {name}: {error.what}", error.hint) from None
    return made


def parse_parameters(text: str) -> dict[str, Value]:
    """The parameters of a text that `parameters_text` wrote."""
    if not text:
        return {}
    return {name: parse(value) for name, _, value in (part.partition("=") for part in text.split(","))}


def escape(text: str) -> str:
    """Text as letters, digits, `_`, `-`, `.` and `~xx` escapes, after NFC; reads back with `unescape`."""
    try:
        data = unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} holds a character that is no valid Unicode") from None
    return _UNSAFE.sub(lambda found: b"~%02x" % found[0][0], data).decode("ascii")


def unescape(text: str) -> str:
    """The text that `escape` was given, in NFC."""
    try:
        return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode("ascii")).decode()
    except UnicodeError:
        raise UsageError(f"{text!r} is not an escaped text") from None


def segment(text: str) -> str:
    """Any text as one path segment of at most 80 bytes: escaped; a long one is cut and told apart by a hash."""
    safe = escape(text)
    if safe in ("", ".", ".."):
        return "~" + safe.replace(".", "2e~").removesuffix("~")
    if len(safe) <= _SCOPE_BYTES:
        return safe
    return f"{_cut(safe, _SCOPE_BYTES - 14)}~-{digest_bytes(safe.encode())[:12]}"


def key_hash(key: Key) -> str:
    """Forty hexadecimal digits over class path, all parameters, upstream digests and code version."""
    made_of = [key.task, sorted(key.parameters.items()), sorted(key.upstream.items()), key.code]
    return digest_bytes(msgspec.json.encode(made_of))[:HASH_DIGITS]


def artifact_name(key: Key) -> str:
    """The artifact's name: `family/scope/period/<readable>-<hash>`, and `.2`, `.3` ... for forced reruns.

    Every segment is at most 200 bytes of `A-Za-z0-9_.=,+~-`; when the readable part had to be cut it ends in `~`
    and the manifest has the rest.
    """
    shown = [f"{name}={key.parameters[name]}" for name in sorted(key.shown) if name in key.parameters]
    leaf = f"{_readable(shown)}-{key_hash(key)}"
    if key.generation > 1:
        leaf += f".{key.generation}"
    return f"{name_prefix(key)}{leaf}"


def name_prefix(key: Key, period: bool = True) -> str:
    """What the names of all artifacts of the key's family and scope (and period) begin with."""
    scope = "/".join(segment(part) for part in key.scope.split("/"))
    return f"{segment(key.family)}/{scope}/" + (f"{segment(key.period)}/" if period else "")


def readable_parameters(name: str) -> dict[str, Value] | None:
    """The parameters that an artifact's name shows; None when the readable part was cut."""
    found = _LEAF.fullmatch(name.rpartition("/")[2])
    if found is None:
        raise UsageError(f"{name!r} is not the name of an artifact")
    readable = found["readable"]
    return None if readable.endswith("~") else parse_parameters("" if readable == "all" else readable)


def name_hash(name: str) -> str:
    """Forty hexadecimal digits that tell this artifact from every other: the name's own hash, for a forced rerun

    the hash of that with its generation.
    """
    found = _LEAF.fullmatch(name.rpartition("/")[2])
    if found is None:
        raise UsageError(f"{name!r} is not the name of an artifact")
    if not found["generation"]:
        return found["hash"]
    return digest_bytes(f"{found['hash']}.{found['generation']}".encode())[:HASH_DIGITS]


def version_name(name: str, period: Period) -> str:
    """A version's name: the UTC date of its period and twelve digits of its artifact's hash."""
    return f"{period.start:%Y-%m-%d}-{name_hash(name)[:12]}"


def explain_difference(old: Manifest | Key, new: Key) -> list[str]:
    """Which parts of the name changed, each as a short sentence; empty when only the generation did."""
    told = [] if old.task == new.task else [f"the task was {old.task}, is {new.task}"]
    told += _changes(
        "", {k: _plain(v) for k, v in old.parameters.items()}, {k: _plain(v) for k, v in new.parameters.items()}
    )
    told += _changes("input ", _short(old.upstream), _short(new.upstream))
    if old.code != new.code:
        told.append("the code changed")
    return told


def nearest(new: Key, old: Iterable[Manifest]) -> Manifest | None:
    """The artifact whose name differs from the key's in the fewest parts; of equal ones the newest."""
    ranked = ((len(explain_difference(one, new)), one) for one in old)
    best = min(ranked, key=lambda pair: (pair[0], _descending(pair[1].created)), default=None)
    return None if best is None else best[1]


def _descending(text: str) -> tuple[int, ...]:
    return tuple(-ord(character) for character in text)


def _changes(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    told = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            told.append(f"{what}{name} is new: {new[name]}")
        elif name not in new:
            told.append(f"{what}{name} is gone, was {old[name]}")
        elif old[name] != new[name]:
            told.append(f"{what}{name} was {old[name]}, is {new[name]}")
    return told


def _plain(text: str) -> str:
    return unescape(text[2:]) if text.startswith("s.") else text


def _short(digests: Mapping[str, str]) -> dict[str, str]:
    return {role: digest[:12] for role, digest in digests.items()}


def _readable(parts: list[str]) -> str:
    text = ",".join(parts) or "all"
    return text if len(text) <= _READABLE_BYTES else _cut(text, _READABLE_BYTES - 1) + "~"


def _cut(text: str, length: int) -> str:
    """The first characters of an escaped text without half an escape at the end."""
    text = text[:length]
    return text[: text.rindex("~")] if "~" in text[-2:] else text


def _float_text(value: float) -> str:
    if math.isnan(value) or math.isinf(value):
        raise UsageError(f"a parameter cannot be {value}", "use a finite number, or none")
    return repr(value + 0.0).replace("e+", "e")


def _parse(text: str) -> tuple[Value, str]:
    """A value and the text behind it; tuples say how many items follow, so no bracket is needed."""
    if found := _TUPLE.match(text):
        items: list[Value] = []
        rest = text[found.end() :]
        for at in range(int(found[1])):
            if at:
                if not rest.startswith("+"):
                    raise UsageError(f"{text!r} has too few items")
                rest = rest[1:]
            item, rest = _parse(rest)
            items.append(item)
        return tuple(items), rest
    head, plus, tail = text.partition("+")
    return _parse_scalar(head), plus + tail


def _parse_scalar(text: str) -> Value:
    if text in _WORDS:
        return _WORDS[text]
    if text.startswith("s."):
        return unescape(text[2:])
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    period = parse_period(text)
    if period is None:
        raise UsageError(f"{text!r} is not the canonical text of a parameter")
    return period
