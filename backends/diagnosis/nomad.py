"""What is wrong with an environment's cluster in Nomad."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rdv.backends.diagnosis.finding import Asked, Seen, Told, options_of, token_of
from rdv.backends.nomad.drafts import DRIVER_HINT
from rdv.errors import NotAuthorised, RdvError

_START = "start the server, or name another one in the place: ?address=URL"
_TOKEN = "put a valid token into the place's token_file, or set NOMAD_TOKEN"
# of Nomad's folder on a node, below which it collects what ended early and refuses images
_FREE_SHARE, _FREE_BYTES = 0.1, 1 << 30


def diagnose(
    place: str, environ: Mapping[str, str], env: str, classes_mb: Sequence[int], folder: Path
) -> Iterator[Seen]:
    """Whether Nomad answers, refuses strangers, lets this token run steps, and has nodes and parent jobs for them.

    classes_mb: the sizes of steps. folder: of the project whose environment is named env.
    """
    namespace, options = options_of(place)
    server = _server("nomad", options, environ)
    if not (yield from _answers(server)):
        return
    wanted = [namespace or "default", *filter(None, [options.get("pipelines")])]
    yield _namespaces(server, wanted)
    yield _rights(server, wanted, ("look at jobs", "dispatch", "register and stop jobs"))
    yield isolation(options)
    yield from _nodes(server, options.get("driver", ""))
    yield _parents(place, classes_mb, folder, env)


def diagnose_services(place: str, environ: Mapping[str, str], proxies: int) -> Iterator[Seen]:
    """Whether the Nomad of the serving jobs answers, lets this token apply them, and has nodes that can run them.

    proxies: how many there are to be.
    """
    namespace, options = options_of(place)
    server = _server("services", options, environ)
    if not (yield from _answers(server)):
        return
    yield _namespaces(server, [namespace or "default"])
    yield _rights(server, [namespace or "default"], ("look at jobs", "register and stop jobs"))
    yield from _nodes(server, options.get("driver", ""))
    if proxies and options.get("driver") == "docker":
        image = options.get("proxy_image", "")
        remedy = "add proxy_image=NAME:TAG to the place, an image with nginx in it, or set serve.proxies to 0"
        yield Seen("services proxy", bool(image), image or "no image is named for the proxies", remedy)


def _server(name: str, options: Mapping[str, str], environ: Mapping[str, str]) -> Asked:
    address = options.get("address") or environ.get("NOMAD_ADDR", "http://127.0.0.1:4646")
    return Asked(name, address, "X-Nomad-Token", token_of(options, environ, "NOMAD_TOKEN"))


def _answers(server: Asked) -> Generator[Seen, None, bool]:
    """Whether it answers, refuses strangers, and takes this token; whether there is more to ask of it."""
    told = server.ask("/v1/status/leader", known=False)
    if not told.ok or not told.body:
        found = told.said if not told.ok else f"{server.address} has no leader"
        yield Seen(server.name, False, found, server.remedy(_START))
        return False
    yield Seen(server.name, True, f"{server.address}, led by {told.body}")
    yield server.clock(told)
    strangers = server.ask("/v1/acl/policies", known=False)
    on = strangers.status != 400
    found = "on" if on else "access control is off: anybody may run anything"
    yield Seen(f"{server.name} acl", on, found, "set acl.enabled on servers and clients: nomad acl bootstrap")
    own = server.ask("/v1/acl/token/self")
    if on and not own.ok:
        yield Seen(f"{server.name} token", False, f"it is refused: {own.said}", server.remedy(_TOKEN))
        return False
    if on:
        yield from _token(server, own)
    return True


def isolation(options: Mapping[str, str]) -> Seen:
    """Whether tasks are kept apart, or somebody wrote down that they need not be. options: of the place."""
    driver = options.get("driver")
    if driver is None:
        return Seen("nomad isolation", False, "the place names no driver, and nothing runs without one", DRIVER_HINT)
    if driver == "raw_exec":
        return Seen("nomad isolation", True, "none: raw_exec, as the place says")
    return Seen("nomad isolation", True, f"each task by itself, by the driver {driver}")


def _token(server: Asked, own: Told) -> Iterator[Seen]:
    """Whether the token is valid, and its policies exist: a token keeps the name of one that was deleted."""
    if own.body["Type"] == "management":
        yield Seen(f"{server.name} token", True, "valid, and may do everything: a token with less is safer")
        return
    policies = list(own.body.get("Policies") or ())
    yield Seen(f"{server.name} token", True, f"valid, with {', '.join(policies) or 'no policy of its own'}")
    gone = [name for name in policies if server.ask(f"/v1/acl/policy/{name}").status == 404]
    remedy = server.remedy(f"type: nomad acl policy apply {gone[0]} FILE") if gone else ""
    found = f"{', '.join(gone)} is not there any more" if gone else ", ".join(policies) or "none"
    yield Seen(f"{server.name} policies", not gone, found, remedy)


def _namespaces(server: Asked, names: list[str]) -> Seen:
    told = {name: server.ask(f"/v1/namespace/{name}") for name in names}
    missing = [name for name, one in told.items() if one.status == 404]
    refused = [name for name, one in told.items() if one.status == 403]
    if missing:
        remedy = server.remedy(f"type: nomad namespace apply -address={server.address} {missing[0]}")
        return Seen(f"{server.name} namespaces", False, f"{', '.join(missing)} is not there", remedy)
    if refused:
        return Seen(f"{server.name} namespaces", None, f"this token may not see {', '.join(refused)}")
    return Seen(f"{server.name} namespaces", True, ", ".join(names))


def _rights(server: Asked, namespaces: list[str], wanted: Sequence[str]) -> Seen:
    """Whether the token may do with jobs what is wanted; asked for in ways that change nothing."""
    missing = []
    task = {"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/true"}}
    groups = [{"Name": "g", "Tasks": [task]}]  # a job that is not valid is refused whoever plans it
    for name in namespaces:
        at = f"?namespace={name}"
        job = {"ID": "rdv-doctor", "Type": "batch", "Namespace": name, "Datacenters": ["*"], "TaskGroups": groups}
        asked: dict[str, tuple[str, str, Any]] = {
            "look at jobs": (f"/v1/jobs{at}&prefix=rdv-doctor", "GET", None),
            "dispatch": (f"/v1/job/rdv-doctor/dispatch{at}", "POST", {"Meta": {}}),
            "register and stop jobs": (f"/v1/job/rdv-doctor/plan{at}", "POST", {"Job": job}),
        }
        missing += [f"{what} in {name}" for what in wanted if server.ask(*asked[what]).status == 403]
    rules = "list-jobs, read-job, dispatch-job, submit-job, read-logs, read-fs"
    remedy = server.remedy(f"give the token a policy with these capabilities: {rules}")
    found = f"may not {', '.join(missing)}" if missing else ", ".join(wanted)
    return Seen(f"{server.name} rights", not missing, found, remedy)


def _nodes(server: Asked, driver: str) -> Iterator[Seen]:
    """Whether a node is ready, has room on its disk, and runs what the place asks for, if anything."""
    told = server.ask("/v1/nodes")
    if not told.ok:
        yield Seen(f"{server.name} nodes", None, f"this token may not see them: {told.said}")
        return
    ready = [one for one in told.body if one["Status"] == "ready" and one["SchedulingEligibility"] == "eligible"]
    start = server.remedy("start a client: nomad agent -client, and see `nomad node status`")
    yield Seen(f"{server.name} nodes", bool(ready), f"{len(ready)} of {len(told.body)} are ready", start)
    if not ready:
        return
    yield _disk(server, ready)
    if not driver:
        return
    able = [one for one in ready if (one.get("Drivers") or {}).get(driver, {}).get("Healthy")]
    found = f"{driver} works on {len(able)} of {len(ready)} nodes"
    remedy = f"see `nomad node status -verbose`, or choose another driver than {driver}"
    yield Seen(f"{server.name} driver", bool(able), found, remedy)


def _disk(server: Asked, nodes: list[Mapping[str, Any]]) -> Seen:
    full, least = [], []
    for node in nodes:
        told = server.ask(f"/v1/client/stats?node_id={node['ID']}")
        disk = (told.body or {}).get("AllocDirStats") if told.ok else None
        if disk and disk["Size"]:
            least.append(disk["Available"])
            if disk["Available"] < min(_FREE_BYTES, _FREE_SHARE * disk["Size"]):
                full.append(f"{node['Name']} has {disk['Available'] / 1e9:.1f} GB free")
    if not least:
        return Seen(f"{server.name} disk", None, "no node tells how full its disk is")
    found = "; ".join(full) or f"at least {min(least) / 1e9:.0f} GB free on {len(least)} nodes"
    remedy = "free some on that node; `nomad system gc` removes what has ended"
    return Seen(f"{server.name} disk", not full, found, remedy)


def _parents(place: str, classes_mb: Sequence[int], folder: Path, env: str) -> Seen:
    """Whether the parent jobs are registered that steps are dispatched from."""
    from rdv.backends.nomad.jobs import NomadJobs

    remedy = f"type: rdv jobs register --env {env}"
    try:
        changes = NomadJobs(folder, place).register(classes_mb, (), plan_only=True)
    except NotAuthorised:
        return Seen("parent jobs", None, "this token may not register jobs, and so not compare them")
    except RdvError as error:
        return Seen("parent jobs", False, error.what, error.hint or remedy)
    missing = [one.job for one in changes if one.change == "new"]
    other = [f"{one.job} differs in {', '.join(one.differs)}" for one in changes if one.change == "changed"]
    found = "; ".join([*([f"{len(missing)} of {len(changes)} are missing"] if missing else []), *other])
    return Seen("parent jobs", not found, found or f"{len(changes)}, one for each size of step", remedy)
