"""Measures land against two yardsticks: CPU to bring 200 pages of 1,000 records from a local server to disk.

    scripts/bench land [--symbols 200] [--rows 1000] [--rounds 5] [--limit 1.6] [--bare-limit 2.4] [--itself]

`yard_land_same.py` makes the same promise: JSON checked, hashed, synced, renamed. `yard_land.py` is the bare loop.
Last lines: `land bare ratio R` and `land ratio R`, the medians over the rounds of land's CPU over the bare loop's and
over that of the same promise.
"""

import argparse
import collections
import gzip
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rounds

YARDS = {"bare": rounds.HERE / "yard_land.py", "same": rounds.HERE / "yard_land_same.py"}


@contextmanager
def server(symbols: int, rows: int) -> Iterator[dict[str, Any]]:
    command = [sys.executable, rounds.HERE / "land_server.py", "--symbols", str(symbols), "--rows", str(rows)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(record.items()))


def answers(files: list[str]) -> collections.Counter[tuple[Any, ...]]:
    """The records of the yardstick's files, numbers by their spelling."""
    decoder, found = json.JSONDecoder(parse_float=str, parse_int=str), collections.Counter()
    for path in files:
        text, at = gzip.decompress(Path(path).read_bytes()).decode(), 0
        while at < len(text):
            page, at = decoder.raw_decode(text, at)
            found.update(map(key, page))
    return found


def landed(files: list[str]) -> collections.Counter[tuple[Any, ...]]:
    """The records of bronze lines, numbers by their spelling."""
    found = collections.Counter()
    for path in files:
        with gzip.open(path, "rt") as lines:
            found.update(key(json.loads(line, parse_float=str, parse_int=str)["_record"]) for line in lines)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    parser.add_argument("--bare-limit", type=float, help="exit 1 where the ratio to the bare loop is above")
    parser.add_argument("--itself", action="store_true", help="`same` against itself: the noise of the harness")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-land-") as root,
        server(asked.symbols, asked.rows) as remote,
    ):
        span = ["--symbols", ",".join(remote["symbols"]), "--from", remote["from"], "--to", remote["to"]]
        out = Path(root)

        def yard(name: str, place: Path) -> rounds.Figures:
            return rounds.run(YARDS[name], remote["base"], place, *span)

        first = yard("bare", out / "first")  # every answer has been asked for once before the rounds
        wanted = answers(first["files"])
        if wanted.total() != asked.symbols * asked.rows:
            raise SystemExit(f"the yardstick wrote {wanted.total()} records")

        def checked(name: str, number: int) -> rounds.Figures:
            place = out / f"{name}-{number}"
            if name in YARDS or asked.itself:
                run = yard(name if name in YARDS else "same", place)
                found = answers(run["files"])
            else:
                script = rounds.subject("land")
                rounds.run(script, "prepare", place, remote["base"], *span)
                run = rounds.run(script, "run", place)
                found = landed(run["files"])
            if found != wanted:
                raise SystemExit(f"{name} wrote {found.total()} records, not the {wanted.total()} that were served")
            shutil.rmtree(place)
            return run

        found = rounds.interleave(
            {name: lambda number, name=name: checked(name, number) for name in (*YARDS, "land")},
            asked.rounds,
        )
    print(f"{wanted.total()} records in {asked.symbols} pages, 127.0.0.1, gzip 1; records equal in each round")
    for name, runs in found.items():
        print(rounds.line(f"  {name}, CPU", [run["cpu"] for run in runs], "s"))
        print(rounds.line(f"  {name}, CPU of the whole process", [run["whole"] for run in runs], "s"))
        print(rounds.line(f"  {name}, peak memory", [run["peak_mb"] for run in runs], "MB"))
    rate = wanted.total() / statistics.median(run["cpu"] for run in found["land"])
    print(f"  land, records per CPU second {rate:,.0f}")
    for name in YARDS:
        whole = rounds.ratios(found["land"], found[name], "whole")
        print(rounds.line(f"  land over {name}, whole processes", whole, ""))
        print(rounds.line(f"  land over {name}, CPU", rounds.ratios(found["land"], found[name]), ""))
    bare = rounds.ratios(found["land"], found["bare"])
    rounds.close("land bare", bare)
    rounds.close("land", rounds.ratios(found["land"], found["same"]), asked.limit)
    if asked.bare_limit is not None and statistics.median(bare) > asked.bare_limit:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
