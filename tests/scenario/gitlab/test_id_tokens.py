"""Jobs of a pipeline log in to a real Vault by the id_tokens that their GitLab signs, and by nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.devcluster.http import call
from rdv.backends.vault.secrets import VaultSecrets
from rdv.errors import NotAuthorised

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("gitlab")]
PROJECT = "team/shop"
GROUP = {"Name": "g", "Tasks": [{"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/true"}}]}


@pytest.fixture
def place(dev_cluster: Any, issuer: Any) -> Callable[[str], str]:
    """place(env): what follows `vault:` for the pipelines of an environment, once Vault knows the issuer."""
    found = dev_cluster.take_gitlab(issuer.url, issuer.jwks_url, [PROJECT, "team/library"], "rdv")
    return lambda env: found[f"RDV_CI_TOKENS_{env.upper()}"].removeprefix("vault:")


def read(place: str, monkeypatch: pytest.MonkeyPatch, token: str, server: str = "nomad-batch") -> str:
    """The token for a server, as a job with this id_token reads it."""
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VAULT_ID_TOKEN", token)
    return VaultSecrets(place).get(f"ci/{server}")


def test_an_id_token_opens_its_environment(
    place: Callable[[str], str], issuer: Any, dev_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of a branch gets tokens for staging, one of a protected tag those for production: the pipelines' own, no

    person's, and the same the next time.
    """
    branch, tag = issuer.token(PROJECT), issuer.token("team/library", ref="v1", ref_type="tag")
    for env, shown in (("staging", branch), ("production", tag)):
        got = read(place(env), monkeypatch, shown)
        assert got != dev_cluster.token_file(env, "nomad-batch").read_text().strip()
        own = dev_cluster.servers.batch.call("GET", "/v1/acl/token/self", token=got).json()
        assert own["Policies"] == [f"rdv-{env}-ci"]
        dev_cluster.take_gitlab(issuer.url, issuer.jwks_url, [PROJECT, "team/library"], "rdv")
        assert read(place(env), monkeypatch, shown) == got


def test_pipelines_may_release_and_no_more(
    place: Callable[[str], str], issuer: Any, dev_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens of staging's pipelines do what its stages do: nothing of production's, and no look at rights."""
    servers = dev_cluster.servers
    ports = {"consul": servers.consul.port}
    ports |= {f"nomad-{name}": nomad.port for name, nomad in servers.nomads.items()}
    job = {"Job": {"ID": "x", "Type": "batch", "Datacenters": ["*"], "TaskGroups": [GROUP]}}
    allowed: dict[str, list[tuple[str, str, Any]]] = {
        "consul": [("PUT", "/v1/kv/rdv/staging/released", b"1"), ("GET", "/v1/health/service/staging-gateway", None)],
        "nomad-batch": [
            ("GET", "/v1/jobs?namespace=staging", None), ("GET", "/v1/nodes", None),
            ("POST", "/v1/job/x/plan?namespace=staging-pipelines", job),
        ],
        "nomad-services": [("POST", "/v1/job/x/plan?namespace=staging", job)],
    }  # fmt: skip
    refused: dict[str, list[tuple[str, str, Any]]] = {
        "consul": [
            ("PUT", "/v1/kv/rdv/production/released", b"1"), ("GET", "/v1/acl/policies", None),
            ("PUT", "/v1/agent/service/register", {"Name": "staging-gateway"}),
        ],
        "nomad-batch": [
            ("POST", "/v1/job/x/plan?namespace=production", job), ("GET", "/v1/acl/tokens", None),
            ("POST", "/v1/job/x/plan?namespace=default", job),
        ],
        "nomad-services": [
            ("POST", "/v1/job/x/plan?namespace=production", job), ("GET", "/v1/nodes", None),
            ("GET", "/v1/namespace/production", None),
        ],
    }  # fmt: skip
    for server, port in ports.items():
        token = read(place("staging"), monkeypatch, issuer.token(PROJECT), server)
        headers = {"X-Consul-Token" if server == "consul" else "X-Nomad-Token": token}
        for expected, asked in ((200, allowed[server]), (403, refused[server])):
            for method, path, body in asked:
                answer = call(port, method, path, body, headers)
                assert answer.status == expected, (server, method, path, answer)


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
