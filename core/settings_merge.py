"""Flags > environment > file > default, in one pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rdv.settings_keys import Key


class Layer(msgspec.Struct, frozen=True):
    """Values from one source, and where each came from (`origin` where `origins` does not say)."""

    origin: str
    values: Mapping[Key, Any]
    origins: Mapping[Key, str] = {}


class Merged(msgspec.Struct, frozen=True):
    """A value that holds, and where it came from."""

    value: Any
    origin: str


def merge(layers: Sequence[Layer]) -> dict[Key, Merged]:
    """What holds when later layers win over earlier ones, key by key, in the order in which keys first appear.

    A value is taken or left whole: lists are not joined.
    """
    merged: dict[Key, Merged] = {}
    for layer in layers:
        for key, value in layer.values.items():
            merged[key] = Merged(value, layer.origins.get(key, layer.origin))
    return merged
