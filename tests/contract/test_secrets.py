"""The contract of the secrets port. A further adapter joins by a class with a `door` fixture of its own."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.guarded import GuardedSecrets
from rdv.backends.ports import Secrets
from rdv.backends.secrets_env import EnvSecrets
from rdv.breaker import Breaker
from rdv.errors import NotFound, RdvError, UsageError

CANARY = "hunter2-canary-\u00e9"
BAD_NAMES = ["", "/", "../key", "a//b", "a b/c", "/a/b", "a/b/", "a\nb/c"]


@dataclass
class Door:
    """How a test reaches the secrets: `open` the port, `poke` a value in past it, `close` it against reading."""

    open: Callable[[], Secrets]
    poke: Callable[[str, str], None]
    close: Callable[[], None]


class SecretsContract:
    """What every adapter for secrets promises."""

    def test_a_secret_is_read(self, door: Door) -> None:
        """A value is read as it was stored, by path and field, and others beside it are told apart."""
        door.poke("app/db/password", CANARY)
        door.poke("app/db/user", "anna")
        secrets = door.open()
        assert (secrets.get("app/db/password"), secrets.get("app/db/user")) == (CANARY, "anna")

    def test_a_changed_secret_is_seen(self, door: Door) -> None:
        """A value that is replaced is read anew by whoever has the adapter open."""
        door.poke("app/db/password", "old")
        secrets = door.open()
        assert secrets.get("app/db/password") == "old"
        door.poke("app/db/password", CANARY)
        assert secrets.get("app/db/password") == CANARY

    def test_what_is_absent_is_named(self, door: Door) -> None:
        """An absent secret is NotFound, with its name in the message, also beside one that is there."""
        door.poke("app/db/password", CANARY)
        for name in ("app/db/nothing", "app/nothing/password"):
            with pytest.raises(NotFound, match="nothing"):
                door.open().get(name)

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_a_bad_name_is_refused(self, door: Door, name: str) -> None:
        """A name that is no path and field is a usage error."""
        with pytest.raises(UsageError):
            door.open().get(name)

    def test_nothing_gives_a_value_away(self, door: Door) -> None:
        """Neither the adapter's text nor the whole chain of an error holds a value, also when reading is refused."""
        door.poke("app/db/password", CANARY)
        secrets = door.open()
        assert secrets.get("app/db/password") == CANARY
        shown = [repr(secrets), str(secrets)]
        for name in ("app/db/nothing", "../app"):
            with pytest.raises(RdvError) as caught:
                secrets.get(name)
            shown += traceback.format_exception(caught.value)
        door.close()
        with pytest.raises(RdvError) as refused:
            door.open().get("app/db/password")
        assert not isinstance(refused.value, NotFound)
        shown += traceback.format_exception(refused.value)
        assert CANARY not in "".join(shown)


class TestEnv(SecretsContract):
    """The embedded adapter, on its file; what the environment adds is in its own tests."""

    @pytest.fixture
    def door(self, tmp_path: Path) -> Door:
        """A file that is its owner's alone, and may be opened to others."""
        file, written = tmp_path / "secrets.toml", {}
        file.touch(0o600)

        def poke(name: str, value: str) -> None:
            written[name] = value
            file.write_text("".join(f'"{name}" = "{value}"\n' for name, value in written.items()))

        return Door(lambda: EnvSecrets(file, {}), poke, lambda: file.chmod(0o644))


class TestGuarded(SecretsContract):
    """Any secrets behind a circuit breaker, which shows none of them either."""

    @pytest.fixture
    def door(self, tmp_path: Path) -> Door:
        """The embedded adapter behind a breaker."""
        file, written = tmp_path / "secrets.toml", {}
        file.touch(0o600)

        def poke(name: str, value: str) -> None:
            written[name] = value
            file.write_text("".join(f'"{name}" = "{value}"\n' for name, value in written.items()))

        breaker = Breaker("secrets")
        return Door(lambda: GuardedSecrets(EnvSecrets(file, {}), breaker), poke, lambda: file.chmod(0o644))


@pytest.mark.live
class TestVault(SecretsContract):
    """Vault, with a token that may read one prefix."""

    @pytest.fixture
    def door(self, vault_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
        """A prefix of its own, and a token for it that can be revoked."""
        from rdv.backends.vault.secrets import VaultSecrets

        for name in ("VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "VAULT_CACERT"):
            monkeypatch.delenv(name, raising=False)
        prefix, fields = f"contract-{tmp_path.parent.name}-{tmp_path.name}", {}
        vault_server.write_policy(prefix, f'path "secret/data/{prefix}/*" {{ capabilities = ["read"] }}')
        made = vault_server.call("POST", "/v1/auth/token/create", {"policies": [prefix], "ttl": "10m"}).json()
        token, file = made["auth"]["client_token"], tmp_path / "token"
        file.write_text(token)

        def poke(name: str, value: str) -> None:
            path, _, field = name.rpartition("/")
            fields.setdefault(path, {})[field] = value
            vault_server.write_secret(f"{prefix}/{path}", fields[path])

        def close() -> None:
            vault_server.call("POST", "/v1/auth/token/revoke", {"token": token})

        place = f"secret/{prefix}?address={vault_server.address}&token_file={file}"
        yield Door(lambda: VaultSecrets(place), poke, close)
        close()
