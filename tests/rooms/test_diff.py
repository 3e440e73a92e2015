"""What differs between two releases: applied to the old it gives the new, and what cannot be compared says who must act."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay import run
from assay.errors import LakeDamaged, UsageError
from assay.lake import release
from assay.lake.recompute import same
from assay.lake.release import Column, Gold, Release
from assay.run import Lake
from assay.run.explain import render
from tests.forked import Said
from tests.kept import Kept, begun

TYPES = {"k": "VARCHAR", "n": "BIGINT", "d": "DECIMAL(38,10)", "f": "DOUBLE", "t": "VARCHAR"}
Row = tuple[Any, ...]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake without a release; tests put some there."""
    with run.open(begun(tmp_path_factory.mktemp("diff") / "lake", "csv")) as found:
        yield found


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """The lake of CSV files with two releases: of ten trades, and of eleven."""
    one = Kept(tmp_path_factory.mktemp("kept") / "mine")
    begun(one.root, "csv")
    with run.open(one.root) as lake:
        assert not lake.apply(lake.plan()).errors
        with (one.root / "files/trades.csv").open("a") as file:
            file.write("T-9001,2024-02-01,AAPL,10,190.00\nT-9002,2024-02-01,ORCL,5,110.00\n")
        assert not lake.apply(lake.landings("trades", again=True)).errors
        assert not lake.apply(lake.plan()).errors
    one.keep("released")
    return one


@pytest.fixture
def lake(kept: Kept) -> Iterator[Lake]:
    with run.open(kept.begin("released")) as found:
        yield found


def put(
    lake: Lake, rows: Sequence[Row], types: Mapping[str, str] = TYPES, key: Sequence[str] = ("k", "n"), unit: str = ""
) -> int:
    """A release of one table `t` with these rows; its number."""
    files = lake.target.files
    number = max(release.numbers(files), default=0) + 1
    made, name = files.scratch(), f"serving/t-{number}.duckdb"
    with duckdb.connect(str(made)) as con:
        con.execute(f"CREATE TABLE t ({', '.join(f'{c} {kind}' for c, kind in types.items())})")
        if rows:
            con.executemany(f"INSERT INTO t VALUES ({', '.join('?' for _ in types)})", rows)
    files.put_new(name, made, "release.serving")
    columns = tuple(Column(c, kind, unit=unit if c == "d" else "") for c, kind in types.items())
    gold = Gold("t", number, len(rows), name, columns, tuple(key), {}, ())
    release.publish(files, Release(number, f"r{number}", None, datetime.now(UTC), "", "", (gold,), (), (), ""))
    return number


def told(lake: Lake, old: Sequence[Row], new: Sequence[Row], **named: Any) -> dict[str, Any]:
    found = lake.diff(put(lake, old, **named), put(lake, new, **named), limit=1000)
    return found["gold"]["t"]


VALUES = st.tuples(
    st.sampled_from(["a", "b", "ß'\n"]),
    st.integers(0, 3),
    st.none() | st.sampled_from([Decimal("0.1000000000"), Decimal("0.1000000001"), Decimal("9" * 28 + ".0000000000")]),
    st.none() | st.sampled_from([0.0, -0.0, 0.3, 0.1 + 0.2, 1e308, -1e308, math.nan, math.inf, -math.inf, 5e-324]),
    st.none() | st.sampled_from(["", "null", "nan", "x\x1b[2J"]),
)
TABLES = st.lists(VALUES, max_size=8, unique_by=lambda row: row[:2])


def rendered(rows: Sequence[Row]) -> dict[tuple[Any, ...], dict[str, Any]]:
    texts = [dict(zip(TYPES, map(render, row), strict=True)) for row in rows]
    return {(one["k"], one["n"]): one for one in texts}


def alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    floats = [None if side["f"] is None else float(side["f"]) for side in (one, other)]
    return {**one, "f": None} == {**other, "f": None} and same(*floats)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=TABLES, new=TABLES)
def test_what_is_told_applied_to_the_old_gives_the_new(empty: Lake, old: list[Row], new: list[Row]) -> None:
    found = told(empty, old, new)
    before, after = rendered(old), rendered(new)
    assert [found[kind] for kind in ("added", "removed", "changed")] == [
        len(found["listed"][kind]) for kind in ("added", "removed", "changed")
    ]
    for row in found["listed"]["removed"]:
        assert before.pop((row["k"], row["n"])) == row
    counted: dict[str, int] = {}
    for moved in found["listed"]["changed"]:
        at = (moved["key"]["k"], moved["key"]["n"])
        assert moved["columns"]
        for column, (was, now) in moved["columns"].items():
            assert before[at][column] == was
            assert not alike(before[at], {**before[at], column: now})
            before[at][column] = now
            counted[column] = counted.get(column, 0) + 1
    assert counted == found["changed_columns"]
    for row in found["listed"]["added"]:
        assert (row["k"], row["n"]) not in before
        before[row["k"], row["n"]] = row
    assert before.keys() == after.keys()
    assert all(alike(before[at], after[at]) for at in after)
    assert (found["state"] == "same") == (not (found["added"] or found["removed"] or found["changed"]))


@pytest.mark.parametrize(
    ("column", "old", "new", "same"),
    [
        ("f", math.nan, math.nan, True), ("f", math.nan, 1.0, False), ("f", math.inf, 1.0, False),
        ("f", math.inf, -math.inf, False), ("f", 0.3, 0.1 + 0.2, True), ("f", 1.0, 1.00000001, False),
        ("f", 0.0, None, False), ("t", "", None, False), ("t", "nan", "NaN", False), ("d", None, None, True),
        ("d", Decimal("0.1"), Decimal("0.1000000001"), False),
    ],
)  # fmt: skip
def test_what_is_the_same(empty: Lake, column: str, old: Any, new: Any, *, same: bool) -> None:
    of = {"d": None, "f": None, "t": None}
    found = told(empty, [("a", 1, *(of | {column: old}).values())], [("a", 1, *(of | {column: new}).values())])
    assert (found["changed_columns"] == {}) == same


def test_columns_that_came_went_or_promise_something_else(empty: Lake) -> None:
    old = put(
        empty,
        [("a", 1, "1.50", 7), ("b", 2, "2.5", 8)],
        {"k": "VARCHAR", "n": "BIGINT", "d": "VARCHAR", "gone": "INTEGER"},
    )
    new = put(
        empty, [("a", 1, Decimal("1.50"), "x"), ("b", 2, Decimal("2.5"), None)],
        {"k": "VARCHAR", "n": "BIGINT", "d": "DECIMAL(18,2)", "come": "VARCHAR"}, unit="USD",
    )  # fmt: skip
    found = empty.diff(old, new)["gold"]["t"]
    assert found["columns"] == {
        "added": {"come": "VARCHAR"}, "removed": {"gone": "INTEGER"},
        "changed": {"d": {"type": ["VARCHAR", "DECIMAL(18,2)"], "unit": ["", "USD"]}},
    }  # fmt: skip
    # "2.5" is 2.50 as a decimal, which is "2.50" as a text again
    assert found["listed"]["changed"] == [{"key": {"k": "b", "n": "2"}, "columns": {"d": ["2.5", "2.50"]}}]


def test_where_the_key_changed_rows_are_not_compared(empty: Lake, assay: Callable[..., Said]) -> None:
    rows = [("a", 1, None, None, None)]
    old, new = put(empty, rows), put(empty, rows, key=["k"])
    found = empty.diff(old, new)["gold"]["t"]
    assert (found["state"], found["key"], found["added"]) == ("changed", [["k", "n"], ["k"]], None)
    said = assay("--lake", empty.root, "diff", old, new)
    assert "gold.t: 1 → 1 rows, not compared: its key changed, (k, n) → (k)\n" in said.out


def test_rows_beyond_the_limit_are_counted_and_listed_in_the_order_of_the_key(
    empty: Lake, assay: Callable[..., Said]
) -> None:
    old = put(empty, [("a", n, None, None, "x") for n in range(30)])
    new = put(empty, [("a", n, None, None, "y") for n in range(29, -1, -1)])
    found = empty.diff(old, new, limit=3)["gold"]["t"]
    assert (found["changed"], [one["key"]["n"] for one in found["listed"]["changed"]]) == (30, ["0", "1", "2"])
    said = assay("--lake", empty.root, "diff", old, new, "--limit", "0").out
    assert "30 changed (t 30)\n  … and 30 changed more; --limit lists them\n" in said


def test_no_value_steers_the_terminal(empty: Lake, assay: Callable[..., Said]) -> None:
    old = put(empty, [("a", 1, None, None, "x")])
    new = put(empty, [("a", 1, None, None, "\x1b[2J\nb" + "z" * 300)])
    said = assay("--lake", empty.root, "diff", old, new).out
    assert "  ~ k=a, n=1: t x → \\x1b[2J\\nb" in said
    assert "\x1b" not in said
    assert "z" * 100 not in said


@pytest.mark.slow
def test_two_releases_are_compared_by_a_command(lake: Lake, assay: Callable[..., Said]) -> None:
    said = assay("--lake", lake.root, "diff")
    assert (said.code, said.err) == (0, "")
    head, *lines = said.out.splitlines()
    assert head.startswith("release dev:1 of ")
    assert lines == [
        "dbt project: the same",
        "silver.trades: read up to 2 → 3, 10 → 12 rows",
        "gold.mart_position: 4 → 5 rows, 1 added, 0 removed, 1 changed (quantity 1, cost 1, trades 1)",
        "  + symbol=ORCL, quantity=5.000000, cost=550.000000, trades=1, last_traded_on=2024-02-01",
        "  ~ symbol=AAPL: quantity 90.000000 → 100.000000, cost 16490.100000 → 18390.100000, trades 3 → 4",
    ]
    back = json.loads(assay("--lake", lake.root, "--json", "diff", "2", "1", "gold.mart_position").out)
    assert [row["symbol"] for row in back["gold"]["mart_position"]["listed"]["removed"]] == ["ORCL"]
    assert back == lake.diff(2, 1, ["mart_position"])


@pytest.mark.slow
def test_a_table_of_the_same_content_is_told_without_reading_it(lake: Lake) -> None:
    two = lake.build()
    assert two.number == 3
    lake.target.files.delete(two.table("mart_position").serving)
    found = lake.diff(2)
    assert found["gold"]["mart_position"]["state"] == "same"
    assert found["silver"]["trades"]["state"] == "same"


@pytest.mark.slow
def test_another_environment_of_the_lake_is_compared(lake: Lake, assay: Callable[..., Said]) -> None:
    with run.open(lake.root, "prod") as prod:
        assert not prod.apply(prod.plan()).errors
    found = lake.diff("prod:1")
    assert (found["old"]["env"], found["new"]["env"], found["new"]["number"]) == ("prod", "dev", 2)
    assert found["gold"]["mart_position"]["state"] == "same"
    assert lake.diff("prod:1", 1)["gold"]["mart_position"]["removed"] == 1
    assert assay("--lake", lake.root, "diff", "pord:1").err.startswith(
        "UsageError: there is no data of environment 'pord'"
    )


@pytest.mark.slow
def test_a_table_and_a_model_that_came(lake: Lake, assay: Callable[..., Said]) -> None:
    path = lake.project / "models/gold/mart_day.sql"
    path.write_text("select date, count(*) as trades from {{ source('silver', 'trades') }} group by date\n")
    meta = "config: {meta: {assay: {classification: public}}}"
    path.with_suffix(".yml").write_text(
        "version: 2\nmodels:\n  - name: mart_day\n    description: Of each day.\n    config: {meta: {assay: {key: [date], "
        "inputs: [{table: silver.trades, where: date = row.date}]}}}\n    columns:\n"
        f"      - {{name: date, description: day, data_type: date, {meta}}}\n"
        f"      - {{name: trades, description: how many, data_type: bigint, {meta}}}\n"
    )
    lake.build()
    said = assay("--lake", lake.root, "diff").out
    assert "dbt project: changed; SQL of gold.mart_day" in said
    assert "gold.mart_day: added, 9 rows\n" in said
    assert "gold.mart_day: removed, 9 rows\n" in assay("--lake", lake.root, "diff", "3", "2").out


def test_what_cannot_be_compared_says_who_must_act(lake: Lake, empty: Lake) -> None:
    with pytest.raises(UsageError, match="release 1 is the oldest there is; name another as OLD"):
        lake.diff(None, 1)
    with pytest.raises(UsageError, match="there is no release 9"):
        lake.diff(9)
    with pytest.raises(UsageError, match="'newest' names no release; say 12, or prod:12"):
        lake.diff("newest")
    with pytest.raises(UsageError, match="no gold table 'mart_x'; these releases have mart_position"):
        lake.diff(1, 2, ["mart_x"])
    lake.target.files.delete(release.read(lake.target.files, 1).gold[0].serving)
    with pytest.raises(
        LakeDamaged, match="of release 1 is lost or damaged; restore it from a copy, or compare a newer"
    ):
        lake.diff()
    lake.target.files.delete(release.name_of(1))
    with pytest.raises(UsageError, match="release 1 is gone: upkeep keeps"):
        lake.diff(1, 2)
    twice = put(empty, [("a", 1, None, None, None)] * 2)
    with pytest.raises(LakeDamaged, match=r"has a key of t \(k, n\) twice, which no build releases"):
        empty.diff(twice, put(empty, []))


@pytest.mark.slow
def test_millions_of_rows_are_compared_within_the_lakes_memory(empty: Lake) -> None:
    files, numbers = empty.target.files, []
    for shift in (0, 1):
        number = put(empty, [])
        made, name = files.scratch(), f"serving/wide-{number}.duckdb"
        with duckdb.connect(str(made)) as con:
            con.execute(
                f"CREATE TABLE t AS SELECT 'key ' || i AS k, i + {shift} AS n, md5(i::VARCHAR) AS t FROM range(400000) s(i)"
            )
        files.put_new(name, made, "release.serving")
        gold = Gold(
            "t",
            1,
            400_000,
            name,
            tuple(Column(c, kind) for c, kind in (("k", "VARCHAR"), ("n", "BIGINT"), ("t", "VARCHAR"))),
            ("k",),
            {},
            (),
        )
        found = release.read(files, number)
        release.publish(files, Release(number + 1, f"w{number}", None, found.at, "", "", (gold,), (), (), ""))
        numbers.append(number + 1)
    said = empty.diff(*numbers, limit=2)["gold"]["t"]
    assert (said["added"], said["removed"], said["changed_columns"]) == (0, 0, {"n": 400_000})
    assert [one["columns"]["n"] for one in said["listed"]["changed"]] == [["0", "1"], ["1", "2"]]
