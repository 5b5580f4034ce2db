"""What is wrong with an environment's secrets in Vault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rdv.backends.diagnosis.finding import Asked, Seen, options_of, span, token_of

_START = "start the server, or name another one in the place: ?address=URL"
_TOKEN = "put a valid token into the place's token_file, or set VAULT_TOKEN"
_UNTOLD = {"default", "root"}
# where `nomad setup vault` and a dev cluster have the logins of Nomad's workloads
_MOUNTS = ("jwt-nomad", "nomad-batch")


def diagnose(place: str, environ: Mapping[str, str], role: str = "") -> Iterator[Seen]:
    """Whether Vault answers, is unsealed, and lets this token read the secrets of the place.

    role: the one that workloads of the environment get.
    """
    path, options = options_of(place)
    address = options.get("address") or environ.get("VAULT_ADDR", "https://127.0.0.1:8200")
    logs_in = "jwt_file" in options or "role_id_file" in options
    token = "" if logs_in else token_of(options, environ, "VAULT_TOKEN")
    server = Asked("vault", address, "X-Vault-Token", token)
    told = server.ask("/v1/sys/health?standbyok=true", known=False)
    yield _health(server, told.status, told.said)
    if not told.ok:
        return
    yield server.clock(told)
    if logs_in:
        yield Seen("vault token", None, "obtained by a login; see the secrets")
        return
    own = server.ask("/v1/auth/token/lookup-self")
    if not own.ok:
        yield Seen("vault token", False, f"it is refused: {_errors(own.body) or own.said}", server.remedy(_TOKEN))
        return
    policies = [name for name in own.body["data"]["policies"] if name not in _UNTOLD]
    left_s = own.body["data"]["ttl"]
    lasts = f"for {span(left_s)}" if left_s else "without end"
    yield Seen("vault token", True, f"valid {lasts}, with {', '.join(policies) or 'no policy of its own'}")
    yield _policies(server, policies)
    mount, _, prefix = path.partition("/")
    yield _rights(server, f"{mount}/data/{prefix.strip('/')}/rdv-doctor")
    if role:
        yield _role(server, role)


def _health(server: Asked, status: int, said: str) -> Seen:
    named = f"-address={server.address}"
    problems = {
        501: ("it was never initialised", f"type: vault operator init {named}"),
        503: ("it is sealed", f"type: vault operator unseal {named}"),
    }
    if status == 200:
        return Seen("vault", True, f"{server.address}, unsealed")
    found, remedy = problems.get(status, (said, _START))
    return Seen("vault", False, f"{server.address}: {found}" if status else said, server.remedy(remedy))


def _policies(server: Asked, names: list[str]) -> Seen:
    """Whether the token's policies exist: a token keeps the name of one that was deleted."""
    told = {name: server.ask(f"/v1/sys/policies/acl/{name}").status for name in names}
    gone = [name for name, status in told.items() if status == 404]
    if gone:
        remedy = server.remedy(f"type: vault policy write {gone[0]} FILE")
        return Seen("vault policies", False, f"{', '.join(gone)} is not there any more", remedy)
    if not any(status == 200 for status in told.values()):
        return Seen("vault policies", None, "this token may not read them")
    return Seen("vault policies", True, f"{', '.join(names)}")


def _rights(server: Asked, path: str) -> Seen:
    """Whether the token may read the secrets; asked, not tried."""
    told = server.ask("/v1/sys/capabilities-self", "POST", {"paths": [path]})
    if not told.ok:
        return Seen("vault rights", None, f"it does not tell: {_errors(told.body) or told.said}")
    may = told.body["data"][path]
    good, below = bool({"read", "root"} & set(may)), path.rpartition("/")[0]
    remedy = server.remedy(f'give the token a policy with path "{below}/*" {{ capabilities = ["read"] }}')
    return Seen("vault rights", good, f"{', '.join(may)} below {below}", remedy)


def _role(server: Asked, role: str) -> Seen:
    """Whether the role of the environment's workloads is there, with the policies that it gives."""
    told = {mount: server.ask(f"/v1/auth/{mount}/role/{role}") for mount in _MOUNTS}
    found = next(((mount, one.body["data"]) for mount, one in told.items() if one.ok), None)
    if found is None:
        if any(one.status == 403 for one in told.values()) and not any(one.status == 404 for one in told.values()):
            return Seen("vault role", None, f"this token may not read the role {role}")
        return Seen("vault role", False, f"there is no role {role}", server.remedy("type: nomad setup vault"))
    mount, data = found
    gone = [one for one in data["token_policies"] if server.ask(f"/v1/sys/policies/acl/{one}").status == 404]
    gives = ", ".join(data["token_policies"]) or "nothing"
    text = f"{mount}/{role} gives {', '.join(gone)}, which is not there" if gone else f"{mount}/{role} gives {gives}"
    remedy = server.remedy(f"type: vault policy write {gone[0]} FILE") if gone else ""
    return Seen("vault role", not gone, text, remedy)


def _errors(body: Any) -> str:
    return "; ".join(map(str, body.get("errors") or ())) if isinstance(body, dict) else ""
