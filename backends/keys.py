"""The alphabet of keys in stores and registries, the same for every adapter."""

from __future__ import annotations

import re

from rdv.errors import UsageError

MAX_KEY_CHARS = 1024
MAX_SEGMENT_CHARS = 255
_SEGMENT = re.compile(r"[A-Za-z0-9_.=,+~@-]+", re.ASCII)
_HINT = "segments of letters, digits and _.=,+~@- joined by /, none of them . or .."


def check_key(key: str) -> str:
    """The key itself; UsageError unless it is segments of safe characters joined by `/`, at most 1024 in all."""
    if len(key) > MAX_KEY_CHARS or not all(map(_is_segment, key.split("/"))):
        raise UsageError(f"{key[:200]!r} is not a key", _HINT)
    return key


def check_prefix(prefix: str) -> str:
    """The prefix itself; UsageError unless some key could begin with it ("" is the prefix of all)."""
    *whole, last = prefix.split("/")
    if len(prefix) > MAX_KEY_CHARS or not all(map(_is_segment, whole)) or (last and not _SEGMENT.fullmatch(last)):
        raise UsageError(f"{prefix[:200]!r} is not the beginning of a key", _HINT)
    return prefix


def lies_below(key: str, prefix: str, skip: str) -> bool:
    """Whether a key lies below a segment called `skip` that is not part of the prefix's own folders."""
    return bool(skip) and f"/{skip}/" in "/" + key[prefix.rfind("/") + 1 :]


def _is_segment(part: str) -> bool:
    return bool(_SEGMENT.fullmatch(part)) and part not in (".", "..") and len(part) <= MAX_SEGMENT_CHARS
