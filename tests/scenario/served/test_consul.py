"""Served with the registry in Consul and the models on S3: deploys arrive, and losing either loses no answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rdv.cli import rebuilding, rolling
from rdv.clock import SystemClock
from rdv.errors import NotFound, Unreachable
from rdv.records import RolloutState
from rdv.releases import pointer, rollout
from rdv.serving.worker.shelf import Shelf

pytestmark = pytest.mark.live
# longer than a watch lasts, so that every worker has looked at least once
LOOKS_S = 7.0


@pytest.fixture
def consul(live_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Consul that the test may break, and nothing of the caller's that its clients would read."""
    for name in [name for name in os.environ if name.startswith(("CONSUL_", "AWS_"))]:
        monkeypatch.delenv(name)
    server = live_server("consul:ConsulServer", "consul")
    server.start()
    yield server
    server.close()


@pytest.fixture
def site(
    make_site: Callable[..., Any],
    settings_text: str,
    offsets: dict[tuple[str, str], float],
    consul: Any,
    s3_server: Any,
    tmp_path: Any,
) -> Any:
    """A served project whose environment `dev` has its registry in Consul and its artifacts on S3."""
    token = tmp_path / "token"
    token.write_text(consul.token)
    place = f"s3:{s3_server.new_bucket()}?endpoint={s3_server.endpoint}&region=us-east-1&secret=s3"
    more = (
        f'[environments.dev]\nartifacts = "{place}"\n'
        f'registry = "consul:rdv/dev?address={consul.address}&token_file={token}"\n'
    )
    made = make_site(settings_text + more, env="dev")
    made.project.state.mkdir(parents=True, exist_ok=True)
    secrets = made.project.state / "secrets.toml"
    secrets.touch(0o600)
    secrets.write_text(f'"s3/access_key" = "{s3_server.access_key}"\n"s3/secret_key" = "{s3_server.secret_key}"\n')
    for (model, version), offset in offsets.items():
        made.publish(model, version, offset)
    for model in (made.CHAMPION, made.SECOND):
        pointer.deploy(made.registry, model, "v1", "test", SystemClock())
    made.start()
    return made


def served(site: Any, seen: Any, version: str) -> None:
    """Wait until the champion's answers are of a version."""
    began = time.monotonic()

    def answers() -> bool:
        after = [answer for _, answer, moment in list(seen.answers.values()) if moment > began]
        return bool(after) and (after[-1].get("model"), after[-1].get("version")) == (site.CHAMPION, version)

    site.until(answers, f"{version} answers")


def test_consul_comes_and_goes(site: Any, consul: Any) -> None:
    """A deploy through Consul is served; with Consul frozen, stopped and restarted empty nothing stops.

    A worker that is killed meanwhile comes back with what it served last; a missing key unloads nothing; after
    `rdv registry rebuild` the next release is followed as ever. No request is lost and no answer is wrong.
    """

    def release(version: str) -> None:
        pointer.deploy(site.registry, site.CHAMPION, version, "test", SystemClock())

    with site.load() as seen:
        served(site, seen, "v1")
        release("v2")
        served(site, seen, "v2")

        consul.process.freeze()
        site.enough(seen, 100)
        consul.process.thaw()
        release("v1")
        served(site, seen, "v1")

        shelf = Shelf(site.project.state / "serving" / site.CHAMPION)
        site.until(lambda: (good := shelf.good()) and good.version == "v1", "v1 is kept on disk")
        consul.process.stop()
        site.enough(seen, 100)
        pid = site.pid("worker", site.CHAMPION)
        os.kill(pid, signal.SIGKILL)
        site.replaced("worker", site.CHAMPION, pid)
        served(site, seen, "v1")

        consul.wipe()
        consul.start()
        looked = time.monotonic() + LOOKS_S
        site.until(lambda: time.monotonic() > looked, "every worker has looked")
        served(site, seen, "v1")
        assert site.registry.list("models/") == {}

        with pytest.raises(NotFound, match="v2"):
            release("v2")
        rebuilding.carry_out(site.project, rebuilding.plan(site.project))
        assert [row.version for row in pointer.history(site.registry, site.CHAMPION)] == ["v1", "v2", "v1"]
        release("v2")
        served(site, seen, "v2")
    site.settled_ledger()
    found = site.match(seen)
    assert found.accepted > 300
    assert not any((found.not_kept, found.not_told, found.kept_twice, found.told_twice, found.told_only))
    site.check_answers(seen)
    assert (seen.unknown, seen.refused) == ([], [])


def test_a_rollout_goes_on_without_consul_and_ends_when_it_is_back(site: Any, consul: Any) -> None:
    """With Consul stopped the subjects of a canary stay with it, also when its process is killed meanwhile.

    A promotion or rollback cannot reach it and says so; back again, the same command ends the rollout, and nothing is
    lost.
    """

    def canaries() -> list[int]:
        return [one.pid for one in site.records() if one.role == "worker" and one.details.get("canary")]

    def by_canary(seen: Any, since: float) -> int:
        return sum(answer["canary"] for _, answer, at in list(seen.answers.values()) if at > since)

    told = rolling.begin(site.project, site.CHAMPION, "v2", 1, 0.5, 60.0)
    assert (told["state"], told["gateways"]) == ("canary", 1)
    with site.load() as seen:
        site.until(lambda: by_canary(seen, 0.0) > 20, "the canary answers")
        consul.process.stop()
        stopped = time.monotonic()
        site.until(lambda: by_canary(seen, stopped) > 20, "the canary answers without Consul")
        (pid,) = canaries()
        os.kill(pid, signal.SIGKILL)
        site.until(lambda: canaries() not in ([], [pid]), "the canary is back")
        back = time.monotonic()
        site.until(lambda: by_canary(seen, back) > 20, "the canary that is back answers")
        with pytest.raises(Unreachable):
            rolling.promote(site.project, site.CHAMPION, 30.0)
        consul.start()
        row = rollout.current(site.registry, site.CHAMPION)
        assert row is not None
        assert row.state is RolloutState.CANARY
        told = rolling.end(site.project, site.CHAMPION, 60.0)
        assert told is not None
        assert told["state"] == "rolled_back"
        over = time.monotonic()
        site.enough(seen, 100)
        assert not [answer for answer in seen.to_requests_after(over) if answer["canary"]]
    site.check_answers(seen)
    assert not seen.unknown
    assert not seen.refused
