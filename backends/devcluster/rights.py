"""Who may do what on a dev cluster, brought about on the servers. Doing it again mends what is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rdv.backends.devcluster import environments as names
from rdv.backends.devcluster.consul import ConsulServer
from rdv.backends.devcluster.environments import ENVIRONMENTS
from rdv.backends.devcluster.http import must
from rdv.backends.devcluster.nomad import NomadServers
from rdv.backends.devcluster.programs import write_private
from rdv.backends.devcluster.rights_files import agent_rules, login
from rdv.backends.devcluster.vault import VaultServer

_PERSON_PERIOD = "768h"


def apply_consul(consul: ConsulServer, agent_tokens: dict[str, str]) -> None:
    """Policies, roles, and the Nomad agents' tokens. agent_tokens: the secret of each Nomad cluster's."""
    consul.write_policy("nomad-agents", agent_rules())
    for secret in agent_tokens.values():
        consul.put_token(secret, ["nomad-agents"])
    for env in ENVIRONMENTS:
        for policy, rules in names.consul_policies(env).items():
            consul.write_policy(policy, rules)
        for cluster in names.CLUSTERS:
            for role, policies in names.consul_roles(cluster, env).items():
                _put_role(consul, role, policies)


def apply_vault(vault: VaultServer, s3_keys: tuple[str, str]) -> None:
    """Policies, what certifies the ends of each environment's bus, and its secret of the S3 server."""
    for env in ENVIRONMENTS:
        vault.make_authority(names.pki_mount(env))
        for name, role in names.vault_certificates(env).items():
            must(vault.call("POST", f"/v1/{names.pki_mount(env)}/roles/{name}", role), f"certificates of {name}")
        for policy, rules in names.vault_policies(env).items():
            vault.write_policy(policy, rules)
        path = names.secret_path(env, names.S3_SECRET)
        if not vault.call("GET", f"/v1/{names.secret_mount(env)}/data/{path}").ok:
            vault.write_secret(path, {"access_key": s3_keys[0], "secret_key": s3_keys[1]})


def apply_nomad(nomad: NomadServers) -> None:
    """Namespaces and policies."""
    for env in ENVIRONMENTS:
        for namespace in names.namespaces(nomad.name, env):
            nomad.make_namespace(namespace)
        for policy, (rules, job_namespace) in names.nomad_policies(nomad.name, env).items():
            nomad.write_policy(policy, rules, job_namespace)


def wire_consul(consul: ConsulServer, nomad: NomadServers) -> None:
    """Have Consul take the identities that a Nomad cluster signs."""
    wanted = login(nomad.name, nomad.address)["consul"]["method"]
    method = wanted["Name"]
    there = consul.call("GET", f"/v1/acl/auth-method/{method}").ok
    path = f"/v1/acl/auth-method/{method}" if there else "/v1/acl/auth-method"
    must(consul.call("PUT", path, wanted), f"auth method {method}")
    listed = must(consul.call("GET", f"/v1/acl/binding-rules?authmethod={method}"), "the binding rules").json()
    known = {(rule["BindType"], rule["BindName"], rule["Selector"]) for rule in listed}
    for rule in names.binding_rules(nomad.name):
        if (rule["BindType"], rule["BindName"], rule["Selector"]) not in known:
            must(consul.call("PUT", "/v1/acl/binding-rule", rule), f"binding rule of {method}")


def wire_vault(vault: VaultServer, nomad: NomadServers) -> None:
    """Have Vault take the identities that a Nomad cluster signs, each environment's in its own namespaces only.

    A job names its environment's role. The role of those that name none is good for nothing.
    """
    wanted = login(nomad.name, nomad.address)
    mount, config, every = wanted["name"], wanted["vault"]["config"], wanted["vault"]["role"]
    vault.make_login(mount, config)
    roles = {config["default_role"]: every}
    for env in ENVIRONMENTS:
        roles |= {name: {**every, **own} for name, own in names.vault_roles(nomad.name, env).items()}
    for name, role in roles.items():
        vault.write_role(mount, name, role)


def hand_out_consul(tokens: Path, consul: ConsulServer, new_secret: Callable[[], str]) -> None:
    """A Consul token for the person who works with each environment."""
    for env in ENVIRONMENTS:
        file = names.token_file(tokens, env, "consul")
        secret = _kept(file) or new_secret()
        _write(file, consul.put_token(secret, [names.policy(env)]))


def hand_out_vault(tokens: Path, vault: VaultServer) -> None:
    """A Vault token for the person who works with each environment; what is valid still stays."""
    for env in ENVIRONMENTS:
        file = names.token_file(tokens, env, "vault")
        kept = _kept(file)
        if kept and vault.call("GET", "/v1/auth/token/lookup-self", token=kept).ok:
            continue
        wish = {"policies": [names.policy(env)], "period": _PERSON_PERIOD, "no_parent": True, "display_name": env}
        made = must(vault.call("POST", "/v1/auth/token/create", wish), f"a token for {env}")
        _write(file, made.json()["auth"]["client_token"])


def hand_out_nomad(tokens: Path, nomad: NomadServers) -> None:
    """A Nomad token for the person who works with each environment; what is valid still stays.

    It has the pipelines' policy beside its own, which holds nothing more, so that it may look whether that is there.
    """
    for env in ENVIRONMENTS:
        file = names.token_file(tokens, env, f"nomad-{nomad.name}")
        kept = _kept(file)
        if not (kept and nomad.takes(kept)):
            _write(file, nomad.token_for(f"{env}'s person", list(names.nomad_policies(nomad.name, env))))


def _put_role(consul: ConsulServer, name: str, policies: Sequence[str]) -> None:
    found = consul.call("GET", f"/v1/acl/role/name/{name}")
    path = f"/v1/acl/role/{found.json()['ID']}" if found.ok else "/v1/acl/role"
    must(consul.call("PUT", path, {"Name": name, "Policies": [{"Name": one} for one in policies]}), f"role {name}")


def _kept(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""


def _write(file: Path, token: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(file, f"{token}\n")
