"""Yardstick of scan: DuckDB over plain parquet of the same rows; as of a moment, by hand over both files.

python bench/yard_scan.py DIRECTORY [--as-of MOMENT]
"""

import argparse
from pathlib import Path

import duckdb

import rounds

SUM = "SELECT count(*), sum(close), sum(volume)::BIGINT FROM "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--as-of", default="")
    asked = parser.parse_args()
    begun = rounds.begin()
    with duckdb.connect(config={"threads": 2, "memory_limit": "1GB"}) as con:
        con.execute("SET timezone = 'UTC'")
        current = f"SELECT * FROM read_parquet('{asked.directory}/plain.parquet')"
        if asked.as_of:
            at = f"TIMESTAMPTZ '{asked.as_of}'"
            past = f"SELECT * FROM read_parquet('{asked.directory}/plain_past.parquet')"
            current = (
                f"SELECT close, volume FROM ({current}) WHERE known_from <= {at} UNION ALL "
                f"SELECT close, volume FROM ({past}) WHERE known_from <= {at} AND known_to > {at}"
            )
        rows = con.execute(f"{SUM} ({current})").fetchall()
    rounds.report(begun, found=[str(one) for one in rows[0]])


if __name__ == "__main__":
    main()
