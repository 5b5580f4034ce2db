"""The environments of a dev cluster: their names on every server, who may do what there, and their places. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENTS = ("dev", "staging", "production")
BATCH, SERVICES = "batch", "services"
CLUSTERS = (BATCH, SERVICES)
S3_SECRET = "s3"
MOUNT = "secret"

# stopping a job and registering one is one right in Nomad: submit-job
_USE = ("list-jobs", "read-job", "submit-job", "dispatch-job", "parse-job", "read-logs", "read-fs", "alloc-lifecycle")
_SERVE = (*_USE, "scale-job", "read-job-scaling", "list-scaling-policies", "read-scaling-policy")


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
    return f"{env}-pipelines"


def namespaces(cluster: str, env: str) -> tuple[str, ...]:
    """An environment's namespaces on a Nomad cluster."""
    return (env, pipelines(env)) if cluster == BATCH else (env,)


def bucket(env: str) -> str:
    """An environment's bucket."""
    return f"rdv-{env}"


def kv_prefix(env: str) -> str:
    """The prefix of an environment's keys in Consul."""
    return f"rdv/{env}/"


def secret_path(env: str, name: str) -> str:
    """The path of one of an environment's secrets in Vault, below the mount."""
    return f"rdv/{env}/{name}"


def hdfs_folder(env: str) -> str:
    """An environment's folder in HDFS."""
    return f"/rdv/{env}"


def auth_name(cluster: str) -> str:
    """The name under which Consul and Vault know the identities that a Nomad cluster signs."""
    return f"nomad-{cluster}"


def policy(env: str, kind: str = "") -> str:
    """The name of an environment's policy, the same on every server; kind: who has it, a person unless given."""
    return f"rdv-{env}-{kind}" if kind else f"rdv-{env}"


def token_file(tokens: Path, env: str, server: str) -> Path:
    """The file with the token of the person who works with an environment."""
    return tokens / env / f"{server}.token"


def nomad_policies(cluster: str, env: str) -> dict[str, tuple[str, str]]:
    """Rules of an environment's policies on a Nomad cluster, and the namespace whose jobs have them ("": nobody's)."""
    rules = [_namespace_rule(name, _USE if cluster == BATCH else _SERVE) for name in namespaces(cluster, env)]
    found = {policy(env): ("".join(rules) + 'node {\n  policy = "read"\n}\n', "")}
    if cluster == BATCH:
        # the second: a pipeline that gets a signal looks whether its own job was stopped
        rules = [_namespace_rule(env, _USE), _namespace_rule(pipelines(env), ("read-job",))]
        found[policy(env, "pipelines")] = ("".join(rules), pipelines(env))
    return found


def _namespace_rule(name: str, capabilities: tuple[str, ...]) -> str:
    listed = ", ".join(f'"{one}"' for one in capabilities)
    return f'namespace "{name}" {{\n  capabilities = [{listed}]\n}}\n'


def consul_policies(env: str) -> dict[str, str]:
    """Rules of an environment's policies in Consul: the person's, its pipelines', and its services'."""
    look = 'service_prefix "" {\n  policy = "read"\n}\nnode_prefix "" {\n  policy = "read"\n}\n'
    # a gateway that runs on a machine, not as a job, announces itself with its person's token
    announce = f'service_prefix "{env}-" {{\n  policy = "write"\n}}\n'
    write, read = (f'key_prefix "{kv_prefix(env)}" {{\n  policy = "{right}"\n}}\n' for right in ("write", "read"))
    return {
        # reading policies shows `rdv doctor` what is missing, and no secret
        policy(env): write + look + announce + 'acl = "read"\n',
        policy(env, "pipelines"): write + look,
        policy(env, "services"): read + look,
    }


def consul_roles(cluster: str, env: str) -> dict[str, str]:
    """Roles that the identities of a Nomad cluster's namespaces get in Consul, each with its policy; steps get none."""
    if cluster == BATCH:
        return {consul_role(cluster, pipelines(env)): policy(env, "pipelines")}
    return {consul_role(cluster, env): policy(env, "services")}


def consul_role(cluster: str, namespace: str) -> str:
    """The name of the Consul role of a namespace; `binding_rules` computes the same from an identity."""
    return f"{auth_name(cluster)}-{namespace}"


def binding_rules(cluster: str) -> list[dict[str, str]]:
    """How identities of a Nomad cluster become tokens in Consul.

    A task gets the role of its namespace. A service may be registered under names that begin with its namespace, so
    that no job of `dev` passes for one of `production`.
    """
    method = auth_name(cluster)
    rules = [
        {
            "AuthMethod": method,
            "BindType": "role",
            "BindName": consul_role(cluster, "${value.nomad_namespace}"),
            "Selector": '"nomad_service" not in value',
        }
    ]
    for env in ENVIRONMENTS:
        selector = f'value.nomad_namespace == "{env}" and value.nomad_service matches "^{env}-"'
        rules.append(
            {
                "AuthMethod": method,
                "BindType": "service",
                "BindName": "${value.nomad_service}",
                "Selector": f'"nomad_service" in value and {selector}',
            }
        )
    return rules


def vault_policies(env: str) -> dict[str, str]:
    """Rules of an environment's policies in Vault: the workloads', and the person's."""
    secrets = f"{MOUNT}/data/{secret_path(env, '*')}"
    look = [f"{MOUNT}/metadata/{secret_path(env, '*')}"]
    look += [f"sys/policies/acl/{policy(env, kind)}" for kind in ("", "workloads")]
    look += [f"auth/{auth_name(cluster)}/role/{policy(env)}" for cluster in CLUSTERS]
    own = _path_rule(secrets, "create", "read", "update") + "".join(_path_rule(path, "read", "list") for path in look)
    return {policy(env): own, policy(env, "workloads"): _path_rule(secrets, "read")}


def _path_rule(path: str, *capabilities: str) -> str:
    listed = ", ".join(f'"{one}"' for one in capabilities)
    return f'path "{path}" {{\n  capabilities = [{listed}]\n}}\n'


def places(env: str, at: Addresses) -> dict[str, str]:
    """An environment's settings for rdv.toml; credentials are named by their files."""

    def token(server: str) -> str:
        return f"token_file={token_file(at.tokens, env, server)}"

    nomad = f"address={at.batch}&region={BATCH}&{token('nomad-batch')}"
    found = {
        "artifacts": f"s3:{bucket(env)}?endpoint={at.s3}&region=us-east-1&secret={S3_SECRET}",
        "registry": f"consul:{kv_prefix(env).rstrip('/')}?address={at.consul}&{token('consul')}",
        "cluster": f"nomad:{env}?{nomad}&pipelines={pipelines(env)}&vault={policy(env)}&driver=raw_exec",
        "secrets": f"vault:{MOUNT}/{secret_path(env, '').rstrip('/')}?address={at.vault}&{token('vault')}",
        "catalog": f"consul:{env}?address={at.consul}&{token('consul')}",
    }
    if at.hdfs:
        found["intermediate"] = f"hdfs:{hdfs_folder(env)}?url={at.hdfs}&user=root"
    return found


def services_place(env: str, at: Addresses) -> str:
    """An environment's place on the services cluster."""
    token = token_file(at.tokens, env, "nomad-services")
    return f"nomad:{env}?address={at.services}&region={SERVICES}&token_file={token}"


def environments_toml(environments: Mapping[str, Mapping[str, str]], at: Addresses) -> str:
    """The settings of some environments as text for the end of an rdv.toml."""
    text = "\n# the servers of `rdv dev-cluster up`, on this machine\n"
    for env, settings in environments.items():
        text += f"\n[environments.{env}]\n"
        text += "".join(f'{port} = "{place}"\n' for port, place in settings.items())
        text += f"# its services cluster: {services_place(env, at)}\n"
    return text
