"""Check terraform/: its form, its arguments against the providers' schemas, its values, and a real provider's opinion.

What could not be run is printed at the end; where RDV_CI is 1 a missing program or package is a failure.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

import modules
import plugins
import rehearsal
import schemas

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "terraform"
ROOTS = ("shared", "environments/staging", "environments/production")
# what a real run takes from the caller's environment
SECRET = {"nomad_batch_token": "secret", "nomad_services_token": "secret"}
# of the environments, and of what they share
GITLAB = ({"projects": ["group/one", "group/two"]}, {"issuer": "https://gitlab.example"})


class Failed(Exception):
    """A check did not pass."""


class Missing(Exception):
    """Something that a check needs is not on this machine."""


def program() -> str:
    """Where terraform is."""
    found = shutil.which("terraform")
    if not found:
        raise Missing("terraform is not on the PATH")
    return found


def form() -> str:
    """Whether every file is as `terraform fmt` writes it."""
    try:
        rehearsal.run(program(), FOLDER, "fmt", "-check", "-recursive", "-diff")
    except subprocess.CalledProcessError as error:
        raise Failed(f"{error.stderr}\ntype: terraform fmt -recursive terraform") from None
    return "every file is as terraform fmt writes it"


def arguments() -> str:
    """Whether every resource and argument is one that the providers know, and none that they want is missing."""
    try:
        known = schemas.read(schemas.fetch(schemas.cache()))
    except schemas.NotHere as error:
        raise Missing(f"the providers' schemas: {error}") from None
    wrong = list(modules.problems(FOLDER, known))
    if wrong:
        raise Failed("\n".join(wrong))
    versions = ", ".join(f"{name} {version}" for name, version in sorted(known.versions.items()))
    unknown = ", ".join(modules.unchecked(FOLDER, known))
    return f"every argument is known to {versions}; without a schema: {unknown or 'none'}"


def values() -> str:
    """Whether Terraform can evaluate each root with its example's values, and finds nothing to change afterwards.

    Each by itself, and with a GitLab.
    """
    terraform, counts = program(), []
    for gitlab in (False, True):
        count = 0
        for root in ROOTS:
            shared = root == "shared"
            given = ({} if shared else SECRET) | ({"gitlab": GITLAB[shared]} if gitlab else {})
            with tempfile.TemporaryDirectory() as into:
                try:
                    made = rehearsal.rehearse(terraform, FOLDER, root, pathlib.Path(into), given)
                except subprocess.CalledProcessError as error:
                    raise Failed(f"{root}: {error.stderr}") from None
                count += len(rehearsal.resources(made))
        counts.append(count)
    return f"{len(ROOTS)} roots evaluate to {counts[0]} resources, {counts[1]} with a GitLab, twice the same"


def storage() -> str:
    """Whether the real provider of S3 takes the storage module."""
    terraform, at = program(), plugins.find("hashicorp/aws")
    if at is None and os.environ.get("RDV_CI") != "1":
        raise Missing("the provider hashicorp/aws; name its folder in RDV_TERRAFORM_PLUGINS")
    with tempfile.TemporaryDirectory() as into:
        copy = shutil.copytree(FOLDER, pathlib.Path(into, "terraform")) / "modules" / "storage"
        try:
            rehearsal.run(terraform, copy, *plugins.init(at))
            rehearsal.run(terraform, copy, "validate")
        except subprocess.CalledProcessError as error:
            raise Failed(error.stderr) from None
    return "the storage module is valid for hashicorp/aws; make test-cluster applies it"


CHECKS: tuple[Callable[[], str], ...] = (form, arguments, values, storage)


def main() -> int:
    """1 when a check failed, or in CI could not be run."""
    failed, missing = [], []
    for check in CHECKS:
        try:
            print(f"terraform: {check.__name__}: {check()}", flush=True)
        except Failed as error:
            failed.append(check.__name__)
            print(f"terraform: {check.__name__}: FAILED\n{error}", flush=True)
        except Missing as error:
            missing.append(f"{check.__name__} ({error})")
    for line in missing:
        print(f"terraform: NOT RUN: {line}")
    print("terraform: NOT RUN: plan and apply by the providers of Consul, Vault and Nomad: no server is changed here")
    return 1 if failed or (missing and os.environ.get("RDV_CI") == "1") else 0


if __name__ == "__main__":
    sys.exit(main())
