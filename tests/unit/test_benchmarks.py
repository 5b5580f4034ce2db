"""The benchmarks' own arithmetic: a wrong quantile or verdict would be worse than none."""

import importlib
import math
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import msgspec
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("figures", "load", "closed", "answers", "table", "run", "idle", "processes")


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The benchmarks' modules by name; they are programs, not a package."""
    sys.path.insert(0, str(FOLDER))
    try:
        modules: dict[str, ModuleType] = {name: importlib.import_module(name) for name in NAMES}
        yield SimpleNamespace(**modules)
    finally:
        sys.path.remove(str(FOLDER))
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.fixture
def floor(bench: SimpleNamespace) -> dict[str, object]:
    """The fields that every floor has."""
    return {"what": "w", "unit": "ms", "direction": "at_most", "date": "d", "command": "c", "machine": "m"}


def test_a_lost_request_is_an_infinite_latency(bench: SimpleNamespace) -> None:
    """Requests without an answer show in the tail instead of vanishing from it."""
    sent = [bench.load.Sent(at, 0.0, latency_ms=1.0, status=200) for at in range(98)] + [bench.load.Sent(98, 0.0)] * 2
    told = bench.figures.summary([one.waited_ms for one in sent])
    assert (told["p50_ms"], told["p99_ms"]) == (1.0, math.inf)


def test_nothing_measured_is_not_a_number(bench: SimpleNamespace) -> None:
    """Of no values there is no quantile and no share, and a limit is never held by them."""
    assert math.isnan(bench.figures.quantile([], 0.5))
    assert math.isnan(bench.figures.per_ten_thousand(0, 0))
    assert not bench.figures.holds(math.nan, 1.0, "at_most")
    assert not bench.figures.holds(math.nan, 1.0, "at_least")


@pytest.mark.parametrize(
    ("compare", "direction", "limit", "ours", "peer", "verdict"),
    [
        ("ratio", "at_least", 3.0, 30.0, 10.0, "pass"),
        ("ratio", "at_least", 3.0, 29.9, 10.0, "FAIL"),
        ("ratio", "at_most", 2.5, 1.0, 0.5, "pass"),
        ("ratio", "at_least", 3.0, 30.0, None, "FAIL"),
        ("ratio", "at_most", 2.5, 1.0, 0.0, "FAIL"),
        ("excess", "at_most", 100.0, 140.0, 40.0, "pass"),
        ("excess", "at_most", 100.0, 141.0, 40.0, "FAIL"),
        ("ours", "at_most", 0.0, 0.0, None, "pass"),
        ("ours", "at_most", 0.0, 1.0, 5.0, "FAIL"),
        ("ours", "at_most", 8.0, math.inf, None, "FAIL"),
        ("ours", "at_most", None, 9e9, None, "shown"),
    ],
)
def test_verdicts(
    bench: SimpleNamespace,
    floor: dict[str, object],
    compare: str,
    direction: str,
    limit: float | None,
    ours: float,
    peer: float | None,
    verdict: str,
) -> None:
    """A figure passes exactly when the compared value is within its limit; a peer that is missing fails it."""
    asked = bench.figures.Floor(**{**floor, "compare": compare, "direction": direction, "floor": limit})
    figure = bench.figures.Figure(figure="f", ours=ours, peer=peer)
    assert bench.figures.judge(figure, asked, short=False).verdict == verdict


def test_the_short_form_has_limits_of_its_own(bench: SimpleNamespace, floor: dict[str, object]) -> None:
    """A short limit counts in the short form only, and without one the floor holds for both."""
    asked = bench.figures.Floor(**floor, floor=1.0, short=2.0)
    figure = bench.figures.Figure(figure="f", ours=1.5)
    assert bench.figures.judge(figure, asked, short=True).verdict == "pass"
    assert bench.figures.judge(figure, asked, short=False).verdict == "FAIL"
    assert bench.figures.Floor(**floor, floor=1.0).limit(short=True) == 1.0


def test_every_floor_belongs_to_one_scenario(bench: SimpleNamespace) -> None:
    """floors.toml can be read, and its figures are exactly those that the scenarios promise, each once."""
    floors = bench.figures.read_floors(FOLDER / "floors.toml")
    groups = bench.run.SCENARIOS, bench.run.CLUSTER
    promised = [figure for group in groups for figures in group.values() for figure in figures]
    assert sorted(promised) == sorted(floors)
    for name, asked in floors.items():
        assert asked.floor is not None or asked.aim is not None or asked.compare == "ratio", name


def test_a_scenario_that_fails_fails_all_its_figures(
    bench: SimpleNamespace, floor: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a scenario did not deliver is a failed row with the reason, not a hole in the table."""

    def measure(short: bool) -> list[dict[str, object]]:
        raise RuntimeError("no such server")

    monkeypatch.setitem(sys.modules, "broken", SimpleNamespace(measure=measure))
    monkeypatch.setitem(bench.run.SCENARIOS, "broken", ("f",))
    rows = bench.run.run_scenario("broken", {"f": bench.figures.Floor(**floor, floor=1.0)}, short=True)
    assert [(row.verdict, row.ours) for row in rows] == [("FAIL", None)]
    assert "no such server" in bench.table.table(rows)
    assert b'"ours": null' in bench.table.document(rows, {})


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (math.nan, "-"), (math.inf, "never"), (0.0, "0"), (0.1234, "0.123"), (34567.8, "34,568"), (3, "3")],
)
def test_numbers_read_well(bench: SimpleNamespace, value: float | None, text: str) -> None:
    """A number in the table has no exponent and no digits that mean nothing."""
    assert bench.table.number(value) == text


def test_what_wrk_reports_is_read(bench: SimpleNamespace) -> None:
    """Counts and latencies come from the script's line; no line is an error."""
    line = 'wrk {"requests": 10, "seconds": 2.0, "bad_status": 1, "lost": 0, "p50_ms": 1, "p99_ms": 2.5, "worst_ms": 3}'
    assert bench.closed.read_report(f"Running\n{line}\n").per_s == 5.0
    with pytest.raises(ValueError, match="no report"):
        bench.closed.read_report("unable to connect")


def answered(bench: SimpleNamespace, at: int, **told: object) -> object:
    """Request number `at` with a 200 of these fields."""
    return bench.load.Sent(at, 0.0, 0.1, 1.0, 200, msgspec.json.encode(told))


def test_answers_are_held_against_predictions(bench: SimpleNamespace) -> None:
    """A run whose answers are right is counted by source; defaults are the default and nothing else."""
    expected = {("m", "v1"): [0.1, 0.2], ("m", "v2"): [0.3, 0.4]}
    sent = [
        answered(bench, 0, answer=0.1, source="tier 1", model="m", version="v1"),
        answered(bench, 3, answer=0.4, source="tier 1", model="m", version="v2"),
        answered(bench, 4, answer=0.5, source="default", model=None, version=None),
        bench.load.Sent(5, 0.0),
    ]
    tally = bench.answers.check(sent, expected, default=0.5)
    assert (tally.sent, tally.lost, tally.refused, tally.defaults) == (4, 1, 0, 1)
    assert tally.sources == {"tier 1": 2, "default": 1}


@pytest.mark.parametrize(
    "told",
    [
        {"answer": 0.2, "source": "tier 1", "model": "m", "version": "v1"},
        {"answer": 0.1, "source": "tier 1", "model": "m", "version": "v9"},
        {"answer": 0.1, "source": "default", "model": None, "version": None},
    ],
)
def test_a_wrong_answer_stops_the_run(bench: SimpleNamespace, told: dict[str, object]) -> None:
    """Another row's score, an unknown version and a wrong default are each found."""
    with pytest.raises(AssertionError):
        bench.answers.check([answered(bench, 0, **told)], {("m", "v1"): [0.1, 0.2]}, default=0.5)


def test_a_refused_request_is_counted_or_stops_the_run(bench: SimpleNamespace) -> None:
    """Where nothing may be refused a 503 is an error, elsewhere it is counted."""
    sent = [bench.load.Sent(0, 0.0, 0.1, 1.0, 503, b"{}")]
    with pytest.raises(AssertionError, match="503"):
        bench.answers.check(sent, {}, default=0.5)
    assert bench.answers.check(sent, {}, default=0.5, lossy=True).refused == 1


def test_the_idle_timer_says_how_late_it_was(bench: SimpleNamespace) -> None:
    """The watching process ends with the block and leaves a lateness that is not negative."""
    with bench.idle.IdleTimer() as timer:
        threading.Event().wait(0.05)
    assert timer.worst_ms >= timer.p999_ms >= 0.0


def test_children_are_found(bench: SimpleNamespace) -> None:
    """A process's descendants and its memory are read from the system."""
    with bench.idle.IdleTimer() as timer:
        child = timer._process.pid
        assert child in bench.processes.descendants(os.getpid())
        assert any("idle.py" in part for part in bench.processes.command_line(child))
        assert 1.0 < bench.processes.resident_mb(child) < 500.0


@pytest.mark.parametrize(
    ("value", "timer_ms", "short", "verdict"),
    [(9.0, 50.0, True, "noisy"), (9.0, 50.0, False, "FAIL"), (9.0, 2.0, True, "FAIL"), (7.0, 50.0, True, "pass")],
)
def test_only_an_unquiet_machine_excuses_a_short_miss(
    bench: SimpleNamespace, floor: dict[str, object], value: float, timer_ms: float, short: bool, verdict: str
) -> None:
    """A miss is called noisy only in the short form, and only when the idle timer was late in the same run."""
    asked = bench.figures.Floor(**floor, floor=8.0, noise_ms=8.0)
    seen = bench.figures.Figure(figure="f", ours=value, timer_ms=timer_ms)
    assert bench.figures.judge(seen, asked, short).verdict == verdict


@pytest.mark.parametrize(("values", "runs", "verdict"), [([9, 7], 2, "pass"), ([9, 9, 9], 3, "FAIL"), ([7], 1, "pass")])
def test_a_short_miss_is_measured_again_until_it_holds_or_never_does(
    bench: SimpleNamespace,
    floor: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    values: list[int],
    runs: int,
    verdict: str,
) -> None:
    """The short form repeats a scenario with a miss up to its number of attempts; one that always misses fails."""
    asked = bench.figures.Floor(**floor, floor=8.0)
    told = iter(values)

    def run_scenario(name: str, floors: dict[str, object], short: bool) -> list[object]:
        return [bench.figures.judge(bench.figures.Figure(figure="f", ours=next(told)), asked, short)]

    monkeypatch.setattr(bench.run, "run_scenario", run_scenario)
    rows = bench.run.run_until_it_holds("s", {}, 3)
    assert [row.verdict for row in rows] == [verdict]
    assert len(list(told)) == len(values) - runs
