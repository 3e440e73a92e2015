"""A build releases what changed and nothing else, follows its models when their columns change, and mends what is lost."""

import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec
import pytest

import assay
from assay import run
from assay.build import judge as judging
from assay.errors import BuildFailed, LakeBusy, LakeDamaged, SettingsError, UsageError
from assay.lake import recompute, release, silver
from assay.lake.duck import Limits
from assay.lake.release import Column, Gold, Input, Model, Release, Silver
from assay.run import Lake, verify
from assay.windows import Window
from tests.conftest import ROOT
from tests.rooms import serving_lake


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    root = tmp_path / "mine"
    shutil.copytree(ROOT / "lakes/csv", root)
    found = assay.open(root)
    assert not run.apply(found, run.plan(found)).errors
    yield found
    found.close()


def test_a_build_of_the_same_rows_keeps_snapshot_and_file(lake: Lake) -> None:
    first = run.current(lake)
    second = run.build(lake)
    assert (second.number, second.parent) == (2, 1)
    assert second.gold == first.gold
    assert len(list(lake.target.files.names("serving", ".duckdb"))) == 2  # one table, and the seeds


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
    made = run.build(lake)
    assert "added" in [c.name for c in made.table("mart_position").columns]
    assert [r | {"added": 1} for r in before] == lake.read("gold.mart_position").to_pylist()
    scanned = lake.target.catalog.load_table("gold.mart_position").scan().to_arrow().to_pylist()
    assert sorted(scanned, key=lambda r: r["symbol"]) == lake.read("gold.mart_position").to_pylist()
    sql.write_text(f"with was as (\n{text}\n)\nselect *, cast('x' as varchar) as added from was\n")
    yml.write_text(yml.read_text().replace("data_type: integer", "data_type: varchar", 1))
    run.build(lake)
    scanned = lake.target.catalog.load_table("gold.mart_position").scan().to_arrow().to_pylist()
    assert {r["added"] for r in scanned} == {"x"}
    # An earlier release reads as it was, from its own file.
    old = release.read(lake.target.files, 1)
    con = release.connect(lake.target.files, lake.target.catalog, old)
    assert con.sql("select * from gold.mart_position").to_arrow_table().to_pylist() == before
    con.close()


def test_before_the_first_release_there_is_nothing_to_read(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "lakes/csv", tmp_path / "mine")
    lake = assay.open(tmp_path / "mine")
    with pytest.raises(UsageError, match="`assay apply` makes the first release"):
        lake.read("gold.mart_position")
    lake.close()


def test_checking_a_lake_makes_no_environment(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    shutil.copytree(ROOT / "lakes/csv", root)
    assert run.check(root) == {"datasets": ["trades"], "gold": ["mart_position"]}
    assert [one.name for one in (root / "data").iterdir()] == [".kept"], "what dbt read, and no name of an environment"
    with pytest.raises(SettingsError):
        run.check(root, ".kept")


# ---------------------------------------------------------------------------------- files that serve, lost or altered


def flip(path: Path) -> None:
    """Change the last byte, where nothing is that DuckDB reads."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


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


def test_a_lost_or_altered_serving_file_is_named_and_made_anew(lake: Lake) -> None:
    files, first = lake.target.files, run.current(lake)
    [gold], rows = first.gold, lake.read("gold.mart_position").to_pylist()
    key = {"symbol": rows[0]["symbol"]}
    for how, words in ((cut, "is damaged"), (Path.unlink, "is lost")):
        with damage(files.path(gold.serving), how):
            for read in (
                lambda: lake.read("gold.mart_position"),
                lambda: run.sql(lake, "select * from mart_position"),
                lambda: run.explain(lake, "mart_position", key),
            ):
                with pytest.raises(LakeDamaged, match=f"{gold.serving} {words}; `assay build` makes it anew"):
                    read()
    assert verify.serving(lake) == {"release": 1, "files": 2}
    for name in (gold.serving, first.seeds):
        for how, words in ((flip, "is not what was written"), (Path.unlink, "is lost")):
            with damage(files.path(name), how), pytest.raises(LakeDamaged, match=f"{name} {words}; `assay build`"):
                verify.serving(lake)
    cut(files.path(gold.serving))
    flip(files.path(first.seeds))
    second = run.build(lake)
    assert second.table("mart_position").snapshot == gold.snapshot
    assert not second.objects.keys() & first.objects.keys()
    assert verify.serving(lake) == {"release": 2, "files": 2}
    assert lake.read("gold.mart_position").to_pylist() == rows
    assert run.explain(lake, "mart_position", key)["recomputed"]["equal"]
    [stored] = lake.target.catalog.load_table("gold.mart_position").inspect.files()["file_path"].to_pylist()
    Path(stored.removeprefix("file://")).unlink()
    with pytest.raises(LakeDamaged, match="mart_position cannot be read from the catalog"):
        verify.serving(lake)
    run.build(lake)
    assert verify.serving(lake) == {"release": 3, "files": 2}
    scanned = lake.target.catalog.load_table("gold.mart_position").scan().to_arrow().to_pylist()
    assert sorted(scanned, key=lambda r: r["symbol"]) == rows


def test_a_serving_file_that_another_program_writes_to_is_busy(small: serving_lake.Lake) -> None:
    t, found = small.local, release.read(small.local.files, 1)
    code = "import sys, duckdb; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    path = str(t.files.path(found.table("fct_price").serving))
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LakeBusy, match="is open for writing in another program"):
            release.connect(t.files, t.catalog, found)
        other.stdin.close()
    release.connect(t.files, t.catalog, found).close()


def test_a_file_that_is_damaged_inside_is_told_by_the_query_that_finds_it(small: serving_lake.Lake) -> None:
    t, found = small.local, release.read(small.local.files, 1)
    path = t.files.path(found.table("fct_price").serving)

    def tear(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[200_000:] = bytes(b ^ 255 for b in data[200_000:])
        path.write_bytes(data)

    with damage(path, tear):
        con = release.connect(t.files, t.catalog, found)
        with pytest.raises(duckdb.Error) as caught:
            con.execute("SELECT sum(hash(f)) FROM gold.fct_price AS f").fetchall()
        con.close()
    assert "a file that serves gold is lost or damaged" in str(release.damaged(caught.value))


def test_a_release_without_hashes_is_still_read(small: serving_lake.Lake) -> None:
    made = release.read(small.local.files, 1)
    kept = msgspec.structs.replace(made, seeds="serving/seeds.duckdb", seeds_sha256="0")
    raw = json.loads(msgspec.json.encode(kept))
    del raw["seeds_sha256"]
    for gold in raw["gold"]:
        del gold["serving_sha256"]
    old = msgspec.json.decode(json.dumps(raw), type=Release)
    assert old.objects == {g.serving: "" for g in made.gold} | {"serving/seeds.duckdb": ""}


@pytest.mark.parametrize("name", [silver.name("trades"), "gold.mart_position"])
def test_a_build_over_torn_metadata_says_whose(lake: Lake, name: str) -> None:
    path = Path(lake.target.catalog.load_table(name).metadata_location.removeprefix("file://"))
    for how in (lambda path: path.write_bytes(b""), Path.unlink):
        with damage(path, how), pytest.raises(LakeDamaged, match=f"{name} (cannot be read|lost a file) .*restore it"):
            run.build(lake)
    assert run.build(lake).number == 2


BUILDS = """
import sys; from pathlib import Path; import assay; from assay import run; from assay.errors import AssayError
root = Path(sys.argv[1])
lake = assay.open(root)
for where in sys.argv[2:]:
    (root / where).chmod(0o555)
    try:
        run.build(lake)
    except AssayError as error:
        print(type(error).__name__, error)
    (root / where).chmod(0o755)
print(run.build(lake).number)
lake.close()
"""


def test_a_build_that_may_not_write_tells_the_lakes_owner(lake: Lake) -> None:
    root = lake.target.settings.root
    [sql] = lake.project.rglob("mart_position.sql")
    sql.write_text(f"with was as (\n{sql.read_text()}\n)\nselect * from was where symbol <> 'NVDA'\n")
    gold = "data/dev/warehouse/gold/mart_position"
    program = [sys.executable, "-c", BUILDS, str(root), f"{gold}/data", f"{gold}/metadata", "data/dev/serving"]
    if os.getuid() == 0:  # whom no mode hinders
        if not shutil.which("setpriv"):
            pytest.skip("root may write everywhere, and there is no setpriv to take that away")
        program = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *program]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    *said, number = done.stdout.splitlines()
    assert number == "2", done.stderr
    assert len(said) == 3
    for line in said:
        assert line.startswith("SettingsError "), line
        assert "Permission denied" in line
        assert line.endswith("the lake's owner must allow it")


# ------------------------------------------------------------------------------------------- a connection to a release


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving_lake.Lake]:
    """Two datasets and hand-made gold, without dbt."""
    made = serving_lake.build(tmp_path_factory.mktemp("small"))
    yield made
    made.close()


@contextmanager
def without_entry(small: serving_lake.Lake) -> Iterator[None]:
    catalog, name = small.local.catalog, silver.name("price_eod")
    location = catalog.load_table(name).metadata_location
    catalog.drop_table(name)
    try:
        yield
    finally:
        catalog.register_table(name, location)


def stored(small: serving_lake.Lake, what: str) -> Path:
    """Where silver's newest rows, its metadata, or its contract lie."""
    table = small.local.catalog.load_table(silver.name("price_eod"))
    one = next(s for s in release.read(small.local.files, 1).silver if s.dataset == "price_eod")
    if what == "contract":
        [name] = [n for n in small.local.files.names("contracts") if one.contract_sha256 in n]
        return small.local.files.path(name)
    if what == "metadata":
        return Path(table.metadata_location.removeprefix("file://"))
    return Path(next(iter(table.scan().plan_files())).file.file_path.removeprefix("file://"))


LOST = {
    "rows": lambda small: damage(stored(small, "rows"), Path.unlink),
    "cut rows": lambda small: damage(stored(small, "rows"), lambda path: os.truncate(path, 100)),
    "metadata": lambda small: damage(stored(small, "metadata"), Path.unlink),
    "torn metadata": lambda small: damage(stored(small, "metadata"), lambda path: os.truncate(path, 100)),
    "contract": lambda small: damage(stored(small, "contract"), Path.unlink),
    "catalog entry": without_entry,
}


@pytest.mark.parametrize("what", LOST)
def test_lost_silver_takes_neither_gold_nor_other_silver_with_it(small: serving_lake.Lake, what: str) -> None:
    t, found = small.local, release.read(small.local.files, 1)
    with LOST[what](small):
        con = release.connect(t.files, t.catalog, found)
        assert con.execute("SELECT count(*) FROM gold.fct_price").fetchall() == [(found.table("fct_price").rows,)]
        assert con.execute("SELECT count(*) FROM silver.splits").fetchall() == [(0,)]
        assert list(release.silver_selects(t.files, t.catalog, found, only="splits")) == ["splits", "splits_versions"]
        for query in (
            "SELECT count(*) FROM silver.price_eod",
            "SELECT 1 FROM silver.price_eod_versions LIMIT 1",
            "SELECT g.symbol FROM gold.fct_price AS g WHERE EXISTS (SELECT 1 FROM silver.price_eod)",
            *(["SELECT symbol FROM silver.price_eod WHERE symbol = 'NONE'"] if what != "contract" else []),
        ):
            with pytest.raises(duckdb.Error) as caught:
                con.execute(query).fetchall()
            lost = release.damaged(caught.value)
            assert lost is not None, caught.value
            assert "price_eod" in str(lost) or what == "contract"
        con.close()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT CAST('LakeDamaged: x' AS INTEGER)",
        "SELECT strptime('LakeDamaged: No magic bytes', '%Y')",
        "SELECT * FROM gold.nothing",
    ],
)
def test_what_a_query_does_wrong_is_no_damage(small: serving_lake.Lake, query: str) -> None:
    con = release.connect(small.local.files, small.local.catalog, release.read(small.local.files, 1))
    with pytest.raises(duckdb.Error) as caught:
        con.execute(query)
    assert release.damaged(caught.value) is None
    con.close()


def test_a_locked_connection_is_bounded_and_opens_nothing_but_silver(small: serving_lake.Lake, tmp_path: Path) -> None:
    t, found = small.local, release.read(small.local.files, 1)
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    con = release.connect(t.files, t.catalog, found, limits=Limits("60MB", 1, t.files.root / "_tmp"), locked=True)
    cursor = con.cursor()
    rows = found.table("fct_price").rows
    for table in ("gold.fct_price", "silver.price_eod"):
        assert cursor.execute(f"SELECT count(*) FROM {table}").fetchall() == [(rows,)]
    assert cursor.execute("SELECT current_setting('memory_limit')").fetchall() == [("57.2 MiB",)]
    assert cursor.execute("SELECT current_setting('max_temp_directory_size')").fetchall() == [("9.3 GiB",)]
    spilling = "SELECT count(*) FROM (SELECT i, md5(CAST(i AS VARCHAR)) AS m FROM range(2000000) AS t (i) ORDER BY m)"
    assert cursor.execute(spilling).fetchall() == [(2_000_000,)]
    known = {"here": [1]}
    for query in (
        f"SELECT * FROM read_text('{outside}')", f"SELECT * FROM '{outside}'", f"COPY (SELECT 1) TO '{tmp_path / 'new'}'",
        f"ATTACH '{tmp_path / 'new.duckdb'}' AS new", f"ATTACH '{t.files.path('ledger.db')}' AS ledger (TYPE sqlite)",
        "SET memory_limit = '8GB'", "SET enable_external_access = true", "RESET lock_configuration", "SELECT * FROM known",
    ):  # fmt: skip
        with pytest.raises(duckdb.Error):
            cursor.execute(query)
    assert known
    assert [one.name for one in tmp_path.iterdir()] == [outside.name]
    con.close()


def test_every_cursor_reads_moments_in_utc(small: serving_lake.Lake) -> None:
    """On a machine in another zone, too: what is set for the connection alone is not set for its cursors."""
    con = release.connect(small.local.files, small.local.catalog, release.read(small.local.files, 1))
    for one in (con, con.cursor()):
        found = one.execute(
            "SELECT current_setting('timezone'), current_setting('python_enable_replacements')"
        ).fetchall()
        assert found == [("UTC", False)]
    con.close()


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
        ("symbol = row.symbol AND date = row.date", ""),
        ("symbol = row.symbol AND date < row.date", r"date=\d{4}-\d\d-\d\d does not come from its declared inputs at all"),
        ("symbol = row.symbol AND EXISTS (SELECT nothing FROM gold.fct_price)", r"cannot be computed from its declared inputs \(.*nothing"),
    ],
)  # fmt: skip
def test_a_row_that_its_declared_inputs_do_not_give_is_refused(
    small: serving_lake.Lake, tmp_path: Path, where: str, words: str
) -> None:
    t, found = small.local, release.read(small.local.files, 1)
    gold = msgspec.structs.replace(found.table("mart_known"), inputs=(Input("silver.price_eod", where),))
    models = (Model("gold.mart_known", "model", serving_lake._KNOWN),)
    seeds = tmp_path / "seeds.duckdb"
    duckdb.connect(str(seeds)).close()
    con = release.connect(t.files, t.catalog, found)

    def judge(gold: Gold, **how: int) -> None:
        judging._explained(con, seeds, models, gold, Limits("100MB", 1), **how)

    try:
        if words:
            with pytest.raises(BuildFailed, match=f"^gold.mart_known: .*{words}.*; mend meta.assay.inputs"):
                judge(gold)
        else:
            judge(gold)
            other = msgspec.structs.replace(gold, inputs=(Input("silver.price_eod", "symbol = 'NONE'"),))
            with pytest.raises(BuildFailed):
                judge(other)
        if "nothing" not in where:
            judge(gold, sampled=1 if "date =" in where else 100)  # too many rows to try
    finally:
        con.close()


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


def test_a_sum_of_floats_that_a_build_releases_is_explained_as_equal(lake: Lake) -> None:
    """Sixty thousand trades: one thread over one symbol's rows adds them up in another order than two over all."""
    order = random.Random(1)
    rows = ["trade_id,date,symbol,quantity,price"]
    for i in range(60_000):
        quantity = f"{order.randint(1, 999)}.{order.randint(1, 999):03}"
        rows.append(f"T-{i:06},2024-01-03,S{i % 2},{quantity},{order.randint(1, 99)}.{order.randint(1, 99):02}")
    settings = lake.target.settings.root
    settings.joinpath("files/trades.csv").write_text("\n".join(rows) + "\n")
    model = settings / "dbt/models/gold/mart_float.sql"
    model.write_text(
        "select symbol, sum(cast(quantity as double) * cast(price as double) / 3) as worth "
        "from {{ source('silver', 'trades') }} group by symbol\n"
    )
    model.with_suffix(".yml").write_text(
        "version: 2\nmodels:\n  - name: mart_float\n    description: Worth.\n    config: {meta: {assay: {key: [symbol], "
        "inputs: [{table: silver.trades, where: symbol = row.symbol}]}}}\n    columns:\n"
        + "".join(
            f"      - {{name: {name}, description: {name}, data_type: {kind}, config: {{meta: {{assay: {{classification: public}}}}}}}}\n"
            for name, kind in (("symbol", "varchar"), ("worth", "double"))
        )
    )
    assert not run.apply(lake, run.plan(lake, span=Window(date(2024, 1, 1), date(2024, 2, 1)))).errors
    run.build(lake)
    for symbol in ("S0", "S1"):
        told = run.explain(lake, "mart_float", {"symbol": symbol}, "worth", listed=1)
        assert told["recomputed"]["equal"], told["recomputed"]


def test_a_build_that_is_refused_changes_nothing_of_gold(lake: Lake) -> None:
    folder = lake.project / "models"
    [sql] = folder.rglob("mart_position.sql")
    [yml] = folder.rglob("mart_position.yml")
    good = yml.read_text()
    first, [gold] = run.current(lake), run.current(lake).gold
    sql.write_text(sql.read_text().replace("sum(quantity * price)", "sum(quantity * price) + 1"))
    ratio = sql.with_name("mart_zero.sql")
    ratio.write_text(
        "select symbol, cast(0 as double) / 0 as ratio from {{ source('silver', 'trades') }} group by symbol\n"
    )
    ratio.with_suffix(".yml").write_text(
        "version: 2\nmodels:\n  - name: mart_zero\n    description: Nothing by nothing.\n    config: {meta: {assay: {key: [symbol], "
        "inputs: [{table: silver.trades, where: symbol = row.symbol}]}}}\n    columns:\n"
        + "".join(
            f"      - {{name: {name}, description: {name}, data_type: {kind}, config: {{meta: {{assay: {{classification: public}}}}}}}}\n"
            for name, kind in (("symbol", "varchar"), ("ratio", "double"))
        )
    )

    def refused() -> str:
        with pytest.raises(BuildFailed) as caught:
            run.build(lake)
        assert run.current(lake) == first
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
    assert list(lake.target.files.path("_tmp").iterdir()) == [], "they told all there is"
    lake.project.joinpath("tests/none.sql").write_text(
        "select symbol, cost from {{ ref('mart_position') }} order by symbol"
    )
    said = refused()
    assert said.startswith("gold was not built; the last release stays: 1.\ntest none (tests/none.sql): Got ")
    assert " | for example symbol=AAPL, cost=" in said
    assert Path(said.rpartition("dbt's log: ")[2]).exists()


# -------------------------------------------------------------------------------------------------- what is told of it


def test_a_release_of_nothing_says_so(small: serving_lake.Lake) -> None:
    made = release.read(small.local.files, 1)
    gold = Gold(
        "mart", 1, 0, "", (), ("id",), {}, (Input("silver.trades_versions", "true"), Input("silver.rates", "true"))
    )
    full = msgspec.structs.replace(gold, rows=7)
    trades, rates, other = (
        Silver(name, 1, "", rows, (), None) for name, rows in (("trades", 0), ("rates", 0), ("other", 9))
    )

    def told(*gold: Gold, silver: tuple[Silver, ...] = (trades, rates, other), parent: int | None = None) -> str:
        return release.told(msgspec.structs.replace(made, gold=gold, silver=silver, parent=parent, tests=3))

    assert told() == "released 1: no gold table: the dbt project has no model in schema gold, 3 tests passed"
    assert (
        told(gold)
        == "released 1: mart 0 rows (nothing of rates, trades is in silver yet, `assay status` says why), 3 tests passed"
    )
    assert told(gold, parent=1) == "released 1: mart 0 rows, 3 tests passed"
    some = msgspec.structs.replace(rates, rows=1)
    assert told(full, full, silver=(trades, some)) == "released 1: mart 7 rows, mart 7 rows, 3 tests passed"
