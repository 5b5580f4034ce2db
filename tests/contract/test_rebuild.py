"""A lost registry is restored from the artifact store: what was published and released, and nothing else."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdv.backends import select
from rdv.backends.artifacts import file_entries
from rdv.backends.blobs_dir import DirBlobs
from rdv.backends.registry_logged import LoggedRegistry, RegistryLog
from rdv.cli import rebuilding
from rdv.clock import ManualClock
from rdv.config import Config, Environment, Project
from rdv.errors import Exit, NotFound, Refused, Unreachable
from rdv.ids import short_id
from rdv.manifest import Manifest
from rdv.records import Version, encode, pointer_key, release_key, version_key
from rdv.releases import pointer
from rdv.releases.rebuild import What

MODELS = ("visit/m", "visit/versions", "other")
VERSIONS = ("v1", "v2", "v3")


class World:
    """A project with its registry and its store, and what is done to them. lose: what makes the registry empty."""

    def __init__(
        self, folder: Path, environment: Environment | None = None, lose: Callable[[], object] | None = None
    ) -> None:
        chosen = environment or Environment(artifacts="dir:models", intermediate="dir:between")
        self.folder, self.project = folder, Project(folder, Config(environments={"local": chosen}))
        self.clock, self._lose = ManualClock(), lose
        self._opened: Any = None

    @property
    def registry(self) -> Any:
        """The registry as every command has it."""
        self._opened = self._opened or select.registry(self.project)
        return self._opened

    def publish(self, model: str, version: str) -> Version:
        """An artifact and the version that it is."""
        made = self.folder / "made"
        made.mkdir(exist_ok=True)
        (made / "model").write_text(f"{model} {version}")
        name = f"train/{model}/{version}"
        manifest = Manifest(name=name, kind="train", attempt=short_id(), files=file_entries(made), task="t")
        store = select.artifacts(self.project)
        if store.manifest(name) is None:
            store.publish(manifest, made)
        record = Version(model=model, version=version, artifact=name, digest=manifest.digest(), metrics={"auc": 0.9})
        self.registry.put(version_key(model, version), encode(record), expect=0)
        return record

    def do(self, what: str, model: str, version: str) -> None:
        """Publish, deploy or roll back, as far as that can be done now."""
        self.clock.advance(1.0)
        with suppress(NotFound, Refused):
            if what == "publish":
                if self.registry.get(version_key(model, version)) is None:
                    self.publish(model, version)
            elif what == "deploy":
                pointer.deploy(self.registry, model, version, "me", self.clock)
            else:
                pointer.rollback(self.registry, model, "me", self.clock)

    def state(self) -> dict[str, bytes]:
        """Everything about models that is in the registry."""
        return {key: entry.value for key, entry in self.registry.list("models/").items()}

    def lose(self) -> None:
        """Lose the registry."""
        if self._lose is not None:
            self._lose()
            return
        self.registry.close()
        self._opened = None
        for file in list(self.project.state.glob("registry.sqlite*")):
            file.unlink(missing_ok=True)

    def rebuild(self) -> list[Any]:
        """Plan a rebuild and carry it out; the plan."""
        steps = rebuilding.plan(self.project)
        rebuilding.carry_out(self.project, steps)
        return steps


DONE = st.tuples(st.sampled_from(["publish", "deploy", "rollback"]), st.sampled_from(MODELS), st.sampled_from(VERSIONS))


# every step is made durable on disk: few long examples instead of many
FEW = settings(max_examples=25)


@FEW
@given(st.lists(DONE, min_size=4, max_size=14), st.integers(0, 20))
def test_after_a_rebuild_the_registry_is_as_it_was(done: list[tuple[str, str, str]], loss: int) -> None:
    """Whatever was published, deployed and rolled back, before and after an earlier loss, comes back to the byte."""
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name))
        for at, one in enumerate(done):
            world.do(*one)
            if at == loss:
                world.lose()
                world.rebuild()
        before = world.state()
        assert rebuilding.plan(world.project) == []
        world.lose()
        world.rebuild()
        assert world.state() == before
        assert rebuilding.plan(world.project) == []


@FEW
@given(st.lists(DONE, max_size=10), st.integers(0, 20))
def test_an_interrupted_rebuild_goes_on(done: list[tuple[str, str, str]], stop: int) -> None:
    """A rebuild that ended after any of its steps is finished by the next one."""
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name))
        for one in done:
            world.do(*one)
        before = world.state()
        world.lose()
        rebuilding.carry_out(world.project, rebuilding.plan(world.project)[:stop])
        world.rebuild()
        assert world.state() == before


class RebuildContract:
    """What a rebuild promises over any registry and any store; `world` is a project in which nothing was done."""

    def test_a_long_story_comes_back(self, world: World) -> None:
        """After forty publications, deploys and rollbacks and a loss, a rebuild gives the registry that was there."""
        lots = random.Random(3)
        for _ in range(40):
            world.do(lots.choice(["publish", "deploy", "rollback"]), lots.choice(MODELS), lots.choice(VERSIONS))
        before = world.state()
        assert len(before) >= 20
        world.lose()
        assert world.state() == {}
        world.rebuild()
        assert world.state() == before
        assert rebuilding.plan(world.project) == []

    def test_what_was_never_published_does_not_appear(self, world: World) -> None:
        """A model whose artifact is in the store and that no publication named is not a version after a rebuild."""
        world.publish("visit/m", "v1")
        world.registry.delete(version_key("visit/m", "v1"))
        world.lose()
        assert world.rebuild() == []
        assert world.state() == {}

    def test_a_version_that_was_collected_stays_away(self, world: World) -> None:
        """What gc took out of the registry is not restored, and a version whose artifact is gone is told as lost."""
        for version in VERSIONS:
            world.publish("visit/m", version)
        pointer.deploy(world.registry, "visit/m", "v3", "me", world.clock)
        world.registry.delete(version_key("visit/m", "v1"))
        select.artifacts(world.project).delete("train/visit/m/v2")
        world.lose()
        steps = world.rebuild()
        assert [(step.key, step.what) for step in steps if step.what is not What.RESTORE] == [
            (version_key("visit/m", "v2"), What.LOST)
        ]
        assert [key for key in world.state() if "/versions/" in key] == [version_key("visit/m", "v3")]

    def test_a_pointer_to_what_is_lost_is_not_restored(self, world: World) -> None:
        """Without the artifact of its version a pointer stays away: nothing is released that cannot be served."""
        world.publish("visit/m", "v1")
        pointer.deploy(world.registry, "visit/m", "v1", "me", world.clock)
        select.artifacts(world.project).delete("train/visit/m/v1")
        world.lose()
        assert {step.key for step in world.rebuild() if step.what is What.LOST} == {
            version_key("visit/m", "v1"), pointer_key("visit/m")
        }  # fmt: skip
        assert pointer_key("visit/m") not in world.state()

    def test_what_differs_is_told_and_stays(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        """Of a model with another history in the registry nothing is written, the rest is restored, exit code 7."""
        for model in ("visit/m", "other"):
            for version in ("v1", "v2"):
                world.publish(model, version)
                pointer.deploy(world.registry, model, version, "me", world.clock)
        world.lose()
        plain = select.plain_registry(world.project)
        world.publish("visit/m", "v2")
        pointer.deploy(plain, "visit/m", "v2", "somebody else", world.clock)
        before = world.state()
        steps = rebuilding.plan(world.project)
        differs = {(step.key, step.what) for step in steps if step.what is What.DIFFERS}
        assert differs == {(release_key("visit/m", 1), What.DIFFERS), (pointer_key("visit/m"), What.DIFFERS)}
        done = rebuilding.carry_out(world.project, steps)
        with pytest.raises(Refused, match="visit/m"):
            rebuilding.verdict(steps, done)
        after = world.state()
        assert {key: value for key, value in after.items() if "visit/m" in key} == before
        assert pointer_key("other") in after

    def test_a_first_release_after_a_loss_is_refused(self, world: World) -> None:
        """While the log tells of releases that the registry does not have, a deploy says what to type first."""
        world.publish("visit/m", "v1")
        pointer.deploy(world.registry, "visit/m", "v1", "me", world.clock)
        world.lose()
        world.publish("visit/m", "v2")
        with pytest.raises(Refused, match="rdv registry rebuild"):
            pointer.deploy(world.registry, "visit/m", "v2", "me", world.clock)
        world.rebuild()
        assert pointer.deploy(world.registry, "visit/m", "v2", "me", world.clock).serial == 2

    def test_the_exit_code_of_a_plan(self, world: World) -> None:
        """A plan with something to do ends with 2, a rebuild and a plan with nothing to do with 0."""
        assert rebuilding.verdict(rebuilding.plan(world.project), None) == Exit.OK
        world.publish("visit/m", "v1")
        world.lose()
        steps = rebuilding.plan(world.project)
        assert rebuilding.verdict(steps, None) == Exit.CHANGES
        assert rebuilding.verdict(steps, rebuilding.carry_out(world.project, steps)) == Exit.OK


class TestEmbedded(RebuildContract):
    """SQLite and directories."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        """A folder of its own."""
        return World(tmp_path)


@pytest.fixture
def consul_place(consul_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in Consul that nobody used before."""
    for name in [name for name in os.environ if name.startswith("CONSUL_")]:
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text(consul_server.token)
    return f"consul:{tmp_path.name}?address={consul_server.address}&token_file={tmp_path / 'token'}"


@pytest.mark.live
class TestConsulAndS3(RebuildContract):
    """Consul, with models on S3."""

    @pytest.fixture
    def world(self, tmp_path: Path, consul_server: Any, consul_place: str, s3_server: Any, s3_keys: None) -> World:
        """A prefix of Consul and a bucket of its own."""
        store = f"s3:{s3_server.new_bucket()}?endpoint={s3_server.endpoint}&region=us-east-1"
        environment = Environment(artifacts=store, intermediate="dir:between", registry=consul_place)
        return World(tmp_path, environment, lambda: consul_server.call("DELETE", f"/v1/kv/{tmp_path.name}?recurse"))


@pytest.mark.live
@pytest.mark.xdist_group("hdfs")
class TestConsulAndHdfs(RebuildContract):
    """Consul, with everything on HDFS."""

    @pytest.fixture
    def world(self, tmp_path: Path, consul_server: Any, consul_place: str, hdfs_servers: Any) -> World:
        """A prefix of Consul and a folder of HDFS of its own."""
        store = f"hdfs:/{tmp_path.parent.name}/{tmp_path.name}?url={hdfs_servers.url}&user=root"
        environment = Environment(artifacts=store, registry=consul_place)
        return World(tmp_path, environment, lambda: consul_server.call("DELETE", f"/v1/kv/{tmp_path.name}?recurse"))


class Away(DirBlobs):
    """A store that answers nobody while it is away."""

    away = False

    def create(self, key: str, data: bytes) -> None:
        """Store bytes, unless away."""
        if self.away:
            raise Unreachable("the store does not answer")
        super().create(key, data)


def test_a_rollback_does_not_need_the_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the store away the pointer moves all the same, with a warning; the next release writes what is missing."""
    world = World(tmp_path)
    blobs = Away(world.project.state / "models")
    registry = LoggedRegistry(select.plain_registry(world.project), RegistryLog(lambda: blobs, "local"))
    for version in ("v1", "v2"):
        world.publish("visit/m", version)
        pointer.deploy(registry, "visit/m", version, "me", world.clock)
    blobs.away = True
    assert pointer.rollback(registry, "visit/m", "me", world.clock).version == "v1"
    assert "not in the artifact store's log yet" in caplog.text
    assert [step.what for step in rebuilding.plan(world.project)] == [What.COPY]
    blobs.away = False
    pointer.rollback(registry, "visit/m", "me", world.clock)
    assert rebuilding.plan(world.project) == []


def test_environments_that_share_a_store_have_logs_of_their_own(tmp_path: Path) -> None:
    """Two environments over one store are each restored to their own state."""
    shared = f"dir:{tmp_path / 'shared'}"
    config = Config(environments={name: Environment(artifacts=shared) for name in ("dev", "local")})
    worlds = [World(tmp_path), World(tmp_path)]
    for world, env in zip(worlds, ("dev", "local"), strict=True):
        world.project = Project(tmp_path, config, env)
        world.publish("visit/m", "v1")
        pointer.deploy(world.registry, "visit/m", "v1", env, world.clock)
    before = [world.state() for world in worlds]
    for world in worlds:
        world.lose()
        world.rebuild()
    assert [world.state() for world in worlds] == before
    assert before[0] != before[1]
