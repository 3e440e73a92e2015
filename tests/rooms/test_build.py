"""A build releases what changed and nothing else, follows its models when their columns change, and mends what is lost."""

import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec
import pytest

from assay import run
from assay.build import judge as judging
from assay.errors import BuildFailed, LakeBusy, LakeDamaged, SettingsError, UsageError
from assay.lake import duck, evidence, recompute, release, silver, tables
from assay.lake.files import sha256_of
from assay.lake.release import Column, Gold, Input, Release, Rows, Silver
from assay.ports import Limits
from assay.run import Lake, prove
from assay.serve.reader import Reader, damaged
from tests.conftest import ROOT
from tests.forked import hindered
from tests.kept import Kept, begun


def first(root: Path) -> Lake:
    """The lake of CSV files with its first release."""
    begun(root, "csv")
    found = run.open(root)
    assert not found.apply(found.plan()).errors
    return found


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """That lake, as it was after its first release."""
    one = Kept(tmp_path_factory.mktemp("kept") / "mine")
    first(one.root).close()
    one.keep("released")
    return one


@pytest.fixture
def lake(kept: Kept) -> Iterator[Lake]:
    with run.open(kept.begin("released")) as found:
        yield found


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake that no test builds again."""
    with first(tmp_path_factory.mktemp("still") / "mine") as found:
        yield found


def mart(lake: Lake, name: str, select: str, columns: dict[str, str]) -> Path:
    """Add a gold table by symbol, computed from the trades; where its SQL lies."""
    path = lake.project / f"models/gold/{name}.sql"
    path.write_text(select + "\n")
    shown = "".join(
        f"      - {{name: {column}, description: {column}, data_type: {kind}, config: {{meta: {{assay: {{classification: public}}}}}}"
        "}\n"
        for column, kind in columns.items()
    )
    path.with_suffix(".yml").write_text(
        f"version: 2\nmodels:\n  - name: {name}\n    description: Of each symbol.\n    config: {{meta: {{assay: {{key: [symbol], "
        f"inputs: [{{table: silver.trades, where: symbol = row.symbol}}]}}}}}}\n    columns:\n{shown}"
    )
    return path


def trade(lake: Lake, *lines: str) -> None:
    """Append trades to the file and bring them into silver."""
    with (lake.root / "files/trades.csv").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    done = lake.apply(lake.landings("trades", again=True))
    assert not done.errors
    lake.refine("trades")


def objects(lake: Lake, prefix: str = "") -> set[str]:
    return set(lake.target.files.names(prefix))


def path_of(lake: Lake, name: str) -> Path:
    return lake.target.files.local(name, "")


def test_a_build_of_the_same_rows_keeps_snapshot_and_file(lake: Lake) -> None:
    before, there = lake.released(), objects(lake)
    second = lake.build()
    assert (second.number, second.parent) == (2, 1)
    assert second.parent_sha256 == release.stored(lake.target.files, 1)[1]
    assert second.gold == before.gold
    new = objects(lake) - there
    assert new == {second.name, f"releases/_intents/{second.id}.json"}


@pytest.mark.slow
def test_a_release_costs_the_tables_that_changed(lake: Lake) -> None:
    mart(lake, "mart_symbol", "select distinct symbol from {{ source('silver', 'trades') }}", {"symbol": "varchar"})
    before = lake.build()
    trade(lake, "T-9001,2024-02-01,AAPL,10,190.00")
    there = objects(lake)
    after = lake.build()
    assert after.table("mart_symbol") == before.table("mart_symbol")
    assert after.table("mart_position").snapshot != before.table("mart_position").snapshot
    assert (after.seeds, after.seeds_sha256) == (before.seeds, before.seeds_sha256)
    new = objects(lake) - there
    [served] = [name for name in new if name.startswith("serving/")]
    assert served == after.table("mart_position").serving
    of_gold = {name for name in new if name.startswith("warehouse/")}
    assert all(name.startswith("warehouse/gold/mart_position/") for name in of_gold)
    assert {name for name in of_gold if name.endswith(".parquet")} == {
        f.name for f in after.table("mart_position").files
    }
    assert new == of_gold | {served, after.name, f"releases/_intents/{after.id}.json"}


def test_a_release_names_the_files_of_its_tables(lake: Lake) -> None:
    found, catalog = lake.released(), lake.target.catalog
    for gold in found.gold:
        table = catalog.load_table(f"gold.{gold.name}")
        assert {tables.name_of(table, one) for one in tables.data_files(table, gold.snapshot)} == {
            f.name for f in gold.files
        }
        assert sum(f.rows for f in gold.files) == gold.rows > 0
        tables.check(table, lake.target.files, gold.files, snapshot=gold.snapshot)
    [one] = found.silver
    pair = silver.load(catalog, "trades")
    assert pair
    assert (one.current.snapshot, one.past.snapshot) == silver.pinned(pair.current)
    assert one.rows == len((lake.root / "files/trades.csv").read_text().splitlines()) - 1
    for table, rows in ((pair.current, one.current), (pair.past, one.past)):
        assert (
            {tables.name_of(table, f) for f in tables.data_files(table, rows.snapshot)} == {f.name for f in rows.files}
            if rows.snapshot
            else not rows.files
        )
    head = silver.head(pair.current)
    assert (one.evidence, one.evidence_sha256, one.position) == (head.number, head.sha256, head.position)
    for name, sha256 in (found.parquet | found.objects).items():
        assert sha256_of(lake.target.files, name) == sha256


@pytest.mark.slow
def test_columns_come_go_and_change_their_type(lake: Lake) -> None:
    folder = lake.project / "models"
    before = lake.read("gold.mart_position").to_pylist()
    sql = next(folder.rglob("mart_position.sql"))
    yml = next(p for p in folder.rglob("*.yml") if "mart_position" in p.read_text())
    text = sql.read_text()
    sql.write_text(f"with was as (\n{text}\n)\nselect *, 1 as added from was\n")
    yml.write_text(
        yml.read_text().replace(
            "    columns:\n",
            "    columns:\n      - name: added\n        data_type: integer\n        description: one\n"
            "        config: {meta: {assay: {unit: count, classification: public}}}\n",
            1,
        )
    )
    made = lake.build()
    assert "added" in [c.name for c in made.table("mart_position").columns]
    assert [r | {"added": 1} for r in before] == lake.read("gold.mart_position").to_pylist()
    assert scanned(lake) == lake.read("gold.mart_position").to_pylist()
    sql.write_text(f"with was as (\n{text}\n)\nselect *, cast('x' as varchar) as added from was\n")
    yml.write_text(yml.read_text().replace("data_type: integer", "data_type: varchar", 1))
    lake.build()
    assert {r["added"] for r in scanned(lake)} == {"x"}
    # An earlier release reads as it was, from its own file.
    with Reader(lake.target.files, release.read(lake.target.files, 1), lake.target.limits).connect() as con:
        assert con.sql("select * from gold.mart_position").to_arrow_table().to_pylist() == before


def scanned(lake: Lake, table: str = "mart_position") -> list[dict[str, object]]:
    """A gold table as PyIceberg reads it."""
    rows = lake.target.catalog.load_table(f"gold.{table}").scan().to_arrow().to_pylist()
    return sorted(rows, key=lambda r: r["symbol"])


def test_before_the_first_release_there_is_nothing_to_read(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "lakes/csv", tmp_path / "mine")
    with run.open(tmp_path / "mine") as lake, pytest.raises(UsageError, match="`assay apply` makes the first release"):
        lake.read("gold.mart_position")


@pytest.mark.slow
def test_checking_a_lake_makes_no_environment(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    shutil.copytree(ROOT / "lakes/csv", root)
    kept = root / "data/.kept"
    kept.mkdir(parents=True)
    for number in range(30):
        (kept / f"{number}.json").touch()
        os.utime(kept / f"{number}.json", (number, number))
    assert run.check(root) == {"datasets": ["trades"], "gold": ["mart_position"], "ending": []}
    assert [one.name for one in (root / "data").iterdir()] == [".kept"], "what dbt read, and no name of an environment"
    assert sorted(one.suffix for one in (kept / "dbt").iterdir()) == [".json", ".msgpack"]
    assert {one.name for one in kept.iterdir()} >= {f"{number}.json" for number in range(30)}, "what others keep stays"
    with pytest.raises(SettingsError):
        run.check(root, ".kept")


@pytest.mark.slow
def test_two_builds_at_once_end_as_one_release_and_one_that_is_told(lake: Lake) -> None:
    """The other one builds and releases while the first has computed and not yet published."""
    select = "select symbol, count(*) as trades from {{ source('silver', 'trades') }} group by symbol"
    mart(lake, "mart_last", select, {"symbol": "varchar", "trades": "bigint"})
    warns = "{{ config(severity='warn') }} select symbol from {{ ref('mart_last') }}\n"
    (lake.project / "tests/warns.sql").write_text(warns)
    made: list[Release] = []

    def meanwhile(warning: str) -> None:
        assert "test warns" in warning
        if not made:
            with run.open(lake.root) as other:
                made.append(other.build())

    with pytest.raises(LakeBusy, match="release 2 was made by another run meanwhile; build again"):
        lake.build(say=meanwhile)
    assert lake.released() == made[0]
    assert release.numbers(lake.target.files) == [1, 2]
    assert prove.serving(lake) == {"release": 2, "files": 4}
    assert lake.read("gold.mart_last").num_rows == made[0].table("mart_last").rows
    third = lake.build()
    assert (third.number, third.parent) == (3, 2)
    assert prove.serving(lake)["release"] == 3
    assert scanned(lake, "mart_last") == lake.read("gold.mart_last").to_pylist()


# ---------------------------------------------------------------------------------------- files that are lost or altered


def flip(path: Path) -> None:
    """Change the last byte, where nothing is that DuckDB reads."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def flip_inside(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, 20_000)


@contextmanager
def damage(path: Path, how: Callable[[Path], None]) -> Iterator[None]:
    """Damage a file, and put it back."""
    whole = path.read_bytes()
    how(path)
    try:
        yield
    finally:
        path.write_bytes(whole)


@pytest.mark.slow
def test_a_lost_or_altered_serving_file_is_named_and_made_anew(lake: Lake) -> None:
    files, before = lake.target.files, lake.released()
    [gold], rows = before.gold, lake.read("gold.mart_position").to_pylist()
    key = {"symbol": rows[0]["symbol"]}
    for how, words in ((cut, "is damaged"), (Path.unlink, "is lost")):
        with damage(path_of(lake, gold.serving), how):
            for read in (
                lambda: lake.read("gold.mart_position"),
                lambda: lake.sql("select * from mart_position"),
                lambda: lake.explain("mart_position", key),
            ):
                with pytest.raises(LakeDamaged, match=f"{gold.serving} {words}; `assay build` makes it anew"):
                    read()
    assert prove.serving(lake) == {"release": 1, "files": 3}
    for name in (gold.serving, before.seeds, before.docs, gold.files[0].name):
        for how, words in ((flip_inside, "is not what was written"), (Path.unlink, "is lost")):
            with damage(path_of(lake, name), how), pytest.raises(LakeDamaged, match=f"{name} {words}; `assay build`"):
                prove.serving(lake)
    cut(path_of(lake, gold.serving))
    flip(path_of(lake, before.seeds))
    flip(path_of(lake, before.docs))
    second = lake.build()
    assert second.table("mart_position").snapshot == gold.snapshot
    assert not second.objects.keys() & before.objects.keys()
    assert prove.serving(lake) == {"release": 2, "files": 3}
    assert lake.read("gold.mart_position").to_pylist() == rows
    assert lake.explain("mart_position", key)["recomputed"]["equal"]
    flip_inside(path_of(lake, gold.files[0].name))
    third = lake.build()
    assert third.table("mart_position").snapshot != gold.snapshot
    assert prove.serving(lake) == {"release": 3, "files": 3}
    path_of(lake, third.gold[0].files[0].name).unlink()
    lake.build()
    assert prove.serving(lake) == {"release": 4, "files": 3}
    assert scanned(lake) == rows
    assert files.exists(release.name_of(4))


@pytest.mark.slow
def test_a_new_file_of_silver_is_checked_before_a_build_reads_it(lake: Lake) -> None:
    [old] = lake.released().silver[0].current.files
    trade(lake, "T-9001,2024-02-01,AAPL,10,190.00")
    found, _ = evidence.read(lake.target.files, "trades", lake.released().silver[0].evidence + 1)
    [new] = found.current.add
    for how, words in ((flip_inside, f"{new.name} is not what the refine wrote"), (Path.unlink, new.name)):
        with damage(path_of(lake, new.name), how), pytest.raises(LakeDamaged, match=words):
            lake.build()
    assert lake.released().number == 1
    assert list(lake.target.limits.scratch.iterdir()) == []
    if old.name in found.current.remove:
        trade(lake, "T-9002,2024-02-02,NEW,10,190.00")
    made = lake.build()
    assert new.name in {f.name for f in made.silver[0].current.files}
    assert prove.silver_objects(lake)["datasets"] == 1
    with damage(path_of(lake, new.name), flip_inside), pytest.raises(LakeDamaged, match=new.name):
        prove.silver_objects(lake)


@pytest.mark.slow
@pytest.mark.parametrize("name", [silver.name("trades"), "gold.mart_position"])
def test_a_build_over_torn_metadata_says_whose(lake: Lake, name: str) -> None:
    path = Path(lake.target.catalog.load_table(name).metadata_location.removeprefix("file://"))
    torn = rf"the metadata that the catalog names for {name} cannot be read .*restore it from a copy"
    lost = rf"{path.name} is named by the lake but is not there; restore it"
    for how, words in ((lambda path: path.write_bytes(b""), torn), (Path.unlink, lost)):
        with damage(path, how), pytest.raises(LakeDamaged, match=words):
            lake.build()
    assert lake.build().number == 2


@pytest.mark.slow
def test_a_gold_table_that_the_catalog_lost_is_made_again(lake: Lake) -> None:
    rows, before = lake.read("gold.mart_position").to_pylist(), lake.released().table("mart_position")
    lake.target.catalog.drop_table("gold.mart_position")
    assert lake.read("gold.mart_position").to_pylist() == rows, "a release needs no catalog"
    made = lake.build().table("mart_position")
    assert made.snapshot != before.snapshot
    assert (made.rows, made.content) == (before.rows, before.content)
    assert scanned(lake) == rows
    assert prove.serving(lake) == {"release": 2, "files": 3}


@pytest.mark.slow
def test_a_catalog_that_is_lost_altogether_is_made_again(lake: Lake) -> None:
    rows = lake.read("silver.trades_versions").to_pylist()
    lake.close()
    (lake.target.settings.data / "catalog.db").unlink()
    with run.open(lake.root) as again:
        with pytest.raises(LakeDamaged, match="the catalog was lost"):
            prove.silver_objects(again)
        assert again.read("silver.trades_versions").to_pylist() == rows, "a release needs no catalog"
        with (again.root / "files/trades.csv").open("a") as file:
            file.write("T-9001,2024-02-01,AAPL,10,190.00\n")
        done = again.apply(again.landings("trades"))  # the file changed, so it is due
        assert not done.errors
        done = again.apply(again.plan())
        assert not done.errors
        assert done.release
        assert done.release.number == 2
        assert len(again.read("silver.trades_versions")) >= len(rows) + 1
        assert scanned(again) == again.read("gold.mart_position").to_pylist()
        assert prove.silver_objects(again)["datasets"] == 1
        assert prove.rebuild(again, ["trades"])
        assert prove.serving(again)["release"] == 2
        again.close()
        (again.target.settings.data / "catalog.db").unlink()
    with run.open(lake.root) as again:
        assert again.build().number == 3, "a build alone heals both too"
        assert prove.silver_objects(again)["datasets"] == 1
        assert scanned(again) == again.read("gold.mart_position").to_pylist()


BUILDS = """
import sys; from pathlib import Path; from assay import run; from assay.errors import AssayError
root = Path(sys.argv[1])
lake = run.open(root)
for where in sys.argv[2:]:
    (root / where).chmod(0o555)
    try:
        lake.build()
    except AssayError as error:
        print(type(error).__name__, error)
    (root / where).chmod(0o755)
print(lake.build().number)
lake.close()
"""


@pytest.mark.slow
def test_a_build_that_may_not_write_tells_the_lakes_owner(lake: Lake) -> None:
    [sql] = lake.project.rglob("mart_position.sql")
    sql.write_text(f"with was as (\n{sql.read_text()}\n)\nselect * from was where symbol <> 'NVDA'\n")
    gold = "data/dev/warehouse/gold/mart_position"
    program = hindered("-c", BUILDS, str(lake.root), f"{gold}/data", f"{gold}/metadata", "data/dev/serving")
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    *said, number = done.stdout.splitlines() or [""]
    assert number == "2", done.stderr
    assert len(said) == 3
    for line in said:
        assert line.startswith("SettingsError "), line
        assert "Permission denied" in line
        assert line.endswith("the lake's owner must allow it")


# ------------------------------------------------------------------------------------------- a connection to a release


def reader(lake: Lake, found: Release | None = None) -> Reader:
    return Reader(lake.target.files, found or lake.released(), lake.target.limits)


@pytest.mark.slow
def test_a_serving_file_that_another_program_writes_to_is_busy(still: Lake) -> None:
    code = "import sys, duckdb; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    path = str(path_of(still, still.released().gold[0].serving))
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LakeBusy, match="is open for writing in another program"):
            reader(still).connect()
        other.stdin.close()
    reader(still).connect().close()


@pytest.mark.slow
def test_a_file_that_is_damaged_inside_is_told_by_the_query_that_finds_it(still: Lake) -> None:
    path = still.target.files.scratch()
    with duck.open(Limits(), path) as con:
        con.execute("CREATE TABLE large AS SELECT i, md5(CAST(i AS VARCHAR)) AS m FROM range(100000) AS t (i)")
    data = bytearray(path.read_bytes())
    data[200_000:] = bytes(b ^ 255 for b in data[200_000:])
    path.write_bytes(data)
    still.target.files.put_new("serving/large.duckdb", path, "release.serving")
    found = still.released()
    large = msgspec.structs.replace(
        found.gold[0],
        name="large",
        serving="serving/large.duckdb",
        columns=(Column("i", "BIGINT"), Column("m", "VARCHAR")),
        key=("i",),
    )
    con = reader(still, msgspec.structs.replace(found, gold=(large,))).connect()
    with pytest.raises(duckdb.Error) as caught:
        con.execute("SELECT sum(hash(f)) FROM gold.large AS f").fetchall()
    con.close()
    assert "a file that serves gold is lost or damaged" in str(damaged(caught.value))


LOST = {"lost": Path.unlink, "cut": lambda path: os.truncate(path, 100), "altered": flip}


@pytest.mark.parametrize("what", LOST)
def test_lost_silver_takes_neither_gold_nor_other_silver_with_it(still: Lake, what: str) -> None:
    found = still.released()
    [one] = found.silver
    other = msgspec.structs.replace(one, dataset="other", current=msgspec.structs.replace(one.current, files=()))
    both = reader(still, msgspec.structs.replace(found, silver=(one, other)))
    with damage(path_of(still, one.current.files[0].name), LOST[what]), both.connect() as con:
        assert con.execute("SELECT count(*) FROM gold.mart_position").fetchall() == [(found.gold[0].rows,)]
        assert con.execute("SELECT count(*) FROM silver.other").fetchall() == [(0,)]
        for query in (
            "SELECT count(*) FROM silver.trades",
            "SELECT 1 FROM silver.trades_versions LIMIT 1",
            "SELECT g.symbol FROM gold.mart_position AS g WHERE EXISTS (SELECT 1 FROM silver.trades)",
            "SELECT symbol FROM silver.trades WHERE symbol = 'NONE'",
        ):
            with pytest.raises(duckdb.Error) as caught:
                con.execute(query).fetchall()
            assert one.current.files[0].name in str(damaged(caught.value)), caught.value


def test_a_release_is_read_without_catalog_contracts_or_evidence(still: Lake, tmp_path: Path) -> None:
    """From a copy that holds what it names and nothing else."""
    found = still.released()
    for name in (found.name, *found.objects, *found.parquet):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path_of(still, name), tmp_path / name)
    files = type(still.target.files)(tmp_path)
    with Reader(files, release.read(files, 1), Limits()).connect() as con:
        for table in ("gold.mart_position", "silver.trades", "silver.trades_versions"):
            there = still.read(table)
            assert con.execute(f"SELECT count(*) FROM {table}").fetchall() == [(there.num_rows,)]
            assert there.num_rows


@pytest.mark.parametrize(
    "query",
    [
        "SELECT CAST('LakeDamaged: x' AS INTEGER)",
        "SELECT strptime('LakeDamaged: No magic bytes', '%Y')",
        "SELECT * FROM gold.nothing",
    ],
)
def test_what_a_query_does_wrong_is_no_damage(still: Lake, query: str) -> None:
    with reader(still).connect() as con:
        with pytest.raises(duckdb.Error) as caught:
            con.execute(query)
        assert damaged(caught.value) is None


def test_a_locked_connection_is_bounded_and_opens_nothing_but_silver(still: Lake, tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    limits = replace(still.target.limits, memory="60MB", threads=1, spill="10GB")
    con = reader(still).connect(locked=True, limits=limits)
    cursor = con.cursor()
    found = still.released()
    for table, rows in (("gold.mart_position", found.gold[0].rows), ("silver.trades", found.silver[0].rows)):
        assert cursor.execute(f"SELECT count(*) FROM {table}").fetchall() == [(rows,)]
    assert cursor.execute("SELECT current_setting('memory_limit')").fetchall() == [("57.2 MiB",)]
    assert cursor.execute("SELECT current_setting('max_temp_directory_size')").fetchall() == [("9.3 GiB",)]
    spilling = "SELECT count(*) FROM (SELECT i, md5(CAST(i AS VARCHAR)) AS m FROM range(1000000) AS t (i) ORDER BY m)"
    assert cursor.execute(spilling).fetchall() == [(1_000_000,)]
    known = {"here": [1]}
    ledger = still.target.settings.data / "ledger.db"
    for query in (
        f"SELECT * FROM read_text('{outside}')", f"SELECT * FROM '{outside}'", f"COPY (SELECT 1) TO '{tmp_path / 'new'}'",
        f"ATTACH '{tmp_path / 'new.duckdb'}' AS new", f"ATTACH '{ledger}' AS ledger (TYPE sqlite)",
        f"SELECT * FROM read_blob('{ledger}')",
        "SET memory_limit = '8GB'", "SET enable_external_access = true", "RESET lock_configuration", "SELECT * FROM known",
    ):  # fmt: skip
        with pytest.raises(duckdb.Error):
            cursor.execute(query)
    assert known
    assert [one.name for one in tmp_path.iterdir()] == [outside.name]
    con.close()


def test_every_cursor_reads_moments_in_utc(still: Lake) -> None:
    """On a machine in another zone, too: what is set for the connection alone is not set for its cursors."""
    with reader(still).connect() as con:
        for one in (con, con.cursor()):
            found = one.execute(
                "SELECT current_setting('timezone'), current_setting('python_enable_replacements')"
            ).fetchall()
            assert found == [("UTC", False)]


# ---------------------------------------------------------------------------------------- what is refused as a release


def declared(*columns: tuple[str, str], key: tuple[str, ...] = ("symbol",)) -> Gold:
    return Gold("mart", 0, 0, "", tuple(Column(name, kind, name) for name, kind in columns), key, {}, ())


@pytest.mark.parametrize(
    ("value", "key", "words"),
    [
        ("CAST(NULL AS VARCHAR)", ("symbol", "value"), "value is null and part of its key, for example where symbol=B, value=NULL"),
        ("'nan'::DOUBLE", ("symbol",), "value is NaN or infinite, which no reader can get, for example where symbol=B; turn it"),
        ("'-infinity'::DOUBLE", ("symbol",), "value is NaN or infinite"),
        ("1::FLOAT", ("symbol",), "value is a FLOAT, which no table of a lake holds; cast it, a FLOAT to DOUBLE"),
        ("'infinity'::DATE", ("symbol",), "value is infinite or beyond 0001-01-01 to 9999-12-31"),
        ("DATE '10000-01-01'", ("symbol", "value"), "for example where symbol=B, value=10000-01-01"),
        ("DATE '0044-03-15 (BC)'", ("symbol",), "value is infinite or beyond"),
        ("'-infinity'::TIMESTAMP", ("symbol",), "value is infinite or beyond"),
        ("TIMESTAMPTZ '10000-01-01 00:00:00+00'", ("symbol",), "value is infinite or beyond"),
        ("unnest([1, 2])", ("symbol",), 'its key ("symbol") is there twice, for example where symbol=B'),
    ],
)  # fmt: skip
def test_what_no_reader_can_get_is_refused_with_an_example(value: str, key: tuple[str, ...], words: str) -> None:
    with duckdb.connect() as con:
        con.execute("SET timezone = 'UTC'; CREATE SCHEMA gold")
        con.execute(f"CREATE TABLE gold.mart AS SELECT 'B' AS symbol, {value} AS value")
        kind = con.execute("SELECT typeof(value) FROM gold.mart").fetchall()[0][0]
        con.execute(
            f"INSERT INTO gold.mart VALUES ('A', {'NULL' if len(key) == 1 else repr('x') if kind == 'VARCHAR' else 'NULL'})"
        )
        with pytest.raises(BuildFailed, match=r"^gold\.mart: .*; no release was made$") as caught:
            judging._checked(con, declared(("symbol", "varchar"), ("value", "any"), key=key))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "value",
    ["NULL::DOUBLE", "1e308::DOUBLE", "DATE '9999-12-31'", "DATE '0001-01-01'", "TIMESTAMP '9999-12-31 23:59:59.999999'", "NULL::DATE",
     "TIMESTAMPTZ '0001-01-01 00:00:00+00'"],
)  # fmt: skip
def test_what_is_only_unusual_is_released(value: str) -> None:
    with duckdb.connect() as con:
        con.execute("SET timezone = 'UTC'; CREATE SCHEMA gold")
        con.execute(f"CREATE TABLE gold.mart AS SELECT 'B' AS symbol, {value} AS value")
        kind = con.execute("SELECT typeof(value) FROM gold.mart").fetchall()[0][0]
        gold = judging._checked(con, declared(("symbol", "varchar"), ("value", "any"))).gold
    assert (gold.rows, [c.type for c in gold.columns]) == (1, ["VARCHAR", kind])


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("symbol = row.symbol", ""),
        ("symbol = row.symbol AND date <= row.last_traded_on", ""),
        ("symbol = row.symbol AND date < row.last_traded_on", "symbol=NVDA has .*, its declared inputs alone give "),
        ("symbol = 'NONE'", "symbol=NVDA does not come from its declared inputs at all"),
        ("symbol = row.symbol AND EXISTS (SELECT nothing FROM gold.mart_position)", r"cannot be computed from its declared inputs \(.*nothing"),
    ],
)  # fmt: skip
def test_a_row_that_its_declared_inputs_do_not_give_is_refused(still: Lake, where: str, words: str) -> None:
    found = still.released()
    gold = msgspec.structs.replace(found.gold[0], inputs=(Input("silver.trades", where),))
    seeds = path_of(still, found.seeds)
    with reader(still).connect() as con:

        def judge(**how: int) -> None:
            judging._explained(con, seeds, found.models, gold, Limits("100MB", 1), **how)

        if words:
            with pytest.raises(BuildFailed, match=f"^gold.mart_position: .*{words}.*; mend meta.assay.inputs"):
                judge()
        else:
            judge()
        if "row." in where and "nothing" not in where:
            judge(sampled=1)  # too many rows to try


def test_sums_in_another_order_are_the_same_and_nothing_else_is() -> None:
    assert recompute.same(0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1)
    assert not recompute.same(1.0, math.nextafter(1.0, 2) + 1e-6)
    assert not recompute.same(1, 2)
    assert not recompute.same(None, 0.0)
    assert recompute.same(None, None)
    assert recompute.same(math.nan, -math.nan)
    assert not recompute.same(math.nan, 0.0)
    assert not recompute.same(math.inf, -math.inf)
    assert not recompute.same(Decimal("0.1"), Decimal("0.1000000000000001"))


@pytest.mark.slow
def test_a_sum_of_floats_that_a_build_releases_is_explained_as_equal(tmp_path: Path) -> None:
    """Sixty thousand trades: one thread over one symbol's rows adds them up in another order than two over all."""
    shutil.copytree(ROOT / "lakes/csv", tmp_path / "mine")
    with run.open(tmp_path / "mine") as lake:
        order = random.Random(1)
        rows = ["trade_id,date,symbol,quantity,price"]
        for i in range(60_000):
            quantity = f"{order.randint(1, 999)}.{order.randint(1, 999):03}"
            rows.append(f"T-{i:06},2024-01-03,S{i % 2},{quantity},{order.randint(1, 99)}.{order.randint(1, 99):02}")
        lake.root.joinpath("files/trades.csv").write_text("\n".join(rows) + "\n")
        worth = "sum(cast(quantity as double) * cast(price as double) / 3)"
        select = f"select symbol, {worth} as worth from {{{{ source('silver', 'trades') }}}} group by symbol"
        mart(lake, "mart_float", select, {"symbol": "varchar", "worth": "double"})
        done = lake.apply(lake.plan())
        assert not done.errors
        assert done.release
        assert done.release.silver[0].rows == 60_000
        for symbol in ("S0", "S1"):
            told = lake.explain("mart_float", {"symbol": symbol}, "worth", listed=1)
            assert told["recomputed"]["equal"], told["recomputed"]


@pytest.mark.slow
def test_a_build_that_is_refused_changes_nothing_of_gold(lake: Lake) -> None:
    folder = lake.project / "models"
    [sql] = folder.rglob("mart_position.sql")
    [yml] = folder.rglob("mart_position.yml")
    good = yml.read_text()
    before = lake.released()
    [gold] = before.gold
    sql.write_text(sql.read_text().replace("sum(quantity * price)", "sum(quantity * price) + 1"))
    zero = "select symbol, cast(0 as double) / 0 as ratio from {{ source('silver', 'trades') }} group by symbol"
    ratio = mart(lake, "mart_zero", zero, {"symbol": "varchar", "ratio": "double"})

    def refused() -> str:
        with pytest.raises(BuildFailed) as caught:
            lake.build()
        assert lake.released() == before
        assert silver.snapshot_id(lake.target.catalog.load_table("gold.mart_position")) == gold.snapshot
        return str(caught.value)

    assert refused().startswith("gold.mart_zero: ratio is NaN or infinite")
    ratio.unlink()
    ratio.with_suffix(".yml").unlink()
    yml.write_text(
        good.replace("where: symbol = row.symbol", "where: symbol = row.symbol and date < row.last_traded_on")
    )
    assert (said := refused()).startswith("gold.mart_position: symbol=NVDA has ")
    assert "its declared inputs alone give " in said
    assert "mend meta.assay.inputs" in said
    yml.write_text(good)
    assert list(lake.target.limits.scratch.iterdir()) == [], "they told all there is"
    lake.project.joinpath("tests/none.sql").write_text(
        "select symbol, cost from {{ ref('mart_position') }} order by symbol"
    )
    said = refused()
    assert said.startswith("gold was not built; the last release stays: 1.\ntest none (tests/none.sql): Got ")
    assert " | for example symbol=AAPL, cost=" in said
    assert Path(said.rpartition("dbt's log: ")[2]).exists()


# -------------------------------------------------------------------------------------------------- what is told of it


def test_a_release_of_nothing_says_so(still: Lake) -> None:
    made = still.released()
    gold = Gold(
        "mart", 1, 0, "", (), ("id",), {}, (Input("silver.trades_versions", "true"), Input("silver.rates", "true"))
    )
    full = msgspec.structs.replace(gold, rows=7)

    def dataset(name: str, rows: int) -> Silver:
        there = (evidence.DataFile("x", "0", 1, rows),) if rows else ()
        return msgspec.structs.replace(made.silver[0], dataset=name, current=Rows(1, (), there))

    trades, rates, other = dataset("trades", 0), dataset("rates", 0), dataset("other", 9)

    def told(
        *gold: Gold, silver: tuple[Silver, ...] = (trades, rates, other), parent: int | None = None, tests: int = 3
    ) -> str:
        return release.told(msgspec.structs.replace(made, gold=gold, silver=silver, parent=parent, tests=tests))

    assert told() == "released 1: no gold table: the dbt project has no model in schema gold, 3 tests passed"
    assert (
        told(gold)
        == "released 1: mart 0 rows (nothing of rates, trades is in silver yet, `assay status` says why), 3 tests passed"
    )
    assert told(gold, parent=1) == "released 1: mart 0 rows, 3 tests passed"
    assert told(gold, parent=1, tests=0) == "released 1: mart 0 rows, NOT TESTED: the dbt project has no test"
    some = dataset("rates", 1)
    assert told(full, full, silver=(trades, some)) == "released 1: mart 7 rows, mart 7 rows, 3 tests passed"
