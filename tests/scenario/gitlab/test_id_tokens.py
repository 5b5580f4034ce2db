"""Jobs of a pipeline log in to a real Vault by the id_tokens that their GitLab signs, and by nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.secrets_vault import VaultSecrets
from rdv.errors import NotAuthorised

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("gitlab")]
PROJECT = "team/shop"


@pytest.fixture
def place(dev_cluster: Any, issuer: Any) -> Callable[[str], str]:
    """place(env): what follows `vault:` for the pipelines of an environment, once Vault knows the issuer."""
    found = dev_cluster.take_gitlab(issuer.url, issuer.jwks_url, PROJECT, "rdv")
    return lambda env: found[f"RDV_CI_TOKENS_{env.upper()}"].removeprefix("vault:")


def read(place: str, monkeypatch: pytest.MonkeyPatch, token: str) -> str:
    """A secret as a job with this id_token reads it."""
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VAULT_ID_TOKEN", token)
    return VaultSecrets(place).get("ci/nomad-batch")


def test_an_id_token_opens_its_environment(
    place: Callable[[str], str], issuer: Any, dev_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of a branch gets the tokens for staging, one of a protected tag those for production."""
    kept = dev_cluster.token_file("staging", "nomad-batch").read_text().strip()
    assert read(place("staging"), monkeypatch, issuer.token(PROJECT)) == kept
    tag = issuer.token(PROJECT, ref="v1", ref_type="tag")
    kept = dev_cluster.token_file("production", "nomad-batch").read_text().strip()
    assert read(place("production"), monkeypatch, tag) == kept


def test_any_other_token_opens_nothing(
    place: Callable[[str], str], issuer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A branch in production, an unprotected tag, another project, an expired token and another signer are refused."""
    stranger = type(issuer)(_folder(tmp_path))
    try:
        foreign = stranger.token(PROJECT, iss=issuer.url)
    finally:
        stranger.close()
    refused = [
        ("production", issuer.token(PROJECT)),
        ("production", issuer.token(PROJECT, ref="v1", ref_type="tag", ref_protected="false")),
        ("staging", issuer.token("team/other")),
        ("staging", issuer.token(PROJECT, aud="another")),
        ("staging", issuer.token(PROJECT, expires_s=-600.0)),
        ("staging", foreign),
    ]
    for env, token in refused:
        with pytest.raises(NotAuthorised):
            read(place(env), monkeypatch, token)


def test_a_workload_cannot_read_what_pipelines_may(dev_cluster: Any, place: Callable[[str], str]) -> None:
    """The policy of an environment's workloads does not cover the place of its pipelines."""
    vault = dev_cluster.servers.vault
    wish = {"policies": ["rdv-staging-workloads"], "ttl": "5m"}
    token = vault.call("POST", "/v1/auth/token/create", wish).json()["auth"]["client_token"]
    path = place("staging").partition("?")[0].partition("/")[2]
    assert vault.call("GET", f"/v1/secret/data/{path}/ci", token=token).status == 403
    assert vault.call("GET", "/v1/secret/data/rdv/staging/s3", token=token).ok


def _folder(above: Path) -> Path:
    folder = above / "stranger"
    folder.mkdir()
    return folder
