"""What differs between two versions. Pure: manifests in, differences out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdv.manifest import Manifest

Difference = dict[str, Any]


def differences(one: Manifest, other: Manifest) -> list[Difference]:
    """A record `aspect, name, from, to, change` for all that is not the same in two versions, inputs first.

    change: the second number minus the first, None where there are none.
    """
    return [
        *_changed("input", _inputs(one), _inputs(other)),
        *_changed("made from", one.upstream, other.upstream),
        *_changed("parameter", one.parameters, other.parameters),
        *_changed("code", {"": one.code}, {"": other.code}),
        *_changed("metric", one.metrics, other.metrics),
        *_changed("library", one.libraries, other.libraries),
        *_changed("file", _files(one), _files(other)),
    ]


def _changed(aspect: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({**one, **other}):
        before, after = one.get(name), other.get(name)
        if before != after:
            numbers = isinstance(before, int | float) and isinstance(after, int | float)
            change = after - before if numbers else None  # type: ignore[operator]  # both are numbers here
            yield {"aspect": aspect, "name": name, "from": before, "to": after, "change": change}


def _inputs(manifest: Manifest) -> dict[str, str]:
    fields = manifest.model.inputs.fields if manifest.model else ()
    return {
        field.name: f"{field.type} at {place}" + (f" of {', '.join(field.vocabulary)}" if field.vocabulary else "")
        for place, field in enumerate(fields)
    }


def _files(manifest: Manifest) -> dict[str, str]:
    return {entry.path: entry.sha256[:12] for entry in manifest.files}
