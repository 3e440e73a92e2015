"""Law 11 of texts that are spelt another way: a day, a time or a number is exactly what its column's format says, or in quarantine."""

import json
import os
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.contract.model import Column
from assay.engines.duckdb import DuckDBEngine
from assay.ports import Engine, Limits, N
from tests import sparks
from tests.drawing import drawn
from tests.every.engines import ENGINES, NAMES, column, contract, engine_of, line, local, part
from tests.laws.slow_engine import SlowEngine

EXAMPLES = int(os.environ.get("EXAMPLES", "30"))
ID = column("id", "string", required=True, trim=True, nulls=("NA",))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return engine_of(request.param, tmp_path / "scratch")


@pytest.fixture(params=NAMES)
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Asked of each case by itself, since a line may change how the others of its file are read; on Spark each is cut alone."""
    return engine_of(request.param, tmp_path / "scratch")


def read(engine: Engine, tmp_path: Path, one: Column, *tokens: str) -> list[Any]:
    """What each token became, by the fast pass and alone; the reasons where it is in quarantine."""
    promised = contract(columns=(ID, one), key=("id",), known_at=None)
    lines = [line(0, n, f'{{"id":"a","v":{token}}}') for n, token in enumerate(tokens)]
    with engine.group(promised, [part(tmp_path / "p", lines, {n: (n + 1) * N for n in range(len(lines))})]) as group:
        judged = group.judged()
    rows = engine.rows(promised, lines)
    reasons = [";".join(sorted(judged[(n + 1) * N].reasons)) for n in range(len(lines))]
    assert [row is None for row in rows] == [bool(why) for why in reasons]
    return [why if row is None else row["v"] for row, why in zip(rows, reasons, strict=True)]


GERMAN = {"decimal": ",", "group": "."}
SPELT = [
    ("dd.MM.yyyy", "31.01.2024", date(2024, 1, 31)),
    ("dd.MM.yyyy", "29.02.2024", date(2024, 2, 29)),
    ("dd.MM.yyyy", "29.02.2023", "v:range"),
    ("dd.MM.yyyy", "31.13.2024", "v:range"),
    ("dd.MM.yyyy", "01.01.0000", "v:range"),
    ("dd.MM.yyyy", "1.1.2024", "v:type"),
    ("dd.MM.yyyy", "31x01x2024", "v:type"),
    ("dd.MM.yyyy", "31.01.24", "v:type"),
    ("dd.MM.yyyy", "2024-01-31", "v:type"),
    ("dd.MM.yyyy", " 31.01.2024", "v:type"),
    ("dd.MM.yyyy", "31.01.2024\n", "v:type"),
    ("dd.MM.yyyy", "٣١.٠١.2024", "v:type"),
    ("dd.MM.yyyy", "", None),
    ("MM/dd/yyyy", "01/31/2024", date(2024, 1, 31)),
    ("MM/dd/yyyy", "31/01/2024", "v:range"),
    ("M/d/yyyy", "1/31/2024", date(2024, 1, 31)),
    ("M/d/yyyy", "01/05/2024", date(2024, 1, 5)),
    ("M/d/yyyy", "001/5/2024", "v:type"),
    ("yyyyMMdd", "20240131", date(2024, 1, 31)),
    ("yyyyMMdd", "2024013", "v:type"),
    ("yyyy年MM月dd日", "2024年01月31日", date(2024, 1, 31)),
    ("dd.MM.yyyy 00:00", "31.01.2024 00:00", date(2024, 1, 31)),
    ("dd.MM.yyyy 00:00", "31.01.2024 09:30", "v:type"),
    ("[dd]'\\yyyy(MM)", "[31]'\\2024(01)", date(2024, 1, 31)),
]


@pytest.mark.parametrize(("pattern", "said", "value"), SPELT)
def test_a_day_is_what_its_format_says(alone: Engine, tmp_path: Path, pattern: str, said: str, value: object) -> None:
    assert read(alone, tmp_path, column("v", "date", format=pattern), json.dumps(said)) == [value]


TIMED = [
    ("dd.MM.yyyy HH:mm", "31.01.2024 09:30", datetime(2024, 1, 31, 8, 30, tzinfo=UTC)),
    ("dd.MM.yyyy HH:mm", "31.03.2024 02:30", "v:gap"),
    ("dd.MM.yyyy HH:mm", "27.10.2024 02:30", "v:ambiguous"),
    ("dd.MM.yyyy HH:mm", "30.02.2024 02:30", "v:range"),
    ("dd.MM.yyyy HH:mm", "31.01.2024 24:00", "v:type"),
    ("dd.MM.yyyy HH:mm", "31.01.2024 09:60", "v:type"),
    ("dd.MM.yyyy HH:mm", "31.01.2024 09:30:00", "v:type"),
    ("dd.MM.yyyy HH:mm", "31.01.2024", "v:type"),
    ("yyyyMMddTHHmmss", "20240131T093015", datetime(2024, 1, 31, 8, 30, 15, tzinfo=UTC)),
    ("M/d/yyyy H:mm:ss.SSS", "1/5/2024 9:30:15.120", datetime(2024, 1, 5, 8, 30, 15, 120000, tzinfo=UTC)),
    ("HH:mm:ss,SSSSSS yyyy-MM-dd", "09:30:15,000001 2024-01-31", datetime(2024, 1, 31, 8, 30, 15, 1, tzinfo=UTC)),
]


@pytest.mark.parametrize(("pattern", "said", "value"), TIMED)
def test_a_time_is_what_its_format_says(alone: Engine, tmp_path: Path, pattern: str, said: str, value: object) -> None:
    one = column("v", "timestamp", format=pattern, zone="Europe/Berlin")
    assert read(alone, tmp_path, one, json.dumps(said)) == [value]


SEPARATED = [
    (GERMAN, '"1.234,5"', Decimal("1234.5")),
    (GERMAN, '"-1.234.567,89"', Decimal("-1234567.89")),
    (GERMAN, '"1234,5"', Decimal("1234.5")),
    (GERMAN, '"1,5E-3"', Decimal("0.0015")),
    (GERMAN, '"1.234,"', Decimal(1234)),
    (GERMAN, '"1.234"', Decimal(1234)),
    (GERMAN, "1.234", Decimal("1.234")),
    (GERMAN, '"0,0000001"', "v:scale"),
    (GERMAN, '"0,0000010000000000000000000"', Decimal("0.000001")),
    (GERMAN, '"1.000.000.000.000,5"', "v:range"),
    (GERMAN, '"1.23,4"', "v:type"),
    (GERMAN, '"1.5"', "v:type"),
    (GERMAN, '"1234.567"', "v:type"),
    (GERMAN, '".123"', "v:type"),
    (GERMAN, '"1..234"', "v:type"),
    (GERMAN, '"1.234.56,7"', "v:type"),
    (GERMAN, '"1,234,567"', "v:type"),
    (GERMAN, '"1,5 EUR"', "v:type"),
    (GERMAN, '""', None),
    ({"decimal": ","}, '"1.234,5"', "v:type"),
    ({"decimal": ","}, '"1.5"', "v:type"),
    ({"group": ","}, '"1,234.5"', Decimal("1234.5")),
    ({"group": ","}, '"1,5"', "v:type"),
    ({"group": " ", "decimal": ","}, '"1 234\u202f567,5"', Decimal("1234567.5")),
    ({"group": " "}, '"1\u00a0234"', Decimal(1234)),
    ({"group": " "}, '" 1 234"', "v:type"),
    ({"group": " ", "trim": True}, '" 1 234 "', Decimal(1234)),
    ({"group": "'"}, '"1\u2019234\'567"', Decimal(1234567)),
    ({"trim": True}, '" 1.5e-5\u00a0"', Decimal("0.000015")),
    ({}, '" 1.5"', "v:type"),
    ({"nulls": ("NA", "1e400", "00")}, '"NA"', None),
    ({"nulls": ("NA", "1e400", "00")}, '"1e400"', None),
    ({"nulls": ("NA", "1e400", "00")}, '"00"', None),
    ({"nulls": ("NA", "1e400", "00")}, '"0"', Decimal(0)),
    ({"nulls": ("NA",)}, '"1e-5"', Decimal("0.00001")),
    ({"nulls": ("-999",)}, "-999", Decimal(-999)),
]


@pytest.mark.parametrize(("how", "token", "value"), SEPARATED)
def test_a_number_is_what_its_separators_say(
    alone: Engine, tmp_path: Path, how: dict, token: str, value: object
) -> None:
    assert read(alone, tmp_path, column("v", "number", precision=18, scale=6, **how), token) == [value]


BLANKS = [
    ("string", {"nulls": (".",)}, '"."', None),
    ("string", {"nulls": (".",)}, '"\\u002e"', None),
    ("string", {"nulls": (".",)}, '" ."', " ."),
    ("string", {"nulls": (".",), "trim": True}, '"\\t.\u3000"', None),
    ("string", {"nulls": (".",), "required": True}, '"."', "v:required"),
    ("string", {"nulls": ("a'b\\",)}, '"a\'b\\\\"', None),
    ("string", {"trim": True}, '" a \\"b\\u0000 "', 'a "b\0'),
    ("string", {"trim": True}, '"  "', None),
    ("string", {"trim": True}, "5", "v:type"),
    ("string", {}, '" a "', " a "),
    ("boolean", {"trim": True, "nulls": ("n/a",)}, '" true"', True),
    ("boolean", {"trim": True, "nulls": ("n/a",)}, '" n/a"', None),
    ("boolean", {"trim": True, "nulls": ("n/a",)}, "false", False),
    ("boolean", {"trim": True, "nulls": ("n/a",)}, '" yes"', "v:type"),
    ("integer", {"group": ",", "nulls": ("-",)}, '"-"', None),
    ("integer", {"group": ","}, '"9,223,372,036,854,775,808"', "v:range"),
    ("integer", {"decimal": ","}, '"5,00"', 5),
    ("integer", {"decimal": ","}, '"5,01"', "v:scale"),
    ("date", {"nulls": ("0000-00-00",)}, '"0000-00-00"', None),
    ("date", {"nulls": ("0000-00-00",)}, '"0000-00-01"', "v:type"),
    ("date", {"trim": True}, '" 2024-01-31"', date(2024, 1, 31)),
    ("date", {"trim": True, "format": "yyyyMMdd"}, '" 20240131"', date(2024, 1, 31)),
    ("date", {"format": "yyyyMMdd"}, "20240131", "v:type"),
    ("timestamp", {"trim": True}, '"2024-01-31T10:00Z "', datetime(2024, 1, 31, 10, tzinfo=UTC)),
]


@pytest.mark.parametrize(("kind", "how", "token", "value"), BLANKS)
def test_blanks_and_texts_that_mean_null_are_said_by_the_column(
    alone: Engine, tmp_path: Path, kind: str, how: dict, token: str, value: object
) -> None:
    assert read(alone, tmp_path, column("v", kind, **how), token) == [value]


@sparks.needed
def test_spark_reads_each_of_these_cases_so(tmp_path: Path) -> None:
    """A column for each way of spelling, and a batch for each token."""
    cases: list[tuple[str, dict[str, Any], str, object]] = [
        *(("date", {"format": pattern}, json.dumps(said), value) for pattern, said, value in SPELT),
        *(("timestamp", {"format": p, "zone": "Europe/Berlin"}, json.dumps(said), value) for p, said, value in TIMED),
        *(("number", {"precision": 18, "scale": 6, **how}, token, value) for how, token, value in SEPARATED),
        *(one for one in BLANKS if "required" not in one[1]),
    ]
    engine = engine_of("spark", tmp_path)
    columns = {}
    for kind, how, _, _ in cases:
        columns.setdefault(repr((kind, how)), column(f"v{len(columns)}", kind, **how))
    names = [columns[repr((kind, how))].name for kind, how, _, _ in cases]
    promised = contract(columns=(ID, *columns.values()), key=("id",), known_at=None)
    lines = [
        line(0, n, f'{{"id":"a","{name}":{token}}}')
        for n, (name, (_, _, token, _)) in enumerate(zip(names, cases, strict=True))
    ]
    with engine.group(promised, [part(tmp_path / "p", lines, {n: (n + 1) * N for n in range(len(lines))})]) as group:
        judged = group.judged()
    for n, (name, case, row) in enumerate(zip(names, cases, engine.rows(promised, lines), strict=True)):
        reasons = ";".join(sorted(judged[(n + 1) * N].reasons))
        assert (reasons.replace(f"{name}:", "v:") if row is None else row[name]) == case[3], case
        assert (row is None) == bool(reasons), case
    for kind, how, token, value in BLANKS:
        if "required" in how:
            assert read(engine, tmp_path, column("v", kind, **how), token) == [value]


def test_a_key_that_is_trimmed_is_one_key_and_a_null_of_it_is_required(engine: Engine, tmp_path: Path) -> None:
    promised = contract(columns=(ID,), key=("id",), known_at=None)
    lines = [line(n, 0, json.dumps({"id": said})) for n, said in enumerate(["a", " a", "a\u2003", "NA", " NA", " "])]
    with engine.group(promised, [part(tmp_path / "p", lines, {0: N})]) as group:
        judged = group.judged()[N]
    assert (judged.good, judged.duplicate, judged.keyless) == (1, 2, 3)
    assert judged.reasons == {"id:required": 3}


PATTERNS = ["dd.MM.yyyy", "M/d/yyyy", "yyyyMMdd", "d-M-yyyy", "dd/MM yyyy"]
TIMES = ["dd.MM.yyyy HH:mm:ss", "yyyyMMddTHHmmss", "M/d/yyyy H:mm:ss.SSSSSS"]


def spelt(pattern: str, at: datetime | date) -> str:
    """A day or time as Python's strftime writes it."""
    at = at if isinstance(at, datetime) else datetime(at.year, at.month, at.day)  # noqa: DTZ001 - a day
    for letters, told in [
        ("SSSSSS", f"{at.microsecond:06}"), ("yyyy", f"{at.year:04}"), ("MM", f"{at.month:02}"), ("M", str(at.month)), ("dd", f"{at.day:02}"),
        ("d", str(at.day)), ("HH", f"{at.hour:02}"), ("H", str(at.hour)), ("mm", f"{at.minute:02}"), ("ss", f"{at.second:02}"),
    ]:  # fmt: skip
        pattern = pattern.replace(letters, told)
    return pattern


@settings(max_examples=min(25, EXAMPLES), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(PATTERNS),
    st.sampled_from(TIMES),
    st.lists(st.tuples(st.dates(), st.datetimes(local(1971, 1, 1), local(2037, 1, 1))), min_size=1, max_size=30),
)
def test_any_day_and_time_comes_back_as_it_went(tmp_path: Path, of_day: str, of_time: str, told: list) -> None:
    zone = "Asia/Kolkata"  # its clocks were never changed in these years
    columns = (
        column("id", "string", required=True),
        column("day", "date", format=of_day),
        column("at", "timestamp", format=of_time, zone=zone),
    )
    promised = contract(columns=columns, key=("id",), known_at=None)
    told = [(day, at if "S" in of_time else at.replace(microsecond=0)) for day, at in told]
    lines = [
        line(0, 0, json.dumps({"id": "a", "day": spelt(of_day, day), "at": spelt(of_time, at)})) for day, at in told
    ]
    expected = [(day, at.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)) for day, at in told]
    for engine in (DuckDBEngine(Limits(scratch=tmp_path / "s")), SlowEngine()):
        assert [row and (row["day"], row["at"]) for row in engine.rows(promised, lines)] == expected


HOWS = [{"decimal": d, "group": g} for d in ",." for g in ("", ".", ",", " ", "'") if d != g and (d, g) != (".", "")]


@settings(max_examples=min(25, EXAMPLES), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(HOWS), st.lists(st.decimals(-(10**11), 10**11, places=6), min_size=1, max_size=30))
def test_any_number_comes_back_as_it_went(tmp_path: Path, how: dict, told: list) -> None:
    promised = contract(columns=(ID, column("v", "number", precision=18, scale=6, **how)), key=("id",), known_at=None)
    swap = {",": how["group"], ".": how["decimal"]}
    texts = ["".join(swap.get(letter, letter) for letter in f"{one:,}") for one in told]
    lines = [line(0, n, json.dumps({"id": "a", "v": text})) for n, text in enumerate(texts)]
    for engine in (DuckDBEngine(Limits(scratch=tmp_path / "s")), SlowEngine()):
        assert [row and row["v"] for row in engine.rows(promised, lines)] == told


ANY = (
    column("id", "string", required=True, trim=True, nulls=("NA", ".")),
    column("day", "date", required=True, format="M/d/yyyy", nulls=("0/0/0000", "NA")),
    column("iso", "date", trim=True, nulls=("0000-00-00",)),
    column("at", "timestamp", format="dd.MM.yyyy HH:mm", zone="Europe/Berlin", trim=True),
    column("price", "number", precision=18, scale=6, decimal=",", group="."),
    column("rough", "number", precision=9, scale=2, excess="round", decimal=",", group=" ", trim=True),
    column("whole", "integer", group="'", nulls=("-", "0")),
    column("swiss", "number", precision=38, scale=10, trim=True, nulls=("NA", "1e3")),
    column("flag", "boolean", trim=True, nulls=("NA",)),
)
PIECES = [
    "1",
    "12",
    "234",
    "000",
    "0",
    "567",
    ".",
    ",",
    " ",
    "'",
    "\u2019",
    "\u00a0",
    "\u202f",
    "-",
    "+",
    "e",
    "E-",
    "\t",
    "NA",
    "x",
    '"',
    "\\",
    "\u0000",
    "é",
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=7).map("".join),
    st.lists(st.sampled_from(["1", "12", "234", "567"]), min_size=1, max_size=4).map(".".join).flatmap(lambda w: st.sampled_from([w, w + ",5", w.replace(".", "'"), w.replace(".", " ") + ",125"])),
    st.tuples(st.dates(), st.sampled_from([*PATTERNS, *TIMES, "dd.MM.yyyy HH:mm"])).map(lambda one: spelt(one[1], one[0])),
    st.sampled_from(["2/29/2024", "2/30/2024", "0/0/0000", "0000-00-00", "2024-02-29", "31.03.2024 02:30", "27.10.2024 02:30", "30.02.2024 02:30", "true", "NA", ".", "1e3", "1,5e-3", "0", "9'223'372'036'854'775'807", "0,12345678901234567890", "0" * 45 + ",5"]),
)  # fmt: skip
AROUND = st.tuples(st.sampled_from(["", "", " ", "\u2003"]), TEXTS, st.sampled_from(["", "", " ", "\n"])).map("".join)
TOKENS = st.one_of(
    AROUND.map(json.dumps), AROUND.map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(["null", "true", "1.5", "-7", "1e3", "0.1234567890123456789", "{}", "[]", "20240131"]),
)  # fmt: skip


RECORD = st.fixed_dictionaries({}, optional={c.name: TOKENS for c in ANY})


def read_alike(where: Path, histories: list[tuple[list[dict[str, str]], bool]]) -> int:
    """Both engines give each record of the histories the same row or reasons; how many. `good` ones have a key."""
    promised = contract(columns=ANY, key=("id", "day"), known_at=None)
    key = {"id": '"a"', "day": '"2/29/2024"'}
    records = [one | (key if good else {}) for some, good in histories for one in some]
    told = ["{" + ",".join(f'"{name}":{token}' for name, token in one.items()) + "}" for one in records]
    lines = [line(0, n, one) for n, one in enumerate(told)]
    given = [part(where / "p", lines, {n: (n + 1) * N for n in range(len(lines))})]
    places = [(n + 1) * N for n in range(len(lines))]
    with (
        DuckDBEngine(Limits(scratch=where / "s")).group(promised, given) as fast,
        SlowEngine().group(promised, given) as slow,
    ):
        assert fast.judged() == slow.judged()
        assert fast.bounds(places) == slow.bounds(places)
        # The fold sees what the group read: each line's good row is the row that it gives alone.
        hashes = dict(fast._con.execute("SELECT _place, _hash FROM _lines WHERE _op = 'u'").fetchall())
        assert hashes == {one.place: one.hash for one in slow.lines if not one.reasons}
    rows = DuckDBEngine(Limits(scratch=where / "s")).rows(promised, lines)
    for row, one, text in zip(rows, slow.lines, told, strict=True):
        assert row == (None if one.reasons else one.values | {"known_at": one.known_at, "_hash": one.hash}), text
    return len(lines)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(RECORD, min_size=1, max_size=10), st.booleans())
def test_any_text_is_read_alike_whoever_reads_it(tmp_path: Path, some: list[dict[str, str]], good: bool) -> None:
    read_alike(tmp_path, [(some, good)])


@pytest.mark.slow
def test_any_texts_of_many_answers_are_read_alike(tmp_path: Path) -> None:
    tokens, chance = drawn(TOKENS, 3000), Random(7)

    def record() -> dict[str, str]:
        return {c.name: chance.choice(tokens) for c in ANY if chance.random() < 0.5}

    for good in (True, False, True, True, False):
        assert read_alike(tmp_path, [([record() for _ in range(2000)], good)]) == 2000
