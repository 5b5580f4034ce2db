"""What becomes of a training whose servers fail under it: the right exit code, nothing lost, and a rerun converges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.errors import Exit

pytestmark = pytest.mark.live
MODEL = "visit/m"
Own = Callable[[str, str], Any]


@pytest.fixture
def own(live_server: Callable[..., Any]) -> Iterator[Own]:
    """own("consul:ConsulServer", "consul"): a server that the test may break, started, closed with the test."""
    made: list[Any] = []

    def make(path: str, client: str) -> Any:
        made.append(live_server(path, client))
        made[-1].start()
        return made[-1]

    yield make
    for server in reversed(made):
        server.close()


def test_nomad_goes_away_while_steps_run(
    own: Own, consul_server: Any, s3_server: Any, towns: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Server, then agent, are killed and come back while steps end: one run, no step twice, exit code 0."""
    nomad = own("nomad:NomadServers", "nomad")
    town = towns.make_town(nomad, consul_server, s3_server, tmp_path, monkeypatch)
    town.mark("hold")
    process = town.start("train", MODEL, "-P", "offset=1.0,2.0", "-o", "json")
    town.until(lambda: len(town.trained()) == 2)
    nomad.server.kill()
    town.mark("go")
    nomad.start_server()
    assert town.ended(process)["state"] == "done"
    (town.folder / "go").unlink()
    process = town.start("train", MODEL, "-P", "offset=3.0", "-o", "json")
    town.until(lambda: len(town.trained()) == 3)
    nomad.client.kill()
    town.mark("go")
    nomad.start_client()
    assert town.ended(process)["state"] == "done"
    assert town.trained() == [1.0, 2.0, 3.0]


def test_consul_goes_away_while_steps_run(
    own: Own, nomad_servers: Any, s3_server: Any, towns: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen when the result is due: exit code 5, and the rerun trains nothing; killed and come back empty: 0."""
    consul = own("consul:ConsulServer", "consul")
    town = towns.make_town(nomad_servers, consul, s3_server, tmp_path, monkeypatch)
    town.mark("hold")

    def train(offset: float, breaks: Callable[[], None], code: Exit) -> Any:
        (town.folder / "go").unlink(missing_ok=True)
        process = town.start("train", MODEL, "-P", f"offset={offset}", "-o", "json")
        town.until(lambda: offset in town.trained())
        breaks()
        town.mark("go")
        return town.ended(process, code)

    train(2.0, lambda: consul.process.freeze(), Exit.UNREACHABLE)
    consul.process.thaw()
    assert town.rdv("train", MODEL, "-P", "offset=2.0", "-o", "json")["trained"] == 0

    def comes_back_empty() -> None:
        consul.process.kill()
        consul.wipe()
        consul.start()

    ended = train(1.0, comes_back_empty, Exit.OK)
    assert town.trained() == [1.0, 2.0]
    assert f"models/{MODEL}/versions/{ended['version']}" in town.project_registry().list("models/")
    states = [one["state"] for one in town.rdv("runs", "list", "-o", "json")]
    assert states == ["done", "done", "failed"]


def test_vault_is_sealed_while_a_step_runs(
    own: Own, nomad_servers: Any, consul_server: Any, s3_server: Any, towns: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The step that runs ends well, the next one cannot have the store's keys: exit code 5; a rerun is done later."""
    vault = own("vault:VaultServer", "hvac")
    vault.write_secret("s3", {"access_key": s3_server.access_key, "secret_key": s3_server.secret_key})
    (tmp_path / "vault.token").write_text(vault.root_token)
    place = f"vault:secret?address={vault.address}&token_file={tmp_path}/vault.token"
    town = towns.make_town(nomad_servers, consul_server, s3_server, tmp_path, monkeypatch, place)
    town.mark("hold")
    process = town.start("train", MODEL, "-P", "offset=1.0", "-o", "json")
    town.until(town.trained)
    vault.seal()
    town.mark("go")
    assert "sealed" in town.ended(process, Exit.UNREACHABLE)["error"]
    vault.unseal()
    ended = town.rdv("train", MODEL, "-P", "offset=1.0", "-o", "json")
    assert (ended["state"], town.trained()) == ("done", [1.0])
