"""A dataset is late when a promised time went by after a session of its calendar ended, and nothing was landed since."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.contract.calendars import Calendar
from assay.contract.model import Contract, KnownAt, Promise
from tests.making import every_type

THINGS = every_type()
FIRST, LAST = date(2024, 2, 26), date(2024, 3, 31)  # clocks change in New York on 10 March, in Berlin on 31 March
DAYS = [FIRST + timedelta(n) for n in range((LAST - FIRST).days)]
WEEKDAYS = [day for day in DAYS if day.isoweekday() < 6]
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Tokyo", "Pacific/Auckland", "Pacific/Honolulu")


def promised(lag: str, calendar: Calendar | None = None, days: str = "", known: KnownAt | None = None) -> Contract:
    return replace(
        THINGS, promises=(Promise("latency", lag),), days=days or (calendar.name if calendar else ""), calendar=calendar, known_at=known,
    )  # fmt: skip


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ends(contract: Contract, closed: set[date], early: dict[date, str]) -> list[datetime]:
    """When each session ended, as a person reads it off a calendar on the wall."""
    known, calendar = contract.known_at, contract.calendar
    hour, zone = (calendar.closes, calendar.zone) if calendar and calendar.closes else (known.time, known.zone) if known else ("24:00", "UTC")  # fmt: skip
    out = []
    for day in WEEKDAYS:
        if day in closed:
            continue
        said = early.get(day, hour)
        at = (day + timedelta(1), time()) if said == "24:00" else (day, time.fromisoformat(said))
        out.append(datetime.combine(*at, ZoneInfo(zone)).astimezone(UTC))
    return out


@given(
    st.lists(st.sampled_from(("open", "closed", "half")), min_size=len(WEEKDAYS), max_size=len(WEEKDAYS)),
    st.sampled_from(("", "16:00", "23:45")),
    st.sampled_from(ZONES),
    st.sampled_from((None, KnownAt("day", "16:30", "America/New_York"), KnownAt("day", "24:00", "Asia/Tokyo"))),
    st.booleans(),
    st.integers(1, 80),
    st.sampled_from(DAYS[:-9]),
    st.floats(0, 1),
    st.floats(0, 5),
)
@settings(max_examples=400)
def test_late_is_what_missed_the_end_of_a_session_and_the_lag(
    kinds: list[str],
    closes: str,
    zone: str,
    known: KnownAt | None,
    weekdays: bool,
    lag: int,
    day: date,
    hour: float,
    more: float,
) -> None:
    closed = {day for day, kind in zip(WEEKDAYS, kinds, strict=True) if kind == "closed"}
    early = {day: "13:00" for day, kind in zip(WEEKDAYS, kinds, strict=True) if kind == "half" and closes}
    calendar: Calendar | None = Calendar(
        "XNYS", FIRST, LAST, tuple(sorted(closed)), tuple(early.items()), closes, zone if closes else ""
    )
    days = "XNYS"
    if weekdays:
        calendar, days, closed, early = None, "weekdays", set(), {}
    contract = promised(f"PT{lag}H", calendar, days, known)
    landed = datetime.combine(day, time(), UTC) + timedelta(days=hour)
    at = landed + timedelta(hours=lag, days=more)
    missed = [end + timedelta(hours=lag) for end in ends(contract, closed, early) if landed < end]
    first = [min(missed)] if missed and min(missed) < at else []
    assert [late.since for late in contract.late(landed, at)] == first


NYSE = Calendar(
    "XNYS", date(2024, 1, 1), date(2025, 1, 1), (date(2024, 7, 4),), ((date(2024, 7, 3), "13:00"),), "16:00", "America/New_York",
)  # fmt: skip


@pytest.mark.parametrize(
    ("landed", "at", "since"),
    [
        ("2024-07-02T21:00", "2024-07-03T17:59", None),  # a half day closes at 17:00 UTC; an hour is not over
        ("2024-07-02T21:00", "2024-07-03T18:01", "2024-07-03T18:00"),
        ("2024-07-03T16:59", "2024-07-03T18:01", "2024-07-03T18:00"),  # landed before the close
        ("2024-07-03T17:00", "2024-07-05T20:59", None),  # no session on the 4th
        ("2024-07-03T17:00", "2024-07-05T21:01", "2024-07-05T21:00"),
        ("2024-07-05T20:30", "2024-07-08T20:30", None),  # a weekend
        ("2024-07-05T20:30", "2024-07-09T20:30", "2024-07-08T21:00"),  # since the first that was missed
        (
            "2024-03-08T22:00",
            "2024-03-11T21:01",
            "2024-03-11T21:00",
        ),  # 16:00 is an hour earlier in UTC from the 10th on
        ("2024-12-31T22:00", "2025-01-02T21:30", "2025-01-01T22:00"),  # beyond its days each weekday may have rows
        ("2025-01-03T22:00", "2025-01-06T21:30", None),  # and no weekend
    ],
)
def test_an_exchanges_sessions_half_days_and_zone_are_obeyed(landed: str, at: str, since: str | None) -> None:
    found = promised("PT1H", NYSE).late(utc(landed), utc(at))
    assert [one.since for one in found] == ([utc(since)] if since else [])


def test_what_is_late_says_which_session_and_how_old_the_newest_landing_is() -> None:
    [found] = promised("PT1H", NYSE).late(utc("2024-07-02T21:00"), utc("2024-07-04T00:30"))
    assert found.told == (
        "latency: at most PT1H after a session of XNYS was promised, that of 2024-07-03 ended 2024-07-03T17:00Z, and the newest landing is "
        "1 d 3 h old"
    )


def test_without_a_calendar_only_the_age_counts_and_what_never_landed_is_not_late() -> None:
    plain = promised("PT1H")
    assert plain.late(utc("2024-07-06T10:00"), utc("2024-07-06T11:00")) == []
    [found] = plain.late(utc("2024-07-06T10:00"), utc("2024-07-06T11:30"))
    assert (found.since, found.told) == (
        utc("2024-07-06T11:00"),
        "latency: at most PT1H was promised, and the newest landing is 1 h 30 min old",
    )
    assert promised("PT1H", NYSE).late(None, utc("2024-07-06T10:00")) == []
