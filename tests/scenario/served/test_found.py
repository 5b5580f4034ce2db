"""A gateway of a bus between hosts is found in the catalog for as long as it takes in workers."""

import os
import signal
from typing import Any

from rdv.backends import select
from rdv.settings import load_project


def test_gateway_is_in_the_catalog_while_it_runs(site: Any, authorities: Any) -> None:
    """It is there with the address of its data listener, another one after a kill, and none after a clean stop."""
    bus = authorities.Authority().write(site.folder)
    with (site.folder / "rdv.toml").open("a") as file:
        file.write(f'[environments.local]\nbus = "{bus}"\n')
    project = load_project(site.folder, environ={})
    catalog, service = select.catalog(project), select.gateway_service(project)
    site.start()
    (first,) = catalog.find(service).instances
    assert (first.host, first.meta["url"]) == ("127.0.0.1", f"http://127.0.0.1:{project.config.serve.port}")
    pid = site.pid("gateway")
    os.kill(pid, signal.SIGKILL)
    site.replaced("gateway", "", pid)
    site.until(lambda: [one.id for one in catalog.find(service).instances if one.id != first.id], "another one")
    assert site.stop() == 0
    assert [one.id for one in catalog.find(service).instances if one.id != first.id] == []
