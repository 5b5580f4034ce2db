"""What an environment's `bus` setting says: how requests reach the models, and who is let in."""

from __future__ import annotations

import math
from typing import Literal
from urllib.parse import parse_qsl

import msgspec

from rdv.errors import ConfigError

_HINT = "write frames:, or grpc:?tls=files&cert=FILE&key=FILE&ca=FILE, or grpc:?tls=vault&mount=pki&role=NAME"
_OPTIONS = {"off": set[str](), "files": {"cert", "key", "ca"}, "vault": {"mount", "role"}}
_SOME = {"off": {"compress_kb"}, "files": {"domain", "compress_kb"}, "vault": {"domain", "ttl_s", "compress_kb"}}
TTL_S = 86400.0
MIN_TTL_S = 1.0


class BusPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A bus. scheme: `frames` on one host, `grpc` between hosts.

    tls, for gRPC: both ends' certificates are `files` (cert, key, ca: PEM, relative to rdv.toml), or come from `vault`
    (mount and role of its PKI; for ttl_s, renewed in time), or there are none (`off`). domain: names in certificates
    lie below it, `gateway.DOMAIN` for a gateway; empty: a gateway's bears its host, subscribers' any name.
    compress_kb: from which size on batches are compressed, 0: never.
    """

    scheme: Literal["frames", "grpc"] = "frames"
    tls: Literal["off", "files", "vault"] = "off"
    cert: str = ""
    key: str = ""
    ca: str = ""
    mount: str = ""
    role: str = ""
    domain: str = ""
    ttl_s: float = TTL_S
    compress_kb: int = 0


def parse_bus(text: str, env: str) -> BusPlace:
    """The bus that a setting names; ConfigError when it names none. From Vault, the domain is ENV.rdv.internal unless

    it is given.
    """
    scheme, colon, rest = text.partition(":")
    path, _, query = rest.partition("?")
    if not colon or path or scheme not in ("frames", "grpc") or (scheme == "frames" and rest):
        raise ConfigError(f"{text!r} is not a bus", _HINT)
    if scheme == "frames":
        return BusPlace()
    options = dict(parse_qsl(query, keep_blank_values=True))
    tls = options.pop("tls", "")
    if tls not in _OPTIONS:
        raise ConfigError(f"{text!r} does not say who is let in", f"{_HINT}; tls=off lets in everybody")
    needed, some = _OPTIONS[tls], _SOME[tls]
    if missing := sorted(name for name in needed if not options.get(name)):
        raise ConfigError(f"{text!r} does not name {', '.join(missing)}", _HINT)
    if unknown := sorted(set(options) - needed - some):
        raise ConfigError(f"{text!r} has options that tls={tls} does not know: {', '.join(unknown)}", _HINT)
    if tls == "vault":
        options.setdefault("domain", f"{env}.rdv.internal")
    numbers = {
        "ttl_s": _number(text, options, "ttl_s", TTL_S, MIN_TTL_S),
        "compress_kb": round(_number(text, options, "compress_kb", 0, 0)),
    }
    return msgspec.convert({"scheme": scheme, "tls": tls, **options, **numbers}, BusPlace)


def _number(text: str, options: dict[str, str], name: str, default: float, least: float) -> float:
    try:
        number = float(options.get(name, default))
    except ValueError:
        number = math.nan
    if not least <= number < math.inf:
        raise ConfigError(f"{text!r}: {name} is a number, at least {least:g}")
    return number
