"""`rdv artifacts gc` where two environments keep their artifacts in one folder: neither loses what the other has."""

from __future__ import annotations

from typing import Any

import pytest

from rdv.backends.blobs_dir import DirBlobs
from rdv.errors import Exit

MODEL = "churn/lightgbm"
NEXT = ("--env", "next")
BRING = ("deploy", MODEL, *NEXT, "--from", "local", "--timeout", "0", "--version")
GC = ("artifacts", "gc", "--older-than", "0")
WHERE = "dir:../artifacts"


def share(shop: Any, store: str = WHERE, registry: str = "sqlite:registry.sqlite") -> None:
    """A second environment, by default over the store of the first."""
    file = shop.folder / "rdv.toml"
    text = file.read_text().partition("\n[environments.next]")[0]
    file.write_text(f'{text}\n[environments.next]\nartifacts = "{store}"\nregistry = "{registry}"\n')


def listed(shop: Any, *env: str) -> set[str]:
    """The versions that an environment's registry has."""
    return {one["version"] for one in shop.rdv.json("models", "list", MODEL, *env)}


def test_what_another_environment_has_published_stays_for_it_to_collect(shop: Any) -> None:
    """Here only records go while the other has one; the bytes go with the last record, and not before."""
    rdv, (first, second) = shop.rdv, shop.versions
    third = rdv.json("train", MODEL, "-P", "num_iterations=20", "-P", "num_leaves=5")["version"]
    share(shop)
    for version in (first, second, third):
        rdv.json(*BRING, version)
    rdv.json("deploy", MODEL, "--version", third, "--timeout", "0")
    artifacts = {one["version"]: one["artifact"] for one in rdv.json("artifacts", "list")}
    told = {one["artifact"]: one["what"] for one in rdv.json(*GC)}
    assert told[artifacts[first]] == f"record of version {first}"
    rdv.json(*GC, "--yes")
    assert (listed(shop), listed(shop, *NEXT)) == ({third}, {first, second, third})
    assert rdv.json("artifacts", "verify", *NEXT) == []
    assert rdv.json("rollback", MODEL, *NEXT, "--timeout", "0")["version"] == second
    assert artifacts[first] in {one["artifact"] for one in rdv.json(*GC, "--yes", *NEXT)}
    assert listed(shop, *NEXT) == {second, third}
    left = {one["artifact"] for one in rdv.json("artifacts", "list")}
    assert {artifacts[one] in left for one in (second, third)} == {True}
    assert artifacts[first] not in left
    assert rdv.json("artifacts", "verify") == []


def test_nothing_goes_while_a_sharer_cannot_be_looked_at(shop: Any) -> None:
    """A registry that does not answer (5), one that was lost (7), an environment that nobody knows (7): all stays."""
    rdv = shop.rdv
    share(shop)
    rdv.json(*BRING, shop.versions[0])
    every = rdv.json("artifacts", "list")
    registry = shop.folder / ".rdv/next/registry.sqlite"
    aside = [one.rename(one.with_name(f"{one.name}.aside")) for one in registry.parent.glob("registry.sqlite*")]

    refused(shop, Exit.REFUSED, "the registry of next lacks", "rdv registry rebuild --env next")
    share(shop, registry="consul:app?address=http://127.0.0.1:1")
    refused(shop, Exit.UNREACHABLE, "next shares the store of local and cannot be looked at")
    share(shop)
    for one in registry.parent.glob("registry.sqlite*"):
        if one not in aside:
            one.unlink()
    for one in aside:
        one.rename(one.with_name(one.name.removesuffix(".aside")))

    DirBlobs(shop.folder / ".rdv/artifacts").create("@registry/old/models/m/versions/v", b"{}")
    refused(shop, Exit.REFUSED, "environment 'old'", "[environments.old]", "@registry/old/")
    assert rdv.json("artifacts", "list") == every


@pytest.mark.parametrize("store", ["dir:../artifacts/train", "dir:.."])
def test_a_store_within_another_is_refused(shop: Any, store: str) -> None:
    """Of a folder that lies in another environment's nobody knows whose a file is; both are named, exit code 3."""
    share(shop, store)
    refused(shop, Exit.USAGE, "the store of", "lies within that of")


def test_a_lost_registry_does_not_make_everything_garbage(shop: Any) -> None:
    """Where the environment's own registry came back empty, the store's log says so, and nothing goes."""
    for one in (shop.folder / ".rdv").glob("registry.sqlite*"):
        one.unlink()
    refused(shop, Exit.REFUSED, "the registry of local lacks", "rdv registry rebuild --env local")
    assert shop.rdv("registry", "rebuild", "--yes").returncode == Exit.OK
    assert shop.rdv(*GC).returncode == Exit.OK


def refused(shop: Any, code: Exit, *said: str) -> None:
    """Collecting ends with an exit code and one line that says this."""
    done = shop.rdv(*GC, "--yes")
    assert (done.returncode, done.stderr.strip().count("\n")) == (code, 0), done.stderr
    for text in said:
        assert text in done.stderr
