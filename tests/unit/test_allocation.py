"""Tokens that Nomad hands to a task: from files, never from the environment of a child."""

from pathlib import Path

import pytest

from rdv.backends import allocation
from rdv.errors import NotAuthorised


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a task, with every token that Nomad puts there."""
    monkeypatch.setattr(allocation, "_kept", {})
    names = ("NOMAD_TOKEN", "VAULT_TOKEN", "CONSUL_TOKEN", "CONSUL_HTTP_TOKEN")
    return {"NOMAD_SECRETS_DIR": str(tmp_path), **{name: f"from-{name}" for name in names}}


def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no file be readable, as for a user that is not its own."""

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)


def test_the_environment_holds_no_token_afterwards(secrets: dict[str, str], tmp_path: Path) -> None:
    """Every token is taken out, and those in files are read anew for each call."""
    allocation.drop_tokens(secrets)
    assert list(secrets) == ["NOMAD_SECRETS_DIR"]
    assert allocation.own_token("consul", secrets) is None
    for text in ("one\n", "two"):
        (tmp_path / "consul_token").write_text(text)
        assert allocation.own_token("consul", secrets) == text.strip()
    assert allocation.own_token("consul", {}) is None


def test_a_user_who_may_not_read_the_file_has_the_token(
    secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Consul's token, whose file is root's, is what the environment said; other servers' files are the user's own."""
    allocation.drop_tokens(secrets)
    unreadable(monkeypatch)
    assert allocation.own_token("consul", secrets) == "from-CONSUL_TOKEN"
    for server in ("nomad", "vault"):
        with pytest.raises(NotAuthorised, match="cannot be read"):
            allocation.own_token(server, secrets)


def test_without_an_allocation_nothing_is_kept(secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of somebody's own environment is not taken for that of a workload."""
    del secrets["NOMAD_SECRETS_DIR"]
    allocation.drop_tokens(secrets)
    unreadable(monkeypatch)
    with pytest.raises(NotAuthorised):
        allocation.own_token("consul", {"NOMAD_SECRETS_DIR": "/secrets"})
