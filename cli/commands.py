"""The commands of `rdv` by section: where each lives and what it does, readable without importing any."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command: the module of this package that holds it, its name there, and its one line of help."""

    module: str
    attribute: str
    help: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Start": {
        "demo": Entry("demo.command", "demo", "Train, publish, serve, swap, break and report on real data."),
        "init": Entry("init", "init", "Scaffold a service project in the new folder NAME."),
        "check": Entry("check.command", "check", "Look at a project before it is committed."),
        "api": Entry("api", "api", "Write the documentation of the API from the schemas."),
        "config": Entry("config", "config", "Check rdv.toml, or show it with the origin of each value."),
        "doctor": Entry("doctor.command", "doctor", "Check what can be wrong here, each failure with its remedy."),
    },
    "From a hyperparameter to a version": {
        "train": Entry("train", "train", "Train MODEL over a grid, validate, and publish the best version."),
        "schedule": Entry("schedule", "schedule", "Train MODEL again and again; run by `rdv up`."),
        "runs": Entry("runs", "runs", "List, show, await and cancel training runs."),
        "jobs": Entry("jobs", "jobs", "Register, list and end what a cluster runs for rdv."),
        "logs": Entry("runs", "logs", "Print what RUN, a run or one of its steps, wrote."),
        "models": Entry("models", "models", "List models and versions, show one, compare two."),
        "artifacts": Entry("artifacts", "artifacts", "List, verify and collect what training has stored."),
        "score": Entry("score", "score", "Score a file of rows with a version of MODEL."),
    },
    "From a version to an answer": {
        "serve": Entry("serve", "serve", "Serve every goal on this machine, or run one role of it."),
        "up": Entry("serve", "up", "Serve, and run the schedules."),
        "plan": Entry("apply", "plan", "Show what `rdv apply` would change on a cluster."),
        "apply": Entry("apply", "apply", "Make a cluster's serving jobs what rdv.toml says, exactly as planned."),
        "scale": Entry("apply", "scale", "Have COUNT gateways, decoys or proxies, or so many workers of MODEL."),
        "image": Entry("image", "image", "Build the project's container image, a base for it, or a root file system."),
        "deploy": Entry("deploy", "deploy", "Make a version of MODEL the one that is served."),
        "promote": Entry("rollouts", "promote", "Serve the version of MODEL that a rollout tries out."),
        "rollouts": Entry("rollouts", "rollouts", "List rollouts: how each stands or ended, and why."),
        "rollback": Entry("deploy", "rollback", "Go back to the version of MODEL that was served before."),
        "contract": Entry("contract", "contract", "Record what consumers expect of a goal, and hold it to that."),
        "load": Entry("load.command", "load", "Send GOAL requests at a steady rate, and hold the answers to a budget."),
        "status": Entry("status", "status", "Show goals, models, versions, latencies and the ledger."),
    },
    "The way into production": {
        "ci": Entry("ci.command", "ci", "Run a stage of the way into production, as a pipeline does."),
    },
    "Keeping it honest": {
        "replay": Entry("replay", "replay", "Feed the recorded requests of a goal to a version of MODEL."),
        "registry": Entry("registry", "registry", "Restore the registry after a loss."),
        "report": Entry("report.command", "report", "Write one self-contained HTML page about what was served."),
    },
    "The servers of a cluster": {
        "dev-cluster": Entry("devcluster", "dev_cluster", "Run Nomad, Consul, Vault and S3 on this machine."),
    },
    "About rdv": {
        "help": Entry("help", "help_command", "Explain a command or a topic, such as exit-codes."),
        "completion": Entry("completion", "completion", "Print the completion script of SHELL."),
    },
}

COMMANDS: dict[str, Entry] = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
