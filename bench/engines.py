"""Measures refine on Spark against refine on DuckDB: the same dirty lines, equal counts and rows.

    scripts/bench engines [--lines 3000000] [--memory 500MB]

CPU is of the whole trees of processes, Spark's JVM and its Python workers included, as /proc counts it at their end. Last
line: `engines ratio R`, Spark's over DuckDB's.
"""

import argparse
import os
import tempfile
from pathlib import Path

import lines
import refine
import rounds

SPARK = rounds.HERE.parent / ".venvs/spark/bin/python"


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
            run = rounds.run(subject, "run", lake, "--memory", asked.memory, "--engine", engine, python=SPARK)
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
