"""The files of `rdv.terraform_rights`, read as Terraform's `templatefile` and `jsondecode` read them. Pure."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

# the part of Terraform's template language that the files use: ${name}, and $${ for a ${ that stays
_MARK = re.compile(r"\$\$\{|\$\{(\w+)\}|\$\{|%%?\{")


def filled(text: str, holes: Mapping[str, str]) -> str:
    """A template with its holes filled; ValueError for what is no hole of these, or another directive."""

    def one(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        if found[1] not in holes:
            raise ValueError(f"{found[0]} is not one of {', '.join(holes)}")
        return holes[found[1]]

    return _MARK.sub(one, text)


def names(env: str) -> dict[str, str]:
    """What an environment's things are called, which is also what the holes of the other files are filled with."""
    return {"env": env, **json.loads(filled(_read("names.json"), {"env": env}))}


def rules(file: str, env: str) -> str:
    """The rules of a policy in HCL."""
    return filled(_read(file), names(env))


def table(file: str, env: str, **more: str) -> Any:
    """What a JSON file says of an environment. more: holes beside the names."""
    return json.loads(filled(_read(file), {**names(env), **more}))


def places(env: str, at: Mapping[str, str]) -> dict[str, str]:
    """An environment's settings for rdv.toml. at: where its servers are, what runs its steps, and where tokens lie."""
    return dict(json.loads(filled(_read("places.json"), {**names(env), **at})))


def login(cluster: str, address: str = "") -> Any:
    """How Consul and Vault take the identities that a Nomad cluster signs. address: where the cluster answers."""
    holes = {"cluster": cluster, "jwks_url": f"{address}/.well-known/jwks.json"}
    return json.loads(filled(_read("login.json"), holes))


def gitlab_login(issuer: str, jwks_url: str) -> Any:
    """How Vault takes the id_tokens that a GitLab signs."""
    return json.loads(filled(_read("gitlab-login.json"), {"issuer": issuer, "jwks_url": jwks_url}))


def gitlab(env: str, projects: Sequence[str] = (), audience: str = "") -> Any:
    """What the jobs of some GitLab projects, by their paths `group/name`, may do in an environment."""
    return table("gitlab.json", env, projects=json.dumps(list(projects)), audience=audience)


def agent_rules() -> str:
    """What a Nomad agent itself needs in Consul; its workloads use their own identities."""
    return _read("consul-agents.hcl")


@cache
def _read(file: str) -> str:
    return importlib.resources.files("rdv.terraform_rights").joinpath(file).read_text()
