"""Which class serves a port: the only place that knows schemes and imports adapters."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import msgspec

from rdv.backends.artifacts import ArtifactStore
from rdv.backends.blobs_routed import RoutedBlobs
from rdv.backends.catalog_rules import service_name
from rdv.backends.guarded import GuardedBlobs, GuardedRegistry, GuardedSecrets
from rdv.backends.ports import Blobs, Certificates, Cluster, Jobs, Pipelines, Registry, Secrets, Timetable
from rdv.backends.ports_services import Canaries, Catalog, Services
from rdv.backends.registry_logged import LoggedRegistry, RegistryLog
from rdv.backends.store_places import StorePlace, store_place
from rdv.breaker import BOOK
from rdv.bus_place import BusPlace, parse_bus
from rdv.config import Environment, Project
from rdv.errors import ConfigError


class Adapter(msgspec.Struct, frozen=True):
    """A class as `module:Class`, and the extra of rdv that installs what it needs ("" = nothing more).

    remote: what follows the scheme is handed over as it is; else it is a path in the environment's state folder.
    secrets: the class also takes a function that gives the environment's secrets.
    """

    path: str
    extra: str = ""
    remote: bool = False
    secrets: bool = False


ADAPTERS: Mapping[str, Mapping[str, Adapter]] = MappingProxyType(
    {
        "artifacts": MappingProxyType(
            {
                "dir": Adapter("rdv.backends.blobs_dir:DirBlobs"),
                "hdfs": Adapter("rdv.backends.blobs_hdfs:HdfsBlobs", "cluster", remote=True),
                "s3": Adapter("rdv.backends.s3.blobs:S3Blobs", "cluster", remote=True, secrets=True),
            }
        ),
        "registry": MappingProxyType(
            {
                "sqlite": Adapter("rdv.backends.registry_sqlite:SqliteRegistry"),
                "consul": Adapter("rdv.backends.consul.registry:ConsulRegistry", "cluster", remote=True),
            }
        ),
        "catalog": MappingProxyType(
            {
                "folder": Adapter("rdv.backends.catalog_folder:FolderCatalog"),
                "consul": Adapter("rdv.backends.consul.catalog:ConsulCatalog", "cluster", remote=True),
            }
        ),
        "cluster": MappingProxyType(
            {
                "local": Adapter("rdv.backends.local.cluster:LocalCluster"),
                "nomad": Adapter("rdv.backends.nomad.cluster:NomadCluster", "cluster", remote=True),
            }
        ),
        "secrets": MappingProxyType(
            {
                "env": Adapter("rdv.backends.secrets_env:EnvSecrets"),
                "vault": Adapter("rdv.backends.vault.secrets:VaultSecrets", "cluster", remote=True),
            }
        ),
        "services": MappingProxyType(
            {
                "local": Adapter("rdv.serving.processes.services:LocalServices"),
                "nomad": Adapter("rdv.backends.nomad.services:NomadServices", "cluster", remote=True),
            }
        ),
    }
)
"""The adapters by port and scheme; a setting is `scheme:rest`."""


CANARIES: Mapping[str, str] = MappingProxyType(
    {
        "rdv.backends.nomad.services:NomadServices": "rdv.backends.nomad.services_canaries:NomadCanaries",
    }
)
"""What serves the canaries beside an adapter of the services."""


LOGINS: Mapping[str, Collection[str]] = MappingProxyType(
    {
        "consul": ("token_file",),
        "vault": ("token_file", "auth", "role", "jwt_file", "jwt_env", "role_id_file", "secret_id_file"),
    }
)
"""What of a place on these servers says who asks, not where."""


def without_logins(environment: Environment, servers: Collection[str]) -> Environment:
    """An environment whose places on some servers (by scheme) say nothing of whoever wrote them down.

    For workloads that these servers know by an identity of their own: people and pipelines, whose logins and token
    files differ, tell them the same.
    """
    places = {name: str(place) for name, place in msgspec.structs.asdict(environment).items()}
    changed = {name: _without_login(place) for name, place in places.items() if place.partition(":")[0] in servers}
    return msgspec.structs.replace(environment, **changed)


def _without_login(place: str) -> str:
    where, _, query = place.partition("?")
    logins = LOGINS[where.partition(":")[0]]
    kept = [option for option in query.split("&") if option.partition("=")[0] not in logins]
    return f"{where}?{'&'.join(kept)}" if any(kept) else where


def artifacts(project: Project, environ: Mapping[str, str] = os.environ) -> ArtifactStore:
    """The artifact store of a project's environment; `dir:` paths are relative to its state folder.

    With `intermediate` set, it is one store over two: models in `artifacts`, everything else there.
    """
    return ArtifactStore(blobs(project, environ))


def blobs(project: Project, environ: Mapping[str, str] = os.environ) -> Blobs:
    """What the artifact store keeps its bytes in."""
    served = store_blobs(project, "artifacts", environ)
    apart = project.config.environments.get(project.env, Environment()).intermediate
    return RoutedBlobs(served, store_blobs(project, "intermediate", environ)) if apart else served


def store_blobs(project: Project, setting: str, environ: Mapping[str, str]) -> Blobs:
    """One of the two stores alone. setting: `artifacts` or `intermediate`."""
    adapter, rest = _adapter(project, "artifacts", setting)
    place = _place(project, setting, adapter, rest)
    more = (partial(secrets, project, environ),) if adapter.secrets else ()
    made: Blobs = _load(adapter)(place, *more)
    return GuardedBlobs(made, BOOK.named(f"{setting} of {project.env}")) if adapter.remote else made


def store_places(project: Project) -> tuple[StorePlace, ...]:
    """Where the artifacts of a project's environment lie: one place, or two with `intermediate` set."""
    environment = project.config.environments.get(project.env, Environment())
    named = {"artifacts": environment.artifacts, "intermediate": environment.intermediate}
    return tuple(
        store_place(place.partition(":")[0], _adapter(project, "artifacts", setting)[1], project.state)
        for setting, place in named.items()
        if place
    )


def registry(project: Project, environ: Mapping[str, str] = os.environ) -> Registry:
    """The registry of a project's environment, which copies what it must not lose into the artifact store."""
    return LoggedRegistry(plain_registry(project), registry_log(project, environ))


def plain_registry(project: Project) -> Registry:
    """The registry alone; `sqlite:` paths are relative to the environment's state folder."""
    adapter, rest = _adapter(project, "registry")
    made: Registry = _load(adapter)(_place(project, "registry", adapter, rest))
    return GuardedRegistry(made, BOOK.named(f"registry of {project.env}")) if adapter.remote else made


def registry_log(project: Project, environ: Mapping[str, str] = os.environ) -> RegistryLog:
    """What the artifact store keeps of the registry."""
    return RegistryLog(partial(blobs, project, environ), project.env)


def cluster(project: Project, max_parallel: int) -> Cluster:
    """The cluster of a project's environment; max_parallel: how many steps it runs at once, where that is for us."""
    adapter, rest = _adapter(project, "cluster")
    made: Cluster = _load(adapter)(project.state, rest if adapter.remote else max_parallel)
    return made


def secrets(project: Project, environ: Mapping[str, str]) -> Secrets:
    """The secrets of a project's environment; `env:` names a file relative to its state folder beside `environ`."""
    adapter, rest = _adapter(project, "secrets")
    place = _place(project, "secrets", adapter, rest)
    made: Secrets = _load(adapter)(place) if adapter.remote else _load(adapter)(place, environ)
    return GuardedSecrets(made, BOOK.named(f"secrets of {project.env}")) if adapter.remote else made


def catalog(project: Project) -> Catalog:
    """Where the gateways of a project's environment are found; `folder:` alone is a folder of its run folder."""
    adapter, rest = _adapter(project, "catalog")
    place = _place(project, "catalog", adapter, rest or str(project.run_folder / "catalog"))
    made: Catalog = _load(adapter)(place)
    return made


def gateway_service(project: Project) -> str:
    """The name under which a project's gateways are in the catalog: `ENVIRONMENT-PROJECT-gateway`; see `service`."""
    return service(project, "gateway")


def service(project: Project, what: str) -> str:
    """The name under which something of a project is in the catalog: `ENVIRONMENT-PROJECT-WHAT`.

    what: `gateway` (their bus); on a cluster also `http` (their data listeners), `worker`, `decoy` and `proxy`. The
    first part is what a place in Consul names before its `?`, else the environment's name. Where the catalog is a
    server, the project has to be named; here it may be its folder's name.
    """
    adapter, rest = _adapter(project, "catalog")
    env = (rest.partition("?")[0].strip("/") if adapter.remote else "") or project.env
    if adapter.remote and not project.config.project:
        raise ConfigError("the project has no name to find its gateways by", 'write project = "NAME" into rdv.toml')
    return service_name(env, project.name, what)


def bus(project: Project) -> BusPlace:
    """What the bus of a project's environment is; ConfigError when its setting names none."""
    return parse_bus(project.config.environments.get(project.env, Environment()).bus, project.env)


def certificates(project: Project, label: str) -> tuple[Certificates | None, str]:
    """Where a process of the bus gets its certificate from, None on a bus without, and the domain of all names.

    label: the process's name below the domain, where the certificate is made for it.
    """
    place = bus(project)
    if place.scheme == "grpc" and importlib.util.find_spec("grpc") is None:
        raise ConfigError("a bus between hosts needs grpc, which is not installed", "pip install 'rdv[cluster]'")
    if place.tls == "files":
        files = [project.folder / one for one in (place.cert, place.key, place.ca)]
        made: Certificates = _load(Adapter("rdv.backends.certificates_files:FileCertificates"))(*files)
        return made, place.domain
    if place.tls == "vault":
        load = _load(Adapter("rdv.backends.vault.certificates:VaultCertificates", "cluster"))
        name = f"{label}.{place.domain}"
        vault, where = _adapter(project, "secrets")
        if "vault" not in vault.path:
            raise ConfigError("certificates from Vault need secrets from Vault", "set the environment's secrets")
        return load(_load(vault)(where), place.mount, place.role, name, place.ttl_s), place.domain
    return None, ""


def is_task(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is a task of a cluster's job, which puts it into the catalog by itself."""
    return "NOMAD_ALLOC_ID" in environ


def pipelines(project: Project) -> Pipelines:
    """Where whole pipelines of a project's environment run as jobs; ConfigError where only steps do."""
    made: Pipelines = _beside_cluster(project, "rdv.backends.nomad.pipelines:NomadPipelines")
    return made


def timetable(project: Project) -> Timetable:
    """What starts pipelines of a project's environment again and again; ConfigError where only `rdv up` does."""
    made: Timetable = _beside_cluster(project, "rdv.backends.nomad.timetable:NomadTimetable")
    return made


def _beside_cluster(project: Project, path: str, *first: object) -> Any:
    adapter, rest = _adapter(project, "cluster")
    if not adapter.remote:
        raise ConfigError(f"the cluster of environment {project.env!r} is this machine", "name another one: --env")
    scheme = project.config.environments[project.env].registry.partition(":")[0]
    return _load(Adapter(path, adapter.extra))(*first, rest, scheme == "consul")


def services(project: Project) -> Services:
    """What runs the serving jobs of a project's environment."""
    made: Services = _services(project, "services")
    return made


def canaries(project: Project) -> Canaries:
    """What runs canaries beside the workers of a project's environment; ConfigError where `rdv serve` does."""
    made: Canaries = _services(project, "canaries")
    return made


def _services(project: Project, which: str) -> Any:
    adapter, rest = _adapter(project, "services")
    if which == "canaries" and adapter.path not in CANARIES:
        raise ConfigError(f"environment {project.env!r} has no service jobs", "name a place: services = nomad:...")
    path = adapter.path if which == "services" else CANARIES[adapter.path]
    if not adapter.remote:
        return _load(Adapter(path))(project.state)
    environment = project.config.environments[project.env]
    scheme, _, place = environment.registry.partition(":")
    if scheme != "consul":
        raise ConfigError(f"the services of environment {project.env!r} need Consul", "name it: registry = consul:...")
    prefix = place.partition("?")[0].strip("/")
    names = partial(service, project)
    if "templates=" not in rest:  # a project's own job files, in the place of ours
        rest += f"{'&' if '?' in rest else '?'}{urlencode({'templates': str(project.folder / 'nomad')})}"
    more = (environment.artifacts, environment.secrets) if which == "canaries" else ()
    return _load(Adapter(path, adapter.extra))(rest, prefix, project.config.project, project.env, names, *more)


def is_remote(project: Project, port: str) -> bool:
    """Whether what serves a port of a project's environment is a server, that others use as well."""
    return _adapter(project, port)[0].remote


def jobs(project: Project) -> Jobs:
    """The jobs that the cluster of a project's environment keeps; ConfigError where it is this machine."""
    made: Jobs = _beside_cluster(project, "rdv.backends.nomad.jobs:NomadJobs", project.folder)
    return made


def _adapter(project: Project, port: str, key: str = "") -> tuple[Adapter, str]:
    key = key or port
    setting = getattr(project.config.environments.get(project.env, Environment()), key)
    scheme, colon, rest = setting.partition(":")
    known = ADAPTERS[port]
    if not colon or scheme not in known:
        names = ", ".join(f"{name}:" for name in known)
        raise ConfigError(f"environments.{project.env}.{key}: {setting!r} has no known scheme", f"known: {names}")
    return known[scheme], rest


def _load(adapter: Adapter) -> Any:
    module, _, name = adapter.path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if not adapter.extra:
            raise
        install = f"pip install 'rdv[{adapter.extra}]'"
        raise ConfigError(f"{name} needs {error.name}, which is not installed", install) from None


def _place(project: Project, port: str, adapter: Adapter, rest: str) -> Path | str:
    if adapter.remote:
        return rest
    if not rest:
        raise ConfigError(f"environments.{project.env}.{port} names no path", "write it after the colon")
    return project.state / rest
