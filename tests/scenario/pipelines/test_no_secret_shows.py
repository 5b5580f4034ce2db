"""Gate R10: with store, registry and secrets on real servers, no secret shows in anything that rdv writes or is."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.errors import Exit

pytestmark = pytest.mark.live
LIMIT_S = 120
TTL_S = 2
RULES = 'path "secret/data/rdv/dev/*" { capabilities = ["read"] }'
# Each step says that it has begun and waits to be let go on, so that a test can do something in mid-run.
TASK = """
import json, pathlib, time
from rdv.pipelines.task import TrainTask, load_features

class Sum(TrainTask):
    defaults = {"offset": 0.0}

    def run_step(self, inputs, output_folder, params):
        features = load_features(inputs["features"])
        folder = pathlib.Path(self.context.project.folder)
        (folder / f"began-{params['offset']}").touch()
        until = time.monotonic() + 60
        while (folder / "hold").exists() and time.monotonic() < until:
            time.sleep(0.02)
        (output_folder / "model.json").write_text(json.dumps({"offset": params["offset"]}))
        return features.model_info("model.json", "sum")
"""


class Watch:
    """Looks at environment and command line of every process of rdv that the test starts, again and again."""

    def __init__(self, token: bytes) -> None:
        self.seen: set[bytes] = set()
        self._token, self._stop = token, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.01):
            for process in Path("/proc").glob("[0-9]*"):
                if int(process.name) == os.getpid():
                    continue
                try:
                    environ = (process / "environ").read_bytes()
                    if self._token in environ:
                        self.seen |= {environ, (process / "cmdline").read_bytes()}
                except OSError:
                    continue

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()


class Shop:
    """A project whose environment `dev` has everything on servers, and what its commands said."""

    def __init__(self, sums: Any, vault: Any, consul: Any, s3: Any, outside: Path) -> None:
        self.sums, self.vault, self.consul, self.s3 = sums, vault, consul, s3
        self.said: list[str] = []
        self.canaries: set[str] = {"canary-of-another-secret", consul.token}
        self.bucket, self._outside = s3.new_bucket(), outside
        self._write_policy()
        self.prefix = outside.name
        (outside / "consul").write_text(consul.token)
        with (sums.folder / "rdv.toml").open("a") as file:
            file.write(
                "[environments.dev]\n"
                f'artifacts = "s3:{self.bucket}?endpoint={s3.endpoint}&region=us-east-1&secret=s3"\n'
                f'registry = "consul:{self.prefix}?address={consul.address}&token_file={outside}/consul"\n'
                f'secrets = "vault:secret/rdv/dev?address={vault.address}'
                f'&role_id_file={outside}/role&secret_id_file={outside}/secret"\n'
            )

    def _write_policy(self) -> None:
        self.vault.write_policy("steps", RULES)
        assert self.vault.call("POST", "/v1/sys/auth/approle", {"type": "approle"}).ok
        role = {"token_policies": ["steps"], "token_ttl": f"{TTL_S}s", "token_max_ttl": f"{2 * TTL_S}s"}
        assert self.vault.call("POST", "/v1/auth/approle/role/steps", role).ok
        found = self.vault.call("GET", "/v1/auth/approle/role/steps/role-id").json()["data"]["role_id"]
        (self._outside / "role").write_text(found)
        self.vault.write_secret("rdv/dev/other", {"password": "canary-of-another-secret"})
        self.tell_keys()
        self.log_in()

    def log_in(self, secret: str = "") -> None:
        """Write the way to log in: a fresh one, unless told."""
        made = secret or self.vault.call("POST", "/v1/auth/approle/role/steps/secret-id").json()["data"]["secret_id"]
        self.canaries.add(made)
        (self._outside / "secret").write_text(made)

    def tell_keys(self, secret: str = "") -> None:
        """Write S3's keys into Vault: the right ones, unless told."""
        self.canaries |= {self.s3.access_key, secret or self.s3.secret_key}
        self.vault.write_secret(
            "rdv/dev/s3", {"access_key": self.s3.access_key, "secret_key": secret or self.s3.secret_key}
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Type a command, with tracebacks."""
        command = [sys.executable, "-P", "-m", "rdv.cli", "--debug", *arguments]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.sums.folder, text=True, **pipes)  # type: ignore[call-overload]

    def end(self, process: subprocess.Popen[str]) -> int:
        """How it ended; what it said is kept."""
        self.said.append(process.communicate(timeout=LIMIT_S)[0])
        return process.returncode

    def rdv(self, *arguments: str) -> int:
        """Type a command and wait for it."""
        return self.end(self.start(*arguments))

    def train(self, offsets: str) -> int:
        """Train over a grid."""
        return self.rdv("train", "visit/m", "-P", f"offset={offsets}", "--date", "2024-11-22", "--env", "dev")

    def everything(self) -> Iterable[tuple[str, bytes]]:
        """All that anybody could read: what was said, the project, the bucket, Consul's values."""
        for at, text in enumerate(self.said):
            yield f"command {at}", text.encode()
        for folder in (self.sums.folder, self.s3.file(self.bucket, "")):
            for path in sorted(folder.rglob("*")):
                yield str(path), str(path).encode() + (path.read_bytes() if path.is_file() else b"")
        yield "Consul", self.consul.call("GET", "/v1/kv/?recurse").body
        for one in self.consul.call("GET", "/v1/kv/?recurse").json():
            yield one["Key"], base64.b64decode(one["Value"] or "")


@pytest.fixture
def shop(
    sums: Any,
    live_server: Callable[..., Any],
    consul_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """The project, with a Vault and an S3 server of its own, and nothing of the caller's that a client would read."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "CONSUL_", "VAULT_", "NOMAD_"))]:
        monkeypatch.delenv(name)
    outside = tmp_path_factory.mktemp("outside")
    monkeypatch.setenv("HOME", str(outside))
    vault, s3 = live_server("vault:VaultServer", "hvac"), live_server("s3:S3Server", "boto3")
    for server in (vault, s3):
        server.start()
    sums.code(TASK)
    yield Shop(sums, vault, consul_server, s3, outside)
    for server in (vault, s3):
        server.close()


def wait_for(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is so, while a command runs."""
    until = time.monotonic() + LIMIT_S
    while not true():
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < until
        time.sleep(0.02)


def test_no_secret_shows_anywhere(shop: Shop) -> None:
    """A training with failures of every kind leaves no trace of a secret: not in what was said, kept or visible.

    A wrong key, a sealed Vault and a refused login end with 4, 5 and 4. A token that expires and keys that are
    replaced in mid-run change nothing: the run ends well. Looked at are all outputs with tracebacks, the project with
    its logs and records, every object in the bucket, every value in Consul, and environment and command line of every
    process.
    """
    watch = Watch(f"PYTEST_LEAK_TOKEN={os.environ['PYTEST_LEAK_TOKEN']}".encode())
    try:
        shop.tell_keys("wrong-canary-key")
        assert shop.train("1..2") == Exit.NOT_AUTHORISED
        shop.tell_keys()
        shop.vault.seal()
        assert shop.train("1..2") == Exit.UNREACHABLE
        shop.vault.unseal()
        shop.log_in("wrong-canary-login")
        assert shop.train("1..2") == Exit.NOT_AUTHORISED
        shop.log_in()

        hold = shop.sums.folder / "hold"
        hold.touch()
        arguments = ("train", "visit/m", "-P", "offset=1..2", "--date", "2024-11-22", "--env", "dev")
        run = shop.start(*arguments)
        wait_for(lambda: len(list(shop.sums.folder.glob("began-*"))) == 2, run)
        shop.s3.process.stop()
        shop.s3.rotate()
        shop.tell_keys()
        shop.s3.start()
        expired = time.monotonic() + 2 * TTL_S + 1.0
        wait_for(lambda: time.monotonic() > expired, run)
        hold.unlink()
        assert shop.end(run) == Exit.OK, shop.said[-1]

        assert shop.train("1..3") == Exit.OK, shop.said[-1]
        assert shop.rdv("deploy", "visit/m", "--env", "dev") == Exit.OK, shop.said[-1]
        for command in (
            ["config", "show", "-o", "json"], ["models", "show", "visit/m"], ["artifacts", "verify"], ["runs", "list"],
            ["doctor", "--quick"], ["registry", "rebuild"], ["status"], ["artifacts", "gc", "--older-than", "0"],
        ):  # fmt: skip
            shop.rdv(*command, "--env", "dev")
    finally:
        watch.close()
    assert any(b"rdv.cli" in one for one in watch.seen)
    assert any(b"rdv.backends.local.forkserver" in one for one in watch.seen)
    needles = {one: (one.encode(), base64.b64encode(one.encode())[:-4]) for one in shop.canaries}
    places = [*shop.everything(), *(("a process", one) for one in watch.seen)]
    for looked_at in ("command 0", str(shop.s3.file(shop.bucket, "train")), f"{shop.prefix}/models/"):
        assert any(name.startswith(looked_at) for name, _ in places), looked_at
    assert json.loads(shop.said[-8].strip())
    hits = [(name, one[:6]) for name, data in places for one, forms in needles.items() for f in forms if f in data]
    assert hits == []
