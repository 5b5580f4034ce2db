"""What `rdv.toml` may say, declared once.

Loading, merging (flags > environment > file > default), origins and the nearest-key hints are in
`rdv.settings`; this file holds the declaration and its meaning only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

Answer = Literal["probability", "labels", "number"]


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Until this many milliseconds after acceptance, only these models may answer; best first."""

    until_ms: float
    models: tuple[str, ...]


class Lookup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """External state added to each request before the fan-out, in its simplest two forms.

    A static table: `table` (CSV, relative to rdv.toml) joined by the request field `key`, adding `columns`. Or a pure
    function: `function` = `module:name`, called with the request as a dict, returning a dict with `columns`.
    columns: name to `number` or `string`.
    """

    columns: dict[str, Literal["number", "string"]]
    table: str = ""
    key: str = ""
    function: str = ""


class ModellingGoal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Models that share one enriched input schema, one decoy and one canary model."""

    enrich: tuple[Lookup, ...] = ()
    canary_model: str = ""
    decoy: bool = True


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scoring endpoint. schema: a JSON Schema file relative to rdv.toml, or the schema itself.

    budget_ms: from acceptance to answer. default: the answer when no model made it, of the shape `answer` asks for
    (`probability` of the positive class, `labels` = a number a label in `labels`' order, `number`). subject: the
    request field a request is about. With one modelling goal its settings may stand here and `modelling` be left out.
    """

    schema: str | dict[str, Any]
    budget_ms: float
    default: float | tuple[float, ...]
    answer: Answer = "probability"
    labels: tuple[str, ...] = ()
    subject: str = ""
    tiers: tuple[Tier, ...] = ()
    enrich: tuple[Lookup, ...] = ()
    canary_model: str = ""
    decoy: bool = True
    modelling: dict[str, ModellingGoal] = {}

    def modelling_goals(self, goal: str) -> dict[str, ModellingGoal]:
        """The goal's modelling goals by bus topic: `goal` when none is named, else `goal/name`."""
        if not self.modelling:
            return {goal: ModellingGoal(enrich=self.enrich, canary_model=self.canary_model, decoy=self.decoy)}
        return {f"{goal}/{name}": one for name, one in self.modelling.items()}


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How rows become training, validation and test part. field: the time or group column (not for `random`)."""

    by: Literal["random", "time", "group"] = "random"
    field: str = ""
    validation: float = 0.2
    test: float = 0.2
    seed: int = 0


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of versions. task: `module:Class` of the training task, else the code-free tabular one.

    data: CSV or Parquet relative to rdv.toml. label: its label column; positive: the class whose probability is
    answered (default: the larger of two). categorical: columns that hold categories beside the string ones. exclude:
    columns that no model reads. metric: name; direction: `maximise` or `minimise`, empty: the metric's own. floor:
    the worst acceptable value on the test part. publish: `register` only, or `deploy` as well. replicas: worker
    processes; worker_mb: what each may use on a cluster. reload: how a worker on a cluster hears of another version: by
    a file that the cluster renders from a `template`, by its own `watch`, or by a `restart`, one after the other.
    fetch: who brings a canary's version to it on a cluster, the `worker` itself or `nomad`, where that can.
    params: hyperparameter defaults.
    """

    goal: str
    flavour: str = "lightgbm"
    task: str = ""
    modelling: str = ""
    data: str = ""
    label: str = ""
    positive: str = ""
    categorical: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    metric: str = ""
    direction: Literal["", "maximise", "minimise"] = ""
    split: Split = Split()
    floor: float | None = None
    publish: Literal["register", "deploy"] = "register"
    replicas: int = 1
    worker_mb: int = 512
    reload: Literal["template", "watch", "restart"] = "template"
    fetch: Literal["worker", "nomad"] = "worker"
    seed: int = 0
    params: dict[str, bool | int | float | str] = {}

    def topic(self) -> str:
        """The bus topic of the model's modelling goal."""
        return f"{self.goal}/{self.modelling}" if self.modelling else self.goal


class Serve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where serving listens and how much it takes in. port 0: any free one, told by `rdv status`.

    admin: a path of a 0600 socket (empty: `.rdv/run/admin-<gateway id>.sock`). max_in_flight: accepted and
    unanswered requests; per_client: the same for one client address. body_bytes, body_ms: cap and time limit of a
    request's body.
    drain_s: how long a clean stop may take. journal_mb: a journal's total size, in segments of segment_mb.
    ops_port: of a listener that tells health, readiness, metrics and status and changes nothing; 0: any free one, -1:
    none. On a cluster `port` is the proxies', who hand requests to the gateways; gateways, proxies: how many there are;
    gateway_mb, decoy_mb: what each may use.
    bus_host, bus_port: where a gateway of a bus between hosts takes in workers, 0: any free port. advertise: the host
    by which it is told to the catalog; empty: bus_host.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    admin: str = ""
    max_in_flight: int = 1024
    per_client: int = 1024
    body_bytes: int = 65536
    body_ms: float = 2000.0
    drain_s: float = 10.0
    journal_mb: int = 1024
    segment_mb: int = 64
    ops_port: int = -1
    gateways: int = 1
    proxies: int = 1
    gateway_mb: int = 512
    decoy_mb: int = 256
    bus_host: str = "127.0.0.1"
    bus_port: int = 0
    advertise: str = ""


class Train(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much training runs at once and what a step may use. memory_mb: the classes, smallest first."""

    max_parallel: int = 2
    granularity: Literal["week", "day", "3h", "1h"] = "day"
    retries: int = 1
    wall_s: float = 3600.0
    memory_mb: tuple[int, ...] = (512, 1024, 2048, 4096, 8192, 16384)


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which adapter serves each port. `local`: everything embedded under `.rdv/`.

    intermediate: where the artifacts lie that nobody serves (data sets, features, reports, verdicts); empty: where
    the models do. services: what runs gateways and workers; `local:` = `rdv serve`. catalog: where gateways are
    found, `folder:` (in the run folder) or `consul:PREFIX?...`; names of services begin with the prefix, by default the
    environment's name. bus: how requests reach the models (see `rdv.bus_place`): `frames:` on one machine,
    `grpc:?tls=...` between hosts.
    """

    artifacts: str = "dir:artifacts"
    intermediate: str = ""
    registry: str = "sqlite:registry.sqlite"
    cluster: str = "local:"
    secrets: str = "env:secrets.toml"
    services: str = "local:"
    catalog: str = "folder:"
    bus: str = "frames:"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One service project."""

    project: str = ""
    goals: dict[str, Goal] = {}
    models: dict[str, Model] = {}
    environments: dict[str, Environment] = {}
    serve: Serve = Serve()
    train: Train = Train()


class Project(msgspec.Struct, frozen=True):
    """A loaded project: its folder (where rdv.toml is), its configuration, the environment chosen.

    kept: where its state is kept instead of `.rdv` in its folder, which may be read-only.
    """

    folder: Path
    config: Config
    env: str = "local"
    kept: Path | None = None

    @property
    def name(self) -> str:
        """What it is called where a name is needed: `project` of rdv.toml, or else its folder's name."""
        return self.config.project or self.folder.name

    @property
    def state(self) -> Path:
        """Where everything embedded lives: `.rdv`, or `.rdv/<env>` for another environment than `local`."""
        base = self.kept or self.folder / ".rdv"
        return base if self.env == "local" else base / self.env

    @property
    def run_folder(self) -> Path:
        """Sockets and process records of what is running."""
        return self.state / "run"
