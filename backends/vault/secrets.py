"""Secrets from Vault's key-value engine, version 2."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import hvac
import hvac.exceptions as failures
import requests

from rdv.backends.allocation import own_token
from rdv.backends.keys import check_key
from rdv.backends.ports import Certificate
from rdv.backends.vault.lease import Due, Lease
from rdv.clock import Clock, SystemClock
from rdv.errors import ConfigError, NotAuthorised, NotFound, RdvError, Unreachable, UsageError

_ANSWER_S = 10
_OPTIONS = {
    "address", "auth", "role", "jwt_file", "jwt_env", "role_id_file", "secret_id_file", "token_file", "namespace",
}  # fmt: skip
_LOGIN_HINT = "check the role, its policies and the login of this place"
_DOWN = (failures.VaultDown, failures.InternalServerError, failures.BadGateway, failures.RateLimitExceeded)
T = TypeVar("T")


class VaultSecrets:
    """Secrets by `path/field` below a prefix of one engine; safe over threads.

    place: `mount/prefix?address=URL` and a way to log in: `auth=MOUNT&role=NAME&jwt_file=PATH` (a Nomad workload's
    identity), `jwt_env=VARIABLE` instead of the file (a GitLab job's id_token), `auth=MOUNT&role_id_file=PATH` with
    `secret_id_file=PATH` (AppRole), or `token_file=PATH` (a token that somebody else renews). What is missing comes
    from Vault's own environment variables. Inside an allocation the token of its own identity is used, which Nomad
    renews. A token from a login is renewed at two thirds of its time and obtained anew when it is over or refused,
    whenever a secret is asked for or `refresh` is called.
    """

    def __init__(self, place: str, clock: Clock | None = None) -> None:
        self._mount, self._prefix, self._options = parse_place(place)
        self._clock = clock or SystemClock()
        options = self._options
        self._client: Any = hvac.Client(
            url=options.get("address"), namespace=options.get("namespace"), timeout=_ANSWER_S
        )
        self._where = f"Vault at {self._client.url}"
        self._logs_in = not {"jwt_file", "jwt_env", "role_id_file"}.isdisjoint(options)
        self._lease: Lease | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"VaultSecrets({self._where}, {self._mount}/{self._prefix})"

    def get(self, name: str) -> str:
        """The newest value of a secret. NotFound when it or its field is absent."""
        path, _, field = check_key(name).rpartition("/")
        if not path:
            raise UsageError(f"{name!r} names no field", "write path/field")
        with self._lock:
            fresh = self._refresh()
            try:
                fields = self._read(name, self._prefix + path)
            except NotAuthorised:
                if fresh or not self._logs_in or self._lease is None:
                    raise
                self._login()  # revoked, or its time went by while this machine slept
                fields = self._read(name, self._prefix + path)
        if not isinstance(value := fields.get(field), str):
            raise NotFound(f"{self._where} has no text {field} in {self._mount}/{self._prefix}{path}", "write it there")
        return value

    def issue(self, mount: str, role: str, name: str, ttl_s: float) -> Certificate:
        """A new certificate for a name, and its key, from a role of a PKI engine, for ttl_s or what the role allows."""
        wish = {"ttl": f"{max(1, round(ttl_s))}s", "private_key_format": "pkcs8"}

        def call() -> Any:
            pki = self._client.secrets.pki
            return pki.generate_certificate(name=role, common_name=name, extra_params=wish, mount_point=mount)

        with self._lock:
            self._refresh()
            answer = self._call(f"a certificate for {name} by role {role} of {mount}", call)["data"]
        above = answer.get("ca_chain") or [answer["issuing_ca"]]
        chain = "\n".join([answer["certificate"], *above[:-1], ""])
        authority = f"{above[-1]}\n".encode()
        return Certificate(chain.encode(), answer["private_key"].encode(), authority, float(answer["expiration"]))

    def refresh(self) -> float:
        """Do what the token needs now; returns the seconds until it needs something again (infinite: never)."""
        with self._lock:
            self._refresh()
            return self._lease.due_in_s(self._clock.monotonic()) if self._lease else float("inf")

    def _refresh(self) -> bool:
        if own := own_token("vault"):
            self._client.token, self._lease = own, None
            return False
        if "token_file" in self._options:
            self._client.token = self._text("token_file")
            return False
        if not self._logs_in:
            return False
        due = self._lease.due(self._clock.monotonic()) if self._lease else Due.LOGIN
        if due is Due.RENEW and self._renewed():
            return False
        if due is not Due.NOTHING:
            self._login()
        return due is not Due.NOTHING

    def _renewed(self) -> bool:
        try:
            self._take(self._call("the renewal of a token", lambda: self._client.auth.token.renew_self()))
        except Unreachable:
            return True  # the token holds for a while yet
        except RdvError:
            return False
        return True

    def _login(self) -> None:
        self._client.token = None  # an old one would be sent along, and refused
        try:
            self._take(self._call("a login", self._answer_to_login))
        except UsageError:
            raise NotAuthorised(f"{self._where} knows no such login", _LOGIN_HINT) from None

    def _answer_to_login(self) -> Any:
        auth, role = self._options.get("auth"), self._options.get("role", "")
        if "jwt_file" in self._options:
            return self._client.auth.jwt.jwt_login(role, self._text("jwt_file"), path=auth or "jwt")
        if "jwt_env" in self._options:
            return self._client.auth.jwt.jwt_login(role, self._variable("jwt_env"), path=auth or "jwt")
        ids = self._text("role_id_file"), self._text("secret_id_file")
        return self._client.auth.approle.login(*ids, mount_point=auth or "approle")

    def _take(self, answer: Any) -> None:
        auth = answer["auth"]
        self._lease = Lease(self._clock.monotonic(), float(auth["lease_duration"]), bool(auth["renewable"]))

    def _read(self, name: str, path: str) -> dict[str, Any]:
        answer = self._call(
            name,
            lambda: self._client.secrets.kv.v2.read_secret_version(
                path, mount_point=self._mount, raise_on_deleted_version=True
            ),
        )
        fields: dict[str, Any] = answer["data"]["data"]
        return fields

    def _text(self, option: str) -> str:
        path = self._options.get(option, "")
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            what = error.strerror
        raise NotAuthorised(f"{self._where}: {option} {path!r} cannot be read: {what}", _LOGIN_HINT)

    def _variable(self, option: str) -> str:
        name = self._options[option]
        if text := os.environ.get(name, "").strip():
            return text
        raise NotAuthorised(f"{self._where}: the environment variable {name} is not set", "see `rdv ci --help`")

    def _call(self, what: str, call: Callable[[], T]) -> T:
        # the client's errors carry requests and answers, so ours are raised past the handlers, without a chain
        try:
            return call()
        except failures.VaultError as error:
            problem = self._in_our_words(what, error)
        except requests.RequestException as error:
            kind = type(error).__name__
            problem = Unreachable(f"{self._where} does not answer ({kind})", "check the address and the server")
        raise problem

    def _in_our_words(self, what: str, error: Exception) -> RdvError:
        if isinstance(error, failures.InvalidPath):
            return NotFound(f"{self._where} has no {what} below {self._mount}/{self._prefix}", "write it there")
        if isinstance(error, failures.Forbidden | failures.Unauthorized | failures.InvalidRequest):
            return NotAuthorised(f"{self._where} refused {what}", _LOGIN_HINT)
        if isinstance(error, _DOWN):
            return Unreachable(f"{self._where} cannot serve {what} now ({type(error).__name__})", "is it sealed?")
        return RdvError(f"{self._where} failed on {what} ({type(error).__name__})", "see its log")


def parse_place(place: str) -> tuple[str, str, dict[str, str]]:
    """Mount, prefix (empty or ending in `/`) and options of a place; ConfigError when it is none."""
    path, _, query = place.partition("?")
    mount, _, prefix = path.partition("/")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not mount or set(options) - _OPTIONS or ("role_id_file" in options) != ("secret_id_file" in options):
        hint = "write vault:mount/prefix?address=URL&auth=MOUNT&role=NAME&jwt_file=PATH, or another way to log in"
        raise ConfigError(f"{place!r} is not a place in Vault", hint)
    prefix = prefix.strip("/")
    return mount, check_key(prefix) + "/" if prefix else "", options
