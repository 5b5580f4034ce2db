"""Secrets from a real Vault: logins, renewal, what is refused, and that nothing gives a value away."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.clock import ManualClock
from rdv.errors import NotAuthorised, NotFound, RdvError, Unreachable, UsageError

pytestmark = pytest.mark.live
CANARY = "hunter2-canary"
RULES = 'path "secret/data/app/*" { capabilities = ["read"] }'
TTL_S = 600


@pytest.fixture(autouse=True)
def no_vault_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without settings for Vault, and no token of the caller's in a home folder."""
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "VAULT_CACERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def vault(live_server: Callable[..., Any]) -> Iterator[Any]:
    """A Vault with one secret, a policy that reads it, and an AppRole with that policy."""
    server = live_server("vault:VaultServer", "hvac")
    server.start()
    server.write_secret("app/db", {"password": CANARY, "user": "anna"})
    server.write_secret("other/db", {"password": CANARY})
    server.write_policy("app", RULES)
    assert server.call("POST", "/v1/sys/auth/approle", {"type": "approle"}).ok
    role = {"token_policies": ["app"], "token_ttl": f"{TTL_S}s", "token_max_ttl": "2h"}
    assert server.call("POST", "/v1/auth/approle/role/trainer", role).ok
    yield server
    server.close()


@pytest.fixture
def approle(vault: Any, tmp_path: Path) -> str:
    """A way to log in with the AppRole, as options of a place."""
    role = vault.call("GET", "/v1/auth/approle/role/trainer/role-id").json()["data"]["role_id"]
    secret = vault.call("POST", "/v1/auth/approle/role/trainer/secret-id").json()["data"]["secret_id"]
    (tmp_path / "role").write_text(role)
    (tmp_path / "secret").write_text(secret)
    return f"role_id_file={tmp_path}/role&secret_id_file={tmp_path}/secret"


def opened(address: str, options: str, prefix: str = "secret", clock: Any = None) -> Any:
    """The adapter under test."""
    from rdv.backends.vault.secrets import VaultSecrets

    return VaultSecrets(f"{prefix}?address={address}&{options}", clock)


def test_a_secret_is_read_by_path_and_field(vault: Any, approle: str) -> None:
    """A field of a secret is read, below a prefix too, and its newest version at once."""
    secrets = opened(vault.address, approle)
    assert secrets.get("app/db/password") == CANARY
    assert opened(vault.address, approle, "secret/app").get("db/user") == "anna"
    vault.write_secret("app/db", {"password": "newer"})
    assert secrets.get("app/db/password") == "newer"


def test_what_is_not_there_and_what_may_not_be_read(vault: Any, approle: str) -> None:
    """An absent secret or field is NotFound, a deleted one too, one that the policy hides NotAuthorised."""
    secrets = opened(vault.address, approle)
    for name in ("app/none/password", "app/db/none"):
        with pytest.raises(NotFound):
            secrets.get(name)
    with pytest.raises(NotAuthorised):
        secrets.get("other/db/password")
    with pytest.raises(UsageError):
        secrets.get("password")
    assert vault.call("DELETE", "/v1/secret/data/app/db").ok
    with pytest.raises(NotFound):
        secrets.get("app/db/password")


def test_a_workload_logs_in_with_its_identity(vault: Any, tmp_path: Path, require: Callable[..., str]) -> None:
    """A signed token of the right audience is exchanged for one of Vault's; another one is NotAuthorised."""
    openssl, key = require("openssl"), tmp_path / "key.pem"
    subprocess.run([openssl, "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    public = subprocess.run([openssl, "rsa", "-in", key, "-pubout"], check=True, capture_output=True, text=True).stdout
    assert vault.call("POST", "/v1/sys/auth/jwt-svc", {"type": "jwt"}).ok
    assert vault.call("POST", "/v1/auth/jwt-svc/config", {"jwt_validation_pubkeys": [public]}).ok
    role = {"role_type": "jwt", "bound_audiences": ["vault.io"], "user_claim": "sub", "token_policies": ["app"]}
    assert vault.call("POST", "/v1/auth/jwt-svc/role/workload", role).ok
    options = f"auth=jwt-svc&role=workload&jwt_file={tmp_path}/jwt"

    def sign(audience: str) -> None:
        now = int(time.time())
        claims = {"sub": "train", "aud": audience, "iat": now - 5, "nbf": now - 5, "exp": now + 600}
        parts = [json.dumps(one).encode() for one in ({"alg": "RS256", "typ": "JWT"}, claims)]
        body = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        signed = subprocess.run([openssl, "dgst", "-sha256", "-sign", key], input=body, check=True, capture_output=True)
        (tmp_path / "jwt").write_bytes(body + b"." + base64.urlsafe_b64encode(signed.stdout).rstrip(b"="))

    sign("vault.io")
    assert opened(vault.address, options).get("app/db/password") == CANARY
    sign("somebody.else")
    with pytest.raises(NotAuthorised, match="refused a login"):
        opened(vault.address, options).get("app/db/password")
    with pytest.raises(NotAuthorised, match="cannot be read"):
        opened(vault.address, options + "-absent").get("app/db/password")


def test_a_token_is_renewed_and_then_obtained_anew(
    vault: Any, approle: str, faulty_proxy: Callable[..., Any]
) -> None:
    """A token is used for two thirds of its time, then renewed, and when its time is over there is a new login."""
    proxy, clock = faulty_proxy(vault.port), ManualClock()
    secrets = opened(proxy.address, approle, clock=clock)

    def asked() -> list[str]:
        secrets.get("app/db/password")
        words = [line.rpartition("/")[2] for line in proxy.requests]
        proxy.requests.clear()
        return words

    assert asked() == ["login", "db"]
    clock.advance(TTL_S * 0.6)
    assert asked() == ["db"]
    assert secrets.refresh() == pytest.approx(TTL_S * (2 / 3 - 0.6))
    clock.advance(TTL_S * 0.1)
    assert asked() == ["renew-self", "db"]
    clock.advance(TTL_S * 0.6)
    assert asked() == ["db"]
    clock.advance(TTL_S * 0.1)
    proxy.faults.append("503")
    assert asked() == ["renew-self", "db"]
    clock.advance(TTL_S)
    assert asked() == ["login", "db"]


def test_a_revoked_token_is_replaced(vault: Any, approle: str) -> None:
    """After every token was revoked the next secret is read all the same, by a new login."""
    secrets = opened(vault.address, approle)
    secrets.get("app/db/user")
    assert vault.call("PUT", "/v1/sys/leases/revoke-prefix/auth/approle/login", {"sync": True}).ok
    assert secrets.get("app/db/user") == "anna"


def test_a_sealed_vault_is_unreachable(vault: Any, approle: str) -> None:
    """Sealed, stopped and started again: Unreachable meanwhile, and the same object goes on afterwards."""
    secrets = opened(vault.address, approle)
    secrets.get("app/db/user")
    vault.seal()
    with pytest.raises(Unreachable, match="sealed"):
        secrets.get("app/db/user")
    vault.unseal()
    assert secrets.get("app/db/user") == "anna"
    vault.process.stop()
    with pytest.raises(Unreachable, match="does not answer"):
        secrets.get("app/db/user")
    vault.start()
    assert secrets.get("app/db/user") == "anna"


def test_a_token_file_is_read_anew(vault: Any, tmp_path: Path) -> None:
    """A token that somebody else keeps in a file is taken up when it is replaced."""
    (tmp_path / "token").write_text("hvs.wrong")
    secrets = opened(vault.address, f"token_file={tmp_path}/token")
    with pytest.raises(NotAuthorised):
        secrets.get("app/db/user")
    (tmp_path / "token").write_text(vault.root_token)
    assert secrets.get("app/db/user") == "anna"


def test_no_error_gives_anything_away(
    vault: Any, approle: str, faulty_proxy: Callable[..., Any], tmp_path: Path
) -> None:
    """Whatever fails, neither the error and its chain nor the adapter's repr holds a value, a token or a login."""
    proxy = faulty_proxy(vault.port)
    kept = [CANARY, (tmp_path / "secret").read_text(), vault.root_token]
    for faults in (["cut after"], ["500"], ["", "half"], ["", "cut after"], ["", "403"]):
        secrets = opened(proxy.address, approle)
        proxy.faults.extend(faults)
        with pytest.raises(RdvError) as caught:
            secrets.get("app/db/password")
        proxy.faults.clear()
        error: BaseException | None = caught.value
        told = "".join(traceback.format_exception(caught.value)) + repr(secrets)
        while error is not None:
            told, error = told + repr(vars(error)), error.__context__
        assert not [one for one in kept if one in told]
