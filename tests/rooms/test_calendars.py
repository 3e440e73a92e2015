"""Calendars as files of a lake: what they say, what is wrong in them with file and line, and what a contract keeps of them."""

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.contract import calendars, odcs
from assay.contract.calendars import Calendar
from assay.contract.changes import changes
from assay.errors import ContractError, SettingsError, UsageError
from assay.lake import bronze
from assay.run import calendar as write
from assay.run.lake import ending
from assay.targets.local import DiskFiles
from tests.making import EVERY_TYPE

ROOT = Path(__file__).parents[2]
DAYS = """\
# bank holidays

day,closes
2024-01-01..2025-01-01,16:00 America/New_York
2024-01-15,
2024-07-03,13:00
2024-07-04,
"""
GATE = "  - {property: gate"
NAMED = (
    EVERY_TYPE.replace("{column: at}", "{column: day, time: '16:00', zone: America/New_York}")
    .replace("{name: day, logicalType: date, required: true", "{name: day, logicalType: date, required: true, primaryKey: true, primaryKeyPosition: 2")
    .replace(GATE, "  - {property: calendar, value: XNYS}\n" + GATE)
)  # fmt: skip


def lake_of(root: Path, text: str | bytes | None = DAYS, contract: str = NAMED) -> Path:
    """A directory with one contract, and a calendar beside it if there is one."""
    for name in ("contracts", "calendars"):
        (root / name).mkdir(parents=True, exist_ok=True)
    if text is not None:
        (root / "calendars" / "XNYS.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    (root / "contracts" / "things.yaml").write_text(contract)
    return root


def test_a_calendar_says_which_days_are_sessions_and_where_it_says_nothing(tmp_path: Path) -> None:
    found = calendars.read(lake_of(tmp_path) / "calendars" / "XNYS.csv")
    assert found == Calendar(
        "XNYS", date(2024, 1, 1), date(2025, 1, 1), (date(2024, 1, 15), date(2024, 7, 4)), ((date(2024, 7, 3), "13:00"),),
        "16:00", "America/New_York",
    )  # fmt: skip
    days = (
        "2023-12-29",
        "2024-01-01",
        "2024-01-13",
        "2024-01-14",
        "2024-01-15",
        "2024-07-03",
        "2024-07-04",
        "2024-12-31",
        "2025-01-01",
    )
    said = [found.session(date.fromisoformat(day)) for day in days]
    assert said == [None, True, False, False, False, True, False, True, None]


WRONG = {
    "another header": ("days,closes\n2024-01-01..2025-01-01,\n", 1, "its first line must be day,closes"),
    "nothing": ("", 1, "its first line must be day,closes"),
    "no range": ("day,closes\n", 1, "the first row says from when until when"),
    "a day where the range is": ("day,closes\n2024-01-15,\n", 2, "the first row says from when until when"),
    "a range that ends before it begins": ("day,closes\n2025-01-01..2024-01-01,\n", 2, "holds no day"),
    "a zone that is none": ("day,closes\n2024-01-01..2025-01-01,16:00 Nowhere\n", 2, "16:00 Nowhere is no local time of a zone"),
    "an hour without a zone": ("day,closes\n2024-01-01..2025-01-01,16:00\n", 2, "16:00 is no local time of a zone"),
    "a day that is none": (DAYS + "2024-13-01,\n", 8, "2024-13-01 is no day as YYYY-MM-DD"),
    "another way to write a day": (DAYS + "25.12.2024,\n", 8, "25.12.2024 is no day as YYYY-MM-DD"),
    "a day twice": (DAYS + "2024-07-04,13:00\n", 8, "2024-07-04 stands there twice; keep one"),
    "a day out of order": (DAYS + "2024-02-19,\n", 8, "2024-02-19 stands behind 2024-07-04"),
    "a session at a weekend": (DAYS + "2024-07-06,13:00\n", 8, "2024-07-06 is a Saturday"),
    "a day outside of the range": (DAYS + "2025-01-01,\n", 8, "2025-01-01 is outside of 2024-01-01..2025-01-01"),
    "a time that is none": (DAYS + "2024-11-29,1pm\n", 8, "1pm is no time such as 13:00"),
    "a half day that is none": (DAYS + "2024-11-29,16:00\n", 8, "which is not before 16:00"),
    "a half day of nobody's clock": ("day,closes\n2024-01-01..2025-01-01,\n2024-07-03,13:00\n", 3, "the first row does not say when and where"),
    "a cell too many": (DAYS + "2024-11-29,,x\n", 8, "is not a day and when it closes"),
    "a day alone": (DAYS + "2024-11-29\n", 8, "is not a day and when it closes"),
    "bytes that are no UTF-8": (DAYS.encode() + b"\xff,\n", 8, "not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_in_a_calendar_is_said_with_file_and_line(tmp_path: Path, case: str) -> None:
    text, line, said = WRONG[case]
    found = odcs.read_each(lake_of(tmp_path, text) / "contracts")[1]
    assert [str(one).split(": ")[0] for one in found] == [f"calendars/XNYS.csv:{line}"]
    assert said in str(found[0])


def test_all_that_is_wrong_is_said_at_once_and_once_for_all_contracts(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, DAYS + "2024-02-19,\nx,\n")
    (lake / "contracts" / "others.yaml").write_text(NAMED.replace("things", "others"))
    with pytest.raises(ContractError) as error:
        odcs.read_all(lake / "contracts")
    assert [line.split(": ")[0] for line in str(error.value).splitlines()] == [
        "calendars/XNYS.csv:8",
        "calendars/XNYS.csv:9",
    ]


def test_a_calendar_that_is_not_there_is_said_where_it_is_named(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, None)
    (lake / "calendars" / "XLON.csv").write_text(DAYS)
    line = NAMED.splitlines().index("  - {property: calendar, value: XNYS}") + 1
    with pytest.raises(
        ContractError, match=rf"^things.yaml:{line}: calendar: there is no calendars/XNYS.csv \(there is XLON\)"
    ):
        odcs.read_all(lake / "contracts")


def test_half_days_of_another_zone_than_known_at_are_refused(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, contract=NAMED.replace("zone: America/New_York", "zone: UTC"))
    with pytest.raises(ContractError, match=r"of America/New_York, and knownAt is of UTC"):
        odcs.read_all(lake / "contracts")
    lake = lake_of(tmp_path, contract=NAMED.replace("time: '16:00', zone: America/New_York", "zone: UTC"))
    assert odcs.read_all(lake / "contracts")["things"].early == ()  # a day without an hour is known at its end


def test_what_is_kept_of_a_contract_holds_its_calendar_and_nothing_that_says_nothing(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path / "data")
    found = odcs.read(lake_of(tmp_path) / "contracts" / "things.yaml", tmp_path / "kept")
    assert bronze.pinned(files, bronze.pin(files, found)) == odcs.parse(found.text)
    again = bronze.pinned(files, found.sha256)
    assert (again.calendar, again.early, again.sha256) == (found.calendar, ((date(2024, 7, 3), "13:00"),), found.sha256)
    assert (again.gate_fingerprint, again.refine_fingerprint) == (found.gate_fingerprint, found.refine_fingerprint)
    lake_of(tmp_path, "\ufeff# another comment\r\n" + DAYS.replace("\n", "\r\n"))
    assert odcs.read(tmp_path / "contracts" / "things.yaml", tmp_path / "kept").sha256 == found.sha256


def test_a_kept_contract_is_no_file_of_contracts(tmp_path: Path) -> None:
    found = odcs.read(lake_of(tmp_path) / "contracts" / "things.yaml")
    with pytest.raises(ContractError, match=r"^things.yaml:1: a second document"):
        odcs.read(lake_of(tmp_path, contract=found.text) / "contracts" / "things.yaml")
    with pytest.raises(ContractError, match=r"XNYS is named, XLON is with it"):
        odcs.parse(found.text.replace("--- | # calendars/XNYS", "--- | # calendars/XLON"), "kept.yaml")


def test_another_day_is_another_contract(tmp_path: Path) -> None:
    def read(text: str) -> odcs.Contract:
        return odcs.read(lake_of(tmp_path, text) / "contracts" / "things.yaml", tmp_path / "kept")

    first = read(DAYS)
    closed, half = read(DAYS + "2024-12-25,\n"), read(DAYS + "2024-12-24,13:00\n")
    assert len({one.sha256 for one in (first, closed, half)}) == 3
    assert (
        closed.gate_fingerprint != first.gate_fingerprint,
        closed.refine_fingerprint != first.refine_fingerprint,
    ) == (True, False)
    assert (half.gate_fingerprint != first.gate_fingerprint, half.refine_fingerprint != first.refine_fingerprint) == (
        False,
        True,
    )
    assert [one.said for one in changes(first, closed)] == [
        "the calendar XNYS has other days, or closes otherwise on some"
    ]
    assert "half days: some rows are known at another hour" in [one.said for one in changes(first, half)]
    assert {first.capture_fingerprint} == {closed.capture_fingerprint, half.capture_fingerprint}


def test_a_calendar_that_ends_soon_is_told(tmp_path: Path) -> None:
    found = odcs.read(lake_of(tmp_path) / "contracts" / "things.yaml")
    assert ending([found], date(2024, 11, 1)) == []
    [said] = ending([found, found], date(2024, 11, 2))
    assert said.startswith("calendars/XNYS.csv says nothing of 2025-01-01 and later")


# what an exchange's library says


@dataclass(frozen=True)
class _Moment:
    """A session or a time as pandas has it."""

    at: datetime

    def date(self) -> date:
        return self.at.date()

    def tz_convert(self, zone: ZoneInfo) -> datetime:
        return self.at.astimezone(zone)


class _Exchange:
    """As much of a calendar of exchange_calendars as is read: Monday to Friday of some weeks, one half day, one without a session."""

    tz = ZoneInfo("America/New_York")
    close_times = ((None, time(15)), (None, time(16)))
    half, none = date(2024, 7, 3), date(2024, 7, 4)

    def __init__(self, *more: date) -> None:
        days = (date(2024, 6, 24) + timedelta(n) for n in range(20))
        self.sessions = [self.at(d) for d in sorted({*(d for d in days if d.weekday() < 5 and d != self.none), *more})]
        self.early_closes = [self.at(self.half)]

    @staticmethod
    def at(day: date) -> _Moment:
        return _Moment(datetime(day.year, day.month, day.day, tzinfo=UTC))

    def session_close(self, session: _Moment) -> _Moment:
        return _Moment(session.at + timedelta(hours=17))


def test_an_exchanges_sessions_become_a_calendar_from_its_first_day_to_its_last() -> None:
    found = calendars.of_exchange(_Exchange(), "XNYS", date(2024, 7, 1))
    assert found == Calendar(
        "XNYS",
        date(2024, 7, 1),
        date(2024, 7, 13),
        (date(2024, 7, 4),),
        ((date(2024, 7, 3), "13:00"),),
        "16:00",
        "America/New_York",
    )
    with pytest.raises(ContractError, match=r"has sessions at weekends \(2024-07-06\)"):
        calendars.of_exchange(_Exchange(date(2024, 7, 6)), "XNYS", date(2024, 7, 1))


def test_without_the_library_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"pip install 'assay\[calendars\]'"):
        write(tmp_path, "XNYS")
    with pytest.raises(UsageError, match="is no name of a calendar"):
        write(tmp_path, "../XNYS")
    assert not (tmp_path / "calendars").exists()


def test_the_markets_lake_knows_when_new_york_was_closed() -> None:
    found = calendars.read(ROOT / "lakes" / "markets" / "calendars" / "XNYS.csv")
    closed = [
        "2001-09-11",
        "2001-09-12",
        "2001-09-13",
        "2001-09-14",
        "2004-06-11",
        "2007-01-02",
        "2012-10-29",
        "2012-10-30",
    ]
    assert not any(found.session(date.fromisoformat(day)) for day in closed)
    assert all(found.session(date.fromisoformat(day)) for day in ("2001-09-10", "2001-09-17", "2012-10-31"))
    assert dict(found.early)[date(2003, 12, 26)] == "13:00"


# any calendar

DAY = st.dates(date(2020, 1, 1), date(2026, 12, 31))


@settings(max_examples=100, deadline=None)
@given(st.sets(DAY, max_size=40), st.sets(DAY, max_size=10), st.booleans())
def test_any_calendar_is_its_text_again(closed: set[date], early: set[date], zoned: bool) -> None:
    weekdays = [{day for day in some if day.isoweekday() < 6} for some in (closed, early if zoned else set())]
    half = tuple((day, "13:00") for day in sorted(weekdays[1] - weekdays[0]))
    told = Calendar(
        "mine",
        date(2020, 1, 1),
        date(2027, 1, 1),
        tuple(sorted(weekdays[0])),
        half,
        "16:00" if zoned else "",
        "Europe/Berlin" if zoned else "",
    )
    assert calendars.parse(told.text, "mine", "mine.csv") == told
    text = calendars.attached("id: x\n", told)
    assert calendars.parted(text, "x") == ("id: x\n", told)
    assert list(yaml.safe_load_all(text)) == [{"id": "x"}, told.text]
    for day in (date(2020, 1, 1) + timedelta(n) for n in range(0, 2557, 13)):
        assert told.session(day) is (day.isoweekday() < 6 and day not in weekdays[0])


def test_a_pipe_in_a_calendars_place_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, DAYS)
    (lake / "calendars" / "XNYS.csv").unlink()
    os.mkfifo(lake / "calendars" / "XNYS.csv")
    with pytest.raises(ContractError, match=r"calendars/XNYS.csv: is no file that can be read; take it away"):
        odcs.read_all(lake / "contracts")
