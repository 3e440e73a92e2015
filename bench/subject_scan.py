"""Our side of the scan bench: silver of many rows through the relation that `assay sql` reads.

subject_scan.py prepare LAKE --rows 5000000 --past 500000    current and past, as a refine commits them
subject_scan.py run LAKE [--as-of MOMENT]                    one count and sum
"""

import argparse
import json
import shutil
from datetime import datetime
from pathlib import Path

import duckdb

import rounds
from assay import clock
from assay.contract import odcs
from assay.lake import bronze, release, silver, tables
from assay.lake.duck import ident
from assay.lake.evidence import DataFile
from assay.lake.release import Column, Release, Rows, Silver
from assay.ports import Limits, Parquet
from assay.serve.reader import Reader
from assay.targets.catalog import open_catalog
from assay.targets.local import DiskFiles
from assay.targets.sqlite import SqliteLedger

CONTRACT = odcs.read(rounds.HERE.parent / "lakes/markets/contracts/price_eod.yaml")
LIMITS = Limits("1GB", 2)
SUM = "SELECT count(*), sum(close), sum(volume)::BIGINT FROM "
ROWS = """
SELECT format('S{{:05d}}', n // 2500) AS symbol, DATE '2016-01-01' + (n % 2500)::INTEGER AS date,
    (1000 + hash(n) % 49000)::DECIMAL(18,6) / 100 AS open, open + 1 AS high, open - 1 AS low,
    (open + (hash(n + 7) % 100)::DECIMAL(18,6) / 100 + {changed})::DECIMAL(18,6) AS close,
    (1000 + hash(n) % 9999000)::BIGINT AS volume, date::TIMESTAMPTZ AS known_at, TIMESTAMPTZ '{seen}' AS known_from,
    'captured' AS known_basis, true AS backfilled, TIMESTAMPTZ '{seen}' AS captured_at, md5(n::VARCHAR) AS _hash,
    1::BIGINT AS _position, 0::INTEGER AS _n, n AS _seq{ends}
FROM range(0, {rows}, {step}) r(n) ORDER BY year(date), symbol, date
"""
SEEN, CHANGED = "2026-01-01 00:00:00+00", "2026-02-01 00:00:00+00"


def prepare(lake: Path, rows: int, past: int) -> None:
    """Both tables' parquet, a release that names it, and the same rows as plain parquet beside them."""
    shutil.rmtree(lake, ignore_errors=True)
    lake.mkdir(parents=True)
    files = DiskFiles(lake)
    ledger = SqliteLedger(lake / "ledger.db")
    pair = silver.ensure(files, open_catalog(lake, files), ledger, CONTRACT)
    ends = f", TIMESTAMPTZ '{CHANGED}' AS known_to, TIMESTAMPTZ '{CHANGED}' AS recorded_to"
    step = rows // past
    con = duckdb.connect(config={"threads": 2})
    con.execute("SET timezone = 'UTC'")
    con.execute("CREATE TABLE c AS " + ROWS.format(rows=rows, step=1, changed="0", seen=SEEN, ends=""))
    con.execute(
        f"UPDATE c SET close = close + 1, known_from = '{CHANGED}', captured_at = '{CHANGED}' WHERE _seq % {step} = 0"
    )
    con.execute("CREATE TABLE p AS " + ROWS.format(rows=rows, step=step, changed="0", seen=SEEN, ends=ends))
    said = []
    for table, name in ((pair.current, "c"), (pair.past, "p")):
        layout, made = tables.layout(table), []
        ids = "{" + ", ".join(f"{ident(n)}: {i}" for i, n, _ in layout.columns) + "}"
        chosen = ", ".join(f"{ident(n)}::{kind} AS {ident(n)}" for _, n, kind in layout.columns)
        for (year,) in con.execute(f"SELECT DISTINCT year(date) FROM {name} ORDER BY 1").fetchall():
            path = files.scratch()
            ((count,),) = con.execute(
                f"COPY (SELECT {chosen} FROM {name} WHERE year(date) = {year} ORDER BY symbol, date) TO '{path}' "
                f"(FORMAT parquet, COMPRESSION zstd, FIELD_IDS {ids})"
            ).fetchall()
            made.append(Parquet(path, count, path.stat().st_size, (year - 1970,)))
        adopted: list[DataFile] = tables.adopt(files, table, made, "bench")
        said.append(Rows(1, layout.columns, tuple(adopted)))
        if name == "c":
            con.execute(
                f"COPY (SELECT {chosen} FROM c ORDER BY year(date), symbol, date) TO '{lake}/plain.parquet' (FORMAT parquet, COMPRESSION zstd)"
            )
        else:
            con.execute(
                f"COPY (SELECT {chosen} FROM p ORDER BY year(date), symbol, date) TO '{lake}/plain_past.parquet' (FORMAT parquet, COMPRESSION zstd)"
            )
    columns = tuple(Column(n, kind, doc) for n, (kind, doc) in silver.columns(CONTRACT, versions=True).items())
    one = Silver(CONTRACT.dataset, bronze.pin(files, CONTRACT), 1, None, 1, said[0], said[1], columns, CONTRACT.key)
    release.publish(files, Release(1, "bench", None, clock.now(), "bench", "", (), (one,), (), ""))
    print(json.dumps({"current": said[0].rows, "past": said[1].rows, "files": len(said[0].files) + len(said[1].files)}))


def run(lake: Path, moment: str) -> None:
    files = DiskFiles(lake)
    begun = rounds.begin()
    found = release.current(files)
    assert found
    reader = Reader(files, found, LIMITS)
    con = reader.connect(locked=True)
    source = "silver.price_eod"
    if moment:
        source = f"({reader.relation('silver', 'price_eod', as_of=datetime.fromisoformat(moment))})"
    rows = con.execute(SUM + source).fetchall()
    rounds.report(begun, found=[str(one) for one in rows[0]])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["prepare", "run"])
    parser.add_argument("lake", type=Path)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--past", type=int, default=500_000)
    parser.add_argument("--as-of", default="")
    asked = parser.parse_args()
    if asked.what == "prepare":
        prepare(asked.lake, asked.rows, asked.past)
    else:
        run(asked.lake, asked.as_of)


if __name__ == "__main__":
    main()
