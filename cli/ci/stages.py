"""The stages of a service's way into production, each the commands that it types and the record that it leaves."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdv.cli.ci import image as ci_image
from rdv.cli.ci import login as ci_login
from rdv.cli.ci.handover import FOLDER, Content, check_on_main, content, first_seen, leave, needed
from rdv.cli.ci.lines import Lines
from rdv.cli.output import note
from rdv.errors import LostRace, Refused, UsageError

if TYPE_CHECKING:
    from rdv.config import Goal, Project

Told = dict[str, Any]
_READY_S = "120"


class Stage:
    """One stage at work. before: what the stages before it told. env: the environment it works on, may be empty."""

    def __init__(self, project: Project, name: str, env: str, about: Content, before: Mapping[str, Told]) -> None:
        self.project, self.name, self.env, self.about, self.before = project, name, env, about, before
        self.image = str(before.get("build", {}).get("image", ""))
        image = ci_image.with_image(project, env, self.image) if env else {}
        self.lines = Lines(project.folder, image)
        self.folder = project.folder / FOLDER

    def report(self, name: str) -> str:
        """The path of one of the stage's reports, from the project's folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return str(Path(FOLDER, name))

    def in_env(self, *arguments: str) -> tuple[str, ...]:
        """The words of a command that is about the stage's environment."""
        return (*arguments, "--env", self.env)


def run(project: Project, name: str) -> Path:
    """Run a stage; the file with its record. Whatever it raises is the job's one sentence."""
    work, where = STAGES[name]
    env = variable(*where) if where else ""
    about = content(project.folder)
    before = needed(project.folder, name, project.config.project, about)
    if not env:
        told = work(Stage(project, name, env, about, before))
        return leave(project.folder, name, project.config.project, about, told)
    with contextlib.ExitStack() as logins:
        for one in [env, variable(*STAGING)] if name == "canary" else [env]:  # a canary's bytes come from staging
            ci_login.places(project, one)
            logins.enter_context(ci_login.logged_in(project, one))
        told = work(Stage(project, name, env, about, before))
    return leave(project.folder, name, project.config.project, about, {"environment": env, **told})


def variable(name: str, default: str = "") -> str:
    """What an environment variable says; UsageError when it is not set and has no default."""
    if text := os.environ.get(name, default).strip():
        return text
    raise UsageError(f"the variable {name} is missing", "set it in .gitlab-ci.yml, below `variables:`")


def words(name: str, default: str = "") -> list[str]:
    """The words that an environment variable adds to a command."""
    return shlex.split(os.environ.get(name, default))


def lint(stage: Stage) -> Told:
    """What the hooks look at."""
    stage.lines.rdv("check", "--junit", stage.report("lint.xml"))
    return {}


def build(stage: Stage) -> Told:
    """The image of this content, unless it is there already; none where the nodes run no images."""
    env = variable(*STAGING)
    ci_login.places(stage.project, env)
    if not ci_image.wants_image(stage.project, env):
        note(f"no image: no place of {env} has driver=docker, so its nodes run the rdv that they have")
        return {"image": ""}
    registry = os.environ.get("CI_REGISTRY_IMAGE", "")
    tag = ci_image.image_tag(stage.project.config.project, stage.about.tree, registry)
    if ci_image.is_there(tag, registry):
        note(f"{tag} is there: this content was built before")
        return {"image": tag, "built": False}
    base = words("RDV_CI_BASE")
    stage.lines.rdv("image", "build", "--tag", tag, *(["--base", *base] if base else []), *words("RDV_CI_BUILD"))
    if registry:
        ci_image.push(tag)
    return {"image": tag, "built": True}


def test(stage: Stage) -> Told:
    """The project's own tests, in its image."""
    ci_image.run_tests(stage.project, stage.image, stage.folder / "test.xml")
    return {"image": stage.image}


def unit(stage: Stage) -> Told:
    """The project's own tests, here."""
    ci_image.run_tests(stage.project, "", stage.folder / "unit.xml")
    return {}


def train(stage: Stage) -> Told:
    """A version of every model for staging; what is there by name is not made again."""
    models = sorted(stage.project.config.models)
    if on_nomad(stage, "cluster"):
        stage.lines.rdv(*stage.in_env("jobs", "register"))
    made: Told = {}
    for model in models:
        told = stage.lines.told(*stage.in_env("train", model, "--yes"), *period(stage), *words("RDV_CI_TRAIN"))
        made[model] = {name: told[name] for name in ("version", "trained", "metrics")}
        done = f"{told['trained']} trained" if told["trained"] else "nothing to train, it was there by name"
        note(f"{model}: version {told['version']}, {done}")
    every = ((metric_name(model, name), value) for model in models for name, value in made[model]["metrics"].items())
    (stage.folder / "metrics.txt").write_text("".join(f"{name} {value}\n" for name, value in every) + "# EOF\n")
    stage.lines.rdv(*stage.in_env("report", "--markdown", "--to", stage.report("report.md")))
    return {"models": made}


def period(stage: Stage) -> list[str]:
    """The words that say which period is trained for: on a schedule the one that is now, else that of the content.

    So a tag finds by name what was trained on the branch, on whichever day it is set.
    """
    on_schedule = os.environ.get("CI_PIPELINE_SOURCE") == "schedule"
    return [] if on_schedule else ["--date", first_seen(stage.project.folder, stage.about)]


def metric_name(model: str, name: str) -> str:
    """The name of a model's metric in a metrics report, which takes letters, digits and underscores."""
    return re.sub(r"\W", "_", f"{model}_{name}")


def staging(stage: Stage) -> Told:
    """The serving jobs as rdv.toml has them, and in them what was trained."""
    versions = {model: one["version"] for model, one in stage.before["train"]["models"].items()}
    first = [model for model in versions if not current(stage, model)]
    released = {model: release(stage, model, versions[model]) for model in first}
    apply(stage)
    released |= {model: release(stage, model, versions[model]) for model in versions if model not in first}
    be_ready(stage)
    return {"image": stage.image, "released": released}


def apply(stage: Stage) -> None:
    """Make the serving jobs what rdv.toml says, where they are jobs."""
    if on_nomad(stage, "services"):
        stage.lines.rdv(*stage.in_env("apply"))
    else:
        note(f"{stage.env} serves by `rdv serve` on its machine: there are no jobs to apply")


def on_nomad(stage: Stage, setting: str) -> bool:
    """Whether a place of the stage's environment is on Nomad."""
    return ci_login.places(stage.project, stage.env)[setting].startswith("nomad:")


def be_ready(stage: Stage) -> Told:
    """Wait until the environment's gateways answer, which may have been placed anew a moment ago; what they tell."""
    told: Told = stage.lines.told(*stage.in_env("status", "--wait", _READY_S))
    return told


def be_released(stage: Stage) -> None:
    """Wait as `be_ready` does; LostRace when another pipeline has released something else there meanwhile."""
    released = {model: str(one["version"]) for model, one in stage.before["staging"]["released"].items()}
    for view in be_ready(stage)["gateways"]:
        for goal in view["goals"].values():
            for model, one in goal["models"].items():
                other = {each["version"] for each in one["replicas"]} - {released.get(model)}
                if model in released and other:
                    what = f"{stage.env} serves {other.pop()} of {model}, and this pipeline released {released[model]}"
                    raise LostRace(what, "run the job of staging again")


def release(stage: Stage, model: str, version: str, *more: str) -> Told:
    """Release a version; what came of it."""
    told: Told = stage.lines.told(*stage.in_env("deploy", model, "--version", version, *more))
    return {name: told[name] for name in ("version", "instead_of", "serial") if name in told} or told


def current(stage: Stage, model: str) -> str:
    """The version that a model's pointer names in the stage's environment, empty when none does."""
    listed = stage.lines.told(*stage.in_env("models", "list"))
    return next((str(one["current"]) for one in listed if one["model"] == model), "")


def contract(stage: Stage) -> Told:
    """What consumers expect, asked of staging's gateways and of the schemas; what is expected of others, recorded."""
    be_released(stage)
    own = sorted(stage.folder.glob(f"{ci_image.OWN_CONTRACTS}/*.json"))
    for file in own:
        stage.lines.rdv(*stage.in_env("contract", "publish", str(file.relative_to(stage.project.folder))))
    stage.lines.rdv(*stage.in_env("contract", "verify", "--junit", stage.report("contract.xml")))
    return {"published": [file.stem for file in own]}


def load(stage: Stage) -> Told:
    """Whether answers come fast enough, goal by goal."""
    be_released(stage)
    goals = sorted(stage.project.config.goals)
    for goal in goals:
        default = f"--rate 50 --for 20s --budget {limits(stage.project.config.goals[goal])}"
        reports = ["--junit", stage.report(f"load-{goal}.xml"), "--html", stage.report(f"load-{goal}.html")]
        stage.lines.rdv(*stage.in_env("load", "--goal", goal, *words("RDV_CI_LOAD", default), *reports))
    return {"goals": goals}


def limits(goal: Goal) -> str:
    """The budget of a load. Models that are late let the default answer, in time: few may be where models answer."""
    models = any(tier.models for tier in goal.tiers)
    return f"p99={goal.budget_ms:g}ms,errors=0" + (",defaults=1%" if models else "")


def canary(stage: Stage) -> Told:
    """What staging runs, in production: serving jobs, and a canary of each model that may answer."""
    check_on_main(stage.project.folder)
    released = stage.before["staging"]["released"]
    came_from = variable(*STAGING)
    answering = {one for goal in stage.project.config.goals.values() for tier in goal.tiers for one in tier.models}
    first = [model for model in released if not current(stage, model)]
    tried, plain = [], {}
    for model in first:
        plain[model] = release(stage, model, released[model]["version"], "--from", came_from)
    apply(stage)
    for model in (one for one in released if one not in first):
        version = str(released[model]["version"])
        if current(stage, model) == version:
            note(f"{model}: production serves {version} already")
        elif model in answering:
            release(stage, model, version, "--from", came_from, *words("RDV_CI_CANARY", "--canary 1 --share 0.1"))
            tried.append(model)
        else:
            plain[model] = release(stage, model, version, "--from", came_from)
    return {"image": stage.image, "released": plain, "canaries": tried}


def promote(stage: Stage) -> Told:
    """Every canary for everybody."""
    told = {model: stage.lines.told(*stage.in_env("promote", model)) for model in stage.before["canary"]["canaries"]}
    return {"promoted": told}


def rollback(stage: Stage) -> Told:
    """Every canary away, or what was released last undone."""
    before = stage.before["canary"]
    models = [*before["canaries"], *before["released"]]
    if not models:
        raise Refused("there is nothing to take back", "see `rdv models list`")
    return {"taken_back": {model: stage.lines.told(*stage.in_env("rollback", model)) for model in models}}


def package(stage: Stage) -> Told:
    """The package of a library."""
    from rdv.cli.ci.package import package as build_package

    return build_package(stage.project.folder)


def publish(stage: Stage) -> Told:
    """The package for everybody on the private index, and the tasks on the cluster of RDV_CI_PRODUCTION, if any."""
    from rdv.cli.ci.package import publish as publish_package

    check_on_main(stage.project.folder)
    told = publish_package(stage.project.folder, stage.before["package"])
    env = os.environ.get(PRODUCTION[0], "").strip()
    if env:
        ci_login.places(stage.project, env)
        with ci_login.logged_in(stage.project, env):
            stage.lines.rdv("jobs", "register", "--env", env)
    return told


STAGING = ("RDV_CI_STAGING", "staging")
PRODUCTION = ("RDV_CI_PRODUCTION", "production")
STAGES: Mapping[str, tuple[Callable[[Stage], Told], tuple[str, ...]]] = {
    "lint": (lint, ()),
    "build": (build, ()),
    "test": (test, ()),
    "train": (train, STAGING),
    "staging": (staging, STAGING),
    "contract": (contract, STAGING),
    "load": (load, STAGING),
    "canary": (canary, PRODUCTION),
    "promote": (promote, PRODUCTION),
    "rollback": (rollback, PRODUCTION),
    "unit": (unit, ()),
    "package": (package, ()),
    "publish": (publish, ()),
}
"""Each stage's work, and the variable and default that name its environment."""
