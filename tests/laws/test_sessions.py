"""Days that a calendar has: what is none is no row, a half day is known at its early close, and a session without a row is told."""

import json
import os
import random
import tempfile
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assay import clock
from assay.contract.calendars import Calendar
from assay.contract.model import KnownAt, Rule
from assay.engines.duckdb import DuckDBEngine
from assay.lake import bronze, holes
from assay.lake.bronze import Asked
from assay.lake.landing import Landing
from assay.land import scope_of
from assay.ports import Limits, N
from assay.run import Lake, prove
from assay.windows import Window
from tests.every.engines import ENGINES, contract, engine_of, good, line, part
from tests.laws import oracle
from tests.laws.lakes import new_lake, opened
from tests.making import EVERY_TYPE, Made, record

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
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
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
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
        warned = contract(rules=(replace(day_rule, severity="warning"),), days="mine", calendar=calendar, unique=())
        with one.group(warned, [part(tmp_path / "p", lines, {0: N})]) as group:
            found = group.judged()[N]
            assert (found.good, found.reasons) == (len(DAYS), {})
            assert found.warnings == ({"day:calendar": len(none)} if none else {})

    judged()


def test_a_day_that_cannot_be_read_breaks_no_calendar(tmp_path: Path) -> None:
    promised = contract(
        rules=(Rule("day:calendar", "a session of mine", day="day"),), unique=(),
        calendar=Calendar("mine", DAYS[0], DAYS[-1]),
    )  # fmt: skip
    lines = [line(0, 0, good(day='"20200101"')), line(1, 0, good(day="null"))]
    with DuckDBEngine(Limits(scratch=tmp_path / "s")).group(promised, [part(tmp_path / "p", lines, {0: N})]) as group:
        assert group.judged()[N].reasons == {"day:type": 1, "day:required": 1}


# holes

HOLES = int(os.environ.get("HOLES_EXAMPLES", "4"))
PROMISE = (
    (
        EVERY_TYPE.replace(
            "{property: every, value: P1D}", "{property: window, value: P1M}\n  - {property: start, value: 2024-01-01}"
        )
        .replace("{path: things}", "{path: things, shard_param: id, date_field: day}")
        .replace(
            "name: day, logicalType: date, required: true",
            "name: day, logicalType: date, required: true, primaryKey: true, primaryKeyPosition: 2",
        )
        .replace("quarantinedAtMost: 50", "quarantinedAtMost: 100, withdrawnAtMost: 100")
    )
    + "  - {property: universe, value: us}\n  - {property: complete, value: true}\n  - {property: calendar, value: mine}\n"
)
SPRING = [date(2024, 1, 1) + timedelta(n) for n in range(60)]
SHARDS = ("A", "B", "C")


def spring(rng: random.Random) -> Calendar:
    """A calendar of most of the days that are asked for."""
    start, end = SPRING[rng.randint(0, 12)], SPRING[rng.randint(45, 59)]
    days = [day for day in SPRING if start <= day < end and day.isoweekday() < 6]
    closed = rng.sample(days, rng.randint(0, 9))
    half = tuple((day, "13:00") for day in days[:3] if day not in closed)
    return Calendar("mine", start, end, tuple(sorted(closed)), half, "16:00", "UTC")


@dataclass(frozen=True)
class Answer:
    """What one ask brought: days with a good row, and days with a bad one."""

    shard: str
    start: date
    end: date
    rows: dict[date, bool]


def answer(rng: random.Random) -> Answer:
    """A complete answer of some days, which lacks some, or all, and whose rows may be bad, or all of them."""
    first, last = sorted((rng.randint(0, 59), rng.randint(0, 59)))
    days = SPRING[first : last + 1]
    there, good = rng.choice([0.1, 0.8, 0.8, 1.0, 0.0]), rng.choice([0.8, 0.8, 1.0, 0.0])
    rows = {day: rng.random() < good for day in days if rng.random() < there}
    return Answer(rng.choice(SHARDS), days[0], days[-1] + timedelta(1), rows)


@dataclass
class Holes:
    """The oracle: what is landed, there, rejected and held, and what is missing then."""

    calendar: Calendar
    landed: set[tuple[str, date]] = field(default_factory=set)
    there: set[tuple[str, date]] = field(default_factory=set)
    rejected: set[tuple[str, date]] = field(default_factory=set)
    held: list[Answer] = field(default_factory=list)

    def take(self, one: Answer) -> None:
        asked = {(one.shard, one.start + timedelta(n)) for n in range((one.end - one.start).days)}
        self.landed |= asked
        good = {
            (one.shard, day)
            for day, fits in one.rows.items()
            if fits and oracle.session(self.calendar, day) is not False
        }
        if len(one.rows) > 1 and not good:
            self.held.append(one)
            return
        self.held = [h for h in self.held if not (h.shard == one.shard and one.start <= h.start and h.end <= one.end)]
        said = {(one.shard, day) for day in one.rows}
        if said:
            self.there -= asked - said
        self.there |= good
        self.rejected |= said - good

    def told(self) -> dict[str, tuple[date, ...]]:
        out = {}
        for shard in SHARDS:
            mine = sorted(day for s, day in self.there if s == shard and oracle.session(self.calendar, day))
            held = {
                h.start + timedelta(n) for h in self.held if h.shard == shard for n in range((h.end - h.start).days)
            }
            lacks = [
                day
                for day in SPRING
                if mine
                and mine[0] < day < mine[-1]
                and oracle.session(self.calendar, day)
                and (shard, day) in self.landed
                if day not in mine and day not in held and (shard, day) not in self.rejected
            ]
            if lacks:
                out[shard] = tuple(lacks)
        return out


def promised_lake(root: Path, calendar: Calendar, text: str = PROMISE) -> tuple[Lake, Made]:
    (root / "calendars").mkdir(parents=True)
    (root / "calendars" / "mine.csv").write_text(calendar.text)
    (root / "universe_us.csv").write_text(
        "symbol,valid_from,valid_to\n" + "".join(f"{one},2000-01-01,\n" for one in SHARDS)
    )
    return new_lake(root, text=text)


def land(lake: Lake, made: Made, one: Answer) -> None:
    """One answer, as an entry of its own."""
    promised = lake.contract("things")
    made.promise(promised)
    with Landing(
        made.files, made.ledger, "things", bronze.adopt(made.files, made.ledger, "things"), run="run", source="fmp",
        code="0" * 64, origin="synthetic", capture=promised.capture_fingerprint, contract=promised.sha256,
    ) as landing:  # fmt: skip
        days = Window(one.start, one.end)
        with landing.ask(one.shard, days, scope=scope_of(promised, one.shard, days)) as ask:
            records = [
                record(id=f'"{one.shard}"', day=f'"{day}"', whole="7" if good else "2000000")
                for day, good in one.rows.items()
            ]
            ask.page(Asked({}, clock.now(), 1, "0" * 64, len(records), url="http://127.0.0.1/things"), records)
        assert landing.commit()


@pytest.mark.slow
@settings(max_examples=HOLES, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(st.integers(0, 10**6))
def test_a_session_without_a_row_is_told_until_a_later_answer_brings_it(seed: int) -> None:
    rng = random.Random(seed)
    calendar = spring(rng)
    drawn = [(answer(rng), rng.random() < 0.3) for _ in range(9)]
    with tempfile.TemporaryDirectory() as directory:
        lake, made = promised_lake(Path(directory) / "lake", calendar)
        right = Holes(calendar)
        for one, now in [*drawn[:-1], (drawn[-1][0], True)]:
            land(lake, made, one)
            right.take(one)
            if now:
                lake.refine("things")
                found = holes.of(made.ledger, lake.contract("things"))
                assert (found.shards if found else {}) == right.told()
                assert found is None or (found.sessions, found.lacking) == (
                    sum(map(len, found.shards.values())),
                    len(found.shards),
                )
        prove.counts(lake)  # a new ledger says the same
        before = lake.status()["datasets"]["things"]["holes"]
        lake.close()
        (made.root / "ledger.db").unlink()
        assert opened(Path(directory) / "lake", made)[0].status()["datasets"]["things"]["holes"] == before
