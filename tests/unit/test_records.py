"""Ids, manifests and registry records: what is written is what is read, and rubbish is named."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rdv.errors
from rdv.errors import ConfigError, CorruptArtifact, Exit, RdvError
from rdv.ids import digest_bytes, digest_file, message_ids, short_id
from rdv.manifest import FileEntry, Manifest, decode_manifest, encode_manifest
from rdv.records import Pointer, Version, decode, encode, pointer_key, release_key, version_key

ENTRIES = st.builds(FileEntry, st.text(min_size=1, max_size=8), st.integers(0, 2**40), st.just("0" * 64))
MANIFESTS = st.builds(
    Manifest,
    name=st.text(min_size=1, max_size=20),
    kind=st.sampled_from(["model", "dataset"]),
    attempt=st.just("a1"),
    files=st.lists(ENTRIES, max_size=3, unique_by=lambda entry: entry.path).map(tuple),
    task=st.just("x:Y"),
    metrics=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)


@given(MANIFESTS)
def test_a_manifest_reads_back(manifest: Manifest) -> None:
    """A manifest's bytes decode to the same manifest, and encoding it again gives the same bytes."""
    data = encode_manifest(manifest)
    assert decode_manifest(data, manifest.name) == manifest
    assert encode_manifest(decode_manifest(data, manifest.name)) == data


@given(MANIFESTS)
def test_a_digest_is_of_the_files_alone(manifest: Manifest) -> None:
    """Two artifacts with equal files have equal digests, whatever their names, order or cost."""
    other = msgspec.structs.replace(manifest, name="other", run="r", files=manifest.files[::-1])
    assert other.digest() == manifest.digest()


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b'{"name": 1}'])
def test_a_broken_manifest_is_corrupt(data: bytes) -> None:
    """Bytes that are no manifest raise CorruptArtifact naming the artifact."""
    with pytest.raises(CorruptArtifact, match="some-name"):
        decode_manifest(data, "some-name")


def test_a_manifest_of_another_artifact_is_corrupt() -> None:
    """A manifest stored under another artifact's name is refused."""
    data = encode_manifest(Manifest(name="a", kind="model", attempt="1", files=(), task="t"))
    with pytest.raises(CorruptArtifact, match="is of a"):
        decode_manifest(data, "b")


def test_an_unknown_file_of_an_artifact_is_named() -> None:
    """Asking a manifest for a file it does not list says which one."""
    with pytest.raises(CorruptArtifact, match=r"model\.txt"):
        Manifest(name="a", kind="model", attempt="1", files=(), task="t").file("model.txt")


@given(st.text(max_size=10), st.text(max_size=10), st.integers(1, 10**9))
def test_a_pointer_reads_back(version: str, previous: str, serial: int) -> None:
    """A registry record decodes to what was encoded."""
    pointer = Pointer(version=version, previous=previous, serial=serial)
    assert decode(Pointer, encode(pointer), "k") == pointer


@pytest.mark.parametrize("value", [b"", b"[]", b'{"version": "v", "url": "http://elsewhere"}', b'{"version": 1}'])
def test_a_hostile_registry_value_is_refused_by_key(value: bytes) -> None:
    """A value with unknown or wrongly typed fields is refused, and the message names its key."""
    with pytest.raises(ConfigError, match="models/m/current"):
        decode(Pointer, value, pointer_key("m"))


def test_registry_keys_sort_by_release() -> None:
    """Keys of one model share their prefix, and release keys sort in order of release."""
    assert version_key("a/b", "v1").startswith(version_key("a/b"))
    keys = [release_key("a/b", serial) for serial in (1, 2, 10, 99999999)]
    assert keys == sorted(keys)
    assert all(key.startswith(release_key("a/b")) for key in keys)


def test_a_version_needs_its_digest() -> None:
    """A version without a digest is not a version."""
    with pytest.raises(ConfigError, match="digest"):
        decode(Version, b'{"model": "m", "version": "v", "artifact": "a"}', "k")


def test_message_ids_are_distinct_and_sixteen_bytes() -> None:
    """Ids drawn across several pools of randomness are 16 bytes and never repeat."""
    new_id = message_ids()
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert {len(one) for one in ids} == {16}
    assert short_id() != short_id()


@given(st.binary(max_size=1000))
def test_digests_agree_with_sha256(data: bytes) -> None:
    """The digest of bytes is their SHA-256 in hexadecimal digits."""
    assert digest_bytes(data) == hashlib.sha256(data).hexdigest()


def test_a_files_digest_is_its_contents(tmp_path: Path) -> None:
    """A file's digest is the one of its bytes."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100_000)
    assert digest_file(path) == digest_bytes(b"x" * 100_000)


ERRORS = [
    one
    for _, one in inspect.getmembers(rdv.errors, inspect.isclass)
    if issubclass(one, RdvError) and one.__module__ == "rdv.errors"
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_says_what_and_what_next(kind: type[RdvError]) -> None:
    """Every error has a docstring, an exit code, a message with its hint, and survives a process boundary."""
    if len(inspect.signature(kind).parameters) != 2:
        pytest.skip("has fields of its own; its own test covers it")
    error = kind("it broke", "type `rdv doctor`")
    assert kind.__doc__
    assert error.exit_code in set(Exit) - {Exit.OK}
    assert str(error) == "it broke; type `rdv doctor`"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (kind, str(error))
