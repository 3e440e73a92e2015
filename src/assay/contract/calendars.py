"""Calendars: the days on which a market has a session and when it closes early, as a lake's `calendars/<name>.csv` says."""

import csv
import io
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from assay.errors import ContractError

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
HEADER = ["day", "closes"]
DAYS_END = "24:00"
_ATTACHED = "\n--- | # calendars/"
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d", re.ASCII)
_LONGEST = 200 * 366


@dataclass(frozen=True)
class Calendar:
    """Sessions are the days from Monday to Friday from `start` up to `end`, without those that are `closed`.

    Outside of these days it says nothing.

    Attributes:
        early: the days whose session closes earlier, and when.
        closes, zone: when the other sessions close, and whose clocks these times are of; '' where nobody says.
    """

    name: str
    start: date
    end: date
    closed: tuple[date, ...] = ()
    early: tuple[tuple[date, str], ...] = ()
    closes: str = ""
    zone: str = ""

    @property
    def file(self) -> str:
        """Where it lies in the lake."""
        return f"calendars/{self.name}.csv"

    @cached_property
    def bits(self) -> str:
        """Of each day from `start` on, whether it has a session: 1 or 0."""
        closed, first = set(self.closed), self.start.weekday()
        days = (self.end - self.start).days
        return "".join("0" if (first + n) % 7 > 4 or self.start + timedelta(n) in closed else "1" for n in range(days))

    @cached_property
    def number(self) -> int:
        """`bits` as a number: its first day is the highest bit, its last one the lowest."""
        return int(self.bits, 2)

    def session(self, day: date) -> bool | None:
        """Whether the day has a session; None where the calendar does not speak of it."""
        return self.bits[(day - self.start).days] == "1" if self.start <= day < self.end else None

    def close(self, day: date) -> str:
        """The hour at which the session of a day closes, early on a half day; '' where nobody says."""
        return dict(self.early).get(day, self.closes)

    @cached_property
    def text(self) -> str:
        """What of the file counts, in one spelling."""
        usual = f"{self.closes} {self.zone}" if self.closes else ""
        days = sorted([*((day, "") for day in self.closed), *self.early])
        rows = [",".join(HEADER), f"{self.start}..{self.end},{usual}", *(f"{day},{closes}" for day, closes in days)]
        return "".join(f"{row}\n" for row in rows)


def attached(text: str, calendar: Calendar) -> str:
    """A contract's text with its calendar behind it, as a second document of YAML: what the lake keeps and judges by."""
    lines = "".join(f" {line}\n" for line in calendar.text.splitlines())
    return f"{text}{_ATTACHED}{calendar.name}.csv\n{lines}"


def parted(text: str, name: str) -> tuple[str, Calendar | None]:
    """What `attached` put together; `name` is what complaints call it."""
    whole, found, rest = text.partition(_ATTACHED)
    if not found:
        return text, None
    title, _, lines = rest.partition("\n")
    said = "".join(line.removeprefix(" ") for line in lines.splitlines(keepends=True))
    return whole, parse(said, title.removesuffix(".csv"), name)


def read(path: Path) -> Calendar:
    """The calendar in a file; ContractError with all that is wrong in it, a line each."""
    name = f"{path.parent.name}/{path.name}"
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ContractError(f"{name}:{line}: not UTF-8; save the file as UTF-8") from None
    return parse(text, path.stem, name)


@lru_cache(64)
def parse(text: str, calendar: str, name: str) -> Calendar:
    """The calendar of that name in a text; `name` is what complaints call the text.

    The first row says from when until when it speaks, and when its sessions close. Each other row is a day from Monday to
    Friday: one without a session, or one that closes early. Empty lines, and those that begin with #, say nothing.
    """
    rows = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if not rows or _cells(rows[0][1]) != HEADER:
        raise ContractError(f"{name}:{rows[0][0] if rows else 1}: its first line must be day,closes")
    if len(rows) < 2:
        raise ContractError(f"{name}:{rows[0][0]}: {_SPAN}")
    start, end, closes, zone = _first(*rows[1], name)
    wrong: list[str] = []
    closed: list[date] = []
    early: list[tuple[date, str]] = []
    before = date.min
    for n, line in rows[2:]:
        try:
            day, at = _row(line, before, (start, end), (closes, zone))
        except ValueError as error:
            wrong.append(f"{name}:{n}: {error}")
            continue
        before = day
        if at:
            early.append((day, at))
        else:
            closed.append(day)
    if wrong:
        raise ContractError(*wrong)
    return Calendar(calendar, start, end, tuple(closed), tuple(early), closes, zone)


_SPAN = (
    "the first row says from when until when the calendar speaks, the last day left out, and when its sessions close, if "
    "that matters: 2000-01-01..2028-01-01,16:00 America/New_York"
)


def instant(day: date, hour: str, zone: str) -> datetime:
    """The moment of a local time of a day, `24:00` being the next day's first; of one that came twice the first."""
    hours, minutes = map(int, hour.split(":"))
    local = datetime.combine(day + timedelta(days=hours // 24), time(hours % 24, minutes), ZoneInfo(zone))
    return local.astimezone(UTC)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader(io.StringIO(line)), [])]


def _first(n: int, line: str, name: str) -> tuple[date, date, str, str]:
    """The days a calendar speaks of, and when its sessions close where."""
    span, closes, *more = [*_cells(line), ""]
    days = span.split("..")
    if len(days) != 2 or more[1:] or not all(map(_is_day, days)):
        raise ContractError(f"{name}:{n}: {_SPAN}")
    start, end = map(date.fromisoformat, days)
    if not start < end or (end - start).days > _LONGEST:
        raise ContractError(f"{name}:{n}: {span} holds no day, or more than 200 years")
    at, _, zone = closes.partition(" ")
    if closes and (not _TIME.fullmatch(at) or not _is_zone(zone)):
        raise ContractError(f"{name}:{n}: {closes} is no local time of a zone, such as 16:00 America/New_York")
    return start, end, at, zone


def _row(line: str, before: date, span: tuple[date, date], usual: tuple[str, str]) -> tuple[date, str]:
    """A day, and when it closes early or '' where it has no session; ValueError says what is wrong."""
    cells = _cells(line)
    if len(cells) != 2:
        raise ValueError(
            f"{line.strip()} is not a day and when it closes; a day without a session is written 2001-09-11,"
        )
    said, closes = cells
    if not _is_day(said):
        raise ValueError(f"{said} is no day as YYYY-MM-DD")
    day = date.fromisoformat(said)
    if day == before:
        raise ValueError(f"{day} stands there twice; keep one")
    if day < before:
        raise ValueError(f"{day} stands behind {before}; put the days in order")
    if not span[0] <= day < span[1]:
        raise ValueError(
            f"{day} is outside of {span[0]}..{span[1]}, of which the calendar speaks; widen that or leave the day out"
        )
    if day.isoweekday() > 5:
        raise ValueError(f"{day} is a {day:%A}, which has no session in any case; leave it out, or mend the day")
    if not closes:
        return day, ""
    if not _TIME.fullmatch(closes):
        raise ValueError(f"{closes} is no time such as 13:00; a day without a session has none")
    if not usual[0]:
        raise ValueError(
            f"{day} closes early, and the first row does not say when and where the others close; say it there"
        )
    if closes >= usual[0]:
        raise ValueError(f"{day} closes at {closes}, which is not before {usual[0]}; leave out what closes as usual")
    return day, closes


def _is_day(text: str) -> bool:
    try:
        return bool(_DAY.fullmatch(text) and date.fromisoformat(text))
    except ValueError:
        return False


def _is_zone(name: str) -> bool:
    try:
        return bool(name) and bool(ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        return False


def of_exchange(found: Any, name: str, start: date) -> Calendar:
    """A calendar of the library exchange_calendars, from `start` to its last session.

    ContractError where it has sessions at weekends, which such a file cannot say.
    """
    sessions = {one.date() for one in found.sessions if start <= one.date()}
    if weekend := next((day for day in sorted(sessions) if day.isoweekday() > 5), None):
        raise ContractError(f"{name} has sessions at weekends ({weekend}), and a calendar of a lake has none")
    end = max(sessions) + timedelta(1)
    usual: time = found.close_times[-1][1]
    zone = str(found.tz)
    early = [
        (one.date(), found.session_close(one).tz_convert(found.tz).strftime("%H:%M"))
        for one in found.early_closes
        if one.date() in sessions
    ]
    days = (start + timedelta(n) for n in range((end - start).days))
    closed = tuple(day for day in days if day.isoweekday() <= 5 and day not in sessions)
    return Calendar(name, start, end, closed, tuple(sorted(early)), f"{usual:%H:%M}", zone)
