"""Yardstick of refine that does the same duties by hand, in plain DuckDB: types, reasons, duplicates, conflicts, hash.

What is no row of the declared types, or breaks a rule, goes line by line with its reasons to a gzip of quarantined
lines; equal rows of a key are counted once, different ones are a conflict; each row gets the md5 of its values. The
parquet is written, synced and hashed. No gate, no fold onto what is there, no log and no Iceberg.

    python bench/yard_refine_same.py PARTS OUT [--memory 500MB] [--threads 2]
"""

import argparse
import hashlib
import os
import tempfile
from pathlib import Path

import duckdb

import rounds

KINDS = {
    "symbol": "VARCHAR", "date": "DATE", "adjOpen": "DECIMAL(18,6)", "adjHigh": "DECIMAL(18,6)", "adjLow": "DECIMAL(18,6)",
    "adjClose": "DECIMAL(18,6)", "volume": "BIGINT",
}  # fmt: skip
KEY = ("symbol", "date")
READ = """
CREATE TABLE lines AS SELECT (j->>'_n')::BIGINT AS n, (j->>'_seq')::BIGINT AS seq, j->'_record' AS r, j AS raw
FROM (SELECT json AS j FROM read_json_objects($files, format = 'newline_delimited', compression = 'gzip'))
"""


def typed() -> str:
    """The value of each field, its type in JSON, and why it is none."""
    values, reasons = [], []
    for name, kind in KINDS.items():
        text, said = f"r->>'$.{name}'", f"json_type(r, '$.{name}')"
        number = "'UBIGINT', 'BIGINT', 'DOUBLE', 'HUGEINT'"
        right = "'VARCHAR'" if kind in ("VARCHAR", "DATE") else number
        value = f"CASE WHEN {said} IN ({right}) THEN TRY_CAST({text} AS {kind}) END"
        values.append(f"{value} AS {name}")
        reasons.append(f"CASE WHEN {name} IS NULL THEN '{name}' END")
        if kind.startswith("DECIMAL"):
            values.append(f"len(split_part({text}, '.', 2)) > 6 AS excess_{name}")
            reasons.append(f"CASE WHEN excess_{name} THEN '{name}:scale' END")
    rules = [
        "CASE WHEN NOT adjLow > 0 THEN 'price_positive' END",
        "CASE WHEN NOT (adjHigh >= adjLow AND adjHigh >= adjOpen AND adjHigh >= adjClose) THEN 'high_is_highest' END",
        "CASE WHEN NOT (adjLow <= adjOpen AND adjLow <= adjClose) THEN 'low_is_lowest' END",
        "CASE WHEN NOT volume >= 0 THEN 'volume_not_negative' END",
    ]
    return (
        f"CREATE TABLE rows AS SELECT *, concat_ws(',', {', '.join([*reasons, *rules])}) AS reasons, "
        f"md5(concat_ws('|', {', '.join(f'{name}::VARCHAR' for name in KINDS)})) AS hash "
        f"FROM (SELECT n, seq, raw, {', '.join(values)} FROM lines)"
    )


GROUPED = f"""
CREATE TABLE judged AS SELECT *, row_number() OVER w AS copy, min(hash) OVER k <> max(hash) OVER k AS conflict
FROM rows WHERE reasons = '' WINDOW k AS (PARTITION BY {", ".join(KEY)}), w AS (PARTITION BY {", ".join(KEY)} ORDER BY n, seq)
"""
COPY = """
COPY (SELECT {columns}, now() AS captured_at, hash AS _hash, n AS _n, seq AS _seq, year(date) AS year FROM judged
WHERE copy = 1 AND NOT conflict ORDER BY year, symbol, date) TO '{out}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (year))
"""
BAD = """
COPY (SELECT n, seq, reasons, raw FROM rows WHERE reasons <> '' UNION ALL
SELECT n, seq, 'key:conflict', raw FROM judged WHERE conflict ORDER BY n, seq) TO '{out}' (FORMAT json, COMPRESSION gzip)
"""


def sync(path: Path) -> str:
    """Put the file on the disk; its sha256."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", type=Path, help="directory of .ndjson.gz")
    parser.add_argument("out", type=Path, help="directory to write, not there yet")
    parser.add_argument("--memory", default="500MB")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    begun = rounds.begin()
    with tempfile.TemporaryDirectory() as spill, duckdb.connect() as con:
        con.execute(
            f"set memory_limit = '{asked.memory}'; set threads = {asked.threads}; set temp_directory = '{spill}'"
        )
        con.execute("set enable_progress_bar = false; set preserve_insertion_order = false")
        files = sorted(map(str, asked.parts.glob("*.ndjson.gz")))
        con.execute(READ, {"files": files})
        con.execute(typed())
        con.execute("DROP TABLE lines")
        con.execute(GROUPED)
        ((accepted,),) = con.execute(COPY.format(columns=", ".join(KINDS), out=asked.out)).fetchall()
        ((quarantined,),) = con.execute(BAD.format(out=asked.out / "quarantine.json.gz")).fetchall()
        ((duplicate,),) = con.execute("SELECT count(*) FROM judged WHERE copy > 1 AND NOT conflict").fetchall()
    written = sorted(asked.out.rglob("*.parquet"))
    for path in (*written, asked.out / "quarantine.json.gz"):
        sync(path)
    rounds.report(
        begun, accepted=accepted, duplicate=duplicate, quarantined=quarantined, held=0, files=list(map(str, written)),
        columns=list(KINDS),
    )  # fmt: skip


if __name__ == "__main__":
    main()
