"""When a token of Vault is to be renewed, as values in and values out."""

from __future__ import annotations

import math
from enum import Enum

import msgspec

_RENEW_AT = 2 / 3


class Due(Enum):
    """What a token needs before it is used."""

    NOTHING = "nothing"
    RENEW = "renew"
    LOGIN = "login"


class Lease(msgspec.Struct, frozen=True):
    """How long a token holds. since: monotonic seconds when it was given; ttl_s: 0 = without end."""

    since: float
    ttl_s: float
    renewable: bool

    def due(self, now: float) -> Due:
        """What the token needs now: renewal from two thirds of its time on, a new login when it is over."""
        if not self.ttl_s:
            return Due.NOTHING
        age_s = now - self.since
        if age_s >= self.ttl_s:
            return Due.LOGIN
        if age_s < self.ttl_s * _RENEW_AT:
            return Due.NOTHING
        return Due.RENEW if self.renewable else Due.LOGIN

    def due_in_s(self, now: float) -> float:
        """Seconds until the token needs something; infinite when it holds without end."""
        return max(0.0, self.since + self.ttl_s * _RENEW_AT - now) if self.ttl_s else math.inf
