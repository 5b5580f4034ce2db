"""Terraform's files as data, and what is wrong with them by the schemas and by our own rules."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hcl import load
from schemas import Argument, Schema, Schemas

ALWAYS = {"count", "for_each", "depends_on", "lifecycle", "provider"}
# rdv writes keys and jobs, people make tokens and secrets: none of these may be in a state
NOT_OURS = {
    "consul_acl_token", "consul_key_prefix", "consul_keys", "nomad_acl_token", "nomad_job", "nomad_variable",
    "vault_generic_secret", "vault_kv_secret", "vault_kv_secret_v2", "vault_token",
}  # fmt: skip
_KINDS: dict[type, str] = {bool: "bool", int: "number", float: "number"}


def blocks(told: Mapping[str, Any], kind: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Labels and contents of a file's blocks of a kind."""
    labels = {"resource": 2, "data": 2, "variable": 1, "output": 1, "module": 1, "provider": 1}.get(kind, 0)
    for one in told.get(kind, ()):
        names: list[str] = []
        for _ in range(labels):
            ((name, one),) = one.items()
            names.append(name)
        yield names, one


def problems(folder: pathlib.Path, known: Schemas) -> Iterator[str]:
    """What is wrong with the modules below a folder, a line each."""
    for file in sorted(folder.rglob("*.tf")):
        told = load(file)
        for line in _in_file(told, known):
            yield f"{file.relative_to(folder.parent)}: {line}"
    for module in sorted({file.parent for file in folder.rglob("*.tf")}):
        for line in _calls(module):
            yield f"{module.relative_to(folder.parent)}: {line}"


def unchecked(folder: pathlib.Path, known: Schemas) -> list[str]:
    """Resources whose provider's schema is not known."""
    kinds = {labels[0] for file in folder.rglob("*.tf") for labels, _ in blocks(load(file), "resource")}
    return sorted(kind for kind in kinds if kind.split("_")[0] not in known.providers)


def _in_file(told: Mapping[str, Any], known: Schemas) -> Iterator[str]:
    for kind in ("variable", "output"):
        for (name,), one in blocks(told, kind):
            if not one.get("description"):
                yield f"{kind} {name} has no description"
    for (kind, name), one in blocks(told, "resource"):
        if kind in NOT_OURS:
            yield f"{kind}.{name} is not for Terraform's state"
        elif kind in known.resources:
            given = {key: value for key, value in one.items() if key not in ALWAYS}
            yield from _wrong(given, known.resources[kind], f"{kind}.{name}")
        elif kind.split("_")[0] in known.providers:
            yield f"{kind}.{name}: there is no such resource"
    for (name,), one in blocks(told, "provider"):
        if name in known.providers:
            yield from _wrong(one, known.providers[name], f"provider {name}")
    for _, one in blocks(told, "terraform"):
        for name, wanted in (pair for each in one.get("required_providers", ()) for pair in each.items()):
            told = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', wanted))
            version = known.versions.get(told["source"], told["version"])
            if told["version"] != version:
                yield f"provider {name} is {told['version']}, the schema that was checked is of {version}"


def _wrong(given: Mapping[str, Any], schema: Schema, where: str) -> Iterator[str]:
    """What of the given arguments the schema does not know, lacks, or has as another kind."""
    written = {key for key in given if key != "dynamic"}
    nested = [(key, one) for key in written if _is_block(given[key], schema.get(key)) for one in given[key]]
    for (name,), one in ((list(each), list(each.values())[0]) for each in given.get("dynamic", ())):
        written.add(name)
        nested += [(name, content) for content in one["content"]]
    for name in sorted(written - set(schema)):
        yield f"{where}: there is no argument {name}"
    for name in sorted(name for name, one in schema.items() if one.required and name not in written):
        yield f"{where}: {name} is missing"
    for name, content in nested:
        if name in schema:
            yield from _wrong(content, schema[name].block, f"{where}.{name}")
    for name in sorted(written & set(given) & set(schema)):
        kind = _literal(given[name])
        if kind and schema[name].kind not in (kind, "any", "block"):
            yield f"{where}: {name} is a {schema[name].kind}, not a {kind}"


def _is_block(given: Any, argument: Argument | None) -> bool:
    return argument is not None and argument.kind == "block" and isinstance(given, list)


def _literal(given: Any) -> str:
    """The kind of what is written there; empty for an expression."""
    if isinstance(given, str):
        marks = {"${[": "list", "${{": "map"}
        return marks.get(given[:3], "" if given.startswith("${") else "string")
    return _KINDS.get(type(given), "")


def _calls(module: pathlib.Path) -> Iterator[str]:
    """What is wrong with a module's calls of others."""
    for file in sorted(module.glob("*.tf")):
        for (name,), one in blocks(load(file), "module"):
            called = (module / one["source"]).resolve()
            if not called.is_dir():
                yield f"module {name}: there is no {one['source']}"
                continue
            takes = {key: told for other in called.glob("*.tf") for (key,), told in blocks(load(other), "variable")}
            given = set(one) - {"source", "providers", *ALWAYS}
            for key in sorted(given - set(takes)):
                yield f"module {name}: {one['source']} has no variable {key}"
            for key in sorted(key for key, told in takes.items() if "default" not in told and key not in given):
                yield f"module {name}: {key} is missing"
