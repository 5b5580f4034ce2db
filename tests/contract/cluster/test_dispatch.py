"""The cluster port's contract on dispatching, waiting, joining by token, listing and logs."""

import threading
from typing import Any

import pytest

from rdv.backends.ports import Status
from rdv.errors import NotFound, UsageError

HANG_S = 180.0


def test_a_full_cluster_queues(bench: Any) -> None:
    """No more steps run at a time than may; dispatch does not block; the rest run, where promised in its order."""
    cluster = bench.cluster(1)
    gate = cluster.dispatch(bench.gated())
    bench.started()
    order = bench.folder / "order"
    steps = [cluster.dispatch(bench.spec("count", {"file": str(order), "line": str(at)})) for at in range(5)]
    wanted = [Status.RUNNING] + [Status.QUEUED] * 5
    bench.until(lambda: [cluster.wait(step, 0.0).status for step in [gate, *steps]] == wanted)
    bench.open()
    assert {cluster.wait(step).status for step in [gate, *steps]} == {Status.SUCCEEDED}
    ran = order.read_text().split()
    assert (ran if cluster.ordered else sorted(ran)) == ["0", "1", "2", "3", "4"]


def test_as_many_run_as_may(bench: Any) -> None:
    """Two steps of a cluster for two run at the same time, the third waits for a place."""
    cluster = bench.cluster(2)
    for _ in range(3):
        cluster.dispatch(bench.gated())
    assert len(bench.started("a", 2)) == 2
    wanted = ["queued", "running", "running"]
    bench.until(lambda: sorted(one.status for one in cluster.steps("r1").values()) == wanted)
    assert len(bench.started("a", 2)) == 2


def test_many_threads_may_wait(bench: Any) -> None:
    """A crowd of threads waits for as many steps at once, and each gets its own outcome."""
    cluster = bench.cluster()
    found: dict[int, int | None] = {}

    def run(code: int) -> None:
        found[code] = bench.run(cluster, bench.spec("leave", {"code": code}, name=f"s{code}")).exit_code

    threads = [threading.Thread(target=run, args=(code,)) for code in range(bench.many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * HANG_S)
    assert found == {code: code for code in range(bench.many)}


def test_several_threads_wait_for_one_step(bench: Any) -> None:
    """Everybody who waits for a step is told its end, through whichever dispatcher."""
    cluster, other = bench.cluster(), bench.cluster()
    step = cluster.dispatch(bench.gated())
    found = []
    threads = [threading.Thread(target=lambda one=one: found.append(one.wait(step))) for one in [cluster, other] * 4]
    for thread in threads:
        thread.start()
    bench.started()
    bench.open()
    for thread in threads:
        thread.join(HANG_S)
    assert [outcome.status for outcome in found] == [Status.SUCCEEDED] * 8


def test_a_token_runs_once(bench: Any) -> None:
    """While a step with a token is unfinished, dispatching the token joins it: one process, one outcome for both."""
    cluster, other = bench.cluster(), bench.cluster()
    spec = bench.gated(token="model-7")
    one = cluster.dispatch(spec)
    bench.started()
    two, again = other.dispatch(spec), cluster.dispatch(spec)
    bench.until(lambda: other.wait(two, 0.0).status is Status.RUNNING)
    bench.open()
    first, second = cluster.wait(one), other.wait(two)
    assert (first.status, first.joined) == (Status.SUCCEEDED, False)
    assert (second.status, second.joined, second.wall_s) == (Status.SUCCEEDED, True, first.wall_s)
    assert cluster.wait(again).status is Status.SUCCEEDED
    assert len(bench.started()) == 1


def test_a_failure_is_joined_too(bench: Any) -> None:
    """Whoever joined a step that is ended as cancelled is told so."""
    cluster, other = bench.cluster(), bench.cluster()
    spec = bench.gated(token="model-7")
    one = cluster.dispatch(spec)
    two = other.dispatch(spec)
    cluster.cancel(one, "enough")
    outcome = other.wait(two)
    assert (outcome.status, outcome.joined, outcome.reason) == (Status.CANCELLED, True, "enough")


def test_a_token_of_a_queued_step_is_joined(bench: Any) -> None:
    """A token is held from the dispatch on, not only while its step runs."""
    cluster, other = bench.cluster(1), bench.cluster(1)
    cluster.dispatch(bench.gated())
    bench.started()
    counter = bench.folder / "count"
    spec = bench.spec("count", {"file": str(counter)}, token="model-7")
    one, two = cluster.dispatch(spec), other.dispatch(spec)
    assert other.wait(two, 0.0).status is Status.QUEUED
    bench.open()
    assert (cluster.wait(one).joined, other.wait(two).joined) == (False, True)
    assert counter.read_text().split() == ["x"]


def test_leaving_a_joined_step_does_not_end_it(bench: Any) -> None:
    """Cancelling a joined step ends the waiting, not the step, which is its owner's."""
    cluster, other = bench.cluster(), bench.cluster()
    spec = bench.gated(token="model-7")
    one = cluster.dispatch(spec)
    two = other.dispatch(spec)
    other.cancel(two, "impatient")
    assert other.wait(two).status is Status.CANCELLED
    bench.open()
    assert cluster.wait(one).status is Status.SUCCEEDED


def test_a_token_is_free_after_the_end(bench: Any) -> None:
    """A token whose step has ended, however, runs again when it is dispatched again, by anybody."""
    cluster, other = bench.cluster(), bench.cluster()
    counter = bench.folder / "count"
    for one in (cluster, cluster, other):
        spec = bench.spec("count", {"file": str(counter)}, token="model-7")
        assert bench.run(one, spec).joined is False
    assert counter.read_text().split() == ["x"] * 3


def test_races_for_a_token_run_it_once(bench: Any) -> None:
    """Dispatchers that race for a token start it once; the others are joined."""
    clusters = [bench.cluster() for _ in range(8)]
    spec = bench.gated(token="model-7")
    found: list[str] = []
    threads = [threading.Thread(target=lambda one=one: found.append(one.dispatch(spec))) for one in clusters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    bench.started()
    bench.open()
    outcomes = [clusters[0].wait(step) for step in found]
    assert sorted(outcome.joined for outcome in outcomes) == [False] + [True] * 7
    assert len(bench.started()) == 1


def test_a_run_lists_its_steps(bench: Any) -> None:
    """steps() gives a run's steps in order of dispatch with how they stand, to every dispatcher; unknown runs none."""
    cluster, other = bench.cluster(), bench.cluster()
    specs = [bench.spec("leave", {"code": code}) for code in (0, 3, 0)]
    steps = [bench.run(cluster, spec).step for spec in specs]
    cluster.wait(cluster.dispatch(bench.spec("say", {"text": "x"}, run="r2")))
    for one in (cluster, other):
        found = one.steps("r1")
        assert list(found) == steps
        assert [outcome.exit_code for outcome in found.values()] == [0, 3, 0]
        assert len(one.steps("r2")) == 1
        assert one.steps("r3") == {}


def test_ids_are_path_safe(bench: Any) -> None:
    """Whatever a step is called, its id is unique and fit for a path."""
    cluster = bench.cluster()
    steps = [cluster.dispatch(bench.spec("say", {"text": ""}, name=name)) for name in ("a/../b", "a/../b x", "\u00e9")]
    assert len(set(steps)) == 3
    assert all(step.replace("-", "").replace(".", "").replace("_", "").isalnum() for step in steps)
    assert all(step.isascii() for step in steps)
    assert {cluster.wait(step).status for step in steps} == {Status.SUCCEEDED}


def test_logs_follow_the_step(bench: Any) -> None:
    """Following a log gives every line as it is written, and ends with the step; from another dispatcher as well."""
    cluster, other = bench.cluster(), bench.cluster()
    step = cluster.dispatch(bench.spec("talk", {"folder": str(bench.folder), "lines": 4}))
    for one in (cluster, other):
        text, said = "", 0
        for chunk in one.logs(step, follow=True):
            text += chunk.decode()
            while text.count("\n") > said:
                said += 1
                bench.folder.joinpath(str(said)).touch()
            assert said <= 4
        assert text == "".join(f"line {at}\n" for at in range(4))


@pytest.fixture(autouse=True)
def _first_line(bench: Any) -> None:
    bench.folder.joinpath("0").touch()


def test_logs_of_a_joined_step(bench: Any) -> None:
    """The log of a joined step is the one of the step that it joined."""
    cluster, other = bench.cluster(), bench.cluster()
    spec = bench.spec("talk", {"folder": str(bench.folder), "lines": 2}, token="t")
    one = cluster.dispatch(spec)
    two = other.dispatch(spec)
    bench.folder.joinpath("1").touch()
    assert b"".join(other.logs(two, follow=True)) == b"line 0\nline 1\n"
    assert cluster.wait(one).status is Status.SUCCEEDED


@pytest.mark.parametrize("step", ["r1.nothing-0123456789abc", "", "..", "../../x.y", "r1", "r1.a/b", "x" * 300])
def test_an_unknown_step_is_not_found(bench: Any, step: str) -> None:
    """Waiting for, cancelling and reading the log of a step that was never dispatched says that there is none."""
    cluster = bench.cluster()
    with pytest.raises(NotFound, match="there is no step"):
        cluster.wait(step)
    with pytest.raises(NotFound, match="there is no step"):
        cluster.cancel(step, "x")
    with pytest.raises(NotFound, match="there is no step"):
        next(iter(cluster.logs(step)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payload": {"text": "x" * 16384}}, "16384"),
        ({"payload": {"thing": object()}}, "not JSON"),
        ({"payload": {"number": float("nan")}}, "not JSON"),
        ({"entry": "entries"}, "module:function"),
        ({"entry": "entries:say; import os"}, "module:function"),
        ({"run": "../r1"}, "no name of a run"),
        ({"run": ""}, "no name of a run"),
        ({"wall_s": 0.0}, "must be positive"),
        ({"memory_mb": 0}, "must be positive"),
    ],
)
def test_a_senseless_step_is_refused(bench: Any, change: dict[str, Any], reason: str) -> None:
    """A payload that is too large or no JSON, and a name, entry or limit that makes no sense, is a usage error."""
    cluster = bench.cluster()
    with pytest.raises(UsageError, match=reason):
        cluster.dispatch(bench.spec("say", **{"payload": {}, **change}))
    assert cluster.steps("r1") == {}


def test_the_largest_payload_arrives(bench: Any) -> None:
    """A payload of just the permitted size reaches its step whole."""
    cluster = bench.cluster()
    text = "x" * (16384 - len('{"text":""}'))
    step = cluster.dispatch(bench.spec("say", {"text": text}))
    assert cluster.wait(step).status is Status.SUCCEEDED
    assert bench.log(cluster, step).count("x") == 2 * len(text)


def test_closing(bench: Any) -> None:
    """Closing a dispatcher cancels what it has queued and running, also for others; closing twice is fine.

    Where steps outlive their dispatcher they go on instead, and others are told their ends.
    """
    cluster, other = bench.cluster(1), bench.cluster()
    steps = [cluster.dispatch(bench.gated()) for _ in range(2)]
    (pid,) = bench.started()
    cluster.close()
    cluster.close()
    assert bench.alive(pid) is cluster.outlived
    bench.open()
    wanted = Status.SUCCEEDED if cluster.outlived else Status.CANCELLED
    assert [other.wait(step, HANG_S).status for step in steps] == [wanted] * 2


def test_a_new_dispatcher_knows_the_old_ones_steps(bench: Any) -> None:
    """After a restart the dispatcher still has every step of the run, its outcome and its log."""
    cluster = bench.cluster()
    outcome = bench.run(cluster, bench.spec("say", {"text": "before"}))
    cluster.close()
    new = bench.cluster()
    assert new.wait(outcome.step) == outcome
    assert new.steps("r1") == {outcome.step: outcome}
    assert bench.log(new, outcome.step).startswith("out before")
    new.cancel(outcome.step, "too late")
    assert new.wait(outcome.step) == outcome
