"""Keys for S3 from the environment's secrets: read when the first request is signed, and anew when one is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from botocore.credentials import CredentialResolver, Credentials, ReadOnlyCredentials

from rdv.backends.ports import Secrets
from rdv.backends.s3.errors import UNKNOWN_KEY

_TRIES = 3
_MARK = "rdv_keys"


class SecretKeys(Credentials):  # type: ignore[misc]
    """The fields `access_key` and `secret_key` of one secret, as the client's credentials. Nothing here shows them.

    Keys that the store refuses may have been replaced: the secret is read again, and the request is sent again with
    what it says now if that is something else.
    """

    def __init__(self, name: str, secrets: Callable[[], Secrets]) -> None:
        self._name, self._open = name, secrets
        self._secrets: Secrets | None = None
        self._guard = threading.Lock()
        self._keys: ReadOnlyCredentials | None = None
        self._number = 0
        self.method, self.token, self.account_id = "custom-rdv", None, None

    def __repr__(self) -> str:
        return f"SecretKeys({self._name})"

    @property
    def access_key(self) -> str:
        """The key's name."""
        return str(self.get_frozen_credentials().access_key)

    @property
    def secret_key(self) -> str:
        """The key."""
        return str(self.get_frozen_credentials().secret_key)

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Both, as they belong together; asked for by whatever signs a request."""
        with self._guard:
            if self._keys is None:
                self._keys = self._read()
            return self._keys

    def provide(self, session: Any) -> None:
        """Have a session of the client's library know these credentials and no other ones."""
        session.register_component("credential_provider", CredentialResolver([_Provider(self)]))

    def watch(self, client: Any) -> None:
        """Have a client's requests sent again when they were refused with keys that are no longer in the secret."""
        client.meta.events.register("before-sign.s3", self._mark)
        client.meta.events.register("needs-retry.s3", self._after_refusal)

    def _mark(self, request: Any, **_: Any) -> None:
        request.context[_MARK] = self._number

    def _after_refusal(self, response: Any, attempts: int, request_dict: dict[str, Any], **_: Any) -> int | None:
        """Seconds until the request is sent again, None for not at all."""
        if response is None or attempts >= _TRIES or not is_refusal(*response):
            return None
        with self._guard:
            if request_dict["context"].get(_MARK) == self._number:
                keys = self._read()
                if keys == self._keys:
                    return None
                self._keys, self._number = keys, self._number + 1
        return 0

    def _read(self) -> ReadOnlyCredentials:
        self._secrets = self._secrets or self._open()
        access, secret = (self._secrets.get(f"{self._name}/{field}") for field in ("access_key", "secret_key"))
        return ReadOnlyCredentials(access, secret, None)


def is_refusal(answer: Any, parsed: dict[str, Any]) -> bool:
    """Whether an answer may be about the keys; one to HEAD has no body, and some servers say 404 for unknown keys."""
    status = answer.status_code
    return status in (401, 403) or (status == 404 and parsed.get("Error", {}).get("Code") in ("404", UNKNOWN_KEY))


class _Provider:
    """What the client's library asks for credentials; it is no subclass of its own, whose types say otherwise."""

    METHOD = "rdv"
    CANONICAL_NAME = "custom-rdv"

    def __init__(self, keys: SecretKeys) -> None:
        self._keys = keys

    def load(self) -> SecretKeys:
        return self._keys
