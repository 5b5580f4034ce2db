"""The serving jobs that a project asks for in an environment, as data; reads their goals' schemas."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from msgspec.structs import replace

from rdv.backends import select
from rdv.backends.ports_services import Role, ServiceJob
from rdv.config import Config, Environment, Goal, Model, Project, Train
from rdv.errors import ConfigError
from rdv.records import pointer_key
from rdv.schema import load_schema
from rdv.serving.processes.project_file import encode_project

_STATE_MB = 512


def service_jobs(project: Project, folder: str = "", identities: Collection[str] = ()) -> list[ServiceJob]:
    """Gateways, each model's workers, a decoy, and proxies where there are to be any.

    folder, identities: as of `Services`, which runs them.
    """
    config = project.config
    if not config.project:
        raise ConfigError("the project has no name, and its jobs are called by it", 'add project = "NAME" to rdv.toml')
    if select.bus(project).scheme == "frames":
        what = f"the bus of environment {project.env!r} does not leave one host, and jobs run on any"
        raise ConfigError(what, "name one between hosts: bus = grpc:...")
    serve = config.serve

    def job(role: Role, count: int, memory_mb: int, disk_mb: int, model: str = "") -> ServiceJob:
        told = encode_project(told_project(project, folder, model, identities)).decode() if role != "proxy" else ""
        settings = config.models.get(model)
        return ServiceJob(
            project=config.project, env=project.env, role=role, model=model, count=count, memory_mb=memory_mb,
            disk_mb=disk_mb, told=told, pointer=pointer_key(model) if settings else "",
            reload=settings.reload if settings else "watch", port=serve.port if role == "proxy" else 0,
            body_bytes=serve.body_bytes, stop_s=serve.drain_s,
        )  # fmt: skip

    found = [job("gateway", serve.gateways, serve.gateway_mb, _STATE_MB)]
    found += [job("worker", one.replicas, one.worker_mb, _STATE_MB, name) for name, one in config.models.items()]
    found.append(job("decoy", 1, serve.decoy_mb, serve.journal_mb * 2))
    if serve.proxies:
        found.append(job("proxy", serve.proxies, 64, 0))
    return found


def _with_schema(goal: Goal, folder: Path) -> Goal:
    """A goal with the schema itself in the place of its file's name: a plan has to see that it is another."""
    if isinstance(goal.schema, str):
        load_schema(goal, folder)  # says what is wrong with it
        return replace(goal, schema=json.loads((folder / goal.schema).read_bytes()))
    return goal


def told_project(project: Project, folder: str, model: str = "", identities: Collection[str] = ()) -> Project:
    """What an instance is told of its project: nothing that it does not need, so that nothing else starts it again.

    model: a worker's; it gets this model's goal only. identities: the servers that are not told who applies the jobs.
    """
    config = project.config
    models = {name: Model(goal=one.goal, modelling=one.modelling) for name, one in config.models.items()}
    goals = {name: _with_schema(one, project.folder) for name, one in config.goals.items()}
    if model:
        models, goals = {model: models[model]}, {models[model].goal: goals[models[model].goal]}
    serve = replace(
        config.serve, host="127.0.0.1", port=0, ops_port=-1, bus_port=0, admin="", gateways=1, proxies=1,
        gateway_mb=16, decoy_mb=16,
    )  # fmt: skip
    environment = select.without_logins(config.environments.get(project.env, Environment()), identities)
    environment = replace(environment, cluster="local:", services="local:")
    told = Config(
        project=config.project,
        goals=goals,
        models=models,
        environments={project.env: environment},
        serve=serve,
        train=Train(),
    )
    return Project(Path(folder or project.folder), told, project.env)
