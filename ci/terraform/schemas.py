"""What the official providers' resources take, from the descriptions of types in published packages."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

LIST = pathlib.Path(__file__).with_name("providers.txt")
_PAGE = re.compile(
    r"registry\.terraform\.io/providers/(?P<source>[\w-]+/[\w-]+)/(?P<version>[\d.]+)/\S* (?P<name>\w+)\}"
)
_ARGUMENT = re.compile(r"#(?P<name>\w+) \w+#(?P=name)\}")


class NotHere(Exception):
    """The packages can neither be found nor fetched."""


@dataclasses.dataclass(frozen=True)
class Argument:
    """An argument of a resource. kind: string, number, bool, list, map, block or any; block: what a block takes."""

    required: bool
    kind: str
    block: Mapping[str, Argument] = dataclasses.field(default_factory=dict)


Schema = Mapping[str, Argument]


@dataclasses.dataclass
class Schemas:
    """What is known: versions of providers by source, resources by name, providers' own settings by name."""

    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    resources: dict[str, Schema] = dataclasses.field(default_factory=dict)
    providers: dict[str, Schema] = dataclasses.field(default_factory=dict)


def cache() -> pathlib.Path:
    """Where the packages are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base, "rdv", "terraform-schemas")


def fetch(folder: pathlib.Path) -> list[pathlib.Path]:
    """The packages, in a folder; pip checks their digests each time. NotHere when that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    run = subprocess.run([*pip, "-d", folder, "--find-links", folder, "-r", LIST], capture_output=True, text=True)
    if run.returncode:
        raise NotHere(run.stderr.strip() or f"pip ended with {run.returncode}")
    pinned = re.findall(r"^([\w-]+)==([\d.]+)", LIST.read_text(), re.MULTILINE)
    return [next(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")) for name, version in pinned]


def read(packages: list[pathlib.Path]) -> Schemas:
    """The schemas of some packages."""
    found = Schemas()
    for package in packages:
        types = _types(package)
        for one in types.values():
            page = _PAGE.search(one.get("docs", {}).get("summary", ""))
            if one.get("base") not in ("cdktf.TerraformResource", "cdktf.TerraformProvider") or page is None:
                continue
            config = one["initializer"]["parameters"][2]["type"]["fqn"]
            kept = found.providers if one["base"] == "cdktf.TerraformProvider" else found.resources
            kept[page["name"]] = dict(_arguments(types, config))
            found.versions[page["source"]] = page["version"]
    return found


def _types(package: pathlib.Path) -> dict[str, Any]:
    with zipfile.ZipFile(package) as wheel:
        (inner,) = (name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as archive:
            described = archive.extractfile("package/.jsii")
            assert described is not None
            return dict(json.load(described)["types"])


def _arguments(types: Mapping[str, Any], name: str) -> Iterator[tuple[str, Argument]]:
    for one in types[name].get("properties", ()):
        docs = one.get("docs", {})
        named = _ARGUMENT.search(f"{docs.get('summary', '')} {docs.get('remarks', '')}")
        written = named["name"] if named else re.sub(r"([A-Z])", r"_\1", one["name"]).lower()
        kind, inner = _kind(types, one["type"])
        block = dict(_arguments(types, inner)) if inner else {}
        yield written, Argument(not one.get("optional", False), kind, block)


def _kind(types: Mapping[str, Any], told: Mapping[str, Any]) -> tuple[str, str]:
    """The kind of an argument, and the type of what is in it when it is a block."""
    if "union" in told:  # the thing itself, or something that will be it
        kinds = [_kind(types, one) for one in told["union"]["types"]]
        return next((one for one in kinds if one[0] != "any"), ("any", ""))
    if "collection" in told:
        kind, inner = _kind(types, told["collection"]["elementtype"])
        return ("block", inner) if inner else ({"array": "list"}.get(told["collection"]["kind"], "map"), "")
    if "primitive" in told:
        return {"boolean": "bool"}.get(told["primitive"], told["primitive"]), ""
    return ("block", told["fqn"]) if told.get("fqn") in types else ("any", "")
