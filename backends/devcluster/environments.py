"""The environments of a dev cluster: their names on every server, who may do what there, and their places. Pure.

What they are called and who may do what is said by the files of `rdv.terraform_rights`, which Terraform reads, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdv.backends.devcluster import rights_files as files

ENVIRONMENTS = ("dev", "staging", "production")
BATCH, SERVICES = "batch", "services"
CLUSTERS = (BATCH, SERVICES)
S3_SECRET = "s3"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers of a cluster are, and the folder that holds its token files. hdfs: empty without one."""

    consul: str
    vault: str
    batch: str
    services: str
    s3: str
    hdfs: str
    tokens: Path


def pipelines(env: str) -> str:
    """The namespace of an environment's pipelines and schedules on the batch cluster."""
    return files.names(env)["pipelines"]


def namespaces(cluster: str, env: str) -> tuple[str, ...]:
    """An environment's namespaces on a Nomad cluster."""
    return tuple(files.table("nomad.json", env)["namespaces"][cluster])


def bucket(env: str) -> str:
    """An environment's bucket."""
    return files.names(env)["bucket"]


def kv_prefix(env: str) -> str:
    """The prefix of an environment's keys in Consul."""
    return files.names(env)["keys"] + "/"


def secret_mount(env: str) -> str:
    """The engine in Vault that holds an environment's secrets."""
    return files.names(env)["secret_mount"]


def secret_path(env: str, name: str) -> str:
    """The path of one of an environment's secrets in Vault, below the mount."""
    return f"{files.names(env)['secrets']}/{name}"


def hdfs_folder(env: str) -> str:
    """An environment's folder in HDFS."""
    return files.names(env)["hdfs_folder"]


def auth_name(cluster: str) -> str:
    """The name under which Consul and Vault know the identities that a Nomad cluster signs."""
    return str(files.login(cluster)["name"])


def policy(env: str) -> str:
    """The name of the policy of an environment's person, the same on every server, and of its role in Vault."""
    return files.names(env)["policy"]


def token_file(tokens: Path, env: str, server: str) -> Path:
    """The file with the token of the person who works with an environment."""
    return tokens / env / f"{server}.token"


def nomad_policies(cluster: str, env: str) -> dict[str, tuple[str, str]]:
    """Rules of an environment's policies on a Nomad cluster, and the namespace whose jobs have them ("": nobody's)."""
    told = files.table("nomad.json", env)["policies"][cluster]
    return {name: (files.rules(one["rules"], env), one["job_namespace"]) for name, one in told.items()}


def consul_policies(env: str) -> dict[str, str]:
    """Rules of an environment's policies in Consul: the person's, its pipelines', and its services'."""
    told = files.table("consul.json", env)["policies"]
    return {name: files.rules(file, env) for name, file in told.items()}


def consul_roles(cluster: str, env: str) -> dict[str, list[str]]:
    """Roles that the identities of a Nomad cluster's namespaces get in Consul, and their policies; steps get none."""
    return dict(files.table("consul.json", env)["roles"][cluster])


def binding_rules(cluster: str) -> list[dict[str, str]]:
    """How identities of a Nomad cluster become tokens in Consul.

    A task gets the role of its namespace. A service may be registered under names that begin with its namespace, so
    that no job of `dev` passes for one of `production`.
    """
    rules = list(files.login(cluster)["consul"]["binding_rules"])
    for env in ENVIRONMENTS:
        rules += files.table("consul.json", env)["binding_rules"][cluster]
    return rules


def vault_policies(env: str) -> dict[str, str]:
    """Rules of an environment's policies in Vault: the person's, all workloads', and what services have beside."""
    told = files.table("vault.json", env)["policies"]
    return {name: files.rules(file, env) for name, file in told.items()}


def pki_mount(env: str) -> str:
    """The engine in Vault that certifies both ends of an environment's bus."""
    return files.names(env)["pki_mount"]


def vault_certificates(env: str) -> dict[str, Mapping[str, Any]]:
    """What the roles of that engine certify."""
    return dict(files.table("vault.json", env)["certificates"])


def vault_roles(cluster: str, env: str) -> dict[str, Mapping[str, Any]]:
    """What the roles of an environment's workloads on a Nomad cluster say beside what all roles in Vault say."""
    return dict(files.table("vault.json", env)["roles"][cluster])


def places(env: str, at: Addresses) -> dict[str, str]:
    """An environment's settings for rdv.toml; credentials are named by their files."""
    found = files.places(
        env,
        {
            "consul": at.consul, "vault": at.vault, "batch": at.batch, "services": at.services,
            "s3": at.s3, "s3_region": "us-east-1", "tokens": str(at.tokens / env), "driver": "raw_exec",
        },
    )  # fmt: skip
    if at.hdfs:
        found["intermediate"] = f"hdfs:{hdfs_folder(env)}?url={at.hdfs}&user=root"
    return found


def environments_toml(environments: Mapping[str, Mapping[str, str]], at: Addresses) -> str:
    """The settings of some environments as text for the end of an rdv.toml."""
    text = "\n# the servers of `rdv dev-cluster up`, on this machine\n"
    for env, settings in environments.items():
        text += f"\n[environments.{env}]\n"
        text += "".join(f'{port} = "{place}"\n' for port, place in settings.items())
    return text
