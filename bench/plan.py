"""Measures what a day's plan costs after a backfill that was killed half-way, of ten thousand windows and of a hundred thousand.

    scripts/bench plan [--symbols 100] [--days 100 1000] [--rounds 7] [--limit 1.5]

`assay backfill` lands windows of one record from `land_server.py`, in entries of 2,000, until half of them are in the log; then it
is killed. What is planned is the day after the backfill's last: as many steps in both lakes. Each round begins with the lakes as the
kill left them, once to plan and once more. Last line: `plan ratio R`, CPU of the first plan after the larger kill over that after the smaller.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import rounds
from backfill import lake
from land import server

SLICE = 2000
"""Windows of an entry, at most; see `land.ASKS`."""


def killed(root: Path, symbols: int, days: int) -> tuple[date, int]:
    """Make a lake whose backfill of so many days was killed half-way: the day after them, and the entries that were put."""
    with server(symbols, days) as remote:
        start, end = (date.fromisoformat(remote[one]) for one in ("from", "to"))
        end += timedelta(days=1)
        lake(root, remote["base"], remote["symbols"], start, end + timedelta(days=1))
        command = [
            sys.executable,
            "-m",
            "assay.cli",
            "--lake",
            root,
            "--quiet",
            "backfill",
            "price_eod",
            f"{start}..{end}",
        ]
        log, half = root / "data/dev/bronze/price_eod/log", symbols * days // 2 // SLICE
        with subprocess.Popen(command, env=os.environ | {"FMP_API_KEY": "bench"}) as process:
            while not log.exists() or len(list(log.iterdir())) < 1 + half:  # the first is the contract
                if process.poll() is not None:
                    raise SystemExit("the backfill ended before it was killed")
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        return end, len(list(log.iterdir())) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--days", type=int, nargs=2, default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    asked = parser.parse_args()
    script = rounds.subject("plan")
    with tempfile.TemporaryDirectory(prefix="bench-plan-") as name:
        root, end, entries = Path(name), {}, {}
        for days in asked.days:
            end[days], entries[days] = killed(root / str(days), asked.symbols, days)
            (root / str(days)).rename(root / f"kept-{days}")

        def planned(days: int) -> dict[str, Any]:
            place = root / str(days)
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(root / f"kept-{days}", place)
            first, again = (rounds.run(script, place, end[days]) for _ in range(2))
            if first["steps"] != asked.symbols or again["steps"] != asked.symbols:
                raise SystemExit(f"{first['steps']} and {again['steps']} landings are planned, not {asked.symbols}")
            return {"first": first, "again": again}

        small, large = asked.days
        found = rounds.interleave({str(days): lambda _, days=days: planned(days) for days in asked.days}, asked.rounds)
    print(f"a day of {asked.symbols} windows planned after a kill; CPU after imports, whole processes, wall time")
    for days in asked.days:
        print(f"  {asked.symbols * days:,} windows, killed with {entries[days]} entries of {SLICE:,} in the log")
        for which in ("first", "again"):
            runs = [run[which] for run in found[str(days)]]
            print(rounds.line(f"    planned {which}, CPU", [1000 * run["cpu"] for run in runs], "ms"))
            print(rounds.line(f"    planned {which}, whole process", [run["whole"] for run in runs], "s"))
            print(rounds.line(f"    planned {which}, wall time", [1000 * run["wall"] for run in runs], "ms"))
    sides = {
        days: {which: [run[which] for run in found[str(days)]] for which in ("first", "again")} for days in asked.days
    }
    rounds.close("plan again", rounds.ratios(sides[large]["again"], sides[small]["again"]))
    rounds.close("plan", rounds.ratios(sides[large]["first"], sides[small]["first"]), asked.limit)


if __name__ == "__main__":
    main()
