"""What is wrong with the certificates of an environment's bus, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterator

from rdv.backends.certificate_times import Validity, validities
from rdv.backends.diagnosis.finding import Seen, span
from rdv.backends.ports import Certificate
from rdv.bus_place import BusPlace

SOON_S = 14 * 86400.0
"""How long before its end a certificate of a long life ought to have been renewed."""
SOON_SHARE = 0.25
"""The same for one of a short life, as a share of it: whoever renews them does so at two thirds."""
_NAME = "bus certificate"


def diagnose(place: BusPlace, shown: Certificate | None, domain: str, now_s: float) -> Iterator[Seen]:
    """Whether a bus has a certificate for long enough, and its authority one.

    shown: what a process of the bus would show now, None on a bus without. now_s: epoch seconds.
    """
    if shown is None:
        yield Seen(_NAME, None, "none: whoever reaches the bus takes part in it")
        return
    own, above = validities(shown.chain), validities(shown.authorities)
    below = f"to be had{f' below {domain}' if domain else ''}, "
    yield _judged(_NAME, below, min(own), now_s, _own_remedy(place), _asked(place, own[0]))
    # an authority that is on its way out stays in the file beside the one that comes after it
    yield _judged("bus authority", "", max(above), now_s, _authority_remedy(place), "")


def _judged(check: str, found: str, one: Validity, now_s: float, remedy: str, more: str) -> Seen:
    left_s, life_s = one.until - now_s, one.until - one.begins
    if one.begins > now_s:
        return Seen(check, False, f"{found}not good before {span(one.begins - now_s)} from now", remedy)
    if left_s <= 0:
        return Seen(check, False, f"{found}expired {span(-left_s)} ago", remedy)
    good = left_s > min(SOON_S, SOON_SHARE * life_s)
    return Seen(check, good, f"{found}good for {span(left_s)}{more}{'' if good else ', about to expire'}", remedy)


def _asked(place: BusPlace, own: Validity) -> str:
    """What is to be said of a certificate whose role gives it less time than was asked for."""
    given_s = own.until - own.begins
    short = place.tls == "vault" and given_s < 0.9 * place.ttl_s
    return f" (its role gives less than the {span(place.ttl_s)} asked for)" if short else ""


def _own_remedy(place: BusPlace) -> str:
    if place.tls == "vault":
        return f"raise max_ttl: vault write {place.mount}/roles/{place.role} max_ttl={place.ttl_s:.0f}s"
    make = f"openssl x509 -x509toreq -copy_extensions copy -in {place.cert} -signkey {place.key}"
    return f"have your authority sign what this prints, into {place.cert}; what runs takes it up: {make}"


def _authority_remedy(place: BusPlace) -> str:
    if place.tls == "vault":
        return f"type: vault write {place.mount}/root/rotate/internal common_name=NAME; later make it the default"
    return f"add the next authority's certificate to {place.ca} on every host, then have {place.cert} signed by it"
