"""What is wrong with an environment's registry, and its catalog, in Consul."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rdv.backends.diagnosis.finding import Asked, Seen, options_of, token_of

_START = "start the agent, or name another one in the place: ?address=URL"
_TOKEN = "put a valid token into the place's token_file, or set CONSUL_HTTP_TOKEN"


def diagnose(place: str, environ: Mapping[str, str]) -> Iterator[Seen]:
    """Whether Consul answers, refuses strangers, and lets this token do what a registry needs below its prefix."""
    prefix, options = options_of(place)
    address = options.get("address") or _address(environ)
    server = Asked("consul", address, "X-Consul-Token", token_of(options, environ, "CONSUL_HTTP_TOKEN"))
    told = server.ask("/v1/status/leader", known=False)
    if not told.ok or not told.body:
        found = told.said if not told.ok else f"{address} has no leader"
        yield Seen("consul", False, found, server.remedy(_START))
        return
    yield Seen("consul", True, f"{address}, led by {told.body}")
    yield server.clock(told)
    key = f"{prefix.strip('/')}/rdv-doctor".lstrip("/")
    yield _strangers(server, key)
    own = server.ask("/v1/acl/token/self")
    if own.status == 401:  # access control is off, as was said
        return
    if not own.ok:
        yield Seen("consul token", False, f"it is refused: {own.said}", server.remedy(_TOKEN))
        return
    policies = ", ".join(one["Name"] for one in own.body.get("Policies") or ()) or "no policy"
    yield Seen("consul token", True, f"valid, with {policies}")
    yield _rights(server, key, policies)
    yield _identities(server)


def diagnose_catalog(place: str, environ: Mapping[str, str], service: str) -> Iterator[Seen]:
    """Whether this token may find instances of a service in Consul, and announce them where they run."""
    _, options = options_of(place)
    address = options.get("address") or _address(environ)
    server = Asked("consul", address, "X-Consul-Token", token_of(options, environ, "CONSUL_HTTP_TOKEN"))
    told = server.ask(f"/v1/health/service/{service}?passing=1")
    if not told.ok:
        found = f"{service} cannot be looked up: {told.said}"
        yield Seen("consul catalog", False, found, server.remedy(_START if not told.status else _TOKEN))
        return
    there = f"{len(told.body)} instances of {service}" if told.body else f"no instance of {service}"
    wanted = [("service", service, "read"), ("node", "any", "read"), ("service", service, "write")]
    missing = _missing(server, wanted)
    if missing is None:
        yield Seen("consul catalog", None, f"{there}; rights are not told (access control is off, or too old a server)")
        return
    rules = f'service_prefix "{service}" {{ policy = "write" }}, node_prefix "" {{ policy = "read" }}'
    remedy = server.remedy(f"give the token a policy with {rules}: consul acl policy create")
    lacks = " and ".join(f"{access} {kind}s" for kind, _, access in missing)
    yield Seen("consul catalog", not missing, f"{there}; may not {lacks}" if missing else there, remedy)


def _missing(server: Asked, wanted: list[tuple[str, str, str]]) -> list[tuple[str, str, str]] | None:
    """Those of some rights (resource, segment, access) that the token lacks; None when Consul does not tell."""
    asked = [{"Resource": kind, "Segment": name, "Access": access} for kind, name, access in wanted]
    told = server.ask("/v1/internal/acl/authorize", "POST", asked)
    if not told.ok:
        return None
    return [right for right, one in zip(wanted, told.body, strict=True) if not one["Allow"]]


def _address(environ: Mapping[str, str]) -> str:
    told = environ.get("CONSUL_HTTP_ADDR", "127.0.0.1:8500")
    return told if "://" in told else f"http://{told}"


def _strangers(server: Asked, key: str) -> Seen:
    """Whether access control is on: a request without a token is refused."""
    told = server.ask(f"/v1/kv/{key}", known=False)
    remedy = "set acl.enabled and acl.default_policy = deny in the agents' configuration"
    found = "a request without a token is refused" if told.status == 403 else "anybody may read the registry"
    return Seen("consul acl", told.status == 403, found, remedy)


def _rights(server: Asked, key: str, policies: str) -> Seen:
    """Whether the token may read and write below the prefix; asked, not tried."""
    lacking = _missing(server, [("key", key, access) for access in ("read", "write")])
    if lacking is None:
        return Seen("consul rights", None, "it does not tell them")
    missing = [access for _, _, access in lacking]
    below = key.rpartition("/")[0]
    found = f"may not {' and '.join(missing)} below {below}" if missing else f"may read and write below {below}"
    rule = f'key_prefix "{below}/" {{ policy = "write" }}'
    remedy = server.remedy(f"give the token a policy with {rule} (now: {policies}): consul acl policy create")
    return Seen("consul rights", not missing, found, remedy)


def _identities(server: Asked) -> Seen:
    """Whether Consul takes the identities of Nomad's workloads: login methods, their rules, and the roles they give."""
    methods, rules, roles = (server.ask(f"/v1/acl/{part}") for part in ("auth-methods", "binding-rules", "roles"))
    if not (methods.ok and rules.ok and roles.ok):
        return Seen("consul identities", None, "this token may not read them (acl = read)")
    jwt = sorted(one["Name"] for one in methods.body if one["Type"] == "jwt")
    remedy = server.remedy("type: nomad setup consul")
    unruled = sorted(set(jwt) - {one["AuthMethod"] for one in rules.body})
    if not jwt or unruled:
        found = f"{', '.join(unruled)} without binding rules" if jwt else "no login by JWT"
        return Seen("consul identities", False, found, remedy)
    empty = sorted(one["Name"] for one in roles.body if not _has_rights(one))
    found = f"roles without any policy: {', '.join(empty)}" if empty else f"{', '.join(jwt)}; {len(roles.body)} roles"
    return Seen("consul identities", not empty, found, remedy)


def _has_rights(role: Mapping[str, Any]) -> bool:
    return any(role.get(kind) for kind in ("Policies", "ServiceIdentities", "NodeIdentities", "TemplatedPolicies"))
