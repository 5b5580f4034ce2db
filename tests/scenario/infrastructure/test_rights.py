"""What Terraform would apply is what a dev cluster's servers have: every argument, compared with what they answer."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from rdv.backends.devcluster.http import must
from rdv.backends.devcluster.rights_files import gitlab, login
from rdv.config import Environment

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("infrastructure")]
SECRET = {"nomad_batch_token": "none", "nomad_services_token": "none"}
PROJECTS = ["team/shop", "team/library"]
# dev is made by `rdv dev-cluster` alone
DEV = {"rdv-dev", "rdv-dev-pipelines", "rdv-dev-services", "rdv-dev-workloads"}
# what is compared below; storage has a test of its own, and a root certificate is made once and differs each time
KINDS = {
    "consul_acl_auth_method", "consul_acl_binding_rule", "consul_acl_policy", "consul_acl_role",
    "nomad_acl_policy@batch", "nomad_acl_policy@services", "nomad_namespace@batch", "nomad_namespace@services",
    "vault_jwt_auth_backend", "vault_jwt_auth_backend_role", "vault_jwt_auth_backend_role@gitlab", "vault_mount",
    "vault_pki_secret_backend_role", "vault_policy",
    "aws_s3_bucket", "aws_s3_bucket_lifecycle_configuration", "aws_s3_bucket_versioning",
    "vault_pki_secret_backend_root_cert",
}  # fmt: skip
Arguments = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def issuer(issuers: Any, tmp_path_factory: pytest.TempPathFactory, require: Callable[..., str]) -> Iterator[Any]:
    """A GitLab, as far as Vault can tell."""
    require("openssl", remedy="apt-get install -y openssl")
    made = issuers.Issuer(tmp_path_factory.mktemp("issuer"))
    yield made
    made.close()


@pytest.fixture
def variables(dev_cluster: Any, issuer: Any) -> dict[str, str]:
    """What the cluster says to pipelines whose GitLab it takes; other tests may have had it take another one."""
    found: dict[str, str] = dev_cluster.take_gitlab(issuer.url, issuer.jwks_url, PROJECTS, "rdv")
    return found


@pytest.fixture(scope="module")
def planned(
    dev_cluster: Any, rehearse: Callable[[str, dict[str, Any]], Any], checks: Any, issuer: Any
) -> tuple[Arguments, dict[str, Any]]:
    """The arguments of all roots' resources by kind, those of Nomad by cluster, too; and each environment's outputs."""
    servers = dev_cluster.servers
    nomads = {name: nomad.address for name, nomad in servers.nomads.items()}
    both = {"consul": servers.consul.address, "vault": servers.vault.address}
    every = {"addresses": {**both, **nomads, "s3": servers.s3.endpoint}, "s3_region": "us-east-1", **SECRET}
    found: Arguments = {}
    outputs: dict[str, Any] = {}
    for root in ("shared", "environments/staging", "environments/production"):
        env = root.rpartition("/")[2]
        tokens = {"tokens": str(dev_cluster.folder / "tokens" / env), "driver": "raw_exec"}
        if env == "shared":
            values = {"addresses": both, "nomads": nomads, "gitlab": {"issuer": issuer.url}}
        else:
            values = {**every, **tokens, "gitlab": {"projects": PROJECTS}}
        made = rehearse(root, values)
        named = {at: arguments for at, arguments in checks.rehearsal.resources(made).items()}
        by_id = {one: named[at] for one, at in checks.rehearsal.ids(made).items()}
        for at, arguments in named.items():
            kind = at.split("[")[0].split(".")[-2]
            if kind == "vault_jwt_auth_backend_role" and ".gitlab[" in at:
                kind += "@gitlab"
            if kind == "consul_acl_role":
                arguments["policies"] = [by_id[one]["name"] for one in arguments["policies"]]
            if kind.startswith("nomad_"):
                kind += "@batch" if "module.batch." in at else "@services"
            found.setdefault(kind, []).append(arguments)
        outputs[env] = {name: one["value"] for name, one in made.get("outputs", {}).items()}
    return found, outputs


def test_nothing_is_left_uncompared(planned: tuple[Arguments, Any]) -> None:
    """Every kind of resource that Terraform would make is one that a test here, or the storage test, looks at."""
    assert set(planned[0]) <= KINDS


@pytest.mark.usefixtures("variables")
def test_consul_has_what_terraform_says(dev_cluster: Any, planned: tuple[Arguments, Any]) -> None:
    """Policies, roles, login methods and binding rules in Consul are Terraform's, and there are no others."""
    consul, told = dev_cluster.servers.consul, planned[0]

    def ask(path: str) -> Any:
        return must(consul.call("GET", f"/v1/acl/{path}"), path).json()

    names = {one["Name"] for one in ask("policies")} - DEV
    rules = {name: ask(f"policy/name/{name}")["Rules"] for name in names if not name.startswith("builtin/")}
    rules.pop("global-management")
    assert {one["name"]: one["rules"] for one in told["consul_acl_policy"]} == rules
    roles = {one["Name"]: [link["Name"] for link in one["Policies"]] for one in ask("roles")}
    roles = {name: policies for name, policies in roles.items() if not DEV & set(policies)}
    assert {one["name"]: one["policies"] for one in told["consul_acl_role"]} == roles
    for one in told["consul_acl_auth_method"]:
        there = ask(f"auth-method/{one['name']}")
        assert (there["Type"], there["Config"]) == (one["type"], json.loads(one["config_json"]))
    keys = {"auth_method": "AuthMethod", "bind_type": "BindType", "bind_name": "BindName", "selector": "Selector"}
    rules_there = [{key: rule[name] for key, name in keys.items()} for rule in ask("binding-rules")]
    there = sorted(map(str, (rule for rule in rules_there if '"dev"' not in rule["selector"])))
    assert sorted(str({key: rule[key] for key in keys}) for rule in told["consul_acl_binding_rule"]) == there


@pytest.mark.usefixtures("variables")
def test_vault_has_what_terraform_says(dev_cluster: Any, planned: tuple[Arguments, Any]) -> None:
    """Policies, logins and roles in Vault are Terraform's, argument for argument, and there are no others."""
    vault, told = dev_cluster.servers.vault, planned[0]

    def ask(path: str) -> Any:
        return must(vault.call("GET", f"/v1/{path}"), path).json()["data"]

    names = set(ask("sys/policies/acl?list=true")["keys"]) - DEV - {"default", "root"}
    there = {name: ask(f"sys/policies/acl/{name}")["policy"] for name in names}
    assert {one["name"]: one["policy"] for one in told["vault_policy"]} == there
    for one in told["vault_mount"]:
        mount = ask("sys/mounts")[f"{one['path']}/"]
        assert (mount["type"], mount["options"] or {}) == (one["type"], one.get("options") or {})
    for one in told.get("vault_pki_secret_backend_role", ()):
        there = ask(f"{one.pop('backend')}/roles/{one.pop('name')}")
        assert {key: there[key] for key in one} == one
    workloads, pipelines = told["vault_jwt_auth_backend_role"], told["vault_jwt_auth_backend_role@gitlab"]
    for one in told["vault_jwt_auth_backend"]:
        path = one.pop("path")
        assert {key: value for key, value in ask(f"auth/{path}/config").items() if key in one} == one
        roles = {role["role_name"] for role in [*workloads, *pipelines] if role["backend"] == path}
        assert roles == set(ask(f"auth/{path}/role?list=true")["keys"]) - DEV
    for one in [*workloads, *pipelines]:
        words = gitlab("staging")["vault"]["role"] if one in pipelines else login("batch")["vault"]["role"]
        there = ask(f"auth/{one.pop('backend')}/role/{one.pop('role_name')}")
        bound = one.get("bound_claims", {})  # the provider takes several values as one text
        one["bound_claims"] = {claim: values.split(",") for claim, values in bound.items()} or None
        one.setdefault("token_policies", [])
        assert set(one) == {*words, "bound_claims", "token_policies"}
        assert {key: there[key] for key in one} == one


@pytest.mark.usefixtures("variables")
def test_nomad_has_what_terraform_says(dev_cluster: Any, planned: tuple[Arguments, Any]) -> None:
    """Namespaces and policies of both Nomad clusters are Terraform's, and there are no others."""
    for cluster, nomad in dev_cluster.servers.nomads.items():

        def ask(path: str, nomad: Any = nomad) -> Any:
            return must(nomad.call("GET", f"/v1/{path}"), path).json()

        there = {one["Name"] for one in ask("namespaces")} - {"default", "dev", "dev-pipelines"}
        assert {one["name"] for one in planned[0][f"nomad_namespace@{cluster}"]} == there
        policies = {name: ask(f"acl/policy/{name}") for name in {one["Name"] for one in ask("acl/policies")} - DEV}
        found = {}
        for name, one in policies.items():
            whose = one["JobACL"] or {}
            jobs = [{"namespace": whose["Namespace"], "job_id": whose["JobID"]}] if whose else []
            found[name] = {"name": name, "rules_hcl": one["Rules"], "job_acl": jobs}
        assert {one["name"]: one for one in planned[0][f"nomad_acl_policy@{cluster}"]} == found


def test_without_a_gitlab_there_is_nothing_for_one(rehearse: Callable[[str, dict[str, Any]], Any], checks: Any) -> None:
    """Nobody named a GitLab: no login, no role, no policy and no variables for its pipelines."""
    for root in ("shared", "environments/production"):
        made = rehearse(root, {} if root == "shared" else SECRET)
        assert not [at for at in checks.rehearsal.resources(made) if "gitlab" in at or "-ci" in at]
        assert "gitlab_variables" not in made.get("outputs", {})


def test_the_printed_settings_are_the_dev_clusters(
    dev_cluster: Any, planned: tuple[Arguments, Any], variables: dict[str, str]
) -> None:
    """What Terraform prints for rdv.toml and for .gitlab-ci.yml is what `rdv dev-cluster env` and `gitlab` print, and

    what rdv takes as settings.
    """
    for env in ("staging", "production"):
        printed = tomllib.loads(planned[1][env]["rdv_toml"])["environments"]
        assert printed == {env: dev_cluster.environments()[env]}
        msgspec.convert(printed[env], Environment, strict=True)
    assert variables == planned[1]["staging"]["gitlab_variables"] | planned[1]["production"]["gitlab_variables"]
    assert [one["bucket"] for one in planned[0]["aws_s3_bucket"]] == ["rdv-staging", "rdv-production"]
