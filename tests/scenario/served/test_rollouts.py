"""Rollouts with real processes: canaries beside the workers that serve, under load, and whatever happens to them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from killed import before_write

from rdv.clock import SystemClock
from rdv.errors import Exit
from rdv.experiments.assignment import Assignment
from rdv.records import RolloutState
from rdv.releases import rollout
from rdv.serving.status import read_status
from rdv.settings import load_project

ON_BOTH = pytest.mark.parametrize("bus", ["frames", "grpc"])


def subjected(settings_text: str) -> str:
    """The settings, with the request's `a` as its subject."""
    return settings_text.replace('answer = "number"', 'answer = "number"\nsubject = "a"')


@pytest.fixture
def bus() -> str:
    """The bus that a site's roles talk over."""
    return "frames"


@pytest.fixture
def shop(
    make_site: Callable[..., Any], settings_text: str, offsets: dict[tuple[str, str], float], bus: str,
    on_bus: Callable[[Any, str], Any],
) -> Any:  # fmt: skip
    """A served project whose champion has two versions, the first one served."""
    site = on_bus(make_site(subjected(settings_text)), bus)
    for (model, version), offset in offsets.items():
        site.publish(model, version, offset)
    for model in (site.CHAMPION, site.SECOND):
        site.deploy(model, "v1")
    site.start()
    return site


def rdv(site: Any, *arguments: str, code: int = 0) -> str:
    """Type a command in the site's folder; what it said."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "rdv.cli", *arguments], cwd=site.folder, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout + done.stderr


def canaries(site: Any) -> list[int]:
    return [one.pid for one in site.records() if one.role == "worker" and one.details.get("canary")]


def is_assigned(number: int, version: str, share: float) -> bool:
    return Assignment(f"total/champion@{version}").within(str(number), share)


def split(site: Any, seen: Any) -> tuple[list[Any], list[Any]]:
    """Answers by a canary, and all others, in the order of their arrival."""
    rows = sorted(seen.answers.values(), key=lambda row: row[2])
    return [row for row in rows if row[1]["canary"]], [row for row in rows if not row[1]["canary"]]


@ON_BOTH
def test_a_canary_answers_its_share_and_is_promoted_without_a_lost_request(shop: Any) -> None:
    """The subjects of the share, and nobody else, get the new version; promoted, everybody does; nothing is lost."""
    with shop.load(4, 0.003) as seen:
        shop.enough(seen)
        told = rdv(shop, "deploy", shop.CHAMPION, "--canary", "2", "--share", "0.3", "--version", "v2")
        assert "canary" in told
        shop.enough(seen, 400)
        rdv(shop, "deploy", shop.CHAMPION, "--version", "v1", code=Exit.REFUSED)
        assert "canary" in rdv(shop, "rollouts", shop.CHAMPION)
        assert "all others" in rdv(shop, "status")
        rdv(shop, "promote", shop.CHAMPION)
        promoted = time.monotonic()
        shop.enough(seen, 100)
    shop.check_answers(seen)
    by_canary, _ = split(shop, seen)
    assert len(by_canary) > 50
    assert all(answer["version"] == "v2" and is_assigned(number, "v2", 0.3) for number, answer, _ in by_canary)
    after = seen.to_requests_after(promoted)
    assert {answer["version"] for answer in after if answer["model"] == shop.CHAMPION} == {"v2"}
    assert not seen.unknown
    assert not seen.refused
    ledger = shop.settled_ledger()["goals"][shop.GOAL]["ledger"]
    assert ledger["balances"]
    assert ledger["accepted"] == len(seen.answers)
    found = shop.match(seen)
    assert (found.not_kept, found.not_told, found.told_twice) == ((), (), ())
    shop.until(lambda: not canaries(shop), "the canaries have ended")
    assert rollout.history(shop.registry, shop.CHAMPION)[0].state is RolloutState.PROMOTED
    assert shop.stop() == 0


@ON_BOTH
def test_a_rollback_leaves_nobody_with_the_canary(shop: Any) -> None:
    """Once the command returns no request that begins is answered by a canary; the canaries end; the version stays."""
    rdv(shop, "deploy", shop.CHAMPION, "--canary", "1", "--share", "0.5", "--version", "v2")
    with shop.load(4, 0.003) as seen:
        shop.enough(seen, 200)
        assert "rolled_back" in rdv(shop, "rollback", shop.CHAMPION)
        over = time.monotonic()
        shop.enough(seen, 200)
    shop.check_answers(seen)
    by_canary, others = split(shop, seen)
    assert by_canary
    assert not [answer for answer in seen.to_requests_after(over) if answer["canary"]]
    assert {answer["version"] for _, answer, _ in others if answer["model"] == shop.CHAMPION} == {"v1"}
    shop.until(lambda: not canaries(shop), "the canaries have ended")
    assert not seen.unknown
    assert not seen.refused
    view = shop.settled_ledger()
    assert view["goals"][shop.GOAL]["ledger"]["balances"]
    counted = view["goals"][shop.GOAL]["canaries"]["total/champion@canary"]
    assert counted["scored"] + sum(counted["lost"].values()) + counted["missing"] > 0
    assert view["goals"][shop.GOAL]["rollouts"][shop.CHAMPION]["arms"]["canary"]["by_canary"] == len(by_canary)
    # what is over is over: the next one is about the last release, and there was none before
    rdv(shop, "rollback", shop.CHAMPION, code=Exit.REFUSED)
    assert shop.stop() == 0


def test_a_canary_that_cannot_serve_its_version_answers_nobody(shop: Any) -> None:
    """A version that fails its probe ends the rollout before it began, with the reason; the model serves on."""
    shop.publish(shop.CHAMPION, "bad", 5.0, probe_scores=((0.0,),))
    with shop.load(2) as seen:
        shop.enough(seen)
        told = rdv(shop, "deploy", shop.CHAMPION, "--canary", "1", "--version", "bad", code=Exit.REFUSED)
        assert "refused by its probe" in told
        shop.enough(seen)
    shop.check_answers(seen)
    assert not split(shop, seen)[0]
    row = rollout.current(shop.registry, shop.CHAMPION)
    assert row is not None
    assert row.state is RolloutState.ROLLED_BACK
    assert "refused by its probe" in row.reason
    shop.until(lambda: not canaries(shop), "the canaries have ended")
    assert shop.stop() == 0


def test_a_canary_that_is_killed_costs_its_subjects_nothing(shop: Any) -> None:
    """The subjects of a canary that is gone are answered by the model's own worker at once, until it is back."""
    rdv(shop, "deploy", shop.CHAMPION, "--canary", "1", "--share", "1", "--version", "v2")
    with shop.load(4) as seen:
        shop.enough(seen, 100)
        (pid,) = canaries(shop)
        os.kill(pid, signal.SIGKILL)
        shop.until(lambda: canaries(shop) not in ([], [pid]), "the canary is started again")
        rdv(shop, "deploy", shop.CHAMPION, "--canary", "1", "--version", "v2")
        shop.enough(seen, 100)
    shop.check_answers(seen)
    assert not seen.unknown
    assert not seen.refused
    answered = [answer for _, answer, _ in seen.answers.values() if answer["model"] == shop.CHAMPION]
    assert {answer["version"] for answer in answered} == {"v1", "v2"}
    assert len(answered) > len(seen.answers) / 2
    assert shop.stop() == 0


def test_a_canary_that_stands_still_is_waited_for_within_its_patience(shop: Any) -> None:
    """With a stopped canary its subjects wait for half the budget, then have the model's own score, not the default."""
    rdv(shop, "deploy", shop.CHAMPION, "--canary", "1", "--share", "1", "--version", "v2")
    status = read_status(shop.project)
    assert status.supervisor is not None
    os.kill(status.supervisor.pid, signal.SIGSTOP)  # so that it is not replaced
    (pid,) = canaries(shop)
    os.kill(pid, signal.SIGSTOP)
    try:
        with shop.load(1) as seen:
            shop.enough(seen, 20)
    finally:
        os.kill(pid, signal.SIGCONT)
        os.kill(status.supervisor.pid, signal.SIGCONT)
    shop.check_answers(seen)
    assert not split(shop, seen)[0]
    answered = [answer for _, answer, _ in seen.answers.values() if answer["model"] == shop.CHAMPION]
    assert len(answered) > len(seen.answers) / 2
    assert min(answer["elapsed_ms"] for answer in answered) >= 40
    assert shop.stop() == 0


def test_a_canary_that_never_becomes_ready_holds_the_rollout(shop: Any) -> None:
    """Nobody is assigned to canaries that were not seen: the command times out, and the same one goes on."""
    status = read_status(shop.project)
    assert status.supervisor is not None
    os.kill(status.supervisor.pid, signal.SIGSTOP)  # nobody starts the canary
    ask = ["deploy", shop.CHAMPION, "--canary", "1", "--share", "1", "--version", "v2", "--timeout"]
    assert "sees 0 canaries, not 1" in rdv(shop, *ask, "1", code=Exit.TIMED_OUT)
    row = rollout.current(shop.registry, shop.CHAMPION)
    assert row is not None
    assert row.state is RolloutState.PLANNED
    assert "nothing is known" in rdv(shop, "promote", shop.CHAMPION, code=Exit.REFUSED)
    os.kill(status.supervisor.pid, signal.SIGCONT)
    rdv(shop, *ask, "60")
    row = rollout.current(shop.registry, shop.CHAMPION)
    assert row is not None
    assert row.state is RolloutState.CANARY
    assert shop.stop() == 0


def test_with_nobody_serving_a_rollout_waits_for_its_processes(site: Any) -> None:
    """Exit code 5 and a planned row; a rollback of it needs nobody; another deployer is told who was first."""
    ask = ["deploy", site.CHAMPION, "--canary", "1", "--version"]
    assert "rdv serve" in rdv(site, *ask, "v2", code=Exit.UNREACHABLE)
    site.publish(site.CHAMPION, "v3", 4e6)
    assert "begun by" in rdv(site, *ask, "v3", code=Exit.LOST_RACE)
    assert "rolled_back" in rdv(site, "rollback", site.CHAMPION)
    assert "rdv serve" in rdv(site, *ask, "v3", code=Exit.UNREACHABLE)
    rows = rollout.history(site.registry, site.CHAMPION)
    assert [(row.version, row.state.value) for row in rows] == [("v2", "rolled_back"), ("v3", "planned")]


def killed(site: Any, at: int, *words: str) -> int:
    """Type a command that is killed before its so-manieth write to the registry; its return code."""
    return before_write("rdv.backends.registry_sqlite:SqliteRegistry", at, site.folder, *words).returncode


def test_a_command_that_was_killed_in_any_state_is_gone_on_with(shop: Any) -> None:
    """Killed before each of its writes, a canary, its promotion and its end are finished by the same command again."""
    ask = ["deploy", shop.CHAMPION, "--canary", "1", "--share", "1", "--version"]
    with shop.load(2) as seen:
        for at in (1, 2):
            assert killed(shop, at, *ask, "v2") == -signal.SIGKILL
        rdv(shop, *ask, "v2")
        shop.enough(seen)
        for _ in range(8):
            code = killed(shop, 2, "promote", shop.CHAMPION)
            if code != -signal.SIGKILL:
                break
        rdv(shop, "promote", shop.CHAMPION, code=code or Exit.USAGE)
        assert [row.state.value for row in rollout.history(shop.registry, shop.CHAMPION)] == ["promoted"]
        rdv(shop, *ask, "v1")
        assert killed(shop, 2, "rollback", shop.CHAMPION) == -signal.SIGKILL
        assert "rolled_back" in rdv(shop, "rollback", shop.CHAMPION)
        assert "v1" in rdv(shop, "rollback", shop.CHAMPION)  # of the release
        shop.enough(seen)
    shop.check_answers(seen)
    assert not seen.unknown
    assert not seen.refused
    assert shop.stop() == 0


def test_a_project_on_the_same_registry_sees_the_same_rollouts(shop: Any) -> None:
    """Of two deployers one has the rollout; the other, without a version of its own, goes on with it."""
    project = load_project(shop.folder, "local", environ={})
    row = rollout.start(shop.registry, shop.CHAMPION, "v2", "ann", SystemClock(), 1, 0.2)
    assert project.config == shop.project.config
    assert "20.00 %" in rdv(shop, "deploy", shop.CHAMPION, "--canary", "1")
    now = rollout.current(shop.registry, shop.CHAMPION)
    assert now is not None
    assert (now.number, now.by, now.state) == (row.number, "ann", RolloutState.CANARY)
    assert shop.stop() == 0
