"""Secrets from the environment, or from a file that only its owner may read."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rdv.backends.keys import check_key
from rdv.errors import ConfigError, NotAuthorised, NotFound
from rdv.settings import SECRET_PREFIX


class EnvSecrets:
    """Secrets by `path/field`: the environment variable RDV_SECRET_PATH_FIELD, else that line of a TOML file.

    In the file a line is `"path/field" = "value"`; its mode must be 0600 or stricter.
    """

    def __init__(self, file: Path, environ: Mapping[str, str]) -> None:
        self._file, self._environ = file, environ

    def get(self, name: str) -> str:
        """The value of a secret. NotFound when absent, NotAuthorised when the file is open to others."""
        variable = variable_name(name)
        if value := self._environ.get(variable):
            return value
        found = self._read().get(name)
        if found is None:
            hint = f'set {variable}, or write "{name}" = "..." into {self._file}'
            raise NotFound(f"there is no secret {name}", hint)
        if not isinstance(found, str):
            raise ConfigError(f"the secret {name} in {self._file} is no string", "put it in quotes")
        return found

    def _read(self) -> dict[str, Any]:
        # what is raised here must not drag along the text that could not be read, so it is raised past the handlers
        try:
            with self._file.open("rb") as file:
                shared = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077
                if not shared:
                    return tomllib.load(file)
            problem = ConfigError(f"{self._file} may be read by others", f"type: chmod 600 {self._file}")
        except FileNotFoundError:
            return {}
        except PermissionError:
            raise NotAuthorised(f"{self._file} may not be read", "check who owns it") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            problem = ConfigError(f"{self._file} is no TOML", 'write a line a secret: "path/field" = "value"')
        raise problem


def variable_name(name: str) -> str:
    """The environment variable that holds a secret: each run of other characters is one underscore."""
    return SECRET_PREFIX + re.sub("[^A-Z0-9]+", "_", check_key(name).upper()).strip("_")
