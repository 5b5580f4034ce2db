"""How a pipeline's job comes by what its environment asks for: by the id_token that GitLab signs for it.

The environment's place in Vault names the variable (`jwt_env=VAULT_ID_TOKEN`). Tokens for other servers are secrets in
Vault, below `ci/`, one a file that the environment's places name below `.rdv/ci/`; they are written there while a stage
runs. They may lie in a place of their own, RDV_CI_TOKENS_ENV, which the environment's workloads cannot read.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import msgspec

from rdv.errors import ConfigError, NotAuthorised, UsageError

if TYPE_CHECKING:
    from rdv.config import Project

FOLDER = Path(".rdv/ci")
SECRET = "ci"


def places(project: Project, env: str) -> dict[str, str]:
    """The places of an environment of rdv.toml by setting; UsageError when there is no such environment."""
    if env not in project.config.environments:
        known = ", ".join(sorted(project.config.environments)) or "none"
        hint = f"add [environments.{env}], or name another one in RDV_CI_STAGING or RDV_CI_PRODUCTION; known: {known}"
        raise UsageError(f"rdv.toml has no environment {env!r}", hint)
    return {name: str(value) for name, value in msgspec.structs.asdict(project.config.environments[env]).items()}


def option(place: str, name: str) -> str:
    """An option of a place, empty when it has none of that name."""
    return dict(parse_qsl(place.partition("?")[2])).get(name, "")


def check_id_token(name: str, environ: Mapping[str, str] = os.environ, now: float | None = None) -> None:
    """Return when a variable holds an id_token that is not over; NotAuthorised else. Vault checks its signature."""
    token = environ.get(name, "").strip()
    if not token:
        hint = "give the job `id_tokens:` with it, as ci/gitlab/staging.yml does"
        raise NotAuthorised(f"the variable {name} is missing, by which this job would prove to Vault who it is", hint)
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        over_s = (time.time() if now is None else now) - float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        raise NotAuthorised(f"what {name} holds is no id_token", "let GitLab set it: `id_tokens:` of the job") from None
    if over_s >= 0:
        hint = "run the job again: it gets a new one as it starts"
        raise NotAuthorised(f"the id_token in {name} expired {over_s:.0f} s ago", hint)


@contextlib.contextmanager
def logged_in(project: Project, env: str) -> Iterator[None]:
    """Have the token files of an environment while this lasts, where a pipeline gets them by an id_token."""
    found = places(project, env)
    variable = option(found["secrets"], "jwt_env")
    if not variable:
        yield
        return
    check_id_token(variable)
    made = _write_tokens(project, env, found)
    try:
        yield
    finally:
        for file in made:
            file.unlink(missing_ok=True)


def _reading_tokens(project: Project, env: str) -> Project:
    """The project with the place of the pipeline's tokens as that of an environment's secrets."""
    replace = msgspec.structs.replace
    place = os.environ.get(f"RDV_CI_TOKENS_{env.upper()}", "")
    if not place:
        return replace(project, env=env)
    settings = project.config.environments
    changed = replace(project.config, environments={**settings, env: replace(settings[env], secrets=place)})
    return replace(project, env=env, config=changed)


def _write_tokens(project: Project, env: str, found: Mapping[str, str]) -> list[Path]:
    from rdv.backends import select

    wanted = sorted({Path(name) for place in found.values() if (name := option(place, "token_file"))})
    secrets = select.secrets(_reading_tokens(project, env), os.environ)
    made = []
    for file in (one for one in wanted if one.is_relative_to(FOLDER)):
        path = project.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        token = secrets.get(f"{SECRET}/{file.stem}")
        if not token:
            raise ConfigError(f"the secret {SECRET}/{file.stem} of {env} is empty", "write it there")
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_text(token)
        made.append(path)
    return made
