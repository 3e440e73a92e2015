"""Measures reading silver: count and sum over its current rows, and as of a moment, against plain parquet.

    scripts/bench scan [--rows 5000000] [--past 500000] [--rounds 5] [--itself]

`yard_scan.py` reads the same rows from one plain file a table. Last lines: `scan as-of ratio R` and `scan ratio R`.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import rounds

YARD = rounds.HERE / "yard_scan.py"
MOMENT = "2026-01-15 00:00:00+00"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--past", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    parser.add_argument("--as-of-limit", type=float, help="exit 1 where the ratio as of a moment is above")
    parser.add_argument("--itself", action="store_true", help="the yardstick against itself: the noise of the harness")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-scan-") as root:
        lake = Path(root) / "lake"
        script = rounds.subject("scan")
        made = rounds.run(script, "prepare", lake, "--rows", asked.rows, "--past", asked.past)
        side = [YARD, lake] if asked.itself else [script, "run", lake]
        found = rounds.interleave(
            {
                "plain": lambda _: rounds.run(YARD, lake),
                "silver": lambda _: rounds.run(*side),
                "plain as of": lambda _: rounds.run(YARD, lake, "--as-of", MOMENT),
                "silver as of": lambda _: rounds.run(*side, "--as-of", MOMENT),
            },
            asked.rounds,
        )
    for ours, yard in (("silver", "plain"), ("silver as of", "plain as of")):
        for one, other in zip(found[ours], found[yard], strict=True):
            if one["found"] != other["found"]:
                raise SystemExit(f"{ours} gives {one['found']}, the yardstick {other['found']}")
    print(
        f"count and two sums over {made['current']:,} current and {made['past']:,} past rows, {made['files']} files; equal"
    )
    for name, runs in found.items():
        print(rounds.line(f"  {name}, CPU", [run["cpu"] for run in runs], "s"))
    moved = rounds.ratios(found["silver as of"], found["plain as of"])
    over = rounds.ratios(found["silver as of"], found["plain"])
    print(rounds.line("  silver as of over plain, CPU", over, ""))
    rounds.close("scan as-of", moved)
    rounds.close("scan", rounds.ratios(found["silver"], found["plain"]), asked.limit)
    if asked.as_of_limit is not None and statistics.median(over) > asked.as_of_limit:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
