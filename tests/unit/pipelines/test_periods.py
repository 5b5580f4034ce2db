"""Periods of a run: UTC, of one granularity, text that reads back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import UsageError
from rdv.pipelines.periods import GRANULARITIES, parse_date, parse_period, period_of

moments = st.datetimes(datetime(1970, 1, 5), datetime(2300, 1, 1), timezones=st.timezones())


@given(moments, st.sampled_from(GRANULARITIES))
def test_a_period_holds_its_moment_and_reads_back(moment: datetime, granularity: str) -> None:
    """A moment lies within its period, whatever zone it was told in, and the period's text gives the period back."""
    period = period_of(moment, granularity)
    assert period.start <= moment < period.end
    assert parse_period(period.text()) == period
    assert period_of(period.start, granularity) == period


@given(moments, st.sampled_from(GRANULARITIES))
def test_periods_of_one_granularity_do_not_overlap(moment: datetime, granularity: str) -> None:
    """The moment before a period's start belongs to another one."""
    period = period_of(moment, granularity)
    assert period_of(period.start - timedelta(microseconds=1), granularity).end == period.start


@pytest.mark.parametrize(
    ("text", "granularity", "told"),
    [
        ("2024-11-22", "day", "day.2024-11-22"),
        ("2024-11-22", "week", "week.2024-W47"),
        ("2024-W47", "week", "week.2024-W47"),
        ("2024-12-31", "week", "week.2025-W01"),
        ("2024-11-22T05", "3h", "3h.2024-11-22T03"),
        ("2024-11-22T05", "1h", "1h.2024-11-22T05"),
        ("2024-11-22T23:30:00-02:00", "day", "day.2024-11-23"),
    ],
)
def test_dates_as_people_write_them(text: str, granularity: str, told: str) -> None:
    """Days, weeks, hours and zoned times are understood, always as UTC."""
    assert period_of(parse_date(text), granularity).text() == told


@pytest.mark.parametrize("text", ["", "tomorrow", "2024-13-01", "2024-W54", "22.11.2024", "2024-11-22T25"])
def test_no_date_is_guessed(text: str) -> None:
    """Text that is no date is a usage error."""
    with pytest.raises(UsageError):
        parse_date(text)


def test_unknown_granularity_and_year_are_refused() -> None:
    """A granularity must be one of the four, a year one that dates can name."""
    with pytest.raises(UsageError):
        period_of(datetime(2024, 1, 1, tzinfo=UTC), "month")
    with pytest.raises(UsageError):
        period_of(datetime(1960, 1, 1, tzinfo=UTC), "day")


@pytest.mark.parametrize(
    "text", ["day.2024-11-22T03", "2h.2024-11-22T03", "3h.2024-11-22T04", "day.2024-02-30", "week.2024-W60"]
)
def test_only_a_periods_own_text_is_read(text: str) -> None:
    """Text that no period writes is no period."""
    assert parse_period(text) is None
