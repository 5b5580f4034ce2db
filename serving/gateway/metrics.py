"""A gateway's counters for Prometheus: read when somebody asks, so that a request costs nothing for them.

Labels are goals, models, tiers, statuses and reasons that rdv knows: bounded by the configuration, never by traffic.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from rdv.breaker import BOOK, State
from rdv.records import CANARY_SUFFIX
from rdv.serving.gateway.app import Gateway
from rdv.serving.gateway.desk import Desk
from rdv.serving.gateway.digest import Digest, edges_us

BUCKETS_MS = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics page of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Reader(gateway))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return bytes(generate_latest(self._registry))


class _Reader(Collector):
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._models()
        yield from self._bus()
        yield from _breakers()

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "rdv_requests", "Accepted requests by what became of them", labels=["goal", "outcome"]
        )
        opened = GaugeMetricFamily("rdv_requests_open", "Accepted requests that are not settled", labels=["goal"])
        defaults = CounterMetricFamily("rdv_defaults", "Default answers by reason", labels=["goal", "reason"])
        latency = HistogramMetricFamily("rdv_answer_seconds", "From acceptance to the answer", labels=["goal"])
        for goal, desk in self._gateway.desks.items():
            ledger = desk.room.ledger
            for outcome in ("accepted", "answered", "defaults", "errors", "abandoned"):
                requests.add_metric([goal, outcome], getattr(ledger, outcome))
            opened.add_metric([goal], ledger.open)
            for reason, times in ledger.reasons.items():
                defaults.add_metric([goal, reason], times)
            _histogram(latency, [goal], desk.room.latency)
        refused = CounterMetricFamily("rdv_refused", "Requests not accepted, by HTTP status", labels=["status"])
        for status, times in self._gateway.refusals.items():
            refused.add_metric([str(status)], times)
        yield from (requests, opened, defaults, latency, refused)

    def _models(self) -> Iterator[Metric]:
        labels = ["goal", "model"]
        scores = CounterMetricFamily("rdv_scores", "Scores by kind", labels=[*labels, "kind"])
        lost = CounterMetricFamily(
            "rdv_scores_lost", "Scores that will not come, by reason", labels=[*labels, "reason"]
        )
        chosen = CounterMetricFamily("rdv_chosen", "Answers made of a model's score", labels=[*labels, "tier"])
        latency = HistogramMetricFamily("rdv_score_seconds", "From acceptance to the score's arrival", labels=labels)
        replicas = GaugeMetricFamily("rdv_replicas", "Connected replicas", labels=labels)
        for desk in self._gateway.desks.values():
            tried = [trial.canary for trial in desk.trials.known.values()]
            for place in [*range(len(desk.names)), *tried]:
                name = desk.room.models[place]
                tally, at = desk.room.tallies[place], [desk.plan.goal, name]
                for kind in ("scored", "late", "unusable", "missing", "duplicate", "unmatched"):
                    scores.add_metric([*at, kind], getattr(tally, kind))
                for reason, times in tally.lost.items():
                    lost.add_metric([*at, reason], times)
                for tier, times in tally.chosen.items():
                    chosen.add_metric([*at, str(tier)], times)
                _histogram(latency, at, tally.latency)
                replicas.add_metric(at, self._connected(desk, name))
        yield from (scores, lost, chosen, latency, replicas)

    def _connected(self, desk: Desk, name: str) -> int:
        topic = desk.plan.models[name.removesuffix(CANARY_SUFFIX)]
        return sum(one.name == name for one in self._gateway.hub.replicas(topic))

    def _bus(self) -> Iterator[Metric]:
        rows = CounterMetricFamily("rdv_bus_rows", "Rows by what became of them", labels=["topic", "name", "outcome"])
        held = GaugeMetricFamily("rdv_bus_rows_held", "Rows on their way", labels=["topic", "name", "where"])
        for (topic, name), one in self._gateway.hub.traffic().items():
            rows.add_metric([topic, name, "answered"], one.answered)
            rows.add_metric([topic, name, "skipped"], one.skipped)
            for reason, times in one.drops.items():
                rows.add_metric([topic, name, reason], times)
            held.add_metric([topic, name, "waiting"], one.waiting)
            held.add_metric([topic, name, "in_flight"], one.in_flight)
        yield from (rows, held)


def _breakers() -> Iterator[Metric]:
    """The circuit breakers of this process; an open one is 1, a half open one a half."""
    levels = {State.CLOSED: 0.0, State.HALF_OPEN: 0.5, State.OPEN: 1.0}
    state = GaugeMetricFamily("rdv_breaker_open", "Circuit breakers: 0 closed, 0.5 trying, 1 open", labels=["breaker"])
    opened = CounterMetricFamily("rdv_breaker_opened", "How often a circuit breaker opened", labels=["breaker"])
    refused = CounterMetricFamily("rdv_breaker_refused", "Calls that an open breaker left out", labels=["breaker"])
    for one in BOOK.views():
        state.add_metric([one["name"]], levels[State(one["state"])])
        opened.add_metric([one["name"]], one["opened"])
        refused.add_metric([one["name"]], one["refused"])
    yield from (state, opened, refused)


def _histogram(family: HistogramMetricFamily, labels: list[str], digest: Digest) -> None:
    counts = dict.fromkeys(BUCKETS_MS, 0)
    for place, times in digest.bins.items():
        end_ms = edges_us(place)[1] / 1e3
        for limit in BUCKETS_MS:
            if end_ms <= limit:
                counts[limit] += times
                break
    total, buckets = 0, []
    for limit, times in counts.items():
        total += times
        buckets.append((f"{limit / 1e3:g}", float(total)))
    family.add_metric(labels, [*buckets, ("+Inf", float(digest.count))], sum_value=digest.sum_s)
