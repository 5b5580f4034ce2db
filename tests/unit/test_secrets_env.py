"""Secrets from the environment or a file that is its owner's alone."""

import traceback
from pathlib import Path

import pytest

from rdv.backends.secrets_env import EnvSecrets, variable_name
from rdv.errors import ConfigError, NotFound, RdvError, UsageError
from rdv.settings import find_project, load_project

CANARY = "hunter2-canary"


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    """A secrets file."""
    file = folder / "secrets.toml"
    file.touch(mode)
    file.write_text(text)
    file.chmod(mode)
    return file


def test_the_environment_comes_first(tmp_path: Path) -> None:
    """A variable beats the file, an empty one does not, and the file serves what no variable names."""
    file = written(tmp_path, '"app/db/password" = "of the file"\n')
    name = "app/db/password"
    assert EnvSecrets(file, {"RDV_SECRET_APP_DB_PASSWORD": "of the environment"}).get(name) == "of the environment"
    assert EnvSecrets(file, {"RDV_SECRET_APP_DB_PASSWORD": ""}).get(name) == "of the file"
    assert variable_name("s3/key-id") == "RDV_SECRET_S3_KEY_ID"


def test_what_is_absent_is_named(tmp_path: Path) -> None:
    """An absent secret is NotFound with the variable to set, with or without a file; a bad name is refused."""
    with pytest.raises(NotFound, match="RDV_SECRET_APP_KEY"):
        EnvSecrets(tmp_path / "none.toml", {}).get("app/key")
    with pytest.raises(UsageError):
        EnvSecrets(tmp_path / "none.toml", {}).get("../key")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (f'"a/b" = "{CANARY}"', 0o640),
        (f'"a/b" = "{CANARY}"', 0o604),
        (f"a/b = {CANARY}", 0o600),
        (f'"a/b" = ["{CANARY}"]', 0o600),
    ],
)
def test_a_file_that_is_wrong_gives_nothing_away(tmp_path: Path, text: str, mode: int) -> None:
    """A file that others may read, or that is no list of strings, is refused without a word of what is in it."""
    with pytest.raises(ConfigError) as caught:
        EnvSecrets(written(tmp_path, text, mode), {}).get("a/b")
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_secrets_are_no_settings(tmp_path: Path) -> None:
    """A variable that holds a secret is no unknown configuration key."""
    (tmp_path / "rdv.toml").write_text("")
    load_project(tmp_path, environ={"RDV_SECRET_A_B": CANARY})
    with pytest.raises(RdvError):
        load_project(tmp_path, environ={"RDV_SECRE": "x"})
    assert find_project(tmp_path)
