"""Serving jobs as Nomad is to have them: names in Nomad and Consul, variables of the templates. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rdv.backends.nomad.drafts import Draft, Variables, where_it_runs
from rdv.backends.ports_services import Role, ServiceJob
from rdv.errors import ConfigError
from rdv.records import Pin

Names = Callable[[str], str]
MOST = 64
NGINX = "/usr/sbin/nginx"
# longer than a clean stop; a Nomad client ends a task after half a minute in any case
_MORE_S, _LONGEST_S = 10.0, 30.0
_ROLES: tuple[Role, ...] = ("decoy", "worker", "gateway", "proxy")


def job_id(project: str, role: str, model: str = "") -> str:
    """A serving job's id in Nomad; no slash in it, as in those of tasks."""
    parts = [project, role, model.replace("/", ".")]
    return "rdv-" + "-".join(part for part in parts if part)


def order(role: str) -> int:
    """When a role's turn is: a gateway is begun when those that it needs have been, a proxy last."""
    return _ROLES.index(role) if role in _ROLES else len(_ROLES)


def pin_text(pin: Pin | None) -> str:
    """A pin as a job's meta and its task's argument say it; empty for none."""
    return f"{pin.serial}:{pin.version}" if pin else ""


def read_pin(text: str) -> Pin | None:
    """The pin that such a text says."""
    serial, _, version = text.partition(":")
    return Pin(version, int(serial)) if version and serial.isdigit() else None


def meta_of(job: ServiceJob, pin: Pin | None, anew: str = "") -> dict[str, str]:
    """What a job says about itself, by which it is found and compared. anew: with another word all are replaced."""
    found = {
        "rdv_kind": job.role,
        "rdv_project": job.project,
        "rdv_env": job.env,
        "rdv_model": job.model,
        "rdv_count": str(job.count),
        "rdv_memory_mb": str(job.memory_mb),
        "rdv_pin": pin_text(pin),
        "rdv_anew": anew,
    }
    return {name: value for name, value in found.items() if value}


def service_draft(
    namespace: str,
    options: Mapping[str, str],
    consul: str,
    names: Names,
    job: ServiceJob,
    count: int | None = None,
    pin: Pin | None = None,
    canaries: int = 0,
    anew: str = "",
) -> Draft:
    """A serving job as it ought to be. options: of the place. consul: the prefix of the registry's keys.
    names: what something of the project is called in the catalog.

    count: instead of the job's own. pin, canaries: of a worker. anew: as in `meta_of`.
    """
    how = where_it_runs(namespace, options)
    variables: Variables = {
        "namespace": namespace,
        "driver": how["driver"],
        "image": how["image"],
        "consul": True,
        "cpu_mhz": job.cpu_mhz,
        "memory_mb": job.memory_mb,
        "count": job.count if count is None else count,
        "most": max(MOST, job.count, count or 0),
        "meta": meta_of(job, pin, anew),
    }
    if job.role == "proxy":
        variables |= _proxy(options, names, job)
    else:
        variables |= {
            "python": how["python"],
            "vault": how["vault"],
            "disk_mb": job.disk_mb,
            "told": job.told,
            "kill_s": f"{min(_LONGEST_S, job.stop_s + _MORE_S):g}s",
        }
    if job.role == "gateway":
        variables["bus_service"] = names("gateway")
        variables["data_service"] = names("http")
    elif job.role != "proxy":
        variables["service"] = names(job.role)
    if job.role == "worker":
        variables |= {
            "model": job.model,
            "reload": job.reload,
            "pointer": f"{consul}/{job.pointer}",
            "pin": pin_text(pin),
            "canaries": canaries,
        }
    return Draft(
        id=job_id(job.project, job.role, job.model),
        namespace=namespace,
        template=f"{job.role}.nomad.hcl",
        variables=variables,
        about=job.name,
        folder=options.get("templates", ""),
    )


def _proxy(options: Mapping[str, str], names: Names, job: ServiceJob) -> dict[str, Any]:
    image = options.get("proxy_image", "")
    if options.get("driver") == "docker" and not image:
        raise ConfigError(
            "no image is named for the proxies", "add proxy_image=NAME:TAG (one with nginx), or set serve.proxies to 0"
        )
    return {
        "image": image,
        "nginx": options.get("nginx", NGINX),
        "port": job.port,
        "body_bytes": job.body_bytes,
        "service": names("proxy"),
        "data_service": names("http"),
    }
