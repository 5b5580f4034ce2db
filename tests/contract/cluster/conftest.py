"""The members of the suite over the cluster port, each with a bench of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.local.cluster import LocalCluster

HANG_S = 180.0


@pytest.fixture(scope="session", params=["local", "local sampled", pytest.param("nomad", marks=pytest.mark.live)])
def member(request: pytest.FixtureRequest, cluster_benches: Any) -> Callable[[Path], Any]:
    """member(folder): the embedded cluster with cgroups where they may be made, the same without, or a real Nomad.

    Of Nomad there is one for the session, and for each test a namespace. It is started before any test begins.
    """
    if request.param == "nomad":
        servers = request.getfixturevalue("nomad_servers")
        return lambda folder: cluster_benches.OnNomad(folder, servers).member()
    cgroups = request.param == "local"
    return lambda folder: cluster_benches.Member(
        lambda max_parallel: LocalCluster(folder / ".rdv", max_parallel, cgroups=cgroups)
    )


@pytest.fixture
def bench(
    member: Callable[[Path], Any], tmp_path: Path, cluster_benches: Any, no_nomad_environment: None
) -> Iterator[Any]:
    """A bench on the adapter; its dispatchers are closed in the end, and none of its threads is left."""
    before = set(threading.enumerate())
    one = cluster_benches.Bench(tmp_path, member(tmp_path))
    yield one
    one.close()
    until = time.monotonic() + HANG_S
    while (left := [thread for thread in threading.enumerate() if thread not in before]) and time.monotonic() < until:
        time.sleep(0.005)
    assert not left
