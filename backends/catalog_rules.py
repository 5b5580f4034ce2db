"""What every catalog can hold: names, ids, times and texts, the same for each adapter."""

from __future__ import annotations

import re

from rdv.backends.ports_services import Instance
from rdv.errors import UsageError
from rdv.ids import digest_bytes

# what Consul and Nomad take, DNS included
_SERVICE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_META_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_MAX_SERVICE = 63
_MAX_META, _MAX_META_BYTES = 32, 512
MIN_TTL_S, MAX_TTL_S = 0.1, 86400.0


def service_name(*parts: str) -> str:
    """A service's name made of some texts, joined by `-`.

    What a name cannot hold becomes `-` as well; a name that tells less than the texts then ends in a digest of them.
    """
    slugs = [re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts]
    name = "-".join(slug for slug in slugs if slug)
    if tuple(slugs) == parts and len(name) <= _MAX_SERVICE:
        return name
    digest = digest_bytes("\0".join(parts).encode(errors="replace"))[:8]
    return f"{name[: _MAX_SERVICE - 9].strip('-')}-{digest}".strip("-")


def check_service(service: str) -> str:
    """The name itself; UsageError unless it is at most 63 lower-case letters, digits and inner dashes."""
    if not _SERVICE.fullmatch(service):
        raise UsageError(f"{service[:200]!r} is not a service's name", "lower-case letters, digits and -, at most 63")
    return service


def check_instance_id(instance_id: str) -> str:
    """The id itself; UsageError unless it is letters, digits and ._- beginning with one of the former."""
    if not _INSTANCE.fullmatch(instance_id):
        raise UsageError(f"{instance_id[:200]!r} is not an instance's id", "letters, digits and ._-, at most 128")
    return instance_id


def check_announced(service: str, instance: Instance, ttl_s: float) -> None:
    """UsageError unless every catalog can hold this."""
    check_service(service)
    check_instance_id(instance.id)
    if not instance.host or not 0 < instance.port < 65536:
        raise UsageError(f"{instance.host!r}:{instance.port} is no address", "a host and a port from 1 to 65535")
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise UsageError(f"an instance cannot be announced for {ttl_s} s", f"from {MIN_TTL_S} to {MAX_TTL_S:.0f} s")
    wrong = [name for name, text in instance.meta.items() if not _META_KEY.fullmatch(name) or _is_long(text)]
    if wrong or "instance" in instance.meta or len(instance.meta) > _MAX_META:
        hint = f"{_MAX_META} names of letters, digits, _ and -, not `instance`; texts up to {_MAX_META_BYTES} bytes"
        raise UsageError(f"the catalog cannot hold what instance {instance.id} tells beside its address", hint)


def _is_long(text: str) -> bool:
    return len(text.encode(errors="replace")) > _MAX_META_BYTES
