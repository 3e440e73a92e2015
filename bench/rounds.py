"""Interleaved rounds, each side in a process of its own; medians, spread and the table they are printed in.

`begin()` and `report()` are for the measured process: `cpu` is what it used between the two (imports are
over, children that ended are in it). `run()` is for the driver and adds `whole`, the CPU of the process from
start to end as the kernel counted it, which nothing the process says can change.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Figures = dict[str, Any]


def begin() -> float:
    """CPU seconds, user and system, of this process and its ended children so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def report(begun: float, **fields: Any) -> None:
    """Prints the line the driver reads: `cpu` since `begun`, `peak_mb` of this process, and `fields`."""
    cpu = begin() - begun
    # not ru_maxrss: it counts the parent's memory too when the process was started by vfork
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({"cpu": cpu, "peak_mb": peak / 1024, **fields}), flush=True)


def run(*command: Any, python: Path | str = sys.executable) -> Figures:
    """Runs a Python script of this folder to its end: the JSON of its last line, with `whole` added."""
    process = subprocess.Popen([python, *map(str, command)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    lines = process.stdout.read().splitlines()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or not lines:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {process.returncode}")
    return {**json.loads(lines[-1]), "whole": used.ru_utime + used.ru_stime}


def interleave(sides: Mapping[str, Callable[[int], Figures]], rounds: int = 5) -> dict[str, list[Figures]]:
    """Each side once a round, the order turned every round: what each gave, in order of rounds."""
    found: dict[str, list[Figures]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(sides[name](number))
    return found


def ratios(these: Sequence[Figures], those: Sequence[Figures], key: str = "cpu") -> list[float]:
    """`these` over `those`, round by round."""
    return [this[key] / that[key] for this, that in zip(these, those, strict=True)]


def line(name: str, values: Sequence[float], unit: str) -> str:
    """One row of the table: median, and lowest to highest of the rounds."""
    return (
        f"{name:<44} {statistics.median(values):>10.3f} {unit:<8} {min(values):>10.3f} .. {max(values):.3f}"
        f"   n={len(values)}"
    )


def close(name: str, values: Sequence[float], limit: float | None = None) -> None:
    """Prints the last line, `NAME ratio R`; exit 1 where R is above the limit."""
    ratio = statistics.median(values)
    print(f"{name} ratio {ratio:.3f}")
    if limit is not None and ratio > limit:
        raise SystemExit(1)


def subject(name: str) -> Path:
    """The script that drives the measured code, or a word on its absence."""
    path = HERE / f"subject_{name}.py"
    if not path.exists():
        raise SystemExit(f"{path} is missing: nothing to measure (--itself measures the yardstick against itself)")
    return path
