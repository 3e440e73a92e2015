"""Measures refine on Spark against refine on DuckDB: the same dirty lines, equal counts and rows.

    scripts/bench engines [--lines 3000000] [--memory 500MB]

CPU is of the whole trees of processes, Spark's JVM and its Python workers included, as /proc counts it while they run: of
workers that ended, nobody is told. Last line: `engines ratio R`, Spark's over DuckDB's.
"""

import argparse
import os
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import lines
import refine
import rounds

SPARK = rounds.HERE.parent / ".venvs/spark/bin/python"
EVERY = 0.25  # seconds: what a process uses after it was last looked at is lost


class Watch:
    """Within it, looks at all processes that this one started; `cpu` is what they used, those that ended too."""

    def __init__(self) -> None:
        self._used: dict[tuple[int, int], int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    @property
    def cpu(self) -> float:
        """Seconds, user and system."""
        return sum(self._used.values()) / os.sysconf("SC_CLK_TCK")

    def _look(self) -> None:
        while not self._over.wait(EVERY):
            found = {}
            for one in Path("/proc").glob("[0-9]*/stat"):
                try:
                    told = one.read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                found[int(one.parent.name)] = int(told[1]), int(told[19]), int(told[11]) + int(told[12])
            mine, before = {os.getpid()}, 0
            while len(mine) > before:
                before = len(mine)
                mine |= {pid for pid, (parent, _, _) in found.items() if parent in mine}
            for pid in mine & found.keys() - {os.getpid()}:
                _, begun, used = found[pid]
                self._used[pid, begun] = used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=3_000_000)
    parser.add_argument("--memory", default="500MB", help="DuckDB's; Spark has a heap of 3 GB")
    asked = parser.parse_args()
    if not SPARK.exists():
        raise SystemExit("no .venvs/spark: run scripts/extras first")
    os.environ |= {"PYSPARK_PYTHON": str(SPARK), "SPARK_LOCAL_IP": "127.0.0.1"}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(rounds.HERE.parent / "src"), str(rounds.HERE)])
    subject, found = rounds.subject("refine"), {}
    with tempfile.TemporaryDirectory(prefix="bench-engines-") as root:
        parts = Path(root) / "parts"
        lines.write(parts, asked.lines)
        for engine in ("duckdb", "spark"):
            lake = Path(root) / engine
            rounds.run(subject, "prepare", lake, parts)
            with Watch() as watch:
                run = rounds.run(subject, "run", lake, "--memory", asked.memory, "--engine", engine, python=SPARK)
            run["tree"] = watch.cpu
            run["fingerprint"] = refine.fingerprint(run)
            counts = {name: run[name] for name in refine.COUNTED}
            if counts != lines.expected(asked.lines):
                raise SystemExit(f"{engine} counts {counts}, the generator made {lines.expected(asked.lines)}")
            found[engine] = run
    if found["duckdb"]["fingerprint"] != found["spark"]["fingerprint"]:
        raise SystemExit("the engines wrote other rows")
    print(f"{asked.lines} lines; counts and rows are equal")
    for engine, run in found.items():
        print(rounds.line(f"  {engine}, CPU of all its processes", [run["tree"]], "s"))
    rounds.close("engines", rounds.ratios([found["spark"]], [found["duckdb"]], "tree"))


if __name__ == "__main__":
    main()
