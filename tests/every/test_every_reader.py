"""Silver and gold are read unchanged by strangers: PyIceberg, Polars, and DuckDB with its own iceberg extension."""

import json
import subprocess
from decimal import Decimal

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from assay.lake import duck, tables
from assay.ports import Relation
from assay.run import Lake
from tests.conftest import ROOT
from tests.making import reader
from tests.stories.proxy import Proxy

TABLES = [
    "silver.price_eod",
    "silver.price_eod_past",
    "silver.symbol_list",
    "gold.fct_daily_price",
    "gold.mart_momentum_asof",
    "gold.dim_security",
]
READERS = ROOT / ".venvs/readers/bin/python"
DUCKDB = """
import sys, json, duckdb
from importlib.resources import files
con = duckdb.connect(config={"autoinstall_known_extensions": False})
for n in ("avro", "httpfs", "iceberg"):
    con.execute(f"LOAD '{next(files(f'duckdb_extension_{n}').glob(f'extensions/*/{n}.duckdb_extension'))}'")
con.execute("SET timezone = 'UTC'")
out = {}
for name, path, order in json.loads(sys.argv[1]):
    rows = con.execute(f"SELECT * FROM iceberg_scan('{path}') ORDER BY {order}").fetchall()
    out[name] = [len(rows), str(rows[0]) if rows else "", str(rows[-1]) if rows else ""]
print(json.dumps(out))
"""


def relation(lake: Lake, name: str) -> Relation:
    """A table's files as our own readers see them."""
    table = lake.target.catalog.load_table(name)
    snapshot = table.current_snapshot()
    return tables.relation(table, snapshot and snapshot.snapshot_id, lake.target.files)


def ours(lake: Lake, name: str) -> list[dict]:
    if name.startswith("gold."):
        return lake.read(name).to_pylist()
    return reader().sql(duck.relation(relation(lake, name))).to_arrow_table().to_pylist()


def same(left: list[dict], right: list[dict]) -> None:
    def key(row: dict) -> str:
        return json.dumps(
            {
                k: str(v)
                for k, v in sorted(row.items())
                if k in ("security_id", "date", "symbol", "as_of_date", "valid_from", "_position", "_n", "_seq")
            }
        )

    assert sorted(map(key, left)) == sorted(map(key, right))
    by_key = {key(r): r for r in right}
    for row in left:
        assert row == by_key[key(row)]


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_pyiceberg(built: tuple[Lake, Proxy], name: str) -> None:
    lake, _ = built
    root = lake.target.settings.data
    stranger = SqlCatalog("lake", uri=f"sqlite:///{root / 'catalog.db'}", warehouse=f"file://{root / 'warehouse'}")
    same(stranger.load_table(name).scan().to_arrow().to_pylist(), ours(lake, name))
    stranger.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_polars(built: tuple[Lake, Proxy], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import polars as pl

    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")

    lake, _ = built
    found = pl.scan_iceberg(lake.target.catalog.load_table(name)).collect().to_dicts()
    same(found, ours(lake, name))
    assert not any(isinstance(v, float) for row in found for v in row.values())
    if name.endswith("price_eod"):
        assert isinstance(found[0]["close"], Decimal)


@pytest.mark.slow
def test_duckdb_with_the_iceberg_extension(built: tuple[Lake, Proxy]) -> None:
    lake, _ = built
    assert READERS.exists(), "scripts/extras makes the environment .venvs/readers"
    asked, expected = [], {}
    for name in TABLES:
        table = lake.target.catalog.load_table(name)
        key = ["_position", "_n", "_seq"] if name.startswith("silver") else lake.released().table(name).key
        order = ", ".join(f'"{c}"' for c in key)
        asked.append([name, table.metadata_location.removeprefix("file://"), order])
        rows = reader().execute(f"SELECT * FROM ({duck.relation(relation(lake, name))}) ORDER BY {order}").fetchall()
        expected[name] = [len(rows), str(rows[0]) if rows else "", str(rows[-1]) if rows else ""]
    done = subprocess.run(
        [READERS, "-c", DUCKDB, json.dumps(asked)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected
