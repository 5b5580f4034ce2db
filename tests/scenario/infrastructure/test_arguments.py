"""The modules against the schemas that the providers' makers publish."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("infrastructure")]
TERRAFORM = Path(__file__).resolve().parents[3] / "terraform"


@pytest.fixture(scope="module")
def known(is_live: bool, checks: SimpleNamespace, in_ci: bool) -> Any:
    """The published schemas, fetched once into the user's cache."""
    if not is_live:
        pytest.skip("fetches the providers' schemas; type: make test-cluster")
    try:
        return checks.schemas.read(checks.schemas.fetch(checks.schemas.cache()))
    except checks.schemas.NotHere as error:
        (pytest.fail if in_ci else pytest.skip)(str(error))


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("modules/nomad/main.tf", "rules_hcl", "rules", "nomad_acl_policy.this: there is no argument rules"),
        ("modules/nomad/main.tf", "job_id    =", "group     =", "nomad_acl_policy.this.job_acl: job_id is missing"),
        ("modules/consul/main.tf", "consul_acl_binding_rule", "consul_acl_rule", "there is no such resource"),
        ("modules/vault/main.tf", "backend    ", "path       ", "there is no argument path"),
        ("shared/main.tf", "options = {", "options = [", "vault_mount.secrets: options is a map, not a list"),
        ("environments/staging/providers.tf", "secret_id", "token", "provider nomad: there is no argument token"),
        ("modules/vault/versions.tf", "5.6.0", "5.6.1", "provider vault is 5.6.1"),
    ],
)
def test_a_slip_in_a_module_is_found(
    checks: SimpleNamespace, known: Any, tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    """The modules are right by the schemas, and each slip of the pen in one of them is told."""
    copy = shutil.copytree(TERRAFORM, tmp_path / "terraform")
    assert list(checks.modules.problems(copy, known)) == []
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new))
    assert said in "\n".join(checks.modules.problems(copy, known))
