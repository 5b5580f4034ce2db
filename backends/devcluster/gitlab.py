"""Jobs of a GitLab project on a dev cluster: Vault takes their id_tokens, and has for each environment what they need.

The tokens of a pipeline lie in a place of their own, apart from the environment's other secrets, which it may read as
well: they can release, which no workload of the environment may.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rdv.backends.devcluster import environments as names
from rdv.backends.devcluster.http import must
from rdv.backends.devcluster.vault import VaultServer

MOUNT, VARIABLE, TOKENS = "gitlab", "VAULT_ID_TOKEN", ".rdv/ci"
ENVIRONMENTS = ("staging", "production")
_SERVERS = ("consul", "nomad-batch", "nomad-services")
_TOKEN_FILE = re.compile(r"token_file=[^&]*/([a-z-]+)\.token")


def role(env: str) -> str:
    """The name of the role and of the policy of an environment's pipelines."""
    return f"{names.policy(env)}-ci"


def folder(env: str) -> str:
    """Where the secrets of an environment's pipelines lie in Vault, below the mount."""
    return f"rdv-ci/{env}"


def wire_gitlab(vault: VaultServer, issuer: str, jwks_url: str, project: str, audience: str, tokens: Path) -> None:
    """Have Vault take the id_tokens that a GitLab signs for the jobs of one project.

    project: its path, `group/name`. tokens: the folder of the token files of those who work with the cluster. Jobs of
    production are those of protected tags.
    """
    if f"{MOUNT}/" not in must(vault.call("GET", "/v1/sys/auth"), "the list of logins").json():
        must(vault.call("POST", f"/v1/sys/auth/{MOUNT}", {"type": "jwt"}), f"login {MOUNT}")
    config = {"jwks_url": jwks_url, "bound_issuer": issuer, "jwt_supported_algs": ["RS256"]}
    must(vault.call("POST", f"/v1/auth/{MOUNT}/config", config), f"the configuration of {MOUNT}")
    for env in ENVIRONMENTS:
        mount = names.secret_mount(env)
        read = (folder(env), names.secret_path(env, "").rstrip("/"))
        rules = (f'path "{mount}/data/{path}/*" {{\n  capabilities = ["read"]\n}}\n' for path in read)
        vault.write_policy(role(env), "".join(rules))
        wanted = role_of(env, project, audience)
        must(vault.call("POST", f"/v1/auth/{MOUNT}/role/{role(env)}", wanted), f"role {role(env)}")
        found = {server: names.token_file(tokens, env, server).read_text().strip() for server in _SERVERS}
        vault.write_secret(f"{folder(env)}/ci", found)


def role_of(env: str, project: str, audience: str) -> dict[str, Any]:
    """The role of an environment's pipelines: whose id_tokens it takes, and what a login by one may do."""
    claims = {"project_path": project}
    if env == "production":
        claims |= {"ref_type": "tag", "ref_protected": "true"}
    return {
        "role_type": "jwt",
        "bound_audiences": [audience],
        "bound_claims": claims,
        "user_claim": "project_path",
        "token_policies": [role(env)],
        "token_ttl": "15m",
        "token_max_ttl": "1h",
        "token_type": "service",
    }


def variables(env: str, settings: Mapping[str, str], vault_address: str) -> dict[str, str]:
    """What a pipeline's variables say of an environment: its places, with nothing in them but names.

    settings: the environment's as in rdv.toml. Token files are those that `rdv ci` writes while a stage runs.
    """
    login = f"auth={MOUNT}&role={role(env)}&jwt_env={VARIABLE}"
    made = {
        setting: _TOKEN_FILE.sub(rf"token_file={TOKENS}/{env}/\1.token", place)
        for setting, place in settings.items()
        if "token_file=" in place
    }
    mount = f"vault:{names.secret_mount(env)}"
    made["secrets"] = f"{mount}/{names.secret_path(env, '').rstrip('/')}?address={vault_address}&{login}"
    found = {f"RDV_ENVIRONMENTS_{env.upper()}_{setting.upper()}": place for setting, place in sorted(made.items())}
    return found | {f"RDV_CI_TOKENS_{env.upper()}": f"{mount}/{folder(env)}?address={vault_address}&{login}"}
