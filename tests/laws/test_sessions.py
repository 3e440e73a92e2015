"""Days that a calendar has: what is none is no row, a half day is known at its early close, and a session without a row is told."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.contract.calendars import Calendar
from assay.contract.model import KnownAt, Rule
from assay.engines.duckdb import DuckDBEngine
from assay.ports import Limits, N
from tests.every.engines import ENGINES, contract, engine_of, good, line, part
from tests.laws import oracle

FIRST = date(2019, 12, 20)
DAYS = [FIRST + timedelta(n) for n in range(420)]
TIMES = st.sampled_from(["00:30", "12:00", "13:00", "14:30", "16:00", "24:00"])
ZONES = st.sampled_from(["America/New_York", "Europe/Berlin", "UTC"])


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    """Some year or less around 2020, with days without a session and half days."""
    start = draw(st.sampled_from(DAYS[:60]))
    end = start + timedelta(draw(st.integers(1, 400)))
    weekdays = [day for day in DAYS if start <= day < end and day.isoweekday() < 6]
    closed = draw(st.sets(st.sampled_from(weekdays), max_size=30)) if weekdays else set()
    open_ = [day for day in weekdays if day not in closed]
    early = (
        draw(st.dictionaries(st.sampled_from(open_), st.sampled_from(["09:30", "13:00", "13:15"]), max_size=9))
        if open_
        else {}
    )
    return Calendar("mine", start, end, tuple(sorted(closed)), tuple(sorted(early.items())), "16:00", draw(ZONES))


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_takes_the_days_of_a_calendar_and_knows_half_days_at_their_close(
    engine: str, tmp_path: Path
) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(calendars(), TIMES, st.sampled_from(["PT0S", "PT2H"]))
    def judged(calendar: Calendar, time: str, lag: str) -> None:
        day_rule = Rule("day:calendar", "a session of mine", day="day")
        promised = contract(
            rules=(day_rule,),
            days="mine",
            calendar=calendar,
            known_at=KnownAt("day", time, calendar.zone, lag),
            unique=(),
        )
        one = engine_of(engine, tmp_path / "s")
        lines = [line(n, 0, good(id=json.dumps(f"a{n}"), day=f'"{day}"')) for n, day in enumerate(DAYS)]
        rows = one.rows(promised, lines)
        none = {
            day
            for day in DAYS
            if calendar.start <= day < calendar.end and (day.strftime("%w") in "06" or day in calendar.closed)
        }
        assert {day for day, row in zip(DAYS, rows, strict=True) if row is None} == none
        half = dict(calendar.early)
        for day, row in zip(DAYS, rows, strict=True):
            if row is not None:
                at = min(time, half.get(day, time)) if time != "24:00" else time
                plain = contract(known_at=KnownAt("day", at, calendar.zone, lag))
                assert row["known_at"] == oracle.known_at(plain, {"day": day}), day
        with one.group(promised, [part(tmp_path / "p", lines, {0: N})]) as group:
            assert group.judged()[N].reasons == ({"day:calendar": len(none)} if none else {})

    judged()


def test_a_day_that_cannot_be_read_breaks_no_calendar(tmp_path: Path) -> None:
    promised = contract(
        rules=(Rule("day:calendar", "a session of mine", day="day"),), unique=(),
        calendar=Calendar("mine", DAYS[0], DAYS[-1]),
    )  # fmt: skip
    lines = [line(0, 0, good(day='"20200101"')), line(1, 0, good(day="null"))]
    with DuckDBEngine(Limits(scratch=tmp_path / "s")).group(promised, [part(tmp_path / "p", lines, {0: N})]) as group:
        assert group.judged()[N].reasons == {"day:type": 1, "day:required": 1}
