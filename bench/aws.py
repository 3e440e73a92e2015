"""Measures what the target `aws` costs our own code, and what it asks of AWS: the demo's flow in doubles of AWS over the same on a disk.

    scripts/bench aws [--rounds 5] [--limit 2]

Each round lands, refines and releases the markets lake anew, on each target, and lands and refines it once more with nothing new.
The doubles and the vendor's stand-in are processes of their own and are not counted. The first number is compared.
Then the calls of one run are printed, by step: what AWS would bill. Last line: `aws ratio R`, CPU of the first over the second.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import rounds

FIRST = "select return_1d from gold.fct_daily_price where symbol = 'AAPL' and date = '2005-02-28'"


def side(root: Path, target: str) -> None:
    """One side, in a process of its own."""
    from assay import run

    with run.open(root, target=target) as lake:
        calls: dict[str, Counter[str]] = {}

        def step(name: str, act: Any) -> Any:
            sent = getattr(getattr(lake.target.files, "clients", None), "calls", Counter())
            before = Counter(sent)
            out = act()
            calls[name] = sent - before
            return out

        begun = rounds.begin()
        steps = step("plan", lake.plan)
        done = step("apply", lambda: lake.apply(steps))
        assert not done.errors, done.errors
        rounds_of = {"plan again": lake.plan, "status": lake.status, "refine nothing": lambda: lake.refine("price_eod")}
        for name, act in rounds_of.items():
            step(name, act)
        cpu = rounds.begin() - begun
        first = lake.sql(FIRST).rows[0][0]
        print(
            json.dumps(
                {
                    "cpu": cpu,
                    "first": str(first),
                    "calls": {k: dict(v) for k, v in calls.items()},
                    "landings": len(steps),
                }
            )
        )


def main() -> None:
    if sys.argv[1:2] == ["side"]:
        side(Path(sys.argv[2]), sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    asked = parser.parse_args()
    from assay.run import demo, emulated, lake

    os.environ["ASSAY_SECRET_FMP_API_KEY"] = "sandbox-key"
    with (
        tempfile.TemporaryDirectory(prefix="bench-aws-") as name,
        demo.vendor(demo.sandbox_command(0)) as address,
        emulated.started(Path(name) / "cloud"),
    ):

        def one(number: int, target: str) -> dict[str, Any]:
            root = Path(name) / f"{target}-{number}"
            lake.init(root, *demo.example_lakes("markets"))
            path = root / "assay.toml"
            text = re.sub(r"http://127\.0\.0\.1:\d+/stable", address, path.read_text())
            path.write_text(text.replace("[aws]", f'[aws]\nprefix = "bench{number}"'))
            emulated.prepare(root, "dev", {"FMP_API_KEY": "sandbox-key"})
            return rounds.run(rounds.HERE / "aws.py", "side", root, target)

        found = rounds.interleave({t: lambda n, t=t: one(n, t) for t in ("aws", "local")}, asked.rounds)
    if len({each["first"] for both in found.values() for each in both}) != 1:
        raise SystemExit("the first numbers differ")
    for target, each in found.items():
        print(
            f"{target}: {sorted(one['cpu'] for one in each)[len(each) // 2]:.2f} s CPU, {each[0]['landings']} steps, first number {each[0]['first']}"
        )
    for step, sent in found["aws"][-1]["calls"].items():
        print(
            f"{step}: {sum(sent.values())} calls: "
            + ", ".join(f"{n} {what}" for what, n in sorted(sent.items(), key=lambda kv: -kv[1]))
        )
    ratio = sorted(rounds.ratios(found["aws"], found["local"]))[asked.rounds // 2]
    print(f"aws ratio {ratio:.2f}")
    if asked.limit and ratio > asked.limit:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
