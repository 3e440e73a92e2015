"""Dirty bronze lines, the same for the same seed: what the refine bench reads.

Values come from md5 of seed and line number, so neither Python's nor DuckDB's own generators matter. Where
dirt and duplicates lie is arithmetic on `_seq`, so that a reader can tell clean lines by `CLEAN` and
`expected` needs no reading.

    python bench/lines.py DIRECTORY [--lines 3000000] [--seed 1] [--per-file 300000]
"""

import argparse
import hashlib
import json
from pathlib import Path

import duckdb
from isal import igzip

PERIOD = 500
KINDS = {
    11: "the record is no object",
    71: "wrong type",
    131: "null or missing",
    211: "too many decimals",
    311: "bad date",
    371: "25 digits",
    431: "high below low",
}
CLEAN = f"(_seq % 100 <> 99 and _seq % {PERIOD} not in ({', '.join(map(str, KINDS))}))"
"""SQL over `_seq`: lines without dirt that are no second copy."""

DAYS = 5000  # a symbol's days, 2010-01-01 to 2023-09-09: 600 symbols are 3,000,000 lines
PART_LIMIT = 64 * 1024 * 1024

LINES = """
with numbered as (
    select n, if(n % 100 = 99, n - 50, n) as m, n % $period as spot, (n // $period) % 2 = 0 as even
    from range($first, $last) r(n)
), drawn as (
    select *, md5_number_lower(concat($seed, ':', m)) as r from numbered
), cents as (
    select *, 1000 + r % 49000 as base, (r >> 20) % 200 as up, (r >> 28) % 200 as down from drawn
), priced as (
    select *, base + up as high, base - down as low,
        base - down + (r >> 36) % (up + down + 1) as open, base - down + (r >> 44) % (up + down + 1) as close
    from cents
), texts as (
    select n, spot, even, format('S{:04d}', m // $days + 1) as symbol,
        case when spot = 311 then if(even, '2010-13-45', 'yesterday')
             else strftime(date '2010-01-01' + (m % $days)::int, '%Y-%m-%d') end as date,
        format('{:d}.{:02d}', open // 100, open % 100) as open,
        case when spot = 431 then '0.01' else format('{:d}.{:02d}', high // 100, high % 100) end as high,
        format('{:d}.{:02d}', low // 100, low % 100) as low,
        case when spot = 71 then if(even, '"abc"', 'true')
             when spot = 211 then format('{:d}.{:02d}3456789', close // 100, close % 100)
             when spot = 371 and even then '1234567890123456789012345'
             else format('{:d}.{:02d}', close // 100, close % 100) end as close,
        case when spot = 371 and not even then '9876543210987654321098765'
             else (1000 + (r >> 12) % 9999000)::varchar end as volume
    from priced
)
select format('{{"_seq":{},"_at":"{}","_page":{},"_record":{}}}', n,
    strftime(timestamp '2026-11-01' + to_microseconds(n), '%Y-%m-%dT%H:%M:%S.%fZ'), n // 1000,
    case when spot = 11 then if(even, '42', '"x"')
    else concat('{"symbol":"', symbol, '","date":"', date, '","adjOpen":', open,
        ',"adjHigh":', high, ',"adjLow":', low,
        case when spot = 131 then if(even, ',"adjClose":null', '') else concat(',"adjClose":', close) end,
        ',"volume":', volume, '}') end)
from texts
"""


def expected(lines: int) -> dict[str, int]:
    """What a right refine of `lines` lines counts: accepted, duplicate, quarantined."""
    whole, rest = divmod(lines, PERIOD)
    quarantined = whole * len(KINDS) + sum(1 for spot in KINDS if spot < rest)
    duplicate = lines // 100
    return {"accepted": lines - duplicate - quarantined, "duplicate": duplicate, "quarantined": quarantined}


def write(directory: Path, lines: int, seed: int = 1, per_file: int = 300_000) -> list[dict[str, str | int]]:
    """Writes gz parts; gives of each its path, rows, bytes and sha256 as inflated, first and last `_seq`."""
    directory.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, str | int]] = []
    with duckdb.connect() as con:
        for first in range(0, lines, per_file):
            last = min(first + per_file, lines)
            values = {"first": first, "last": last, "seed": seed, "period": PERIOD, "days": DAYS}
            rows = con.execute(LINES, values).fetchall()
            content = ("\n".join(line for (line,) in rows) + "\n").encode()
            if len(content) > PART_LIMIT:
                raise ValueError(f"{len(content)} bytes in one part: take fewer than {per_file} lines per file")
            digest = hashlib.sha256(content).hexdigest()
            path = directory / f"part-{len(parts):04d}-{digest[:16]}.ndjson.gz"
            path.write_bytes(igzip.compress(content, compresslevel=1, mtime=0))
            parts.append(
                {
                    "path": str(path),
                    "rows": last - first,
                    "bytes": len(content),
                    "sha256": digest,
                    "first_seq": first,
                    "last_seq": last - 1,
                }
            )
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--lines", type=int, default=3_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-file", type=int, default=300_000)
    asked = parser.parse_args()
    print(json.dumps(write(asked.directory, asked.lines, asked.seed, asked.per_file), indent=2))


if __name__ == "__main__":
    main()
