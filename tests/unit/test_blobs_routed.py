"""Two stores as one: whatever is done with it, nobody can tell it from a single store by what it answers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rdv.backends import select
from rdv.backends.artifacts import ArtifactStore, file_entries
from rdv.backends.blobs_dir import DirBlobs
from rdv.backends.blobs_routed import RoutedBlobs
from rdv.backends.ports import Blobs
from rdv.config import Config, Environment, Project
from rdv.errors import LostRace, NotFound
from rdv.ids import short_id
from rdv.manifest import Manifest

KEYS = ["train/a/1", "train/a/2", "train/b", "@registry/models/m/current", "trainer/a", "t/x", "dataset/a", "@other/a"]
PREFIXES = ["", "t", "train", "train/", "train/a/", "train/a/1", "trainer", "@", "@registry/", "@x", "d", "z/"]
NAMES = ["train/m/1", "train/m/2", "dataset/m/1", "trainer/m/1"]
steps = st.lists(
    st.tuples(st.sampled_from(["create", "put", "read", "fetch", "delete", "keys"]), st.sampled_from(KEYS)), max_size=25
)


def seen(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call gives, or the kind and text of its error."""
    try:
        return call(*arguments)
    except (LostRace, NotFound) as error:
        return type(error), str(error)


def do(blobs: Blobs, what: str, key: str, source: Path) -> Any:
    """Do one thing with a store; what it answers."""
    if what == "create":
        return blobs.create(key, source.read_bytes())
    if what == "put":
        return blobs.put(key, source)
    if what == "fetch":
        return blobs.fetch(key, source.with_name("into")).read_bytes()
    if what == "keys":
        return [list(blobs.keys(prefix)) for prefix in PREFIXES]
    return getattr(blobs, what)(key)


def do_artifact(store: ArtifactStore, blobs: Blobs, what: str, manifest: Manifest, made: Path) -> Any:
    """Do one thing with an artifact, or leave an attempt of it unfinished; what it answers."""
    if what == "publish":
        return store.publish(manifest, made)
    if what == "orphan":
        return blobs.create(f"{manifest.name}/attempts/{manifest.attempt}/file", b"x")
    return store.delete(manifest.name) if what == "delete" else store.collect(store.orphans())


@given(steps)
def test_it_answers_as_a_single_store(steps: list[tuple[str, str]]) -> None:
    """Any sequence of writes, reads, deletions and listings has the same answers on two stores as on one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        single = DirBlobs(folder / "single")
        both = RoutedBlobs(DirBlobs(folder / "served"), DirBlobs(folder / "rest"))
        for at, (what, key) in enumerate(steps):
            (folder / "source").write_text(str(at))
            one, other = (seen(do, store, what, key, folder / "source") for store in (single, both))
            assert one == other
        assert do(single, "keys", "", folder) == do(both, "keys", "", folder)


@given(
    st.lists(
        st.tuples(st.sampled_from(["publish", "orphan", "delete", "collect"]), st.sampled_from(NAMES)), max_size=10
    )
)
def test_artifacts_over_it_are_as_over_a_single_store(steps: list[tuple[str, str]]) -> None:
    """Names, problems and orphans are those of a single store, whatever was published, deleted and collected."""
    with tempfile.TemporaryDirectory() as name:
        folder, made = Path(name), Path(name, "made")
        blobs = [DirBlobs(folder / "single"), RoutedBlobs(DirBlobs(folder / "served"), DirBlobs(folder / "rest"))]
        made.mkdir()
        for what, artifact in steps:
            (made / "file").write_text(artifact)
            files = file_entries(made)
            manifest = Manifest(name=artifact, kind="k", attempt=short_id(), files=files, task="t")
            told = []
            for below in blobs:
                store = ArtifactStore(below)
                answer = seen(do_artifact, store, below, what, manifest, made)
                names = [store.names(prefix) for prefix in ("", "t", "train/", "dataset/")]
                told.append((answer, names, [store.verify(one) for one in NAMES], store.orphans()))
            assert told[0] == told[1]


def test_it_is_chosen_by_the_environment(tmp_path: Path) -> None:
    """With `intermediate` set, models lie in `artifacts` and everything else there; without it all lie together."""
    apart = Environment(artifacts="dir:models", intermediate="dir:between")
    project = Project(tmp_path, Config(environments={"local": apart, "one": Environment()}))
    blobs = select.blobs(project)
    blobs.create("train/m/manifest.json", b"1")
    blobs.create("dataset/m/manifest.json", b"2")
    assert (tmp_path / ".rdv" / "models" / "train" / "m" / "manifest.json").is_file()
    assert (tmp_path / ".rdv" / "between" / "dataset" / "m" / "manifest.json").is_file()
    assert isinstance(select.blobs(Project(tmp_path, project.config, "one")), DirBlobs)
