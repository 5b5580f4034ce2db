"""Cron expressions against a second, slower reading of the same rules."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.cron import DAYS, MONTHS, SHORTHANDS, Cron
from rdv.errors import UsageError

RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1))


def field(at: int) -> st.SearchStrategy[str]:
    """A valid field: lists of stars, numbers, names, ranges and steps."""
    low, high = RANGES[at]
    words = {3: dict(enumerate(MONTHS, 1)), 4: dict(enumerate(DAYS))}.get(at, {})
    number = st.integers(low, high)
    name = st.one_of(number.map(str), number.map(lambda value: words.get(value, str(value))))
    pair = st.tuples(number, number).map(sorted).map(lambda ends: f"{ends[0]}-{ends[1]}")
    step = st.one_of(st.just(""), st.integers(1, 70).map(lambda value: f"/{value}"))
    part = st.tuples(st.one_of(st.just("*"), name, pair), step).map("".join)
    return st.one_of(st.just("*"), st.lists(part, min_size=1, max_size=3).map(",".join))


expressions = st.tuples(*(field(at) for at in range(5))).map(" ".join)


def meant(text: str, at: int) -> set[int]:
    """A second reading of one field of an expression."""
    low, high = RANGES[at]
    names = {3: ("", *MONTHS), 4: DAYS}.get(at, ())
    words = {word: str(value) for value, word in enumerate(names)}
    found = set()
    for part in text.split()[at].split(","):
        base, _, step = part.partition("/")
        first, dash, last = base.partition("-")
        top = 6 if at == 4 else high
        start = low if first == "*" else int(words.get(first, first))
        end = int(words.get(last, last)) if dash else max(start, top) if first == "*" or step else start
        found |= {value for value in range(start, end + 1) if (value - start) % int(step or 1) == 0}
    return {value % 7 for value in found} if at == 4 else found


def due(text: str, moment: datetime) -> bool:
    """A second reading of a whole expression."""
    minutes, hours, days, months, weekdays = (meant(text, at) for at in range(5))
    words = text.split()
    by_date, by_weekday = moment.day in days, moment.isoweekday() % 7 in weekdays
    restricted = words[2][0] != "*" and words[4][0] != "*"
    fits = by_date or by_weekday if restricted else by_date and by_weekday
    return moment.minute in minutes and moment.hour in hours and moment.month in months and fits


def parse(text: str) -> Cron | None:
    """The expression, None when it names a date that never comes."""
    try:
        return Cron.parse(text)
    except UsageError as error:
        if "never comes" in str(error):
            return None
        raise


@given(expressions, moments)
def test_both_readings_agree(text: str, moment: datetime) -> None:
    """Whether a moment is meant does not depend on who reads the expression."""
    cron = parse(text)
    assert cron is None or cron.matches(moment) == due(text, moment)


@given(expressions, moments)
def test_next_is_the_first_that_matches(text: str, moment: datetime) -> None:
    """The next moment is strictly later, matches, is a whole minute in UTC, and none between matches."""
    cron = parse(text)
    if cron is None:
        return
    found = cron.next(moment)
    after = moment.replace(tzinfo=UTC)
    assert found > after
    assert (found.second, found.microsecond, found.utcoffset()) == (0, 0, timedelta())
    assert due(text, found)
    minute = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
    days = f"* * {' '.join(text.split()[2:])}"
    while minute < found:  # minute by minute, but past whole days that are not meant
        assert not due(text, minute)
        whole_day = minute.hour == minute.minute == 0 and minute.date() != found.date() and not due(days, minute)
        minute += timedelta(days=1) if whole_day else timedelta(minutes=1)


@given(expressions, moments)
def test_an_impossible_date_has_no_match(text: str, moment: datetime) -> None:
    """What is refused as never coming indeed does not come on any day of eight years."""
    if parse(text) is None:
        year = moment.replace(month=1, day=1)
        for day in range(8 * 366):
            at = year + timedelta(days=day)
            assert not due(f"* * {' '.join(text.split()[2:])}", at)


@given(expressions, moments, st.integers(-23, 23))
def test_time_zones_do_not_matter(text: str, moment: datetime, hours: int) -> None:
    """The same instant given in another zone has the same next moment."""
    cron = parse(text)
    if cron is not None:
        utc = moment.replace(tzinfo=UTC)
        assert cron.next(utc.astimezone(timezone(timedelta(hours=hours)))) == cron.next(utc) == cron.next(moment)


@pytest.mark.parametrize(
    ("text", "after", "then"),
    [
        ("0 */3 * * *", "2026-03-01 00:00", "2026-03-01 03:00"),
        ("0 */3 * * *", "2026-03-01 21:00", "2026-03-02 00:00"),
        ("59 23 31 12 *", "2026-12-31 23:59", "2027-12-31 23:59"),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"),
        ("0 0 31 * *", "2026-04-01 00:00", "2026-05-31 00:00"),
        ("0 0 13 * fri", "2026-03-01 00:00", "2026-03-06 00:00"),
        ("0 0 */13 * fri", "2026-03-01 00:00", "2026-03-27 00:00"),
        ("0 0 31 2 mon", "2026-01-31 00:00", "2026-02-02 00:00"),
        ("0 0 * * 7", "2026-03-02 00:00", "2026-03-08 00:00"),
        ("0 0 * * fri-sun", "2026-03-07 00:00", "2026-03-08 00:00"),
        ("30 6 1 JAN,jul *", "2026-02-01 00:00", "2026-07-01 06:30"),
        ("5/20 0 * * *", "2026-03-01 00:05", "2026-03-01 00:25"),
        ("@hourly", "2026-03-01 00:00", "2026-03-01 01:00"),
        ("@weekly", "2026-03-02 00:00", "2026-03-08 00:00"),
    ],
)
def test_known_moments(text: str, after: str, then: str) -> None:
    """Leap days, short months, the rule for two restricted days, names, steps and shorthands mean what they should."""
    assert Cron.parse(text).next(datetime.fromisoformat(after)) == datetime.fromisoformat(f"{then}+00:00")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * *", "has 6 fields"),
        ("60 * * * *", "'60' is no minute"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of month"),
        ("* * * 13 *", "'13' is no month"),
        ("* * * mon *", "'mon' is no month"),
        ("* * * * 8", "'8' is no day of week"),
        ("-1 * * * *", "'-1' is no minute"),
        ("1,, * * * *", "'' is no minute"),
        ("5-1 * * * *", "runs backwards"),
        ("*/0 * * * *", "step of 0"),
        ("*/99999999 * * * *", "is no minute"),
        ("\u0661 * * * *", "is no minute"),
        ("1.5 * * * *", "is no minute"),
        ("0 0 31 2 *", "never comes"),
        ("0 0 30 feb *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("0 0 31 2 */2", "never comes"),
    ],
)
def test_nonsense_is_refused(text: str, reason: str) -> None:
    """What is no expression, or names a date that never comes, is refused with the part that is wrong."""
    with pytest.raises(UsageError, match=reason.replace("*", "\\*")):
        Cron.parse(text)


@pytest.mark.parametrize("text", sorted(SHORTHANDS))
def test_shorthands_are_expressions(text: str) -> None:
    """Every shorthand stands for a valid expression and keeps its own text."""
    assert Cron.parse(text).text == text


def expressions() -> st.SearchStrategy[str]:
    """Expressions of five fields, with lists, ranges and steps."""

    def field(low: int, high: int) -> st.SearchStrategy[str]:
        pair = st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)
        part = st.one_of(
            st.just("*"),
            st.integers(2, 15).map(lambda step: f"*/{step}"),
            st.integers(low, high).map(str),
            pair.map(lambda ends: f"{ends[0]}-{ends[1]}"),
            st.tuples(pair, st.integers(1, 7)).map(lambda found: f"{found[0][0]}-{found[0][1]}/{found[1]}"),
            st.tuples(st.integers(low, high), st.integers(1, 7)).map(lambda found: f"{found[0]}/{found[1]}"),
        )
        return st.lists(part, min_size=1, max_size=2).map(",".join)

    return st.tuples(*(field(*ends) for ends in ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)))).map(" ".join)


def nomads_moment(plain: str, after: datetime) -> datetime:
    """When a cron that knows numbers, lists and `*`, and takes days of either kind together, is due next."""
    minutes, hours, days, months, weekdays = (
        None if field == "*" else {int(value) for value in field.split(",")} for field in plain.split()
    )
    at = after.replace(second=0) + timedelta(minutes=1)
    while True:
        by_date, by_weekday = days and at.day in days, weekdays and at.isoweekday() % 7 in weekdays
        if (days or weekdays) and not (by_date or by_weekday) or months and at.month not in months:
            at = at.replace(hour=0, minute=0) + timedelta(days=1)
        elif hours is not None and at.hour not in hours:
            at = at.replace(minute=0) + timedelta(hours=1)
        elif minutes is not None and at.minute not in minutes:
            at += timedelta(minutes=1)
        else:
            return at


@given(expressions(), st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)))
def test_plain_numbers_mean_the_same(text: str, after: datetime) -> None:
    """What is told to a cluster's clock is due at the same moments, or cannot be told because both days must fit."""
    after, reason = after.replace(tzinfo=UTC, microsecond=0), ""
    cron: Cron | None
    try:
        cron = Cron.parse(text)
        plain = cron.plain()
    except UsageError as error:
        reason = str(error)
        cron, plain = None, ""
    if cron is None:
        assert any(words in reason for words in ("never comes", "fit two fields"))
        return
    for _ in range(3):
        assert cron.next(after) == nomads_moment(plain, after)
        after = cron.next(after)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("@daily", "0 0 * * *"),
        ("*/20 0 * * 5-7", "0,20,40 0 * * 0,5,6"),
        ("0 0 13 jan fri", "0 0 13 1 5"),
        ("0 0 1-31 * fri", "0 0 * * *"),
        ("0 0 */1 * fri", "0 0 * * 5"),
        ("0-59 * 1,15 * *", "* * 1,15 * *"),
    ],
)
def test_plain_expressions(text: str, plain: str) -> None:
    """Names, steps, 7 and restrictions that restrict nothing are gone from what a cluster's clock is told."""
    assert Cron.parse(text).plain() == plain


def test_days_that_must_fit_twice_cannot_be_told() -> None:
    """An expression whose days have to fit both fields is refused for a cluster, with its text."""
    with pytest.raises(UsageError, match="fit two fields"):
        Cron.parse("0 0 */13 * fri").plain()
