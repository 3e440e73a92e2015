"""One suite for every engine: dirty lines in, equal judgements and rows out, on DuckDB and on the slow oracle."""

import json
import os
import random
from dataclasses import replace
from datetime import UTC, date, datetime
from datetime import time as clock_time
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.contract.model import KnownAt
from assay.engines.duckdb import DuckDBEngine
from assay.ports import CONFLICT, Engine, Limits, N, Rejected
from tests.every.engines import COLUMNS, ENGINES, column, contract, engine_of, good, line, local, part
from tests.laws import oracle
from tests.laws.slow_engine import SlowEngine


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return engine_of(request.param, tmp_path / "scratch")


# what every engine does


def test_lines_go_to_the_place_of_their_batch_and_others_to_nobody(engine: Engine, tmp_path: Path) -> None:
    first = [line(0, 0, good()), line(0, 1, good(id='"b"')), line(1, 0, good(id='"c"')), line(0, 7, "42")]
    second = [line(0, 0, good(day='"x"')), line(2, 3, good()), line(3, 3, '{"id":'), line(4, 9, '{"id":')]
    parts = [part(tmp_path / "1", first, {0: 5 * N, 1: 5 * N + 1}), part(tmp_path / "2", second, {0: 6 * N, 3: 9 * N})]
    with engine.group(contract(), parts) as group:
        judged = group.judged()
        assert {p: (c.rows, c.good, c.quarantined, c.keyless) for p, c in judged.items()} == {
            5 * N: (2, 2, 0, 0), 5 * N + 1: (1, 1, 0, 0), 6 * N: (1, 0, 1, 1), 9 * N: (2, 1, 1, 1),
        }  # fmt: skip
        assert list(group.rejected(list(judged))) == [
            Rejected(6 * N, 0, ("day:type",), second[0]),
            Rejected(9 * N, 3, ("line:malformed",), second[2]),
        ]
        assert [one.place for one in group.rejected([9 * N])] == [9 * N]


def test_a_batch_may_lie_in_several_parts_and_have_no_lines(engine: Engine, tmp_path: Path) -> None:
    parts = [part(tmp_path / str(i), [line(i, 0, good())], {0: N, 2: N + 2}) for i in range(3)]
    with engine.group(contract(), parts) as group:
        judged = group.judged()
        assert (judged[N].rows, judged[N].good, judged[N].duplicate) == (3, 1, 2)
        assert judged[N + 2].rows == 0
    with engine.group(contract(), []) as group:
        assert not group.judged()
        assert not list(group.rejected([]))


def test_of_one_key_told_twice_all_are_conflicts_and_of_equal_rows_the_first_is_good(
    engine: Engine, tmp_path: Path
) -> None:
    lines = [line(s, 0, good(whole=w)) for s, w in enumerate(("1", "2", "1"))]
    lines += [line(3, 1, good(whole="1")), line(5, 1, good(whole='"1"')), line(4, 1, good(whole="1", extra="5"))]
    with engine.group(contract(), [part(tmp_path / "p", lines, {0: N, 1: N + 1})]) as group:
        judged = group.judged()
        assert (judged[N].good, judged[N].duplicate, judged[N].quarantined, judged[N].keyless) == (0, 0, 3, 0)
        assert judged[N].reasons == {CONFLICT: 3}
        assert (judged[N + 1].good, judged[N + 1].duplicate) == (1, 2)
        assert [(one.seq, one.line) for one in group.rejected([N, N + 1])] == list(enumerate(lines[:3]))


def test_with_a_sequence_a_batch_tells_several_states_of_a_key(engine: Engine, tmp_path: Path) -> None:
    lines = [
        line(s, 0, good(whole=w, flag=f)) for s, (w, f) in enumerate((("1", "true"), ("2", "true"), ("2", "false")))
    ]
    with engine.group(contract(sequence="whole"), [part(tmp_path / "p", lines, {0: N})]) as group:
        assert (group.judged()[N].good, group.judged()[N].quarantined) == (1, 2)


def test_only_some_rows_of_a_batch_are_taken_after_the_whole_was_judged(engine: Engine, tmp_path: Path) -> None:
    lines = [line(s, n, good(whole=str(s % 3))) for n in (0, 1) for s in range(3)]
    lines += [line(s, n, good(id=f'"{s}"')) for n in (0, 1) for s in range(3, 6)] + [line(6, 0, "{}")]
    with engine.group(contract(), [part(tmp_path / "p", lines, {0: N, 1: N + 1})], {N: [2, 4]}) as group:
        judged = group.judged()
        assert (judged[N].rows, judged[N].good, judged[N].reasons) == (2, 1, {CONFLICT: 1})
        assert (judged[N + 1].rows, judged[N + 1].good) == (6, 3)
        assert [(one.place, one.seq) for one in group.rejected([N])] == [(N, 2)]


def test_lines_that_are_no_text_or_too_long_have_their_batch_and_bytes(engine: Engine, tmp_path: Path) -> None:
    lines = [
        line(0, 0, good()),
        line(1, 0, good(id='"?"')).replace(b"?", b"\xff"),
        line(3, 1, '"?"').replace(b"?", b"\xff"),
        b'{"_seq":2,"_n":0,\xfe}',
        line(4, 0, '"\x01"'),
        line(5, 0, good(id='"' + "x" * 2_200_000 + '"')),
    ]
    with engine.group(contract(), [part(tmp_path / "p", lines, {0: N})]) as group:
        found = {one.seq: (one.reasons[0], one.line) for one in group.rejected([N])}
        assert found.pop(5, None) == (("line:too_long", lines[5]) if not isinstance(engine, SlowEngine) else None)
        assert found == {
            1: ("line:encoding", lines[1]),
            2: ("line:encoding", lines[3]),
            4: ("line:malformed", lines[4]),
        }
        assert group.judged()[N].rows == 5


@pytest.mark.parametrize(
    ("record", "reasons"),
    [
        ('{"id":"a","day":"2024-01-01","id":"b"}', {"id:twice"}),
        ('{"id":"a","day":"2024-01-01","\\u0069d":"a"}', {"id:twice"}),
        ('{"id":"a","day":"2024-01-01","a":{"city":"x"},"a":1}', {"rough:twice", "city:twice", "a_note:twice"}),
        ('{"id":"a","day":"2024-01-01","a":{"b":{"town":1,"town":"x"}}}', {"city:twice"}),
        ('{"id":"a","day":"2024-01-01","other":{"id":1,"id":2},"a":{"id":3,"day":4},"x":1,"x":2}', set()),
    ],
)
def test_a_name_that_is_read_and_said_twice_is_no_value(
    engine: Engine, tmp_path: Path, record: str, reasons: set[str]
) -> None:
    with engine.group(contract(), [part(tmp_path / "p", [line(0, 0, record)], {0: N})]) as group:
        assert {reason for one in group.rejected([N]) for reason in one.reasons} == reasons


def test_the_first_path_that_is_there_counts(engine: Engine) -> None:
    records = {
        '"a":{"city":"x","b":{"town":"y"}}': "x",
        '"a":{"city":null,"b":{"town":"y"}}': "y",
        '"a":{"b":"none"},"it\'s\\"/~x":"z"': "z",
        '"a":5': None,
    }
    found = engine.rows(contract(), [line(0, 0, f'{{"id":"a","day":"2024-01-01",{one}}}') for one in records])
    assert [one and one["city"] for one in found] == list(records.values())


def test_a_json_value_is_its_token_as_it_was_spelt(engine: Engine) -> None:
    nested = column("nested", "json", "deep.v", "v")
    records = {
        '"v":{"b":1.10,"a":[1e5 , "\\u00e9 \\" x"]}': '{"b":1.10,"a":[1e5,"\\u00e9 \\" x"]}',
        '"v":[]': "[]",
        '"deep":{"v":12345678901234567890.12345678901234567890},"v":1': "12345678901234567890.12345678901234567890",
        '"v":""': '""',
        '"v":null': None,
        '"v":{"x":1,"x":2}': '{"x":1,"x":2}',
    }
    lines = [line(0, 0, f'{{"id":"a","day":"2024-01-01",{one}}}') for one in records]
    found = engine.rows(contract(nested), lines)
    assert [one and one["nested"] for one in found] == list(records.values())
    assert engine.rows(contract(nested), [line(0, 0, '{"id":"a","day":"2024-01-01","v":[NaN]}')]) == [None]


EXAMPLES = int(os.environ.get("EXAMPLES", "40"))
ODD_YEARS = (1955, 1987, 2011, 2018, 2024)


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "America/Sao_Paulo", "Africa/Cairo", "UTC"])  # fmt: skip
@pytest.mark.parametrize("time", ["00:00", "01:30", "02:30", "16:00", "24:00"])
def test_known_at_is_the_zones_own_time(tmp_path: Path, zone: str, time: str) -> None:
    """The days around every change of clocks of some odd years, and some of no change."""
    where, found = ZoneInfo(zone), {date(year, month, 1) for year in ODD_YEARS for month in (1, 7)}
    for year in ODD_YEARS:
        for number in range(date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()):
            before, after = (datetime.combine(date.fromordinal(number + n), clock_time.min, where) for n in (0, 1))
            if before.utcoffset() != after.utcoffset():
                found |= {date.fromordinal(number + n) for n in (-1, 0, 1)}
    days = sorted(found)
    promised = contract(known_at=KnownAt("day", time, zone, "PT0S"))
    lines = [line(i, 0, good(day=f'"{day}"')) for i, day in enumerate(days)]
    rows = DuckDBEngine(Limits(scratch=tmp_path)).rows(promised, lines)
    assert [one["known_at"] for one in rows] == [oracle.known_at(promised, {"day": day}) for day in days]


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo"])
def test_local_times_around_every_change_of_clocks(tmp_path: Path, zone: str) -> None:
    where, hours = ZoneInfo(zone), []
    for hour in range(24 * 366):
        at = datetime.fromtimestamp(1704067200 + 3600 * hour, UTC)
        if (
            at.astimezone(where).utcoffset()
            != datetime.fromtimestamp(at.timestamp() + 3600, UTC).astimezone(where).utcoffset()
        ):
            hours.append(at.astimezone(where).replace(tzinfo=None))
    texts = [
        datetime.fromtimestamp(h.replace(tzinfo=UTC).timestamp() + 600 * step, UTC).strftime('"%Y-%m-%dT%H:%M:%S"')
        for h in [*hours, local(2024, 7, 1)] for step in range(-180, 180)
    ]  # fmt: skip
    promised = contract(column("moment", "timestamp", zone=zone))
    lines = [line(i, 0, good(moment=text)) for i, text in enumerate(texts)]
    expected = SlowEngine().rows(promised, lines)
    assert DuckDBEngine(Limits(scratch=tmp_path)).rows(promised, lines) == expected
    assert (None in expected) == (zone != "America/Sao_Paulo")


# any lines at all

TEXTS = st.sampled_from(["", "a", "b", " ", "é", 'q"\\', "x\u001ey", "2024-02-29", "true", "NULL", "1", "日本"])
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(-(10**6), 10**6, places=7).map(str),
    st.decimals(-10, 10, places=2).map(str),
    st.sampled_from(["0", "-0.0", "1e3", "1E-7", "5.0", "0.9999", "1.5", "1e400", "1234567890123.456789", "NaN", "-Infinity", "0.00005", "12345.6789"]),
)  # fmt: skip
TIMES = st.one_of(
    st.datetimes(local(1970, 1, 1), local(2037, 12, 31)).map(lambda t: t.isoformat()),
    st.datetimes(local(2024, 3, 10, 1), local(2024, 3, 10, 4)).map(lambda t: t.isoformat(" ", "minutes")),
    st.datetimes(local(2024, 11, 3), local(2024, 11, 3, 3)).map(lambda t: t.isoformat("T", "milliseconds")),
    st.sampled_from(["2024-02-29T10:00Z", "2024-02-29T10:00:00+05:30", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00Z", "2024-02-30T00:00", "2024-01-01T24:00"]),
)  # fmt: skip
DAYS = st.one_of(st.dates(), st.dates(date(2024, 2, 27), date(2024, 3, 1))).map(str) | st.sampled_from(
    ["0000-01-01", "2023-02-29"]
)
TOKENS = st.one_of(
    TEXTS.map(json.dumps), TEXTS.map(lambda t: json.dumps(t, ensure_ascii=False)), NUMBERS, NUMBERS.map(json.dumps), TIMES.map(json.dumps),
    DAYS.map(json.dumps), st.sampled_from(["null", "true", "false", "{}", "[]", "[1.50]", '{"city":"x"}', '"2024-03-10T02:30"']),
)  # fmt: skip
NAMES = ["id", "whole", "amount", "rough", "share", "flag", "day", "at", "local", "it's\"/~x", "v", "other"]
FITTING = {
    "id": st.sampled_from(['"a"', '"b"']), "day": st.sampled_from(['"2024-02-29"', '"2024-03-10"']), "whole": st.sampled_from(["1", "2"]),
    "amount": st.sampled_from(["1.5", "1.50", "2"]), "at": TIMES.map(json.dumps), "local": TIMES.map(json.dumps), "share": st.sampled_from(["0.5", "-0.5"]),
}  # fmt: skip


@st.composite
def objects(draw: st.DrawFn, names: list[str], inner: st.SearchStrategy[str] | None = None) -> str:
    chosen = [name for name in names if draw(st.integers(0, 9)) < 4]
    tokens = [(name, draw(FITTING[name] if name in FITTING and draw(st.integers(0, 5)) else TOKENS)) for name in chosen]
    if inner is not None and draw(st.booleans()):
        tokens.append(("a", draw(inner)))
    if tokens and not draw(st.integers(0, 9)):
        tokens.append((draw(st.sampled_from(tokens))[0], draw(TOKENS)))
    spell = [
        json.dumps(name) if draw(st.integers(0, 9)) else '"' + "".join(f"\\u{ord(c):04x}" for c in name) + '"'
        for name, _ in tokens
    ]
    return "{" + ",".join(f"{name}:{token}" for name, (_, token) in zip(spell, tokens, strict=True)) + "}"


A = objects(["city", "note", "rough"], objects(["town"])).map(lambda text: text.replace('"a":', '"b":'))
RECORDS = st.one_of(
    objects(NAMES, A), objects(NAMES, A).map(lambda r: '{"id":"a","day":"2024-02-29"' + (("," + r[1:]) if r != "{}" else "}")), TOKENS,
    st.sampled_from(['{"id":', "", "{}x", '"\ud800"', '{"id":"\\ud800"}', "\x01", '{"id":"\x01"}']),
)  # fmt: skip


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), RECORDS), max_size=40),
    st.sampled_from([None, "whole"]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_any_lines_are_judged_alike(tmp_path: Path, records, sequence, limited, seed) -> None:
    seqs: dict[int, int] = {}
    parts: list[list[bytes]] = [[], [], []]
    for n, p, record in records:
        parts[p].append(
            b'{"_seq":%d,"_n":%d,"_record":%s}' % (seqs.setdefault(n, 0), n, record.encode("utf8", "surrogatepass"))
        )
        seqs[n] += 1
    promised = contract(column("v", "json"), sequence=sequence)
    batches = {0: 7 * N, 1: 3 * N + 1, 3: 7 * N + 3}
    lines = [part(tmp_path / f"{i}.gz", one, batches if i else {0: 7 * N}) for i, one in enumerate(parts)]
    draw = random.Random(seed)
    only = {7 * N: [s for s in range(10) if draw.random() < 0.5]} if limited else None
    with (
        SlowEngine().group(promised, lines, only) as slow,
        DuckDBEngine(Limits(scratch=tmp_path / "s")).group(promised, lines, only) as fast,
    ):
        expected = slow.judged()
        assert fast.judged() == expected
        got = [replace(one, reasons=tuple(sorted(one.reasons))) for one in fast.rejected(list(expected))]
        assert got == list(slow.rejected(list(expected)))
    alone = [one for some in parts for one in some]
    assert DuckDBEngine(Limits(scratch=tmp_path / "s")).rows(promised, alone) == SlowEngine().rows(promised, alone)


def test_canonical_texts_are_as_written_down() -> None:
    row = dict.fromkeys((c.name for c in COLUMNS), None) | {
        "id": "a", "whole": -7, "amount": Decimal("1.5"), "share": Decimal("-0.5"), "flag": True, "day": date(24, 2, 29),
        "at": datetime(2024, 2, 29, 10, tzinfo=UTC),
    }  # fmt: skip
    texts = [oracle.canonical(c, row[c.name]) for c in COLUMNS]
    assert texts[:8] == ["a", "-7", "1.500000", chr(30), "-0.5000", "true", "0024-02-29", "2024-02-29 10:00:00.000000"]
