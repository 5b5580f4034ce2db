"""S3 with keys from the environment's secrets: used, replaced while in use, refused, and shown nowhere."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rdv.backends import select
from rdv.config import Config, Environment, Project
from rdv.errors import NotAuthorised, NotFound

pytestmark = pytest.mark.live


@pytest.fixture
def own_s3(live_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server of the test's own, and nothing of the caller's that boto3 would read."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    server = live_server("s3:S3Server", "boto3")
    server.start()
    yield server
    server.close()


class Place:
    """A project whose artifacts are in a bucket, with its keys in the file of secrets."""

    def __init__(self, folder: Path, server: Any) -> None:
        self.server, self._file = server, folder / ".rdv" / "secrets.toml"
        place = f"s3:{server.new_bucket()}?endpoint={server.endpoint}&region=us-east-1&secret=app/s3"
        self.project = Project(folder, Config(environments={"local": Environment(artifacts=place)}))
        self.blobs: Any = select.blobs(self.project)

    def tell(self, access: str = "", secret: str = "") -> None:
        """Write keys into the file of secrets: the server's, unless told."""
        self._file.parent.mkdir(exist_ok=True)
        self._file.touch(0o600)
        pair = (access or self.server.access_key, secret or self.server.secret_key)
        self._file.write_text('"app/s3/access_key" = "{}"\n"app/s3/secret_key" = "{}"\n'.format(*pair))


@pytest.fixture
def place(tmp_path: Path, own_s3: Any) -> Place:
    """A project with the right keys."""
    made = Place(tmp_path, own_s3)
    made.tell()
    return made


def test_keys_come_from_the_secrets(place: Place, tmp_path: Path) -> None:
    """With `secret=NAME` the store is used with the secret's two fields, large files as well, from several threads."""
    (tmp_path / "large").write_bytes(os.urandom(20_000_000))
    place.blobs.put("a/large", tmp_path / "large")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda at: place.blobs.create(f"a/{at}", b"1"), range(20)))
    assert len(list(place.blobs.keys("a/"))) == 21
    assert place.blobs.fetch("a/large", tmp_path / "into").read_bytes() == (tmp_path / "large").read_bytes()


def test_replaced_keys_are_read_again(place: Place, tmp_path: Path) -> None:
    """After the keys were replaced on the server and in the secret, what is in use goes on, in every thread at once."""
    (tmp_path / "large").write_bytes(os.urandom(20_000_000))
    place.blobs.create("a", b"1")
    for _ in range(2):
        place.server.process.stop()
        place.server.rotate()
        place.server.start()
        with pytest.raises(NotAuthorised, match="app/s3"):
            place.blobs.read("a")
        place.tell()
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda _: place.blobs.read("a"), range(24))) == [b"1"] * 24
        place.blobs.put(f"large-{_}", tmp_path / "large")


def test_wrong_keys_are_shown_nowhere(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal names the secret and the fields, and neither its text nor its whole traceback holds a value."""
    place.tell(secret="wrong-canary")
    with pytest.raises(NotAuthorised, match="app/s3/secret_key") as caught:
        place.blobs.read("a")
    told = "".join(traceback.format_exception(caught.value)) + repr(vars(place.blobs)) + caplog.text
    assert "wrong-canary" not in told
    assert place.server.access_key not in told


def test_an_absent_secret_is_told(tmp_path: Path, own_s3: Any) -> None:
    """Without the secret the error is the secrets' own, and it names what to write where."""
    with pytest.raises(NotFound, match="RDV_SECRET_APP_S3_ACCESS_KEY"):
        Place(tmp_path, own_s3).blobs.read("a")
