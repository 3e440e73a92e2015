"""Measures what commands cost before they do anything: CPU of whole processes, median of seven.

    scripts/bench startup [--rounds 7] [--assay COMMAND]

A small lake is made from `lakes/csv` and applied once. Last line: `startup ratio R`, the worst command's CPU over its
limit; `check` has none, and must not start dbt.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import rounds

LIMITS = {"--help": 0.15, "status": 0.6, "plan": 0.6, "sql": 0.5, "check": None}
QUERY = "select cost from gold.mart_position where symbol = 'AAPL'"
ASSAY = f'{sys.executable} -c "from assay.cli import main; main()"'


def cpu(command: list[str], lake: Path) -> float:
    """CPU seconds of one command and its children; it must end well."""
    with subprocess.Popen(command, cwd=lake, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {said}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--assay", default=ASSAY, help="how the command is called")
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    asked = parser.parse_args()
    assay = shlex.split(asked.assay)
    with tempfile.TemporaryDirectory(prefix="bench-startup-") as root:
        lake = Path(root) / "lake"
        cpu([*assay, "init", str(lake)], Path(root))
        cpu([*assay, "apply"], lake)
        sides = {name: [*assay, *(["sql", QUERY] if name == "sql" else [name])] for name in LIMITS}
        for command in sides.values():  # compiled files and the contracts are kept from now on
            cpu(command, lake)
        found = rounds.interleave(
            {"python": lambda _: {"cpu": cpu([sys.executable, "-c", "pass"], lake)}}
            | {name: lambda _, command=command: {"cpu": cpu(command, lake)} for name, command in sides.items()},
            asked.rounds,
        )
    print("CPU of whole processes, a lake of one dataset and one gold table, nothing to do")
    for name, runs in found.items():
        print(rounds.line(f"  {name}", [run["cpu"] for run in runs], "s"))
    over = {
        name: statistics.median(run["cpu"] for run in found[name]) / limit for name, limit in LIMITS.items() if limit
    }
    worst = max(over, key=lambda name: over[name])
    print(f"  worst against its limit: {worst}, {LIMITS[worst]} s")
    rounds.close("startup", [over[worst]], asked.limit)


if __name__ == "__main__":
    main()
