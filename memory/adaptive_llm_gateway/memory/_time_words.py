"""Time in plain English: `last week`, `in March 2025`, `two days ago`, `between May and July`. Pure.

A day begins at midnight of the zone that is given, a week on Monday. A month or weekday without more is the latest one
that has begun. Other languages are not read: their words stay words.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from adaptive_llm_gateway.memory._values import TimeRange

_FIRST_YEAR = 2005  # `in 1024 bytes` is no time
_MONTH = {
    name.lower(): number
    for names in (calendar.month_name, calendar.month_abbr)
    for number, name in enumerate(names)
    if name
} | {"sept": 9}
_WEEKDAY = {name.lower(): number for number, name in enumerate(calendar.day_name)}
_NUMBER = {
    name: number
    for number, name in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
} | {"a": 1, "an": 1, "a couple of": 2, "couple of": 2, "a few": 3, "few": 3, "several": 4}

_MONTHS = "|".join(sorted(_MONTH, key=len, reverse=True))
_COUNT = rf"\d{{1,3}}|{'|'.join(sorted(_NUMBER, key=len, reverse=True))}"
_AGE = re.compile(r"(\d{1,5})\s*(h|d|w|m|y)", re.IGNORECASE)
_AGE_HOURS = {"h": 1, "d": 24, "w": 24 * 7, "m": 24 * 30, "y": 24 * 365}
_ORDINAL = r"(\d{1,2})(?:st|nd|rd|th)?"


@dataclass(frozen=True, slots=True)
class TimeMention:
    """A time in a text: where its words stand (`text[start:end]`) and what they mean."""

    start: int
    end: int
    range: TimeRange


@dataclass(frozen=True, slots=True)
class _Clock:
    """Now, in the zone that days are counted in."""

    now: datetime
    zone: tzinfo

    @property
    def today(self) -> date:
        return self.now.astimezone(self.zone).date()

    def days(self, first: date, count: int) -> TimeRange:
        return TimeRange(self.midnight(first), self.midnight(first + timedelta(days=count)))

    def months(self, year: int, month: int, count: int = 1) -> TimeRange:
        first, last = year * 12 + month - 1, year * 12 + month - 1 + count
        return TimeRange(
            self.midnight(date(first // 12, first % 12 + 1, 1)), self.midnight(date(last // 12, last % 12 + 1, 1))
        )

    def midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), self.zone).astimezone(UTC)

    def back(self, **amount: float) -> TimeRange:
        return TimeRange(self.now - timedelta(**amount), None)


_Read = Callable[[re.Match[str], _Clock], TimeRange | None]


def _iso(match: re.Match[str], clock: _Clock) -> TimeRange | None:
    if not match[2]:
        return clock.days(date.fromisoformat(match[1]), 1)
    moment = datetime.fromisoformat(match[0].upper().replace(" ", "T"))
    moment = moment.replace(tzinfo=moment.tzinfo or clock.zone).astimezone(UTC)
    return TimeRange(moment, moment)


def _iso_month(match: re.Match[str], clock: _Clock) -> TimeRange | None:
    return clock.months(int(match[1]), int(match[2])) if _is_year(match[1], clock) and int(match[2]) <= 12 else None


def _year(match: re.Match[str], clock: _Clock) -> TimeRange | None:
    return clock.months(int(match[1]), 1, 12) if _is_year(match[1], clock) else None


def _is_year(text: str, clock: _Clock) -> bool:
    return _FIRST_YEAR <= int(text) <= clock.today.year + 1


def _quarter(match: re.Match[str], clock: _Clock) -> TimeRange | None:
    first = int(match[1]) * 3 - 2
    year = int(match[2]) if match[2] else clock.today.year - (first > clock.today.month)
    return clock.months(year, first, 3)


def _day_of_month(match: re.Match[str], clock: _Clock) -> TimeRange | None:
    groups = match.groupdict()
    month, day = _MONTH[groups["month"].lower()], int(groups["day"])
    if groups["year"]:
        return clock.days(date(int(groups["year"]), month, day), 1)
    found = date(clock.today.year, month, day)
    return clock.days(found if found <= clock.today else date(found.year - 1, month, day), 1)


def _month(match: re.Match[str], clock: _Clock) -> TimeRange | None:
    month = _MONTH[match["month"].lower()]
    if match["year"]:
        return clock.months(int(match["year"]), month) if _is_year(match["year"], clock) else None
    today = clock.today
    last = bool(match["last"])
    return clock.months(today.year - (month > today.month or (last and month == today.month)), month)


def _named_day(match: re.Match[str], clock: _Clock) -> TimeRange | None:
    back = {"yesterday": 1, "last night": 1, "the day before yesterday": 2, "day before yesterday": 2}
    return clock.days(clock.today - timedelta(days=back.get(" ".join(match[0].lower().split()), 0)), 1)


def _weekday(match: re.Match[str], clock: _Clock) -> TimeRange | None:
    age = (clock.today.weekday() - _WEEKDAY[match[2].lower()]) % 7
    if not age and (match[1] or "").lower() == "last":
        age = 7
    return clock.days(clock.today - timedelta(days=age), 1)


def _last_unit(match: re.Match[str], clock: _Clock) -> TimeRange | None:
    which, unit = match[2].lower(), match[3].lower()
    today = clock.today
    back = 0 if which in ("this", "current") else 1
    if back and (match[1] or which == "past") and unit in ("week", "month", "year"):
        return clock.back(days={"week": 7, "month": 30, "year": 365}[unit])  # `in the last week`: the seven days to now
    monday = today - timedelta(days=today.weekday() + 7 * back)
    if unit == "week":
        return clock.days(monday, 7)
    if unit == "weekend":
        return clock.days(monday + timedelta(days=5), 2)
    if unit == "month":
        return _month_back(clock, back)
    if unit == "quarter":
        return _month_back(clock, (today.month - 1) % 3 + 3 * back, 3)
    return clock.months(today.year - back, 1, 12)


def _last_units(match: re.Match[str], clock: _Clock) -> TimeRange | None:
    days = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "year": 365}
    return clock.back(days=_count(match[1]) * days[match[2].lower()])


def _ago(match: re.Match[str], clock: _Clock) -> TimeRange | None:
    count, unit = _count(match[1]), match[2].lower()
    today = clock.today
    if unit == "hour":
        moment = clock.now - timedelta(hours=count)
        return TimeRange(moment - timedelta(hours=1), moment + timedelta(hours=1))
    if unit == "day":
        return clock.days(today - timedelta(days=count), 1)
    if unit == "week":
        return clock.days(today - timedelta(days=7 * count + today.weekday()), 7)
    if unit == "month":
        return _month_back(clock, count)
    return clock.months(today.year - count, 1, 12)


def _month_back(clock: _Clock, back: int, count: int = 1) -> TimeRange:
    month = clock.today.year * 12 + clock.today.month - 1 - back
    return clock.months(month // 12, month % 12 + 1, count)


def _count(text: str) -> int:
    return int(text) if text.isdigit() else _NUMBER[" ".join(text.lower().split())]


# (pattern, what it means, whether it stands for a time also without `in`, `since` or the like before it)
_ATOMS: list[tuple[re.Pattern[str], _Read, bool]] = [
    (re.compile(pattern.replace(" ", r"\s+") + r"(?![\w-])", re.IGNORECASE), read, bare)
    for pattern, read, bare in (
        (r"(\d{4}-\d\d-\d\d)([t\s]\d\d:\d\d(?::\d\d)?(?:z|[+-]\d\d:?\d\d)?)?(?!\.\d)", _iso, True),
        (r"(\d{4})-(\d\d)(?!\.\d)", _iso_month, False),
        (r"q([1-4])(?: (\d{4}))?", _quarter, False),
        (rf"(?:the )?{_ORDINAL.replace('(', '(?P<day>', 1)} (?:of )?(?P<month>{_MONTHS})\.?(?:,? (?P<year>\d{{4}}))?",
         _day_of_month, True),
        (rf"(?P<month>{_MONTHS})\.? {_ORDINAL.replace('(', '(?P<day>', 1)}(?:,? (?P<year>\d{{4}}))?",
         _day_of_month, True),
        (rf"(?P<last>last )(?P<month>{_MONTHS})(?P<year>(?!))?", _month, True),
        (rf"(?P<last>(?!))?(?P<month>{_MONTHS}),? (?P<year>\d{{4}})", _month, True),
        (rf"(?P<last>(?!))?(?P<month>{_MONTHS})(?P<year>(?!))?", _month, False),
        (r"(\d{4})(?!\.\d)", _year, False),
        (r"today|yesterday|(?:the )?day before yesterday|last night|this (?:morning|afternoon|evening)|tonight",
         _named_day, True),
        (rf"(last|this) ({'|'.join(_WEEKDAY)})", _weekday, True),
        (rf"()({'|'.join(_WEEKDAY)})", _weekday, False),
        (r"(the )?(last|past|previous|this|current) (week|weekend|month|quarter|year)", _last_unit, True),
        (rf"(?:the )?(?:last|past|previous) ({_COUNT}) (hour|day|week|month|year)s?", _last_units, True),
        (rf"({_COUNT}) (hour|day|week|month|year)s? ago", _ago, True),
    )
]  # fmt: skip
_PREPOSITION = re.compile(r"(?:in|on|during|of|from|over|within)\s+", re.IGNORECASE)
_BOUND = re.compile(r"(since|after|before|until|till)\s+(?:about\s+)?", re.IGNORECASE)
_PAIR = re.compile(r"(?:(between)|from)\s+", re.IGNORECASE)
_BETWEEN = re.compile(r"\s+and\s+", re.IGNORECASE)
_TO = re.compile(r"\s+(?:to|until|till|through)\s+", re.IGNORECASE)
# A quick look before all the patterns: most words begin no time.
_FIRST = "|".join(
    [*_MONTH, *_WEEKDAY, *(name.split()[0] for name in _NUMBER), "the", "day", "last", "past", "previous", "this",
     "current", "today", "tonight", "yesterday", r"q[1-4]"]
)  # fmt: skip
_BEFORE = "in|on|during|of|from|over|within|since|after|before|until|till|between"
_ATOM_START = re.compile(rf"\d|(?:{_FIRST})\b", re.IGNORECASE)
_STARTS = re.compile(rf"(?<![\w./:@#-])(?=\d|(?:{_FIRST}|{_BEFORE})\b)", re.IGNORECASE)


def bounded(relation: str, range: TimeRange) -> TimeRange:
    """What `since`, `after`, `before` or `until` a time means: `after` is from its end on, `before` up to its start."""
    match relation.lower():
        case "since":
            return TimeRange(range.since, None)
        case "after":
            # Of what reaches to now (`the last week`) nothing is after.
            return TimeRange(range.until or range.since, None)
        case "before":
            return TimeRange(None, range.since)
        case _:
            return TimeRange(None, range.until)


def read_time(text: str, now: datetime, zone: tzinfo) -> TimeRange | None:
    """What a text means that is a time as a whole: an age (`7d`: the moment so long ago), a date, or plain words."""
    text = text.strip()
    clock = _Clock(now, zone)
    try:
        if age := _AGE.fullmatch(text):
            moment = now - timedelta(hours=int(age[1]) * _AGE_HOURS[age[2].lower()])
            return TimeRange(moment, moment)
        for form in dict.fromkeys([text, re.sub(r"(?<=[a-z])[-_]|[-_](?=[a-z])", " ", text, flags=re.IGNORECASE)]):
            found = _atom(form, 0, clock, bare=False)
            if found is not None and found[0] == len(form):
                return found[1]
    except OverflowError:
        pass
    return None


def find_times(text: str, now: datetime, zone: tzinfo) -> list[TimeMention]:
    """The times that a text speaks of, in order, not overlapping."""
    clock = _Clock(now, zone)
    mentions: list[TimeMention] = []
    end = 0
    for start in _STARTS.finditer(text):
        if start.start() < end:
            continue
        try:
            found = _mention(text, start.start(), clock)
        except OverflowError:
            found = None
        if found is not None:
            mentions.append(TimeMention(start.start(), *found))
            end = found[0]
    return mentions


def both(first: TimeRange, second: TimeRange) -> TimeRange | None:
    """What two ranges share; None for nothing."""
    since = max(filter(None, [first.since, second.since]), default=None)
    until = min(filter(None, [first.until, second.until]), default=None)
    return None if since is not None and until is not None and since >= until else TimeRange(since, until)


def _mention(text: str, start: int, clock: _Clock) -> tuple[int, TimeRange] | None:
    if pair := _PAIR.match(text, start):
        first = _atom(text, pair.end(), clock, bare=False)
        joint = (_BETWEEN if pair[1] else _TO).match(text, first[0]) if first else None
        second = _atom(text, joint.end(), clock, bare=False) if joint else None
        if first and second:
            since, until = first[1].since, second[1].until
            if since is not None and until is not None and since < until:
                return second[0], TimeRange(since, until)
    if bound := _BOUND.match(text, start):
        found = _atom(text, bound.end(), clock, bare=False)
        return (found[0], bounded(bound[1], found[1])) if found else None
    if preposition := _PREPOSITION.match(text, start):
        return _atom(text, preposition.end(), clock, bare=False)
    return _atom(text, start, clock, bare=True)


def _atom(text: str, start: int, clock: _Clock, *, bare: bool) -> tuple[int, TimeRange] | None:
    if not _ATOM_START.match(text, start):
        return None
    for pattern, read, stands_alone in _ATOMS:
        if bare and not stands_alone:
            continue
        if match := pattern.match(text, start):
            try:
                found = read(match, clock)
            except ValueError:  # 30 February
                continue
            if found is not None:
                return match.end(), found
    return None
