"""Everything that can be asked of the servers of an environment, one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rdv.backends import select
from rdv.config import Environment, Project
from rdv.errors import RdvError

if TYPE_CHECKING:
    from rdv.backends.diagnosis.finding import Seen

_STORES = ("artifacts", "intermediate")
_PORTS = {"registry": "consul", "secrets": "vault", "cluster": "nomad", "services": "nomad", "catalog": "consul"}


def has_servers(project: Project) -> bool:
    """Whether any port of a project's environment is served by a server, rather than by files here, or its bus goes

    between hosts.
    """
    served = any(_server_place(project, port, scheme) for port, scheme in _PORTS.items())
    return served or any(_stores(project)) or select.bus(project).scheme == "grpc"


def diagnose(project: Project, environ: Mapping[str, str]) -> Iterator[Seen]:
    """Findings about every server of a project's environment."""
    from rdv.backends.diagnosis import consul as diagnosis_consul
    from rdv.backends.diagnosis import nomad as diagnosis_nomad
    from rdv.backends.diagnosis import vault as diagnosis_vault

    cluster = _server_place(project, "cluster", "nomad")
    role = _option(cluster, "vault")
    if place := _server_place(project, "registry", "consul"):
        yield from _guarded("consul", diagnosis_consul.diagnose(place, environ))
    if place := _server_place(project, "catalog", "consul"):
        yield from _guarded("consul catalog", _catalog(project, place, environ))
    if place := _server_place(project, "secrets", "vault"):
        yield from _guarded("vault", diagnosis_vault.diagnose(place, environ, role))
    if select.bus(project).scheme == "grpc":
        yield from _guarded("bus certificate", _bus(project))
    if cluster:
        sizes = project.config.train.memory_mb
        found = diagnosis_nomad.diagnose(cluster, environ, project.env, sizes, project.folder)
        yield from _guarded("nomad", found)
    if place := _server_place(project, "services", "nomad"):
        found = diagnosis_nomad.diagnose_services(place, environ, project.config.serve.proxies)
        yield from _guarded("services", found)
    for setting, place in _stores(project).items():
        yield from _guarded(setting, _store(project, environ, setting, place))


def _catalog(project: Project, place: str, environ: Mapping[str, str]) -> Iterator[Seen]:
    from rdv.backends.diagnosis import consul as diagnosis_consul

    yield from diagnosis_consul.diagnose_catalog(place, environ, select.gateway_service(project))


def _bus(project: Project) -> Iterator[Seen]:
    from rdv.backends.diagnosis import bus as diagnosis_bus

    source, domain = select.certificates(project, "doctor")
    shown = None if source is None else source.current()
    yield from diagnosis_bus.diagnose(select.bus(project), shown, domain, time.time())


def _store(project: Project, environ: Mapping[str, str], setting: str, place: str) -> Iterator[Seen]:
    from rdv.backends.diagnosis import store as diagnosis_store
    from rdv.backends.diagnosis.finding import Seen

    reached = True
    for seen in diagnosis_store.diagnose(place):
        reached = reached and seen.good is not False
        yield seen
    if name := _option(place, "secret"):
        secrets = select.secrets(project, environ)
        for field in ("access_key", "secret_key"):
            secrets.get(f"{name}/{field}")
        yield Seen(f"{setting} secret", True, f"{name} is readable")
    if reached:
        yield diagnosis_store.probe(setting, select.store_blobs(project, setting, environ))


def _guarded(name: str, findings: Iterator[Seen]) -> Iterator[Seen]:
    """The findings; an error that ends them is the last one."""
    from rdv.backends.diagnosis.finding import Seen

    try:
        yield from findings
    except RdvError as error:
        yield Seen(name, False, error.what, error.hint or "`rdv help exit-codes` says what kind of failure this is")


def _stores(project: Project) -> dict[str, str]:
    """The settings of the environment's stores that are servers'."""
    environment = _environment(project)
    places = {setting: getattr(environment, setting) for setting in _STORES}
    return {setting: place for setting, place in places.items() if place.partition(":")[0] in ("s3", "hdfs")}


def _server_place(project: Project, port: str, scheme: str) -> str:
    """What follows the scheme in a setting of the environment, empty when it has another one."""
    found, _, rest = str(getattr(_environment(project), port)).partition(":")
    return rest if found == scheme else ""


def _environment(project: Project) -> Environment:
    return project.config.environments.get(project.env, Environment())


def _option(place: str, name: str) -> str:
    from rdv.backends.diagnosis.finding import options_of

    return options_of(place)[1].get(name, "")
