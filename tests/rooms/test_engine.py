"""What is DuckDB's alone: runs of parts, parquet with field ids, hashes as documented, errors that say who must act."""

from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from isal import igzip

from assay.contract import odcs
from assay.engines.duckdb import GROUP_BYTES, DuckDBEngine, bind
from assay.engines.duckdb.fold import CLOCKS, ENDS
from assay.errors import ContractError, LakeDamaged, SettingsError
from assay.ports import Act, Layout, Limits, Lines, N, Relation
from tests.laws.test_bad_input import CONTRACT, record

DOCS = Path(__file__).parents[2] / "docs/formats.md"
RULE = '    quality:\n      - {name: small, type: custom, engine: assay, implementation: "%s", severity: %s}\ncustomProperties:'


class Nobody:
    def newest(self, keys):
        raise AssertionError(keys)


def contract(*changes: tuple[str, str]):
    text = CONTRACT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return odcs.parse(text)


def ruled(expression: str, severity: str = "error"):
    return contract(("customProperties:", RULE % (expression, severity)))


def part(path: Path, records: list[bytes], n: int = 0, first: int = 0, size: int | None = None) -> Lines:
    data = b"".join(b'{"_seq":%d,"_n":%d,"_record":%s}\n' % (first + i, n, one) for i, one in enumerate(records))
    path.write_bytes(igzip.compress(data, 1))
    return Lines(str(path), len(records), len(data) if size is None else size, {n: N + n})


def test_the_hash_of_the_documented_row() -> None:
    made = contract(*((f"name: {name},", f"name: {name}, required: false,") for name in ("maybe",)))
    made = odcs.parse("".join(line for line in made.text.splitlines(keepends=True) if "name: maybe" not in line))
    line = b'{"_seq":0,"_n":0,"_record":%s}' % record(whole="-7", amount="1.5")
    [row] = DuckDBEngine(Limits()).rows(made, [line])
    assert row
    assert f"`{row['_hash']}`" in DOCS.read_text()


def test_parts_beyond_one_run_are_one_group(tmp_path: Path) -> None:
    parts = [
        part(tmp_path / str(i), [record(id=f'"{j}"', whole=str(j % 2 * i)) for j in range(4)] + [b'"\xff"'], first=5 * i, size=GROUP_BYTES)
        for i in range(3)
    ]  # fmt: skip
    with DuckDBEngine(Limits(scratch=tmp_path / "s")).group(contract(), parts) as group:
        found = group.judged()[N]
        assert (found.rows, found.good, found.duplicate, found.quarantined) == (15, 2, 4, 9)
        assert found.reasons == {"key:conflict": 6, "line:encoding": 3}
        assert [one.line for one in group.rejected([N]) if one.seq % 5 == 4] == [
            b'{"_seq":%d,"_n":0,"_record":"\xff"}' % seq for seq in (4, 9, 14)
        ]  # fmt: skip


def test_rules_reject_and_warnings_count(tmp_path: Path) -> None:
    lines = [part(tmp_path / "p", [record(whole="1"), record(id='"b"', whole="9")])]
    with DuckDBEngine(Limits(scratch=tmp_path / "s")).group(ruled("whole < 5"), lines) as group:
        found = group.judged()[N]
        assert (found.good, found.quarantined, found.keyless, found.reasons) == (1, 1, 0, {"small": 1})
    with DuckDBEngine(Limits(scratch=tmp_path / "s")).group(ruled("whole < 5", "warning"), lines) as group:
        found = group.judged()[N]
        assert (found.good, found.reasons, found.warnings) == (2, {}, {"small": 1})


@pytest.mark.parametrize("partition", [None, ("day", "month"), ("day", "year"), ("id", "value")])
def test_what_passes_is_written_with_field_ids(tmp_path: Path, partition) -> None:
    made = contract()
    days = {"NULL": "2024-02-29", "b=/%": "2023-01-05", "c": "2024-02-01"}
    lines = [part(tmp_path / "p", [record(id=f'"{i}"', day=f'"{day}"') for i, day in days.items()] + [record(id="7")])]
    lines.append(part(tmp_path / "held", [record(id='"held"')], n=1))
    names = {c.name: c.type for c in made.columns} | CLOCKS
    layout = Layout(tuple((50 - i, name, kind) for i, (name, kind) in enumerate(names.items())), partition)
    with DuckDBEngine(Limits(scratch=tmp_path / "s")).group(made, lines) as group:
        assert group.boxes([N], None) == [{"id": ("NULL", "c")}]
        none = Relation(layout.columns)
        act = Act(N, datetime(2024, 3, 1, tzinfo=UTC), N)
        assert group.fold(
            [act],
            none,
            Relation((*layout.columns, *((60 + i, n, k) for i, (n, k) in enumerate(ENDS.items())))),
            Nobody(),
        )[N].counts == {"accepted": 3}
        assert list(group.leaving()) == []
        files = group.write("current", layout, None, tmp_path / "out")
        assert group.write("past", layout, None, tmp_path / "out") == []
    assert sum(one.rows for one in files) == 3
    assert all(one.path.stat().st_size == one.bytes for one in files)
    cut = {
        None: [()], ("day", "month"): [(636,), (649,)], ("day", "year"): [(53,), (54,)], ("id", "value"): [("NULL",), ("b=/%",), ("c",)],
    }[partition]  # fmt: skip
    assert sorted({one.partition for one in files}) == cut
    for one in files:
        schema = pq.read_schema(one.path)
        assert {f.name: int(f.metadata[b"PARQUET:field_id"]) for f in schema} == {
            name: i for i, name, _ in layout.columns
        }
    rows = duckdb.sql(
        f"select id, day, _position, _n, _seq from read_parquet({[str(f.path) for f in files]}, hive_partitioning=false)"
    )
    assert sorted(rows.fetchall()) == [(i, date.fromisoformat(day), 1, 0, s) for s, (i, day) in enumerate(days.items())]


def test_a_rule_that_cannot_be_computed_is_named() -> None:
    bind(ruled("whole < 5"))
    with pytest.raises(ContractError, match="rule small cannot be computed"):
        bind(ruled("day < whole"))


def test_errors_say_who_must_act(tmp_path: Path) -> None:
    engine = DuckDBEngine(Limits(scratch=tmp_path / "s"))
    lost = Lines(str(tmp_path / "lost"), 1, 1, {0: N})
    with pytest.raises(LakeDamaged, match="verify bronze"), engine.group(contract(), [lost]):
        pass
    (tmp_path / "cut").write_bytes(igzip.compress(b"{}\n" * 10_000)[:20])
    with pytest.raises(LakeDamaged), engine.group(contract(), [Lines(str(tmp_path / "cut"), 1, 1, {0: N})]):
        pass
    many = part(tmp_path / "p", [record(id=f'"{i}"', note='"' + "x" * 1000 + '"') for i in range(20_000)])
    small = DuckDBEngine(Limits("10MB", 1, tmp_path / "s"))
    with pytest.raises(SettingsError, match="memory"), small.group(contract(), [many]):
        pass


@pytest.mark.slow
def test_more_lines_than_memory_spill(tmp_path: Path) -> None:
    many = part(tmp_path / "p", [record(id=f'"{i}"', note='"' + f"{i:01000}" + '"') for i in range(250_000)])
    with DuckDBEngine(Limits("200MB", 2, tmp_path / "s")).group(contract(), [many]) as group:
        assert group.judged()[N].good == 250_000


@pytest.mark.slow
def test_more_batches_than_two_bytes_count(tmp_path: Path) -> None:
    data = b"".join(b'{"_seq":0,"_n":%d,"_record":%s}\n' % (n, record(whole=str(n))) for n in range(70_000))
    (tmp_path / "p").write_bytes(igzip.compress(data, 1))
    lines = Lines(str(tmp_path / "p"), 70_000, len(data), {n: 5 * N + n for n in range(70_000)})
    with DuckDBEngine(Limits(scratch=tmp_path / "s")).group(contract(), [lines]) as group:
        found = group.judged()
        assert len(found) == 70_000
        assert {one.good for one in found.values()} == {1}


TWICE = {
    "id": ('"a"', '"\\u00e9"'), "whole": ("7", "1e5", "-1e3", "12e-1", "null"), "amount": ("1.50", "1e9", "1e1", "1e-3", "-2e2", "123456.0"),
    "flag": ("true",), "day": ('"2024-02-29"',), "note": ('""', "null", "[1e9,1e9,1e9]"), "maybe": ("1e20", "12e3", "0.00001", "1e-9"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("column", TWICE)
def test_a_name_said_twice_is_found_where_a_line_has_hardly_room_for_it(tmp_path: Path, column: str) -> None:
    """The second is as short as can be, and other numbers are printed longer than they were spelt."""
    made, engine = contract(), DuckDBEngine(Limits(scratch=tmp_path / "s"))
    for number, first in enumerate(TWICE[column]):
        for others in ({}, {"whole": "1e5", "amount": "1e9", "maybe": "1e20"}, {"amount": "1e-6", "note": '"x"'}):
            once = record(**{**others, column: first})
            cases = [once[:-1] + b',"%s":1}' % column.encode(), b'{"%s":1,' % column.encode() + once[1:], once]
            lines = part(tmp_path / f"{number}", cases)
            with engine.group(made, [lines]) as group:
                found = {one.seq: one.reasons for one in group.rejected([N])}
            assert f"{column}:twice" in found[0], (first, others)
            assert f"{column}:twice" in found[1], (first, others)
            assert f"{column}:twice" not in found.get(2, ()), (first, others)
