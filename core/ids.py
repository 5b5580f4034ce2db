"""Identities: random message ids, short random names, long content hashes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

MESSAGE_ID_BYTES = 16
_POOL_BYTES = 4096


def message_ids(randomness: Callable[[int], bytes] = os.urandom) -> Callable[[], bytes]:
    """A function that returns a fresh random 128-bit message id at each call.

    Randomness is drawn in pools of 4 KiB: one system call for 256 ids. One generator serves one thread.
    """
    pool = b""
    at = 0

    def new_id() -> bytes:
        nonlocal pool, at
        if at == len(pool):
            pool, at = randomness(_POOL_BYTES), 0
        at += MESSAGE_ID_BYTES
        return pool[at - MESSAGE_ID_BYTES : at]

    return new_id


def short_id(randomness: Callable[[int], bytes] = os.urandom) -> str:
    """Twelve random lower-case hexadecimal digits: attempts, runs, replicas."""
    return randomness(6).hex()


def digest_bytes(data: bytes) -> str:
    """The SHA-256 of some bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits; memory use does not grow with the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
