"""Measures a whole evening against dlt and dbt-duckdb: one more day of 200 symbols from the vendor to the served number.

    scripts/bench whole [--symbols 200] [--days 250] [--rounds 5] [--limit R]

Both sides ask the same local server and build the same gold (`whole_project.py`); each round they serve the same rows.
A round is a day: the run that brings it, then a run that finds nothing new. CPU is that of whole processes and of all
they start. Last lines: `whole empty ratio R` and `whole ratio R`, the medians over the rounds of ours over theirs.
"""

import argparse
import tempfile
from datetime import date, timedelta
from pathlib import Path

import rounds
from land import server

YARD = rounds.HERE / "yard_whole.py"
PYTHON = rounds.HERE.parent / ".venvs/bench/bin/python"
SIDES = ("assay", "dlt + dbt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--days", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    asked = parser.parse_args()
    subject = rounds.subject("whole")
    with tempfile.TemporaryDirectory(prefix="bench-whole-") as root, server(asked.symbols, asked.days) as remote:
        lake, out = Path(root) / "lake", Path(root) / "out"
        start, first = remote["from"], date.fromisoformat(remote["to"]) + timedelta(days=1)
        symbols = ["--symbols", ",".join(remote["symbols"]), "--from", start]
        rounds.run(subject, "prepare", lake, remote["base"], *symbols)

        def evening(side: str, today: date) -> rounds.Figures:
            if side == SIDES[0]:
                return rounds.run(subject, "run", lake, "--today", today)
            return rounds.run(YARD, out, remote["base"], *symbols, "--today", today, python=PYTHON)

        def both(today: date, sides: tuple[str, ...]) -> dict[str, rounds.Figures]:
            found = {side: evening(side, today) for side in sides}
            rows = [run["rows"] for run in found.values()]
            if rows[0] != rows[1] or len(rows[0]) != asked.symbols or rows[0][0][1] != str(today - timedelta(days=1)):
                raise SystemExit(f"{today}: other rows are served: {rows[0][:1]}, {rows[1][:1]}")
            return found

        whole = both(first, SIDES)
        daily: dict[str, list[rounds.Figures]] = {side: [] for side in SIDES}
        empty: dict[str, list[rounds.Figures]] = {side: [] for side in SIDES}
        for number in range(asked.rounds):
            today, sides = first + timedelta(days=number + 1), SIDES if number % 2 else SIDES[::-1]
            for runs in (daily, empty):
                for side, run in both(today, sides).items():
                    runs[side].append(run)
    print(f"{asked.symbols} symbols onto {asked.days} days and more; rows served are equal in each round")
    for side in SIDES:
        print(rounds.line(f"  {side}: the first {asked.days} days, CPU", [whole[side]["whole"]], "s"))
    for title, runs in (("one more day", daily), ("nothing new", empty)):
        for side in SIDES:
            print(rounds.line(f"  {side}: {title}, CPU", [run["whole"] for run in runs[side]], "s"))
    rounds.close("whole empty", rounds.ratios(empty[SIDES[0]], empty[SIDES[1]], "whole"))
    rounds.close("whole", rounds.ratios(daily[SIDES[0]], daily[SIDES[1]], "whole"), asked.limit)


if __name__ == "__main__":
    main()
