"""How long a release takes to reach every worker of a cluster: two gateways and two workers as jobs of a dev cluster.

Timed by `rdv deploy` itself, from the moved pointer to the moment at which both workers serve the version and both
gateways know it. Three versions take turns, of which a worker holds two: each release fetches, tries and loads one.
"""

from __future__ import annotations

from typing import Any

from figures import median
from person import person

WAYS = ("template", "watch")


def measure(short: bool) -> list[dict[str, Any]]:
    """Seconds from the pointer to the last worker, median over 12 releases (short: 4) after a first one."""
    releases = 4 if short else 12
    figures = []
    with person() as who:
        for reload in WAYS:
            who.serve(reload)
            over_s = [who.release_s(who.versions[at % 3]) for at in range(1, releases + 2)][1:]
            detail = {"runs_s": over_s}
            figures.append({"figure": f"reload-{reload}", "ours": median(over_s), "unit": "s", "detail": detail})
    return figures
