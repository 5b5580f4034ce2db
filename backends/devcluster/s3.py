"""An S3 server over a folder (versitygw), on 127.0.0.1."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.http import call
from rdv.backends.devcluster.ports import Ports
from rdv.backends.devcluster.programs import clean_environment, find_program
from rdv.errors import UsageError

REGION = "us-east-1"
_LOOK_S = 2.0


def new_keys() -> tuple[str, str]:
    """An access key and a secret key that nobody had before."""
    return "rdv-" + secrets.token_hex(6), secrets.token_hex(20)


class S3Server:
    """An S3 server with its buckets below a folder. Keeps port, keys and data over stop and start.

    ports: the one port, a free one unless given. keys: access key and secret key, new ones unless given.
    """

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        tied: bool = True,
        ports: Sequence[int] = (),
        keys: tuple[str, str] | None = None,
    ) -> None:
        self._ports, self._data = Ports(0 if ports else 1), folder / "data"
        self._data.mkdir(parents=True, exist_ok=True)
        # where a bucket keeps old versions, when somebody asks for them as Terraform does
        versions = folder.absolute() / "versions"
        versions.mkdir(exist_ok=True)
        self.port = (tuple(ports) or self._ports.numbers)[0]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.access_key, self.secret_key = keys or new_keys()
        argv = [
            str(find_program("versitygw", environ)), "--region", REGION, "--port", f"127.0.0.1:{self.port}",
            "--health", "/health", "--quiet", "posix", "--versioning-dir", str(versions), str(self._data),
        ]  # fmt: skip
        self._argv, self._env, self._log, self._tied = argv, clean_environment(environ), folder / "s3.log", tied
        self.process = self._process()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process.start()
        self.settle()

    def settle(self) -> None:
        """Wait until it answers."""
        self.process.until(self.is_ready, "ready")

    def is_ready(self) -> bool:
        """Whether it answers."""
        return call(self.port, "GET", "/health", limit_s=_LOOK_S).ok

    def rotate(self) -> None:
        """Take new keys, while it is stopped."""
        self.access_key, self.secret_key = new_keys()
        self.process = self._process()

    def close(self) -> None:
        """Stop it and give its port back."""
        self.process.stop()
        self._ports.close()

    def make_bucket(self, name: str) -> None:
        """A bucket, which with this server is a folder; one that is there stays."""
        if not 3 <= len(name) <= 63 or not name.replace("-", "").isalnum():
            raise UsageError(f"{name!r} is not a bucket's name", "3 to 63 lower-case letters, digits and -")
        (self._data / name).mkdir(exist_ok=True)

    def new_bucket(self) -> str:
        """A bucket of a name nobody used before."""
        name = f"b-{secrets.token_hex(8)}"
        self.make_bucket(name)
        return name

    def empty(self, bucket: str) -> None:
        """Take everything out of a bucket."""
        for path in (self._data / bucket).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def file(self, bucket: str, key: str) -> Path:
        """The file that holds an object."""
        return self._data / bucket / key

    def _process(self) -> ServerProcess:
        # by the environment, which unlike a command line is not for everybody to read
        keys = {"ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key}
        return ServerProcess("s3", self._argv, {**self._env, **keys}, self._log, self._tied)
