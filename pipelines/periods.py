"""Periods: the stretch of time that a run is for, in UTC, with a stated granularity.

A period's text is path-safe and reads back: `week.2024-W47`, `day.2024-11-22`, `3h.2024-11-22T03`,
`1h.2024-11-22T05`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal, get_args

from rdv.errors import UsageError

Granularity = Literal["week", "day", "3h", "1h"]
GRANULARITIES: tuple[str, ...] = get_args(Granularity)

_LENGTH = {"week": timedelta(days=7), "day": timedelta(days=1), "3h": timedelta(hours=3), "1h": timedelta(hours=1)}
_HOURS = {"3h": 3, "1h": 1}
_TEXT = re.compile(
    r"(week)\.(\d{4})-W(\d{2})|(day)\.(\d{4}-\d{2}-\d{2})|(3h|1h)\.(\d{4}-\d{2}-\d{2})T(\d{2})", re.ASCII
)
_WEEK = re.compile(r"(\d{4})-W(\d{2})", re.ASCII)
_YEARS = range(1970, 9000)


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One week (from Monday), day, three hours or hour; `start` is its first moment, in UTC."""

    granularity: str
    start: datetime

    @property
    def end(self) -> datetime:
        """The first moment after the period."""
        return self.start + _LENGTH[self.granularity]

    def text(self) -> str:
        """The period as path-safe text that `parse_period` reads back."""
        if self.granularity == "week":
            year, week, _ = self.start.isocalendar()
            return f"week.{year:04d}-W{week:02d}"
        if self.granularity == "day":
            return f"day.{self.start:%Y-%m-%d}"
        return f"{self.granularity}.{self.start:%Y-%m-%dT%H}"


def period_of(moment: datetime, granularity: str) -> Period:
    """The period that a moment falls into; a moment without a zone is taken as UTC."""
    if granularity not in GRANULARITIES:
        raise UsageError(f"granularity {granularity!r} is not known", f"say one of {', '.join(GRANULARITIES)}")
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    if moment.year not in _YEARS:
        raise UsageError(f"the year {moment.year} is out of range", "give a date from 1970 on")
    midnight = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if granularity == "week":
        return Period("week", midnight - timedelta(days=moment.weekday()))
    hours = _HOURS.get(granularity)
    start = midnight if hours is None else midnight + timedelta(hours=moment.hour // hours * hours)
    return Period(granularity, start)


def parse_period(text: str) -> Period | None:
    """The period of a text that `Period.text` wrote; None for any other text."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    try:
        if found[1]:
            start = _midnight(date.fromisocalendar(int(found[2]), int(found[3]), 1))
        elif found[4]:
            start = _midnight(date.fromisoformat(found[5]))
        else:
            start = _midnight(date.fromisoformat(found[7])) + timedelta(hours=int(found[8]))
        period = period_of(start, found[1] or found[4] or found[6])
    except (ValueError, UsageError):
        return None
    return period if period.text() == text else None


def parse_date(text: str) -> datetime:
    """The moment a person means by `2024-11-22`, `2024-W47`, `2024-11-22T05` or an ISO 8601 time; without zone UTC."""
    try:
        if found := _WEEK.fullmatch(text):
            return _midnight(date.fromisocalendar(int(found[1]), int(found[2]), 1))
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a date", "say 2024-11-22, 2024-W47 or 2024-11-22T05") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
