"""Our side of the whole bench: a lake of daily prices, and all that one evening needs.

subject_whole.py prepare LAKE BASE --symbols A,B --from DATE    its files
subject_whole.py run LAKE --today DATE                          plan, land, refine, build; then the served rows
"""

import argparse
import json
import os
import shutil
from datetime import UTC, datetime, time
from pathlib import Path

import rounds
import whole_project
from assay.run import lake as lakes

CONTRACT = rounds.HERE.parent / "lakes/markets/contracts/price_eod.yaml"


def write(lake: Path, base: str, symbols: list[str], start: str) -> None:
    """The lake's own files."""
    shutil.rmtree(lake, ignore_errors=True)
    (lake / "contracts").mkdir(parents=True)
    text = CONTRACT.read_text()
    for old, new in (
        ("value: us", "value: all"),
        ("value: 2000-01-01", f"value: {start}"),
        ("value: P3D", "value: P0D"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    (lake / "contracts/price_eod.yaml").write_text(text)
    (lake / "assay.toml").write_text(
        f'[lake]\nname = "whole"\n[source.fmp]\nbase_url = "{base}/stable"\norigin = "synthetic"\nallow_private = true\n'
        "requests = 1000000\nper = 1.0\n"
    )
    listed = "".join(f"{symbol},{start},\n" for symbol in symbols)
    (lake / "universe_all.csv").write_text(f"symbol,valid_from,valid_to\n{listed}")
    whole_project.write(lake / "dbt", "assay", source=False)


def evening(today: str) -> None:
    """It is the evening of that day."""
    then = datetime.combine(datetime.fromisoformat(today), time(20), UTC)
    os.environ["ASSAY_CLOCK_OFFSET"] = str((then - datetime.now(UTC)).total_seconds())
    os.environ["ASSAY_SECRET_FMP_API_KEY"] = "bench"


def run(root: Path, today: str) -> None:
    evening(today)
    begun = rounds.begin()
    with lakes.open(root) as lake:
        done = lake.apply(lake.plan())
        if done.errors:
            raise done.errors[0]
        rows = lake.sql(whole_project.READ).rows
    rounds.report(begun, rows=[[str(value) for value in row] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "run"])
    parser.add_argument("lake", type=Path)
    parser.add_argument("base", nargs="?")
    parser.add_argument("--symbols")
    parser.add_argument("--from", dest="start")
    parser.add_argument("--today")
    asked = parser.parse_args()
    if asked.what == "prepare":
        write(asked.lake, asked.base, asked.symbols.split(","), asked.start)
        print(json.dumps({}))
    else:
        run(asked.lake, asked.today)


if __name__ == "__main__":
    main()
