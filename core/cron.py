"""Cron expressions: five fields, UTC, and when they are due next. Pure.

Fields: minute 0-59, hour 0-23, day of month 1-31, month 1-12 or jan-dec, day of week 0-7 or sun-sat (0 and 7 are
Sunday, and `sun` may end a range). A field is a list of `*`, `n`, `a-b`, each with an optional step: `*/s`, `a-b/s`,
and `a/s` from a on. When day of month and day of week are both restricted (neither begins with `*`) a day that fits
either is meant.
Source: POSIX crontab; names, steps and the rule on `*` as in Vixie cron.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Self

from rdv.errors import UsageError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_PART = re.compile(r"(?:\*|(?P<low>[a-z0-9]+)(?:-(?P<high>[a-z0-9]+))?)(?:/(?P<step>[0-9]{1,4}))?")
_EXAMPLE = 'write five fields, such as "0 */3 * * *"'


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()
    top: int = 0
    """Where `*` and `a/s` end, when that is not `high`: 7 is a second name of Sunday, not an eighth day."""

    @property
    def last(self) -> int:
        return self.top or self.high


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, MONTHS),
    _Field("day of week", 0, 7, DAYS, top=6),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """When something is due. Values are sorted; weekdays count from 0 = Sunday.

    either: day of month and day of week are both restricted, and one of them fitting is enough.
    """

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """The meaning of an expression; UsageError names the field that is wrong, or a date that never comes."""
        words = SHORTHANDS.get(text.strip().lower(), text.lower()).split()
        if len(words) != 5:
            raise UsageError(f"{text!r} has {len(words)} fields, a cron expression has five", _EXAMPLE)
        minutes, hours, days, months, weekdays = (
            _values(field, word, text) for field, word in zip(_FIELDS, words, strict=True)
        )
        one = cls(
            text=text.strip(),
            minutes=tuple(sorted(minutes)),
            hours=tuple(sorted(hours)),
            days=frozenset(days),
            months=frozenset(months),
            weekdays=frozenset(day % 7 for day in weekdays),
            either=not words[2].startswith("*") and not words[4].startswith("*"),
        )
        one._refuse_impossible_dates()
        return one

    def next(self, after: datetime) -> datetime:
        """The first moment strictly after `after` at which it is due; UTC, whole minutes. A naive time is UTC."""
        start = after.astimezone(UTC) if after.tzinfo else after.replace(tzinfo=UTC)
        start = start.replace(second=0, microsecond=0) + timedelta(minutes=1)
        for hour in self.hours if self._is_day(start.date()) else ():
            for minute in self.minutes:
                if (hour, minute) >= (start.hour, start.minute):
                    return start.replace(hour=hour, minute=minute)
        day = self._next_day(start.date())
        return datetime(day.year, day.month, day.day, self.hours[0], self.minutes[0], tzinfo=UTC)

    def matches(self, moment: datetime) -> bool:
        """Whether it is due in the minute of a moment; a naive time is UTC."""
        at = moment.astimezone(UTC) if moment.tzinfo else moment
        return at.minute in self.minutes and at.hour in self.hours and self._is_day(at.date())

    def plain(self) -> str:
        """The same moments as numbers and lists alone, for a cron that always takes days of either kind together.

        Other crons differ in names, in 7 for Sunday, in steps, and in when both kinds of days have to fit. UsageError
        where both have to.
        """
        every_day, every_weekday = len(self.days) == 31, len(self.weekdays) == 7
        if not (self.either or every_day or every_weekday):
            raise UsageError(f"{self.text!r} means days that fit two fields at once, which Nomad cannot", _EXAMPLE)
        all_days = self.either and (every_day or every_weekday)
        return " ".join(
            "*" if all_of_them else ",".join(map(str, sorted(values)))
            for values, all_of_them in (
                (self.minutes, len(self.minutes) == 60),
                (self.hours, len(self.hours) == 24),
                (self.days, every_day or all_days),
                (self.months, len(self.months) == 12),
                (self.weekdays, every_weekday or all_days),
            )
        )

    def _is_day(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date or by_weekday if self.either else by_date and by_weekday

    def _next_day(self, day: date) -> date:
        """The first day after one that fits; months that are not meant are skipped whole."""
        while True:
            if day.month in self.months:
                day += timedelta(days=1)
            else:
                last = monthrange(day.year, day.month)[1]
                day = day.replace(day=last) + timedelta(days=1)
            if self._is_day(day):
                return day

    def _refuse_impossible_dates(self) -> None:
        longest = max(monthrange(2000, month)[1] for month in self.months)  # 2000 had a 29 February
        if not self.either and min(self.days) > longest:
            raise UsageError(f"{self.text!r} names a date that never comes: no such month has {min(self.days)} days")


def _values(field: _Field, word: str, text: str) -> set[int]:
    values: set[int] = set()
    for part in word.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise UsageError(f"{text!r}: {part!r} is no {field.name}", _EXAMPLE)
        low, high, step = found["low"], found["high"], int(found["step"] or 1)
        if step == 0:
            raise UsageError(f"{text!r}: {field.name} has a step of 0 in {part!r}", _EXAMPLE)
        first = _number(field, low, text) if low else field.low
        if high:
            last = 7 if high == "sun" else _number(field, high, text)
        else:
            last = max(first, field.last) if found["step"] or not low else first
        if first > last:
            raise UsageError(f"{text!r}: {field.name} {part!r} runs backwards", f"split it: {low}-{field.high},...")
        values |= set(range(first, last + 1, step))
    return values


def _number(field: _Field, word: str, text: str) -> int:
    if word in field.words:
        return field.words.index(word) + field.low
    # isdecimal alone would let digits of other scripts through
    value = int(word) if word.isascii() and word.isdecimal() and len(word) < 4 else -1
    if not field.low <= value <= field.high:
        words = f" or {field.words[0]}-{field.words[-1]}" if field.words else ""
        raise UsageError(f"{text!r}: {word!r} is no {field.name}", f"{field.low} to {field.high}{words}")
    return value
