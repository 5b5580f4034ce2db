"""Who belongs to which part of an experiment: by a salted cryptographic hash of the subject, and nothing else.

The same subject is always in the same place of the same experiment, in every process and every language; places in
two experiments (two salts) have nothing to do with each other. A part that grows keeps everybody it had. The
construction is fixed: its test holds vectors of it, and another one would be another `VERSION`.
"""

from __future__ import annotations

import hashlib

VERSION = "rdv-assign-1"
_DIGITS = 53
_SPACE = float(1 << _DIGITS)


class Assignment:
    """The places of subjects in one experiment. salt: what tells it from all others, `MODEL/VERSION` of a rollout, say.

    A place is uniform in [0, 1): the first 53 bits of SHA-256 over `VERSION`, the salt's length in bytes and the salt,
    and the subject, all in UTF-8, as `VERSION:LENGTH:SALT:SUBJECT`. The length keeps salt and subject apart.
    """

    __slots__ = ("_begun", "salt")

    def __init__(self, salt: str) -> None:
        self.salt = salt
        data = salt.encode()
        self._begun = hashlib.sha256(f"{VERSION}:{len(data)}:".encode() + data + b":")

    def place(self, subject: str) -> float:
        """Where a subject stands, in [0, 1)."""
        digest = self._begun.copy()
        digest.update(subject.encode("utf-8", "surrogatepass"))
        return (int.from_bytes(digest.digest()[:8], "big") >> (64 - _DIGITS)) / _SPACE

    def within(self, subject: str, share: float) -> bool:
        """Whether a subject belongs to the share (0..1) of all subjects that stands first."""
        return self.place(subject) < share
