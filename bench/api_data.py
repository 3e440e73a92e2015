"""A gold-like table of daily prices for the api bench: the same rows as parquet, SQLite and a DuckDB file.

1,050,000 rows: 300 securities of 3,500 days each. Key (security_id, date); prices have at most six decimals
and fewer than fifteen digits, so a double holds them exactly enough to be compared.

    python bench/api_data.py DIRECTORY [--securities 300] [--days 3500]
"""

import argparse
import random
import sqlite3
from datetime import date, timedelta
from pathlib import Path

import duckdb

SECURITIES, DAYS, PAGE = 300, 3500, 100
FIRST = date(2014, 1, 1)
COLUMNS = ("security_id", "date", "symbol", "open", "high", "low", "close", "volume")
PRICES = COLUMNS[3:7]

ROWS = """
create table prices as
with drawn as (
    select s, d, md5_number_lower(concat('gold:', s, ':', d)) as r
    from range($securities) a(s), range($days) b(d)
), units as (
    select *, 10_000_000 + r % 490_000_000 as middle,
        (r >> 20) % 2_000_000 as up, (r >> 32) % 2_000_000 as down
    from drawn
)
select
    format('sec-{:05d}', s) as security_id, $first::date + d::int as date, format('S{:04d}', s + 1) as symbol,
    ((middle - down + (r >> 40) % (up + down + 1))::decimal(18, 0) / 1_000_000)::decimal(18, 6) as open,
    ((middle + up)::decimal(18, 0) / 1_000_000)::decimal(18, 6) as high,
    ((middle - down)::decimal(18, 0) / 1_000_000)::decimal(18, 6) as low,
    ((middle - down + (r >> 44) % (up + down + 1))::decimal(18, 0) / 1_000_000)::decimal(18, 6) as close,
    (1000 + (r >> 12) % 9_999_000)::bigint as volume
from units order by s, d
"""
SQLITE = """
create table prices (security_id text, date text, symbol text,
    open real, high real, low real, close real, volume integer,
    primary key (security_id, date)) without rowid
"""


def write(directory: Path, securities: int = SECURITIES, days: int = DAYS) -> int:
    """Writes prices.parquet, prices.sqlite and prices.duckdb; gives the number of rows."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("prices.parquet", "prices.sqlite", "prices.duckdb"):
        (directory / name).unlink(missing_ok=True)
    with duckdb.connect(str(directory / "prices.duckdb")) as con:
        con.execute(ROWS, {"securities": securities, "days": days, "first": str(FIRST)})
        con.execute(f"copy prices to '{directory / 'prices.parquet'}' (format parquet, compression zstd)")
        doubles = ", ".join(f"{name}::double" for name in PRICES)
        con.execute(f"select security_id, date::varchar, symbol, {doubles}, volume from prices")
        peer = sqlite3.connect(directory / "prices.sqlite")
        peer.execute(SQLITE)
        while rows := con.fetchmany(50_000):
            peer.executemany("insert into prices values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        peer.commit()
        peer.execute("analyze")
        (count,) = peer.execute("select count(*) from prices").fetchone()
        peer.close()
    return count


def keys(seed: int, count: int, securities: int = SECURITIES, days: int = DAYS) -> list[dict[str, str]]:
    """Random keys, the same for the same seed: a security and a day from which it has a page of rows."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        day = FIRST + timedelta(days=draw.randrange(days - PAGE))
        found.append({"security_id": f"sec-{draw.randrange(securities):05d}", "date": str(day)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--securities", type=int, default=SECURITIES)
    parser.add_argument("--days", type=int, default=DAYS)
    asked = parser.parse_args()
    print(write(asked.directory, asked.securities, asked.days), "rows")


if __name__ == "__main__":
    main()
