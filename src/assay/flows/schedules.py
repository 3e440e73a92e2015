"""When a dataset is asked for: by its contract's `every`, or after each session of its calendar."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from assay.contract.calendars import Calendar
from assay.contract.model import Contract
from assay.windows import Duration

SOON = timedelta(minutes=5)
"""So long after a moment its flow runs: clocks differ, and a vendor needs some time itself."""
FIRST = date(1970, 1, 5)
"""A Monday, from which slots of days count (`windows.cell_of`)."""
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def of(contract: Contract) -> dict[str, Any]:
    """A schedule as Prefect takes it.

    What is landed whole is asked for at the beginning of each slot of `every`. Days are asked for once they are over, in
    UTC, and not before they can be known by `knownAt`; of a dataset with a calendar, only days with a session, early after
    half of one.
    """
    if not contract.window:
        return _slots(Duration.parse(contract.every or "P1D"))
    calendar = contract.calendar
    due = [_due(contract, day) for day in _sample(calendar)]
    local = [one for one, midnight in due if one > midnight]
    if local and len(local) == len(due):
        return _after_close(contract, calendar)
    late = max((one - midnight for one, midnight in due), default=timedelta())
    at = max(late, timedelta()) + SOON
    days = range(5) if calendar else range(7)
    shift = 1 + at.days
    return _rule(
        [(n + shift) % 7 for n in days], time(at.seconds // 3600, at.seconds // 60 % 60), "UTC",
        without=[day + timedelta(shift) for day in _recent(calendar)],
    )  # fmt: skip


def _slots(every: Duration) -> dict[str, Any]:
    if every.months:
        return {
            "rrule": f"DTSTART:19700101T00{SOON.seconds // 60:02}00\nRRULE:FREQ=MONTHLY;INTERVAL={every.months}", "timezone": "UTC",
        }  # fmt: skip
    anchor = datetime.combine(FIRST, time(), UTC) + SOON
    return {"interval": every.exact.total_seconds(), "anchor_date": anchor.isoformat(), "timezone": "UTC"}


def _after_close(contract: Contract, calendar: Calendar | None) -> dict[str, Any]:
    """After each session's own close, where that is later than the day's end in UTC."""
    known = contract.known_at
    assert known is not None  # noqa: S101 - nothing else is known later than the day is over
    early = [(day, closes) for day, closes in contract.early if day.toordinal() in _years(calendar)]
    usual = _at(known.time, known.lag)
    moments = [(day, _at(closes, known.lag)) for day, closes in early]
    days = range(5) if calendar else range(7)
    return _rule(
        [(n + usual.days) % 7 for n in days], time(usual.seconds // 3600, usual.seconds // 60 % 60), known.zone,
        without=[day + timedelta(usual.days) for day in [*_recent(calendar), *(day for day, _ in early)]],
        beside=[datetime.combine(day, time()) + at for day, at in moments],
    )  # fmt: skip


def _at(clock: str, lag: str) -> timedelta:
    hours, minutes = map(int, clock.split(":"))
    return timedelta(hours=hours, minutes=minutes) + Duration.parse(lag).exact + SOON


def _due(contract: Contract, day: date) -> tuple[datetime, datetime]:
    """When a day can be known, and when it is over in UTC."""
    midnight = datetime.combine(day + timedelta(1), time(), UTC)
    known = contract.known_at
    if known is None:
        return midnight, midnight
    closes = dict(contract.early).get(day, known.time)
    hours, minutes = map(int, closes.split(":"))
    local = datetime.combine(day, time(), ZoneInfo(known.zone)) + timedelta(hours=hours, minutes=minutes)
    return (local + Duration.parse(known.lag).exact).astimezone(UTC), midnight


def _sample(calendar: Calendar | None) -> list[date]:
    """Days of a year, by which is seen when days can be known: clocks change, and some sessions are short."""
    if calendar is None:
        return [date(2024, 1, 1) + timedelta(n) for n in range(366)]
    return [date.fromordinal(n) for n in _years(calendar) if calendar.session(date.fromordinal(n))]


def _years(calendar: Calendar | None) -> range:
    """The last two years that a calendar speaks of, as ordinals: what a schedule leaves out does not change with the day it is made."""
    return (
        range(max(calendar.end.toordinal() - 731, calendar.start.toordinal()), calendar.end.toordinal())
        if calendar
        else range(0)
    )


def _recent(calendar: Calendar | None) -> list[date]:
    return [day for day in calendar.closed if day.toordinal() in _years(calendar)] if calendar else []


def _rule(
    weekdays: list[int], at: time, zone: str, *, without: list[date], beside: list[datetime] | None = None
) -> dict[str, Any]:
    """A weekly rule of RFC 5545, without some days and with some moments beside it."""
    clock = f"T{at:%H%M}00"
    lines = [
        f"DTSTART:{FIRST:%Y%m%d}{clock}",
        f"RRULE:FREQ=WEEKLY;BYDAY={','.join(_DAYS[n] for n in sorted(weekdays))}",
    ]
    if without:
        lines.append("EXDATE:" + ",".join(f"{day:%Y%m%d}{clock}" for day in sorted(without)))
    if beside:
        lines.append("RDATE:" + ",".join(f"{moment:%Y%m%dT%H%M%S}" for moment in sorted(beside)))
    return {"rrule": "\n".join(lines), "timezone": zone}
