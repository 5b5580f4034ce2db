"""Jobs of GitLab projects on a dev cluster: Vault takes their id_tokens, and has for each environment what they need.

The tokens of a pipeline are its own, no person's. They lie in a place of their own, apart from the environment's other
secrets, which it may read as well: they can release, which no workload of the environment may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rdv.backends.devcluster import environments as names
from rdv.backends.devcluster import rights_files as files
from rdv.backends.devcluster.environments import Addresses
from rdv.backends.devcluster.servers import Servers
from rdv.backends.devcluster.state import new_secret
from rdv.backends.devcluster.vault import VaultServer

_SECRET = "ci"


def environments() -> tuple[str, ...]:
    """The environments that pipelines may reach."""
    return tuple(files.gitlab("")["vault"]["bound_claims"])


def wire_gitlab(servers: Servers, issuer: str, jwks_url: str, projects: Sequence[str], audience: str) -> None:
    """Have Vault take the id_tokens that a GitLab signs for the jobs of some projects, and no others.

    projects: their paths, `group/name`. Doing it again mends what is gone, and leaves tokens that are valid.
    """
    vault, wanted = servers.vault, files.gitlab_login(issuer, jwks_url)
    vault.make_login(wanted["name"], wanted["config"])
    for env in environments():
        told, name = files.gitlab(env, projects, audience), files.names(env)["ci"]
        for policy, file in told["vault"]["policies"].items():
            vault.write_policy(policy, files.rules(file, env))
        role = {**told["vault"]["role"], "bound_claims": told["vault"]["bound_claims"][env]}
        vault.write_role(wanted["name"], name, role)
        _hand_out(servers, env, told)


def variables(env: str, at: Addresses) -> dict[str, str]:
    """What a pipeline's variables say of an environment: its places, with nothing in them but names.

    Token files are those that `rdv ci` writes while a stage runs.
    """
    own = files.table("gitlab-places.json", env, vault=at.vault)
    usual, here = names.places(env, at), names.places(env, replace(at, tokens=Path(own["folder"])))
    changed = {setting: place for setting, place in here.items() if place != usual[setting]}
    changed["secrets"] = own["secrets"]
    found = {f"RDV_ENVIRONMENTS_{env.upper()}_{setting.upper()}": place for setting, place in sorted(changed.items())}
    return found | {f"RDV_CI_TOKENS_{env.upper()}": own["tokens"]}


def _hand_out(servers: Servers, env: str, told: Any) -> None:
    """Policies on Consul and both Nomads, and a token with each in Vault, where those that are valid stay."""
    path = f"{files.names(env)['ci_secrets']}/{_SECRET}"
    kept = _kept(servers.vault, path)
    policies = told["consul"]["policies"]
    for policy, file in policies.items():
        servers.consul.write_policy(policy, files.rules(file, env))
    tokens = {"consul": servers.consul.put_token(kept.get("consul") or new_secret(), list(policies))}
    for cluster, nomad in servers.nomads.items():
        policies, secret = told["nomad"]["policies"][cluster], kept.get(f"nomad-{cluster}", "")
        for policy, one in policies.items():
            nomad.write_policy(policy, files.rules(one["rules"], env), one["job_namespace"])
        valid = bool(secret) and nomad.takes(secret)
        tokens[f"nomad-{cluster}"] = secret if valid else nomad.token_for(f"{env}'s GitLab", list(policies))
    if tokens != kept:
        servers.vault.write_secret(path, tokens)


def _kept(vault: VaultServer, path: str) -> dict[str, str]:
    there = vault.call("GET", f"/v1/{files.names('')['secret_mount']}/data/{path}")
    return dict(there.json()["data"]["data"]) if there.ok else {}
