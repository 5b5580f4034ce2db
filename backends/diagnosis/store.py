"""What is wrong with an environment's artifact store, whichever it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from rdv.backends.diagnosis.finding import Asked, Seen, options_of
from rdv.backends.ports import Blobs
from rdv.errors import LostRace, RdvError
from rdv.ids import short_id

_ADDRESS = {"s3": "endpoint", "hdfs": "url"}
# what a server answers to without knowing who asks
_OPEN = {"s3": "/", "hdfs": "/jmx?qry=none"}


def diagnose(place: str) -> Iterator[Seen]:
    """Whether the server of a store answers, and has the time of day."""
    scheme, _, rest = place.partition(":")
    _, options = options_of(rest)
    addresses = [one for one in options.get(_ADDRESS.get(scheme, ""), "").split(";") if one]
    for address in addresses:
        server = Asked(scheme, address)
        told = server.ask(_OPEN[scheme], known=False)
        remedy = server.remedy("start it, or name another one in the place")
        yield Seen(scheme, bool(told.status), address if told.status else told.said, remedy)
        if told.status:
            yield server.clock(told)


def probe(name: str, blobs: Blobs) -> Seen:
    """Whether a store lets us write, keeps what is there, and lets us read and delete it again: by doing so."""
    key, check = f"rdv-doctor/{short_id()}", f"{name} writes"
    try:
        blobs.create(key, b"first")
        try:
            blobs.create(key, b"second")
            kept = False
        except LostRace:
            kept = blobs.read(key) == b"first"
    except RdvError as error:
        return Seen(check, False, error.what, error.hint or "see the store's own log")
    finally:
        with suppress(RdvError):
            blobs.delete(key)
    found = "what is there cannot be overwritten" if kept else "it let something be overwritten"
    return Seen(check, kept, found, "use a store with create-only writes: S3 with If-None-Match, HDFS, or a folder")
