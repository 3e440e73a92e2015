"""Yardstick of refine: a plain DuckDB script from the same gz lines to the same partitioned parquet.

No checks, no hashes, no quarantine, no commit: what is not of the declared type becomes null.

    python bench/yard_refine.py PARTS OUT [--memory 500MB] [--threads 2]
"""

import argparse
import tempfile
from pathlib import Path

import duckdb

import rounds

RECORD = {
    "symbol": "varchar",
    "date": "date",
    "adjOpen": "decimal(18,6)",
    "adjHigh": "decimal(18,6)",
    "adjLow": "decimal(18,6)",
    "adjClose": "decimal(18,6)",
    "volume": "bigint",
}
FIELDS = ", ".join(f"{name} {kind}" for name, kind in RECORD.items())
COPY = f"""
copy (
    select unnest(_record), now() as captured_at, _seq, year(_record.date) as year
    from read_json(
        $files, format = 'newline_delimited', compression = 'gzip', ignore_errors = true,
        columns = {{_seq: 'bigint', _n: 'bigint', _record: 'struct({FIELDS})'}}
    )
) to '%s' (format parquet, compression zstd, partition_by (year))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", type=Path, help="directory of .ndjson.gz")
    parser.add_argument("out", type=Path, help="directory to write, not there yet")
    parser.add_argument("--memory", default="500MB")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    begun = rounds.begin()
    with tempfile.TemporaryDirectory() as spill, duckdb.connect() as con:
        con.execute(f"set memory_limit = '{asked.memory}'")
        con.execute(f"set threads = {asked.threads}")
        con.execute(f"set temp_directory = '{spill}'")
        con.execute("set enable_progress_bar = false")
        files = sorted(map(str, asked.parts.glob("*.ndjson.gz")))
        ((rows,),) = con.execute(COPY % asked.out, {"files": files}).fetchall()
    written = sorted(map(str, asked.out.rglob("*.parquet")))
    rounds.report(begun, rows=rows, files=written, columns=list(RECORD))


if __name__ == "__main__":
    main()
