"""What a budget says and what a run's figures are: a wrong quantile would release a slow service."""

import math
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.cli import junit
from rdv.cli.load.page import page
from rdv.cli.load.run import Target, verdict
from rdv.cli.load.telling import junit_document, record
from rdv.errors import RdvError, Refused, Unreachable, UsageError
from rdv.serving.load.budget import check_rate, parse_budget, parse_duration, quantile_of
from rdv.serving.load.client import Sent, whole_answer, whole_chunks
from rdv.serving.load.figures import ANSWERED, DEFAULT, DEGRADED, Fates, Figures, fate, figures, quantile

TARGET = Target("churn", ("http://127.0.0.1:1",), ())
GOOD = b'{"answer":0.5,"source":"tier 1","degraded":false}'


def answered(at: int, ms: float, late_ms: float = 0.0, **changes: object) -> Sent:
    """Request number `at`, a hundredth of a second after the one before, answered after so long."""
    fields: dict[str, object] = {"status": 200, "body": GOOD, **changes}
    return Sent(at, at / 100, late_ms, ms, late_ms=late_ms, **fields)  # type: ignore[arg-type]


def run_of(sent: list[Sent], budget: str = "") -> Figures:
    """The figures of a run at 100 a second."""
    fates = Fates()
    for one in sent:
        fates.told(one)
    return figures(sent, fates, 100.0, len(sent) / 100, parse_budget(budget))


@given(values=st.lists(st.floats(allow_nan=False), min_size=1), q=st.floats(0.001, 1.0))
def test_a_quantile_is_a_value_that_enough_others_do_not_exceed(values: list[float], q: float) -> None:
    """A quantile is one of the values, at least a share q is not above it, and no smaller value is enough."""
    found = quantile(values, q)
    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) - 1e-9
    assert sum(value < found for value in values) < q * len(values) + 1e-9


@given(
    limits=st.lists(
        st.tuples(
            st.sampled_from(["p50", "p99", "p99.9", "max"]),
            st.integers(1, 10_000),
            st.sampled_from([("us", 1e-3), ("ms", 1.0), ("s", 1e3)]),
        ),
        unique_by=lambda item: item[0],
    ),
    errors=st.none() | st.integers(0, 10**6),
    defaults=st.none() | st.floats(0, 100).map(lambda value: round(value, 3)),
)
def test_a_budget_means_what_it_says(
    limits: list[tuple[str, int, tuple[str, float]]], errors: int | None, defaults: float | None
) -> None:
    """Every entry keeps its name, its limit in milliseconds, as a count or as a share, and its place."""
    texts = [f"{name}={number}{unit}" for name, number, (unit, _) in limits]
    expected = [(name, "latency", number * factor) for name, number, (_, factor) in limits]
    if errors is not None:
        texts.append(f"errors={errors}")
        expected.append(("errors", "count", float(errors)))
    if defaults is not None:
        texts.append(f" defaults = {defaults:f}%")
        expected.append(("defaults", "share", defaults / 100))
    found = [(one.name, one.kind, one.limit) for one in parse_budget(",".join(texts))]
    assert [(name, kind) for name, kind, _ in found] == [(name, kind) for name, kind, _ in expected]
    assert [limit for _, _, limit in found] == pytest.approx([limit for _, _, limit in expected])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("p99", "p99"), ("p99=50", "p99"), ("p99=-1ms", "p99"), ("p99=0ms", "p99"), ("p0=1ms", "p0"), ("q=1ms", "q"),
        ("errors=-1", "errors"), ("errors=0.5", "errors"), ("errors=101%", "errors"), ("errors=nan", "errors"),
        ("p99=1ms,p99=2ms", "p99"), ("max=1d", "max"), ("p99=50ms,", "''"), ("errors=1e400", "errors"),
        ("p100=1ms", "p100"),
    ],
)  # fmt: skip
def test_a_budget_that_says_nothing_is_refused(text: str, names: str) -> None:
    """Bad text is a usage error that names the entry."""
    with pytest.raises(UsageError, match=names):
        parse_budget(text)


def test_quantiles_have_two_spellings() -> None:
    """p99.9 and p999 are the same; p5 is not p50."""
    assert [quantile_of(one) for one in ("99.9", "999", "9999", "5", "50")] == pytest.approx(
        [0.999, 0.999, 0.9999, 0.05, 0.5]
    )


@pytest.mark.parametrize("text", ["", "5", "0s", "-1s", "5 minutes", "1e3s", "5d", "s", "nans"])
def test_a_duration_has_a_unit(text: str) -> None:
    """Without one, or not above 0, it is refused, and the option is named."""
    with pytest.raises(UsageError, match="--for"):
        parse_duration(text, "--for")


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf, 1e9])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    """No rate, or more requests than one run can hold in memory."""
    with pytest.raises(UsageError):
        check_rate(rate, 60.0)


@given(st.lists(st.floats(0.1, 1e4), min_size=20, max_size=300), st.floats(0.1, 1e4))
def test_a_limit_is_kept_when_enough_requests_are_below_it(latencies: list[float], limit_ms: float) -> None:
    """p90 is kept exactly when nine in ten requests were answered within the limit."""
    sent = [answered(at, ms) for at, ms in enumerate(latencies)]
    (one,) = run_of(sent, f"p90={limit_ms:f}ms").verdicts
    within = sum(ms <= one.entry.limit for ms in latencies)
    assert one.kept == (within >= math.ceil(0.9 * len(latencies) - 1e-9))


@given(st.lists(st.sampled_from(["model", "later", "default", "503", "lost", "broken"]), min_size=1, max_size=200))
def test_every_request_is_counted_once(kinds: list[str]) -> None:
    """Answers, defaults and errors by kind add up to what was sent, and so do the pieces of the run."""
    bodies = {
        "model": GOOD,
        "later": b'{"source":"tier 2","degraded":true}',
        "default": b'{"source":"default","degraded":true}',
    }
    sent = []
    for at, kind in enumerate(kinds):
        if kind in bodies:
            sent.append(answered(at, 1.0, body=bodies[kind]))
        elif kind == "503":
            sent.append(answered(at, 1.0, status=503, body=b'{"error":"overloaded","message":"m"}'))
        else:
            sent.append(Sent(at, at / 100, 0.0, broken=kind == "broken"))
    found = run_of(sent)
    assert found.sent == found.answered + found.defaults + sum(found.errors.values()) == len(kinds)
    assert found.errors.get("HTTP 503 (overloaded)", 0) == kinds.count("503")
    assert found.errors.get("connection broken", 0) == kinds.count("broken")
    assert found.degraded == kinds.count("later")
    assert sum(one.sent for one in found.slices) == len(kinds)
    assert sum(one.errors for one in found.slices) == sum(found.errors.values())


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, GOOD, ANSWERED),
        (200, b'{"source":"tier 2","degraded":true}', DEGRADED),
        (200, b'{"source":"default"}', DEFAULT),
        (200, b"<html>", "answer unreadable"),
        (200, b"{}", "answer unreadable"),
        (400, b'{"error":"schema","field":"plan"}', "HTTP 400 (schema plan)"),
        (502, b"<html>Bad gateway</html>", "HTTP 502"),
    ],
)
def test_an_answer_is_what_it_says(status: int, body: bytes, kind: str) -> None:
    """The kind comes from the answer; what is no answer of a gateway is an error."""
    assert fate(Sent(0, 0.0, 0.0, 1.0, status, body)) == kind


def test_kinds_of_errors_are_bounded() -> None:
    """A server that invents error texts does not fill the memory."""
    sent = [answered(at, 1.0, status=400, body=b'{"error":"e%d"}' % at) for at in range(500)]
    found = run_of(sent)
    assert len(found.errors) <= 51
    assert sum(found.errors.values()) == 500


def test_a_lost_request_is_an_infinite_latency() -> None:
    """What was not answered stays in the tail, and the limit says so."""
    found = run_of([answered(at, 1.0) for at in range(98)] + [Sent(98, 0.98, 0.0), Sent(99, 0.99, 0.0)], "p99=1s")
    assert found.latency_ms["p50"] == 1.0
    assert math.isinf(found.latency_ms["p99"])
    with pytest.raises(Refused, match="never"):
        verdict(TARGET, found)


def test_a_budget_that_is_not_kept_is_refused_in_one_sentence() -> None:
    """The sentence names every limit that was missed with both values, and none that was kept."""
    sent = [answered(at, 80.0) for at in range(99)] + [answered(99, 1.0, status=503, body=b'{"error":"busy"}')]
    with pytest.raises(Refused) as caught:
        verdict(TARGET, run_of(sent, "p99=50ms,max=1s,errors=0"))
    told = str(caught.value)
    assert "p99 is 80 ms, allowed 50 ms" in told
    assert "errors is 1, allowed 0" in told
    assert "1 x HTTP 503 (busy)" in told
    assert "max" not in told


def test_nobody_answering_is_not_a_slow_server() -> None:
    """When every connection broke the server is unreachable."""
    with pytest.raises(Unreachable):
        verdict(TARGET, run_of([Sent(at, at / 100, 0.0, broken=True) for at in range(10)], "errors=0"))


def test_a_client_that_falls_behind_makes_no_verdict() -> None:
    """When requests leave in bursts the run is not valid, whatever the latencies are."""
    found = run_of([answered(at, 200.0, late_ms=150.0) for at in range(100)], "p99=1s")
    with pytest.raises(RdvError, match="not valid") as caught:
        verdict(TARGET, found)
    assert caught.value.exit_code == 1


def test_lateness_of_the_client_is_not_blamed_on_the_server() -> None:
    """A limit that only the client's own lateness breaks is no refusal, one that the server breaks as well is."""
    late = [answered(at, 30.0, late_ms=25.0) for at in range(100)]
    assert run_of(late, "p99=20ms").invalid
    assert not run_of(late, "p99=4ms").invalid
    assert not run_of(late, "p99=20ms,p50=1ms").invalid, "the server missed one of them by itself"


def test_figures_are_written_for_programs_and_for_ci() -> None:
    """JSON holds null for what never came; JUnit has a case for each limit and fails the missed ones."""
    sent = [answered(at, 80.0) for at in range(95)] + [Sent(at, at / 100, 0.0) for at in range(95, 100)]
    found = run_of(sent, "p50=1s,p99=50ms,errors=0")
    told = msgspec.json.decode(msgspec.json.encode(record("churn", found)))
    assert told["latency_ms"]["p99"] is None
    assert [one["kept"] for one in told["verdicts"]] == [True, False, False]
    root = ElementTree.fromstring(junit_document("churn", found))
    failed = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert failed["p50=1s"] == []
    assert failed["p99=50ms"] == failed["errors=0"] == ["failure"]
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "2", "0")


@given(st.text(), st.text())
def test_junit_can_be_read_whatever_it_says(name: str, failure: str) -> None:
    """Control characters and markup in a message do not break the file."""
    root = ElementTree.fromstring(junit.document("suite", [junit.Case(name, failure=failure)], {"a": name}))
    assert len(list(root.iter("testcase"))) == 1


def test_the_page_draws_what_never_came() -> None:
    """A run with unanswered requests still makes a page with both pictures and nothing fetched from elsewhere."""
    sent = [answered(at, 5.0) for at in range(90)] + [Sent(at, at / 100, 0.0) for at in range(90, 100)]
    html = page("churn", ["http://h:1"], run_of(sent, "p99=50ms"))
    assert html.count("<svg") == 2
    assert "limit of p99" in html
    assert "inf" not in html.replace("information", "")
    assert "nan" not in html
    assert "src=" not in html


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(0, 400))
def test_chunks_are_read_when_they_are_whole(parts: list[bytes], cut: int) -> None:
    """A proxy that sends chunks is understood, and any shorter piece is not yet an answer."""
    data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
    body = b"".join(parts)
    assert whole_chunks(data) == body
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert whole_answer(head + data) == (200, body)
    if cut < len(data):
        assert whole_chunks(data[:cut]) is None
