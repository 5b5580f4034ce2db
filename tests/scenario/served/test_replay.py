"""The journal through another version, beside what was said live."""

import struct
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from rdv.errors import ModelUnloadable, NotFound
from rdv.inputs import RowSchema
from rdv.serving.bus.port import Events, Requests
from rdv.serving.recording.decoy import journal_folder
from rdv.serving.recording.events import Event, ScoreRecord, events_topic
from rdv.serving.recording.journal import JournalWriter
from rdv.serving.recording.replay import newest, replay

SCHEMA = RowSchema(("a", "b"))


@pytest.fixture
def recorded(site) -> Callable[..., None]:
    """A function that writes a journal of requests (n, 1) and the champion's live scores for them."""

    def write(rows: int, schema: RowSchema = SCHEMA, version: str = "v1", every: int = 1) -> None:
        state = site.project.state
        requests = JournalWriter(journal_folder(state, site.GOAL), site.GOAL, schema, segment_bytes=20_000)
        events = JournalWriter(journal_folder(state, events_topic(site.GOAL)), events_topic(site.GOAL), RowSchema())
        for first in range(0, rows, 10):
            numbers = range(first, first + 10)
            ids = b"".join(one.to_bytes(16, "big") for one in numbers)
            moments = struct.pack("<10d", *numbers)
            values = struct.pack(f"<{10 * len(schema.numbers)}d", *(x for one in numbers for x in (one, 1)))
            requests.append(Requests(site.GOAL, "g", 10, ids, moments, moments, bytes(80), values))
            told = [one for one in numbers if one % every == 0]
            records = [msgspec.msgpack.encode(event(site, one, version)) for one in told]
            if told:
                ids = b"".join(one.to_bytes(16, "big") for one in told)
                events.append(Events(events_topic(site.GOAL), "g", ids, records))
        requests.close()
        events.close()

    return write


def event(site, number: int, version: str) -> Event:
    """What was told live about one request."""
    scores = (ScoreRecord(site.CHAMPION, version, (number + 1 + 1e6,), 2.0),)
    answer = ((0.0,), site.CHAMPION, version, "tier 1", "", False, 2.0)
    return Event(f"{number:032x}", site.GOAL, "g", 1.0, "p", *answer, scores)


def test_the_version_that_was_live_agrees_with_itself(site, recorded) -> None:
    """Replaying the version that scored live reproduces its recorded scores exactly."""
    recorded(3000)
    report = replay(site.project, site.CHAMPION)
    assert (report.version, report.against, report.against_versions) == ("v1", site.CHAMPION, ("v1",))
    assert (report.rows, report.unusable, report.unfit) == (3000, 0, 0)
    assert (report.first_at, report.last_at) == (0.0, 2999.0)
    assert (report.comparison.requests, report.comparison.agreement) == (3000, 1.0)
    assert report.comparison.columns[0].largest_distance == 0.0
    assert report.recorded_p50_ms == 2.0
    assert 0 < report.timing.single_p50_ms <= report.timing.single_p99_ms


def test_another_version_is_shown_beside_what_was_said(site, recorded) -> None:
    """Quantiles stand side by side, and only requests that were scored live are compared."""
    recorded(1000, every=4)
    report = replay(site.project, site.CHAMPION, "v2")
    assert (report.rows, report.comparison.requests) == (1000, 250)
    column = report.comparison.columns[0]
    assert column.mean_difference == pytest.approx(1e6)
    assert all(row.score - row.other == pytest.approx(1e6) for row in column.quantiles)
    assert report.comparison.agreement == 0.0


def test_only_the_newest_requests_are_replayed(site, recorded) -> None:
    """A bound on rows takes the newest ones, in order, over as many segments as it needs."""
    recorded(3000)
    kept = newest(journal_folder(site.project.state, site.GOAL), 1500)
    values = np.concatenate([np.frombuffer(batch.numbers).reshape(-1, 2)[:, 0] for _, batch in kept])
    assert np.array_equal(values, np.arange(1500, 3000))
    assert replay(site.project, site.CHAMPION, most=100).rows == 100


def test_requests_of_an_older_schema_are_counted_as_unfit(site, recorded) -> None:
    """Requests recorded before the model's inputs were in the schema cannot be scored, and are told so."""
    recorded(200, RowSchema(("a", "other")))
    recorded(100)
    report = replay(site.project, site.CHAMPION)
    assert (report.rows, report.unfit, report.unusable) == (300, 200, 0)


def test_what_cannot_be_replayed_says_why(site, recorded) -> None:
    """An empty journal, an unknown version and a file that its probe refuses end in their own errors."""
    with pytest.raises(NotFound, match="journal of total is empty"):
        replay(site.project, site.CHAMPION)
    recorded(10)
    with pytest.raises(NotFound, match="no version v9"):
        replay(site.project, site.CHAMPION, "v9")
    with pytest.raises(NotFound, match="no model"):
        replay(site.project, "nobody")
    site.publish(site.CHAMPION, "bad", 5.0, probe_scores=((0.0,),))
    with pytest.raises(ModelUnloadable, match="refused by its probe"):
        replay(site.project, site.CHAMPION, "bad")
