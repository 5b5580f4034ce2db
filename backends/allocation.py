"""What Nomad hands to the task of an allocation: tokens of the workload's own identity, as files."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from rdv.errors import NotAuthorised

# what Nomad hands to a task in its environment as well, from where every child would inherit it
_IN_ENVIRONMENT = ("NOMAD_TOKEN", "VAULT_TOKEN", "CONSUL_TOKEN", "CONSUL_HTTP_TOKEN")
# Consul's token is in a file for root and its group, which a task of another user (`nobody` with the driver exec) may
# not read; Nomad makes it once an allocation and never replaces it, so such a process keeps what its environment said
_kept: dict[str, str] = {}


def drop_tokens(environ: MutableMapping[str, str] = os.environ) -> None:
    """Take the tokens out of the environment; those of the allocation stay in their files.

    Of Consul's, whose file is not for every user, this process remembers what the environment said.
    """
    for name in _IN_ENVIRONMENT:
        token = environ.pop(name, None)
        if token and name == "CONSUL_TOKEN" and environ.get("NOMAD_SECRETS_DIR"):
            _kept["consul"] = token


def own_token(server: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """The token for `nomad`, `consul` or `vault` that this allocation was given; None outside one, or without it.

    Nomad replaces the file before the token's time is over, so it is read anew for each call.
    """
    folder = environ.get("NOMAD_SECRETS_DIR")
    if not folder:
        return None
    try:
        return Path(folder, f"{server}_token").read_text().strip() or None
    except FileNotFoundError:
        return None
    except PermissionError as error:
        if kept := _kept.get(server):
            return kept
        raise _refused(server, error) from error
    except OSError as error:
        raise _refused(server, error) from error


def _refused(server: str, error: OSError) -> NotAuthorised:
    return NotAuthorised(f"the allocation's {server}_token cannot be read: {error.strerror}", "run as the task's user")
