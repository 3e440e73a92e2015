"""Measures refine against `yard_refine.py`: CPU, memory, and that cost does not grow with history.

    scripts/bench refine [--lines 3000000] [--rounds 5] [--history 500000] [--batch 100000] [--itself]

Last lines: `refine by-hand ratio R` over `yard_refine_same.py`, which does the same duties by hand, `refine held ratio
R` with one of 100 batches held over none, `refine ratio R`, the median over the rounds of refine's CPU over the
yardstick's.
"""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

import duckdb

import lines
import rounds

YARD = rounds.HERE / "yard_refine.py"
SAME = rounds.HERE / "yard_refine_same.py"
BATCHES = 100
MULTIPLES = (1, 4, 16)
COUNTED = ("accepted", "duplicate", "quarantined", "held")


def fingerprint(run: rounds.Figures, where: str = "true") -> tuple[int, int]:
    """Rows of what a run wrote, and the sum of their hashes, which no order changes.

    `columns` of the run names seven: symbol, date, open, high, low, close, volume.
    """
    symbol, date, *prices, volume = (f'"{name}"' for name in run["columns"])
    decimals = ", ".join(f"{price}::decimal(18,6)" for price in prices)
    row = f"hash({symbol}, {date}::date, {decimals}, {volume}::bigint)::hugeint"
    query = f"select count(*), sum({row}) from read_parquet($files, hive_partitioning = false) where {where}"
    with duckdb.connect() as con:
        con.execute("set threads = 2")
        return con.execute(query, {"files": run["files"]}).fetchall()[0]


class Bench:
    """The two sides and where they work."""

    def __init__(self, root: Path, memory: str, *, itself: bool) -> None:
        self.root, self.memory, self.itself = root, memory, itself
        self.subject = YARD if itself else rounds.subject("refine")
        self.fresh = 0

    def new(self) -> Path:
        """A place that is not there yet."""
        self.fresh += 1
        return self.root / f"out-{self.fresh}"

    def yard(self, parts: Path, *, check: bool = False) -> rounds.Figures:
        out = self.new()
        run = rounds.run(YARD, parts, out, "--memory", self.memory)
        if check:
            run["fingerprint"] = fingerprint(run, lines.CLEAN)
            shutil.rmtree(out)
        return run

    def prepare(self, lake: Path, parts: Path) -> None:
        """Lands `parts` as one batch more of `lake`, which is made where it is missing. Not measured."""
        if not self.itself:
            rounds.run(self.subject, "prepare", lake, parts)

    def same(self, parts: Path, count: int, yard: tuple[int, int]) -> rounds.Figures:
        """The same duties by hand: equal counts and equal rows."""
        out = self.new()
        run = rounds.run(SAME, parts, out, "--memory", self.memory)
        if (found := {name: run[name] for name in COUNTED}) != lines.expected(count) or fingerprint(run) != yard:
            raise SystemExit(f"the yardstick by hand counts {found}, the generator made {lines.expected(count)}")
        shutil.rmtree(out)
        return run

    def refine(self, lake: Path, parts: Path, count: int, held: int = 0) -> rounds.Figures:
        """Refines the `count` lines that `lake` has in wait, the measured run; what it counts must be right."""
        if self.itself:
            return self.yard(parts, check=True)
        run = rounds.run(self.subject, "run", lake, "--memory", self.memory)
        counts = {name: run[name] for name in COUNTED}
        if counts != lines.expected(count, held):
            raise SystemExit(f"refine counts {counts}, the generator made {lines.expected(count, held)}")
        return run

    def checked(self, parts: Path, count: int, yard: tuple[int, int]) -> rounds.Figures:
        """One refine of `count` lines in a lake of its own; it must accept the yardstick's clean rows."""
        lake = self.new()
        self.prepare(lake, parts)
        run = self.refine(lake, parts, count)
        if not self.itself:
            run["fingerprint"] = fingerprint(run)
            shutil.rmtree(lake)
        if run["fingerprint"] != yard:
            raise SystemExit(f"refine wrote other rows than the yardstick: {run['fingerprint']}, {yard}")
        return run


def show(title: str, runs: dict[str, list[rounds.Figures]]) -> None:
    print(title)
    for name, found in runs.items():
        print(rounds.line(f"  {name}, CPU", [run["cpu"] for run in found], "s"))
        print(rounds.line(f"  {name}, CPU of the whole process", [run["whole"] for run in found], "s"))
        print(rounds.line(f"  {name}, peak memory", [run["peak_mb"] for run in found], "MB"))


def history(bench: Bench, unit: int, batch: int, count: int) -> None:
    """Refines a batch in lakes that hold 1, 4 and 16 times `unit` lines, round by round; each batch says other values."""
    lakes = {multiple: bench.new() for multiple in MULTIPLES}
    for number in range(max(MULTIPLES)):
        old = bench.new()
        lines.write(old, unit, seed=100 + number)
        for multiple, lake in lakes.items():
            if number < multiple and not bench.itself:
                bench.prepare(lake, old)
                bench.refine(lake, old, unit)
        shutil.rmtree(old)
    new = [bench.new() for _ in range(count)]
    for number, one in enumerate(new):
        lines.write(one, batch, seed=200 + number)

    def side(lake: Path, number: int) -> rounds.Figures:
        bench.prepare(lake, new[number])
        return bench.refine(lake, new[number], batch)

    found = rounds.interleave(
        {
            "yardstick": lambda number: bench.yard(new[number], check=True),
            **{
                f"refine at {multiple}x": lambda number, lake=lake: side(lake, number)
                for multiple, lake in lakes.items()
            },
        },
        count,
    )
    show(f"{batch} lines onto a history of {unit} lines times 1, 4, 16", found)
    for multiple in MULTIPLES[1:]:
        growth = rounds.ratios(found[f"refine at {multiple}x"], found["refine at 1x"])
        print(rounds.line(f"  {multiple}x over 1x, CPU", growth, ""))


def gates(bench: Bench, count: int, times: int) -> list[float]:
    """A hundred batches in one entry, none held and one held: the second over the first."""
    sides = {"none held": -1, "one held": 17}
    per = count // BATCHES // lines.PERIOD * lines.PERIOD
    for name, held in sides.items():
        lines.write(bench.root / name, per * BATCHES, seed=4, batches=BATCHES, held=held)

    def side(name: str) -> rounds.Figures:
        lake = bench.new()
        bench.prepare(lake, bench.root / name)
        run = bench.refine(lake, bench.root / name, per * BATCHES, per if sides[name] >= 0 else 0)
        shutil.rmtree(lake, ignore_errors=True)
        return run

    found = rounds.interleave({name: lambda _, name=name: side(name) for name in sides}, times)
    show(f"{BATCHES} batches of {per} lines", found)
    return rounds.ratios(found["one held"], found["none held"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", default="500MB")
    parser.add_argument("--history", type=int, default=500_000, help="lines of 1x; 0 leaves this part out")
    parser.add_argument("--held-lines", type=int, default=500_000, help="lines of a hundred batches; 0 leaves it out")
    parser.add_argument("--batch", type=int, default=100_000, help="lines refined onto the history")
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    parser.add_argument("--itself", action="store_true", help="the yardstick against itself: the noise of the harness")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-refine-") as root:
        bench = Bench(Path(root), asked.memory, itself=asked.itself)
        parts = Path(root) / "parts"
        made = lines.write(parts, asked.lines)
        volume = sum(int(part["bytes"]) for part in made) / 1e6
        first = bench.yard(parts, check=True)  # warms the page cache too
        found = rounds.interleave(
            {
                "yardstick": lambda _: bench.yard(parts, check=True),
                "by hand": lambda _: bench.same(parts, asked.lines, first["fingerprint"]),
                "refine": lambda _: bench.checked(parts, asked.lines, first["fingerprint"]),
            },
            asked.rounds,
        )
        show(f"{asked.lines} lines, {volume:.0f} MB, memory_limit {asked.memory}, 2 threads", found)
        rate = asked.lines / statistics.median(run["cpu"] for run in found["refine"])
        print(f"  refine, lines per CPU second {rate:,.0f}; {first['fingerprint'][0]:,} equal rows each round")
        whole = rounds.ratios(found["refine"], found["yardstick"], "whole")
        print(rounds.line("  refine over yardstick, whole processes", whole, ""))
        ratio = rounds.ratios(found["refine"], found["yardstick"])
        print(rounds.line("  refine over yardstick, CPU", ratio, ""))
        by_hand = rounds.ratios(found["refine"], found["by hand"])
        held = gates(bench, asked.held_lines, asked.rounds) if asked.held_lines and not asked.itself else []
        if asked.history:
            history(bench, asked.history, asked.batch, asked.rounds)
        rounds.close("refine by-hand", by_hand)
        if held:
            rounds.close("refine held", held)
        rounds.close("refine", ratio, asked.limit)


if __name__ == "__main__":
    main()
