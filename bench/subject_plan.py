"""Our side of the plan bench: `subject_plan.py LAKE DAY` opens a lake and plans its prices of one day."""

import sys
import time
from datetime import date, timedelta

import rounds
from assay.engines import duckdb  # noqa: F401 - a plan with landings imports it
from assay.land.source import load
from assay.plan import Land
from assay.run import lake as lakes
from assay.windows import Window


def main() -> None:
    root, day = sys.argv[1], date.fromisoformat(sys.argv[2])
    load("fmp")
    began, at = rounds.begin(), time.perf_counter()
    with lakes.open(root) as lake:
        steps = lake.plan(["price_eod"], span=Window(day, day + timedelta(days=1)))
    wall = time.perf_counter() - at
    rounds.report(began, wall=wall, steps=sum(isinstance(one, Land) for one in steps))


if __name__ == "__main__":
    main()
