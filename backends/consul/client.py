"""What every adapter to Consul needs: the place, the client, the token, and errors in rdv's own words.

py-consul does the work. One of its habits is worked around here: the token of the environment beats one that is given
to its constructor, so a token of ours goes with each call.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import consul
import requests
from consul.exceptions import BadRequest, ClientError

from rdv.backends.allocation import own_token
from rdv.backends.keys import check_key
from rdv.errors import ConfigError, NotAuthorised, RdvError, Unreachable

_ANSWER_S = 5.0
_OPTIONS = {"address", "token_file", "datacenter"}
_TOKEN_HINT = "set CONSUL_HTTP_TOKEN, or name a file in the place: ?token_file=PATH"


class ConsulClient:
    """Consul as a place's options name it; safe over threads, processes and forks.

    What is missing comes from Consul's own environment variables. Inside an allocation the token of its own identity is
    used. Token files are read anew for each call, since agents replace them.
    """

    def __init__(self, options: dict[str, str]) -> None:
        self._options = options
        self._pid, self._client = os.getpid(), _new_client(options)
        self.where = f"Consul at {self._client.http.base_uri}"

    def api(self) -> Any:
        """py-consul's client, this process's own."""
        if self._pid != os.getpid():  # connections of the parent process are not ours to use
            self._pid, self._client = os.getpid(), _new_client(self._options)
        return self._client

    def token(self) -> str | None:
        """The token for the next call; None: whatever the environment says."""
        if own := own_token("consul"):
            return own
        path = self._options.get("token_file")
        try:
            return Path(path).read_text().strip() if path else None
        except OSError as error:
            raise NotAuthorised(f"the token file {path} cannot be read: {error.strerror}", _TOKEN_HINT) from error

    @contextmanager
    def translated(self, what: str, full: str = "") -> Iterator[None]:
        """Errors of the calls inside as rdv's. what: asked for; full: the same as Consul calls it."""
        try:
            yield
        except requests.RequestException as error:
            kind = type(error).__name__
            raise Unreachable(f"{self.where} does not answer ({kind})", "check the address and the agent") from error
        except (consul.ACLPermissionDenied, consul.ACLDisabled) as error:
            raise NotAuthorised(f"{self.where} refused {full or what}", _TOKEN_HINT) from error
        except (BadRequest, ClientError) as error:
            raise RdvError(f"{self.where} refused {what or 'the listing'}: {error}", "see its log") from error
        except consul.ConsulException as error:
            raise Unreachable(f"{self.where} cannot serve {what or 'the listing'} now: {error}", "try again") from error


def parse_place(place: str) -> tuple[str, dict[str, str]]:
    """Prefix (empty or ending in `/`) and options of a place; ConfigError when it is none."""
    prefix, _, query = place.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if set(options) - _OPTIONS:
        hint = "write consul:prefix?address=URL&token_file=PATH&datacenter=NAME, all optional"
        raise ConfigError(f"{place!r} is not a place in Consul", hint)
    prefix = prefix.strip("/")
    return check_key(prefix) + "/" if prefix else "", options


def _new_client(options: dict[str, str]) -> Any:
    host = port = scheme = None
    if address := options.get("address"):
        try:
            parts = urlsplit(address)
            host, port, scheme = parts.hostname, parts.port or (443 if parts.scheme == "https" else 8500), parts.scheme
        except ValueError:
            pass
        if not host or scheme not in ("http", "https"):
            raise ConfigError(f"{address!r} is no address of Consul", "write it as http://host:8500")
    try:
        return consul.Consul(
            host=host, port=port, scheme=scheme, dc=options.get("datacenter"), connections_timeout=_ANSWER_S
        )
    except consul.ConsulException as error:
        raise ConfigError(f"Consul's environment variables are wrong: {error}", "see CONSUL_HTTP_ADDR") from error
