"""Measures that a lake does not slow down with age: CPU of each act of one more day, at 100, 400 and 1,600 days.

    scripts/bench age [--days 100,400,1600] [--symbols 100] [--rounds 5] [--group 0] [--firm 500x1260] [--kept DIR]

A synthetic source (`age_source.py`), four datasets: daily windows of 100 symbols with a held batch, one that is not
partitioned, a complete list, one that is asked again for 60 days. Each lake is bulk-made, an entry a day, refined in
groups (a fifth of the days unless told, so that all lakes have as many files), the last days one by one. A round is
one more day. Last line: `age ratio R`, the worst act's CPU at the most days over that at the fewest.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import rounds

ASSAY = f'{sys.executable} -c "from assay.cli import main; main()"'
ACTS = ("open", "plan", "land", "status", "sql", "console")
WHOLE = ("plan", "land prices", "refine prices", "status", "sql")
EVENING = 20 * 3600


def command(assay: list[str], lake: Path, number: int, act: str) -> float:
    """CPU seconds of a whole command on the evening of a day so many days on."""
    day = datetime.now(UTC).date() + timedelta(days=number)
    then = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=EVENING + 60)
    offset = str((then - datetime.now(UTC)).total_seconds())
    said = act.split()
    if act == "sql":
        said = [
            "sql", f"select close from silver.prices where symbol = 'S0007' and date = DATE '{day - timedelta(days=20)}'"
        ]  # fmt: skip
    with subprocess.Popen(
        [*assay, *said],
        cwd=lake,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "ASSAY_CLOCK_OFFSET": offset},
    ) as process:
        assert process.stdout
        told = process.stdout.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{act}: {told}")
    return used.ru_utime + used.ru_stime


def size(lake: Path) -> str:
    """Files of the lake, and bytes of Iceberg's metadata, log, evidence and ledger."""
    files = [one for one in (lake / "data").rglob("*") if one.is_file()]

    def of(*parts: str) -> str:
        found = [one for one in files if all(part in str(one) for part in parts)]
        return f"{len(found)} files {sum(one.stat().st_size for one in found) / 1e6:.1f} MB"

    return (
        f"{len(files)} files; parquet {of('warehouse', '.parquet')}; Iceberg metadata {of('warehouse', '/metadata/')}; "
        f"log {of('/log/')}; evidence {of('/evidence/')}; ledger {of('ledger.db')}"
    )


def show(lakes: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """A table of medians; they as act to lake to milliseconds."""
    names = [
        name for name in next(iter(lakes.values()))[0] if all(name in run for runs in lakes.values() for run in runs)
    ]
    if lacking := {act for runs in lakes.values() for run in runs for act in (*run, *ACTS)} - set(names):
        print(f"  NOT MEASURED, since it failed: {', '.join(sorted(lacking))}")
    out = {act: {lake: statistics.median(run[act] for run in runs) for lake, runs in lakes.items()} for act in names}
    print(f"  {'CPU, ms':<28}" + "".join(f"{lake:>14}" for lake in lakes))
    for act, by in out.items():
        print(f"  {act:<28}" + "".join(f"{value:>14.1f}" for value in by.values()))
    return out


def measured(lake: Path, number: int, assay: list[str], *, whole: bool) -> dict[str, float]:
    """One more day of a lake: every act in one process, then whole commands on the evening of the next."""
    found: dict[str, Any] = rounds.run(rounds.subject("age"), "once", lake, "--round", 2 * number)
    found.pop("whole")
    if whole:
        for act in WHOLE:
            found[f"assay {act}"] = command(assay, lake, 2 * number + 1, act) * 1000
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", default="100,400,1600")
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--group", type=int, default=0)
    parser.add_argument("--firm", default="", help="SYMBOLSxDAYS measured once besides, such as 500x1260")
    parser.add_argument(
        "--kept", type=Path, help="where the lakes are kept and taken from; they age by two days a round"
    )
    parser.add_argument("--assay", default=ASSAY, help="how the command is called")
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    asked = parser.parse_args()
    assay, script = shlex.split(asked.assay), rounds.subject("age")
    with tempfile.TemporaryDirectory(prefix="bench-age-") as root:
        base = asked.kept or Path(root)

        def made(symbols: int, days: int) -> Path:
            lake = base / f"{symbols}x{days}"
            if not (lake / "data").is_dir():
                rounds.run(script, "make", lake, "--symbols", symbols, "--days", days, "--group", asked.group)
            return lake

        lakes = {f"{days} days": made(asked.symbols, int(days)) for days in asked.days.split(",")}
        for lake in lakes.values():
            measured(lake, 0, assay, whole=True)  # the first brings the ledger what bulk-making left out
        found = rounds.interleave(
            {
                name: lambda number, lake=lake: measured(lake, number + 1, assay, whole=True)
                for name, lake in lakes.items()
            },
            asked.rounds,
        )
        print(
            f"{asked.symbols} symbols, one more day; `assay …` are whole processes, the others are without start and imports"
        )
        table = show(found)
        for name, lake in lakes.items():
            print(f"  {name}: {size(lake)}")
        if asked.firm:
            symbols, days = map(int, asked.firm.split("x"))
            lake = made(symbols, days)
            measured(lake, 0, assay, whole=True)
            show({f"{symbols} x {days}": [measured(lake, number + 1, assay, whole=True) for number in range(3)]})
            print(f"  {symbols} symbols, {days} days: {size(lake)}")
    fewest, most = next(iter(lakes)), list(lakes)[-1]
    worst = max(table, key=lambda act: table[act][most] / table[act][fewest])
    print(f"  the worst: {worst}")
    rounds.close("age", [table[worst][most] / table[worst][fewest]], asked.limit)


if __name__ == "__main__":
    main()
