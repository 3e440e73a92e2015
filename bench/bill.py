"""Counts what a lake of 500 symbols asks of where it lies: of AWS's services, and of the laptop's disk, by landing, window and commit.

    scripts/bench bill [--symbols 500] [--days 4] [--limit 1.1]

Day after day is planned, landed (a window a symbol), and refined, in one process a target; the first day and the last are printed. What is
sent to the doubles of AWS is what AWS would bill, repeated requests too. Of the laptop the same steps' calls of `Files` and
`Ledger` are counted. Counts do not depend on the machine, but for how a vendor's answers fall into entries and who waits for the pace.
Last line: `bill ratio R`, calls to AWS of the last day over those of the second (the first makes the tables): 1 where history costs nothing.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import rounds
from backfill import lake as markets
from land import server

END = date(2026, 10, 31)  # the vendor's newest day

STEPS = ("plan", "land", "refine", "refine nothing", "status")


class Counted:
    """A port whose calls are counted, by name."""

    def __init__(self, port: Any, kind: str, calls: Counter[str]) -> None:
        self._port, self._kind, self._calls = port, kind, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def called(*args: Any, **named: Any) -> Any:
            self._calls[f"{self._kind}:{name}"] += 1
            return found(*args, **named)

        return called


def side(root: Path, target: str, days: int) -> None:
    """One target, in a process of its own: of each day, what each step asked for."""
    from assay import run
    from assay.lake import bronze
    from assay.run import Lake
    from assay.windows import Window

    lake = run.open(root, target=target)
    calls: Counter[str] = Counter()
    if target == "aws":
        calls = lake.target.files.clients.calls  # type: ignore[attr-defined]
    else:
        t = lake.target
        ledger = Counted(t.ledger, "Ledger", calls)
        lake = Lake(
            replace(t, files=Counted(t.files, "Files", calls), open_ledger=lambda: ledger),
            lake.contracts,
            lake.universes,
        )

    found: list[dict[str, Any]] = []
    for back in range(days - 1, -1, -1):
        day = END - timedelta(days=back)
        told: dict[str, Any] = {}

        def step(name: str, act: Callable[[], Any], told: dict[str, Any] = told) -> Any:
            before, began = Counter(calls), time.monotonic()
            out = act()
            told[name] = {"calls": dict(Counter(calls) - before), "seconds": time.monotonic() - began}
            return out

        steps = step("plan", lambda day=day: lake.landings("price_eod", span=Window(day, day + timedelta(days=1))))
        done = step("land", lambda steps=steps: lake.apply(steps))
        assert not done.errors, done.errors[:1]
        refined = step("refine", lambda: lake.refine("price_eod"))
        step("refine nothing", lambda: lake.refine("price_eod"))
        step("status", lake.status)
        log = [entry for entry, _ in bronze.whole(lake.target.files, "price_eod")]
        told |= {
            "windows": len(steps),
            "rows": refined.rows,
            "entries": len(log),
            "accepted": refined.counts["accepted"],
        }
        assert told["windows"] == told["accepted"], told
        found.append(told)
    lake.close()
    print(json.dumps({"days": found}))


def line(name: str, told: dict[str, Any]) -> str:
    calls = Counter(told["calls"])
    by = Counter[str]()
    for one, n in calls.items():
        by[one.partition(":")[0]] += n
    most = ", ".join(f"{n} {one.partition(':')[2]}" for one, n in calls.most_common(8))
    services = ", ".join(f"{n} {one}" for one, n in by.most_common())
    return f"  {name}: {sum(calls.values())} calls ({services}): {most}; {told['seconds']:.1f} s"


def main() -> None:
    if sys.argv[1:2] == ["side"]:
        side(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    asked = parser.parse_args()
    from assay.run import emulated

    os.environ["ASSAY_SECRET_FMP_API_KEY"] = "sandbox-key"
    symbols = [f"SYM{number:03d}" for number in range(asked.symbols)]
    start = END - timedelta(days=asked.days - 1)
    with (
        tempfile.TemporaryDirectory(prefix="bench-bill-") as name,
        server(asked.symbols, asked.days) as vendor,
        emulated.started(Path(name) / "cloud"),
    ):
        found = {}
        for target in ("aws", "local"):
            root = markets(Path(name) / target, vendor["base"], symbols, start, END + timedelta(days=1))
            path = root / "assay.toml"
            path.write_text(re.sub(r"requests = 1000000\nper = 1.0", "requests = 3000\nper = 60.0", path.read_text()))
            emulated.prepare(root, "dev", {"FMP_API_KEY": "sandbox-key"})
            found[target] = rounds.run(rounds.HERE / "bill.py", "side", root, target, asked.days)["days"]
    for target, days in found.items():
        for number in (0, asked.days - 1):
            told = days[number]
            print(
                f"{target}, day {number + 1}: {told['windows']} windows, {told['accepted']} of {told['rows']} rows let in, {told['entries']} entries in the log"
            )
            for name in STEPS:
                print(line(name, told[name]))
    first, last = (sum(sum(found["aws"][n][one]["calls"].values()) for one in STEPS) for n in (1, -1))
    rounds.close("bill", [last / first], asked.limit)


if __name__ == "__main__":
    main()
