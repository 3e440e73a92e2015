"""Counts what a lake of 500 symbols asks of where it lies: of AWS's services, and of the laptop's disk, by landing, window and commit.

    scripts/bench bill [--symbols 500] [--days 4] [--history 79,316,1264] [--limit 1.1]

Day after day is planned, landed (a window a symbol), and refined, in one process a target; the first day and the last are printed. What is
sent to the doubles of AWS is what AWS would bill, repeated requests too. Of the laptop the same steps' calls of `Files` and
`Ledger` are counted. Counts do not depend on the machine, but for how a vendor's answers fall into entries and who waits for the pace.
Last line: `bill ratio R`, calls to AWS of the last day over those of the second (the first makes the tables): 1 where history costs nothing.

With `--history` a lake of each target grows instead to so many days, an entry of the log a day, a commit every twenty, written by the product's
own functions without asking anybody; at each size one more day is planned, asked, refined and read, each step by a lake that was just opened.
R is then that of the worst step on the worse target, at the most days over the fewest.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import rounds
from backfill import lake as markets
from land import server

END = date(2026, 10, 31)  # the vendor's newest day

STEPS = ("plan", "land", "refine", "refine nothing", "status")
NAMES = ("url", "scratch")  # name a file and ask nobody
AGED = (*STEPS, "a key", "a key anew")
KEY = "symbol=SYM000&date={day}&select=close"


class Counted:
    """A port whose calls are counted, by name."""

    def __init__(self, port: Any, kind: str, calls: Counter[str]) -> None:
        self._port, self._kind, self._calls = port, kind, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found) or name in NAMES:
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


def opened(root: Path, target: str) -> tuple[Any, Counter[str]]:
    """The lake, just opened, and what is asked by it."""
    from assay import run
    from assay.run import Lake

    lake = run.open(root, target=target)
    if target == "aws":
        return lake, lake.target.files.clients.calls  # type: ignore[attr-defined]
    t, calls = lake.target, Counter[str]()
    ledger = Counted(t.ledger, "Ledger", calls)
    files = Counted(t.files, "Files", calls)
    return Lake(replace(t, files=files, open_ledger=lambda: ledger), lake.contracts, lake.universes), calls


def grown(root: Path, target: str, days: list[date]) -> None:
    """Land days as if each had been asked on an evening of its own, an entry each, and refine every twenty."""
    from functools import partial

    from assay import clock
    from assay.lake import bronze, coverage, upkeep
    from assay.lake.bronze import Asked
    from assay.lake.landing import Landing
    from assay.windows import Window
    from land_server import record
    from subject_age import released

    lake, _ = opened(root, target)
    t, contract = lake.target, lake.contract("price_eod")
    bronze.put_contract(t.files, t.ledger, contract)
    shards = lake.shards("price_eod")
    for number, day in enumerate(days, 1):
        with Landing(
            t.files, t.ledger, "price_eod", bronze.adopt(t.files, t.ledger, "price_eod"), run="bulk", source=contract.source,
            code="0" * 64, origin="synthetic", capture=contract.capture_fingerprint, contract=contract.sha256,
        ) as landing:  # fmt: skip
            for shard in shards:
                with landing.ask(shard, Window(day, day + timedelta(days=1))) as ask:
                    asked = Asked({}, clock.now(), 200, "0" * 64, 1, url="http://127.0.0.1/")
                    ask.page(asked, [json.dumps(record(shard, day), separators=(",", ":")).encode()])
            assert landing.commit()
        if number % 20 == 0 or number == len(days):
            bronze.adopt(t.files, t.ledger, "price_eod")
            coverage.bring(partial(bronze.since, t.files, "price_eod"), t.ledger, contract)
            lake.refine("price_eod")
            if upkeep.due(t.ledger, lake.contracts, t.settings.upkeep, clock.now()):  # as `assay apply` does
                upkeep.run(t, lake.contracts, dry=False, say=lambda _: None)
    released(lake)
    lake.close()


def aged(root: Path, target: str, sizes: list[int]) -> None:
    """One target, in a process of its own: at each size of its history, what one more day asks."""
    from assay.windows import Window
    from subject_age import answered, released

    def key(lake: Any) -> Any:
        return json.loads(answered(lake, "/v1/silver/price_eod", KEY.format(day=day)))["data"]

    found, had, began = [], 0, time.monotonic()
    for size in sizes:
        grown(root, target, [END - timedelta(days=sizes[-1] - n) for n in range(had, size)])
        had, day = size + 1, END - timedelta(days=sizes[-1] - size)
        span = Window(day, day + timedelta(days=1))
        kept: dict[str, Any] = {}
        acts: dict[str, Callable[[Any], Any]] = {
            "plan": lambda lake, span=span: lake.landings("price_eod", span=span),
            "land": lambda lake, kept=kept: lake.apply(kept["plan"]),
            "refine": lambda lake: lake.refine("price_eod"),
            "refine nothing": lambda lake: lake.refine("price_eod"),
            "status": lambda lake: lake.status(),
            "a key": key,
            "a key anew": key,
        }
        told: dict[str, Any] = {"days": size}
        for name, act in acts.items():
            if name == "a key":
                lake, _ = opened(root, target)
                released(lake)
                lake.close()
            lake, calls = opened(root, target)
            if name == "a key anew" and target == "aws":  # as on a machine that has no copies of objects
                shutil.rmtree(lake.target.files.disk / "copies")
            begun = time.monotonic()
            kept[name] = act(lake)
            told[name] = {"calls": dict(calls), "seconds": time.monotonic() - begun}
            lake.close()
        assert not kept["land"].errors, kept["land"].errors[:1]
        assert len(kept["plan"]) == kept["refine"].counts["accepted"], kept["refine"]
        assert len(kept["a key"]) == 1, kept["a key"]
        assert kept["a key anew"] == kept["a key"], kept["a key anew"]
        found.append(told)
        print(f"{target}: {size} days, {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(json.dumps({"days": found}))


def history(found: dict[str, list[dict[str, Any]]], limit: float | None) -> None:
    """The table of what one more day asks at each size, and the worst ratio."""
    ratios = []
    for target, sizes in found.items():
        print(f"{target}, calls of one more day at " + ", ".join(f"{one['days']:,}" for one in sizes) + " days")
        for name in AGED:
            calls = [sum(one[name]["calls"].values()) for one in sizes]
            ratios.append(calls[-1] / calls[0])
            print(f"  {name:<15}" + "".join(f"{n:>8}" for n in calls) + f"   x {ratios[-1]:.2f}")
        for one in (sizes[0], sizes[-1]):
            print(f" at {one['days']:,} days")
            for name in AGED:
                print(line(name, one[name]))
    rounds.close("bill", [max(ratios)], limit)


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
    if sys.argv[1:2] == ["aged"]:
        aged(Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument(
        "--history", default="", help="days of history at which one more day is counted, such as 79,316,1264"
    )
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    asked = parser.parse_args()
    from assay.run import emulated

    os.environ["ASSAY_SECRET_FMP_API_KEY"] = "sandbox-key"
    symbols = [f"SYM{number:03d}" for number in range(asked.symbols)]
    sizes = [int(one) for one in asked.history.split(",") if one]
    start = END - timedelta(days=max([asked.days - 1, *sizes]))
    with (
        tempfile.TemporaryDirectory(prefix="bench-bill-") as name,
        server(asked.symbols, 1 if asked.history else asked.days) as vendor,
        emulated.started(Path(name) / "cloud"),
    ):

        def counted(target: str) -> list[dict[str, Any]]:
            root = markets(Path(name) / target, vendor["base"], symbols, start, END + timedelta(days=1))
            path = root / "assay.toml"
            path.write_text(re.sub(r"requests = 1000000\nper = 1.0", "requests = 3000\nper = 60.0", path.read_text()))
            emulated.prepare(root, "dev", {"FMP_API_KEY": "sandbox-key"})
            what = ("aged", root, target, json.dumps(sizes)) if sizes else ("side", root, target, asked.days)
            return rounds.run(rounds.HERE / "bill.py", *what)["days"]

        with ThreadPoolExecutor(2) as both:
            found = dict(zip(("aws", "local"), both.map(counted, ("aws", "local")), strict=True))
    if sizes:
        history(found, asked.limit)
        return
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
