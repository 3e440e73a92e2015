"""Dirty bronze lines, the same for the same seed: what the refine bench reads.

A line is as land writes it. Values come from md5 of seed and line number, so neither Python's nor DuckDB's own generators matter. Where
dirt and duplicates lie is arithmetic on `_seq`, so that a reader can tell clean lines by `CLEAN` and
`expected` needs no reading.

    python bench/lines.py DIRECTORY [--lines 3000000] [--seed 1] [--per-file 300000]
"""

import argparse
import hashlib
import json
from datetime import date, timedelta
from itertools import islice
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

CALENDAR = Path(__file__).parent.parent / "lakes/markets/calendars/XNYS.csv"
DAYS = 5000  # a symbol's sessions of New York, 2003-11-04 to 2023-09-15: 600 symbols are 3,000,000 lines
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
    select n, n // $per = $held and n % 20 = 3 as closed, spot, even, format('S{:04d}', m // $days + 1) as symbol,
        case when spot = 311 then if(even, '2010-13-45', 'yesterday')
             else strftime($sessions[m % $days + 1], '%Y-%m-%d') end as date,
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
select format('{{"_seq":{},"_n":{},"_record":{}}}', n % $per, n // $per,
    case when spot = 11 or closed then if(even, '42', '"x"')
    else concat('{"symbol":"', symbol, '","date":"', date, '","adjOpen":', open,
        ',"adjHigh":', high, ',"adjLow":', low,
        case when spot = 131 then if(even, ',"adjClose":null', '') else concat(',"adjClose":', close) end,
        ',"volume":', volume, '}') end)
from texts
"""


def sessions() -> list[date]:
    """The days of the lines: as many sessions of the calendar as end in September 2023."""
    closed = {said[:10] for said in CALENDAR.read_text().splitlines() if said.endswith(",")}
    days = (date(2023, 9, 15) - timedelta(back) for back in range(2 * DAYS))
    return sorted(islice((day for day in days if day.isoweekday() < 6 and day.isoformat() not in closed), DAYS))


def expected(lines: int, held: int = 0) -> dict[str, int]:
    """What a right refine of `lines` lines counts of which `held` lie in a held batch: accepted, duplicate, quarantined."""
    whole, rest = divmod(lines - held, PERIOD)
    quarantined = whole * len(KINDS) + sum(1 for spot in KINDS if spot < rest)
    duplicate = (lines - held) // 100
    accepted = lines - held - duplicate - quarantined
    return {"accepted": accepted, "duplicate": duplicate, "quarantined": quarantined, "held": held}


def write(
    directory: Path, lines: int, seed: int = 1, per_file: int = 300_000, batches: int = 1, held: int = -1
) -> list[dict[str, str | int]]:
    """Writes gz parts of so many equal batches; gives of each part its path, rows, bytes and sha256 as inflated.

    Of the batch `held` a twentieth of the lines is no object, more than a gate lets pass. A batch has a multiple of
    500 lines, or there is one. `batches.json` beside the parts says which lines of which part are a batch's.
    """
    per = lines // batches
    if batches > 1 and (per % PERIOD or per * batches != lines):
        raise ValueError(f"{lines} lines are not {batches} batches of a multiple of {PERIOD} lines")
    directory.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, str | int]] = []
    days = sessions()
    pieces: list[list[tuple[int, int, int]]] = [[] for _ in range(batches)]
    with duckdb.connect() as con:
        for first in range(0, lines, per_file):
            last = min(first + per_file, lines)
            values = {"first": first, "last": last, "seed": seed, "period": PERIOD, "days": DAYS}
            values |= {"per": per, "held": held, "sessions": days}
            rows = con.execute(LINES, values).fetchall()
            content = ("\n".join(line for (line,) in rows) + "\n").encode()
            if len(content) > PART_LIMIT:
                raise ValueError(f"{len(content)} bytes in one part: take fewer than {per_file} lines per file")
            digest = hashlib.sha256(content).hexdigest()
            for n in range(first // per, (last - 1) // per + 1):
                start, end = max(first, n * per), min(last, (n + 1) * per)
                pieces[n].append((len(parts), start - first, end - start))
            path = directory / f"part-{len(parts):04d}-{digest[:16]}.ndjson.gz"
            path.write_bytes(igzip.compress(content, compresslevel=1, mtime=0))
            parts.append({"path": str(path), "rows": last - first, "bytes": len(content), "sha256": digest})
    (directory / "batches.json").write_text(json.dumps({"parts": parts, "batches": pieces}))
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
