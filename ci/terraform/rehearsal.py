"""Modules whose resources only hold their arguments: Terraform itself evaluates them where no provider is to be had."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from hcl import load
from modules import blocks

_DROPPED = {"lifecycle", "provider"}
_KEPT = {"count", "for_each", "depends_on"}


def rehearse(terraform: str, folder: pathlib.Path, root: str, into: pathlib.Path, values: Mapping[str, Any]) -> Any:
    """What Terraform makes of a root module below a folder, with these variables: its planned values, applied.

    values: beside those of the root's example.tfvars, whose place they take. into: a folder for the copy. Raises
    CalledProcessError, with Terraform's words in `stderr`.
    """
    copy = into / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "__pycache__"))
    for file in sorted(copy.rglob("*.tf")):
        file.with_suffix(".tf.json").write_text(json.dumps(held(file), indent=1))
        file.unlink()
    at = copy / root
    (at / "example.tfvars").rename(at / "a.auto.tfvars")
    (at / "values.auto.tfvars.json").write_text(json.dumps(values))
    for command in ("init -input=false", "apply -auto-approve -input=false", "plan -detailed-exitcode -input=false"):
        run(terraform, at, *command.split())
    return json.loads(run(terraform, at, "show", "-json"))["values"]


def run(terraform: str, at: pathlib.Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """What Terraform prints. Raises CalledProcessError with all that it said."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    clean |= {"TF_CLI_CONFIG_FILE": os.devnull, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1", **(env or {})}
    command = [terraform, *arguments, *([] if "-json" in arguments else ["-no-color"])]
    done = subprocess.run(command, cwd=at, env=clean, capture_output=True, text=True)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, arguments, done.stdout, f"{done.stdout}\n{done.stderr}")
    return done.stdout


def resources(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The arguments of every resource in some values, by the address that it has in the real modules."""
    return {address: dict(one["input"]) for address, one in _everything(values).items()}


def ids(values: Mapping[str, Any]) -> dict[str, str]:
    """The address of the resource that has an id."""
    return {one["id"]: address for address, one in _everything(values).items()}


def _everything(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}

    def look(module: Mapping[str, Any]) -> None:
        for one in module.get("resources", ()):
            found[one["address"].replace("terraform_data.", "").replace("__", ".", 1)] = one["values"]
        for child in module.get("child_modules", ()):
            look(child)

    look(values["root_module"])
    return found


def held(file: pathlib.Path) -> dict[str, Any]:
    """A file in Terraform's JSON, with each resource as a `terraform_data` that holds its arguments."""
    told = load(file)
    made: dict[str, Any] = {key: {} for key in ("variable", "output", "module", "locals")}
    for kind in ("variable", "output", "module"):
        for (name,), one in blocks(told, kind):
            made[kind][name] = _rewritten({key: value for key, value in one.items() if key != "providers"})
            if "type" in one:
                made[kind][name]["type"] = _inside(one["type"])
    for one in told.get("locals", ()):
        made["locals"] |= _rewritten(one)
    data = {f"{kind}__{name}": _held(one) for (kind, name), one in blocks(told, "resource")}
    if data:
        made["resource"] = {"terraform_data": data}
    return {key: value for key, value in made.items() if value}


def _held(one: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in one.items() if key in _KEPT}
    if "depends_on" in kept:
        names = _inside(_rewritten(kept["depends_on"])).strip("[]").split(",")
        kept["depends_on"] = [name.strip() for name in names]
    rest = {key: value for key, value in one.items() if key not in _KEPT | _DROPPED | {"dynamic"}}
    for (name, told), *_ in (list(each.items()) for each in one.get("dynamic", ())):
        (content,) = told["content"]
        inner = ", ".join(f"{key} = {_expression(value)}" for key, value in content.items())
        each = f"[for v in {_expression(told['for_each'])} : {{ value = v }}]"
        rest[name] = f"${{[for {name} in {each} : {{ {inner} }}]}}"
    rewritten = {key: value if key == "depends_on" else _rewritten(value) for key, value in kept.items()}
    return {**rewritten, "input": _rewritten(rest)}


_REFERENCE = re.compile(r"(?<![\w.])((?:consul|vault|nomad|aws)_\w+)\.(\w+)((?:\[[^\]]*\])*)(\.\w+)?")


def _rewritten(told: Any) -> Any:
    """The same with references to resources as references to what holds their arguments."""
    if isinstance(told, dict):
        return {key: _rewritten(one) for key, one in told.items()}
    if isinstance(told, list):
        return [_rewritten(one) for one in told]
    return _REFERENCE.sub(_reference, told) if isinstance(told, str) and "${" in told else told


def _reference(found: re.Match[str]) -> str:
    kind, name, index, attribute = found.groups(default="")
    if attribute not in ("", ".id"):
        attribute = f".output{attribute}"
    return f"terraform_data.{kind}__{name}{index}{attribute}"


def _inside(text: str) -> str:
    return text[2:-1] if text.startswith("${") else text


def _expression(value: Any) -> str:
    return _inside(value) if isinstance(value, str) and value.startswith("${") else json.dumps(value)
