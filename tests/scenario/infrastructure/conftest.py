"""What the tests of terraform/ share: Terraform, and the check's modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

TERRAFORM = Path(__file__).resolve().parents[3] / "terraform"
CHECKS = TERRAFORM.parent / "ci" / "terraform"
NAMES = ("hcl", "schemas", "modules", "rehearsal", "plugins")


@pytest.fixture(scope="session")
def checks() -> Iterator[SimpleNamespace]:
    """The check's modules by name; they are programs, not a package."""
    sys.path.insert(0, str(CHECKS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path.remove(str(CHECKS))
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def terraform(is_live: bool, require: Callable[..., str]) -> str:
    """Where terraform is."""
    if not is_live:
        pytest.skip("needs terraform and real servers; type: make test-cluster")
    return require("terraform", remedy="see developer.hashicorp.com/terraform/install")


@pytest.fixture(scope="session")
def rehearse(
    terraform: str, checks: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, dict[str, Any]], Any]:
    """rehearse(root, values): what Terraform makes of a root module, each resource holding its arguments."""

    def make(root: str, values: dict[str, Any]) -> Any:
        return checks.rehearsal.rehearse(terraform, TERRAFORM, root, tmp_path_factory.mktemp("terraform"), values)

    return make
