"""How `rdv plan`, `rdv apply` and `rdv scale` do it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdv.cli import output
from rdv.errors import RdvError, Unreachable, UsageError

if TYPE_CHECKING:
    from rdv.backends.ports_services import Applied, Role, Rolled, Services
    from rdv.config import Project
    from rdv.releases.service_plan import Plan, PolicyChange, Recorded, Register
    from rdv.serving.contracts import Contract

TIMEOUT_S = 300.0


def make_plan(project: Project, remove: bool = False, anew: bool = False) -> Plan:
    """What would make an environment what rdv.toml says; nothing is changed. remove: with no serving job in it.

    anew: with another instance for every one that serves.
    """
    from rdv.backends import select
    from rdv.releases.service_plan import Plan
    from rdv.serving.processes.jobs import service_jobs

    if remove and anew:
        raise UsageError("--remove takes away what --anew would replace", "leave one of them out")
    services = select.services(project)
    if remove:
        return Plan(project=project.config.project, env=project.env, services=tuple(services.plan(())))
    contracts = kept_contracts(project)
    return Plan(
        project=project.config.project,
        env=project.env,
        jobs=tuple(parents(project)(True)),
        services=tuple(services.plan(service_jobs(project, services.folder, services.identities), anew)),
        policies=tuple(policies(project)),
        contracts=recorded(contracts),
    )


def kept_contracts(project: Project) -> list[Contract]:
    """What the recorded consumers expect, all of which the schemas keep; else Refused names consumer and field."""
    from rdv.cli.contracting import judge, schema_records
    from rdv.serving.contract_shelf import all_contracts, broken_contracts

    contracts = all_contracts(project)
    broken = broken_contracts(project, contracts=contracts)
    judge(schema_records(contracts, broken), broken)
    return contracts


def recorded(contracts: Iterable[Contract]) -> tuple[Recorded, ...]:
    """Some contracts as a plan keeps them."""
    from rdv.releases.service_plan import Recorded

    return tuple(sorted(Recorded(consumer=one.consumer, digest=one.digest) for one in contracts))


def apply_plan(project: Project, plan: Plan, timeout_s: float) -> list[dict[str, Any]]:
    """Carry a plan out, and follow it to its end; a record of each serving job that was changed.

    Unreachable says how to go on: what was begun is found again by the next plan, or on its way still.
    """
    try:
        return _applied(project, plan, timeout_s)
    except Unreachable as error:
        again = f"what was begun goes on; once that answers, `rdv apply --env {project.env}` does the rest"
        raise Unreachable(error.what, again) from error


def _applied(project: Project, plan: Plan, timeout_s: float) -> list[dict[str, Any]]:
    from rdv.backends import select
    from rdv.releases import service_plan
    from rdv.serving.contract_shelf import all_contracts
    from rdv.serving.processes.jobs import service_jobs

    services = select.services(project)
    if plan.contracts is not None:
        service_plan.check_contracts(plan, recorded(all_contracts(project)))
    service_plan.check_services(plan, services.plan(service_jobs(project, services.folder, services.identities)))
    service_plan.begin_parents(plan, parents(project))
    begun = service_plan.begin(plan, services)
    service_plan.take_policies(plan, select.registry(project))
    return [output.finite(one) for one in follow_all(services, begun, timeout_s)] if timeout_s else []


def follow_all(services: Services, begun: list[Applied], timeout_s: float) -> list[Rolled]:
    """Each change to its end, all of them at once; the first error when they have ended."""
    from concurrent.futures import ThreadPoolExecutor

    if not begun:
        return []
    with ThreadPoolExecutor(len(begun)) as pool:
        followed = [pool.submit(services.follow, one, output.note, timeout_s) for one in begun]
    errors = [error for one in followed if isinstance(error := one.exception(), BaseException)]
    for error in errors[1:]:
        output.note(str(error))
    if errors:
        raise errors[0]
    return [one.result() for one in followed]


def scale(project: Project, name: str, count: int, timeout_s: float) -> dict[str, Any]:
    """Have so many instances of a role, or of a model's workers; what came of it."""
    from rdv.backends import select

    role, model = role_of(project, name)
    services = select.services(project)
    applied = services.scale(role, model, count)
    found: dict[str, Any] = {"job": applied.job, "name": applied.name, "count": count, "healthy": None}
    if timeout_s:
        rolled = services.follow(applied, output.note, timeout_s)
        found |= {"healthy": rolled.healthy, "waited_s": round(rolled.waited_s, 3)}
    return found


def role_of(project: Project, name: str) -> tuple[Role, str]:
    """Role and model that a word on the command line means."""
    from rdv.cli.groups import nearest

    if name in project.config.models:
        return "worker", name
    roles: dict[str, Role] = {"gateway": "gateway", "decoy": "decoy", "proxy": "proxy"}
    if name not in roles:
        known = [*roles, *sorted(project.config.models)]
        raise UsageError(f"{name!r} is neither a role nor a model{nearest(name, known)}", f"one of {', '.join(known)}")
    return roles[name], ""


def parents(project: Project) -> Register:
    """What registers the parent jobs of an environment, whose cluster may be this machine and have none."""
    from rdv.backends import select
    from rdv.pipelines.task_jobs import task_classes

    if not select.is_remote(project, "cluster"):
        return lambda plan_only: ()
    jobs, tasks = select.jobs(project), task_classes(project, select.registry(project))
    return lambda plan_only: jobs.register(project.config.train.memory_mb, tasks, plan_only)


def policies(project: Project) -> list[PolicyChange]:
    """The policies in the registry that are not what rdv.toml says."""
    from rdv.backends import select
    from rdv.releases.service_plan import PolicyChange
    from rdv.serving.gateway.desk import plan_of
    from rdv.serving.gateway.policies import policy_key
    from rdv.serving.gateway.policy import decode_policy

    registry, found = select.registry(project), []
    for goal in project.config.goals:
        entry = registry.get(policy_key(goal))
        if entry is None:
            continue
        try:
            version = decode_policy(entry.value).version()
        except RdvError:
            version = "unreadable"
        if version != plan_of(project.config, goal).policy().version():
            found.append(PolicyChange(goal=goal, key=policy_key(goal), index=entry.index, version=version))
    return found


def records(plan: Plan) -> list[dict[str, Any]]:
    """A plan as rows for people."""
    rows = [{"what": one.job, "change": one.change, "differs": ", ".join(one.differs)} for one in plan.jobs]
    rows += [{"what": one.name, "change": one.change, "differs": ", ".join(one.differs)} for one in plan.services]
    rows += [
        {"what": f"policy of {one.goal}", "change": "removed", "differs": f"{one.version} is not rdv.toml's"}
        for one in plan.policies
    ]
    return rows


def read_plan(project: Project, file: Path) -> Plan:
    """The plan in a file."""
    from rdv.releases.service_plan import decode_plan

    try:
        return decode_plan(file.read_bytes(), project.config.project, project.env)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", "make it with `rdv plan --out FILE`") from None
