"""Yardstick of the whole run: dlt merges the new days into DuckDB by primary key, dbt builds and tests the same gold.

As both projects' guides have it: an incremental resource that asks from its cursor on, a merge by `primary_key`, and
`dbt build` after each load. It keeps no answers, no versions and no evidence, and checks nothing of a row but its type.

    yard_whole.py OUT BASE --symbols A,B --from DATE --today DATE     with the Python of .venvs/bench
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL", "DO_NOT_TRACK": "1"}

import dlt
import duckdb
from dlt.sources.helpers import requests

import rounds
import whole_project

DECIMAL = {"data_type": "decimal", "precision": 18, "scale": 6}
TYPES = {
    "symbol": {"data_type": "text", "nullable": False}, "date": {"data_type": "date", "nullable": False},
    "open": DECIMAL, "high": DECIMAL, "low": DECIMAL, "close": DECIMAL, "volume": {"data_type": "bigint"},
}  # fmt: skip
NAMES = {"adjOpen": "open", "adjHigh": "high", "adjLow": "low", "adjClose": "close"}


def source(base: str, symbols: list[str], start: str, today: str) -> Any:
    @dlt.resource(name=whole_project.TABLE, primary_key=("symbol", "date"), write_disposition="merge", columns=TYPES)
    def prices(
        cursor: Any = dlt.sources.incremental("date", initial_value=date.fromisoformat(start) - timedelta(days=1)),  # noqa: B008
    ) -> Iterator[list[dict[str, Any]]]:
        first, last = cursor.last_value + timedelta(days=1), date.fromisoformat(today) - timedelta(days=1)
        if first > last:
            return

        def answer(symbol: str) -> list[dict[str, Any]]:
            said = {"symbol": symbol, "from": str(first), "to": str(last)}
            got = requests.get(f"{base}/stable/historical-price-eod/non-split-adjusted", params=said)
            return [
                {
                    NAMES.get(name, name): date.fromisoformat(value) if name == "date" else value
                    for name, value in one.items()
                }
                for one in got.json(parse_float=Decimal)
            ]

        with ThreadPoolExecutor(8) as pool:
            yield from pool.map(answer, symbols)

    return prices


def dbt(out: Path) -> None:
    """The project's build and tests, as its command does them."""
    if not (out / "dbt").is_dir():
        whole_project.write(out / "dbt", "whole", source=True)
        (out / "dbt/profiles.yml").write_text(
            "whole: {target: dev, outputs: {dev: {type: duckdb, path: ../lake.duckdb, schema: gold, threads: 2}}}\n"
        )
    command = [Path(sys.executable).with_name("dbt"), "--quiet", "build", "--profiles-dir", ".", "--project-dir", "."]
    subprocess.run(command, cwd=out / "dbt", check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("base")
    parser.add_argument("--symbols")
    parser.add_argument("--from", dest="start")
    parser.add_argument("--today")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    begun = rounds.begin()
    pipeline = dlt.pipeline(
        "whole", pipelines_dir=str(asked.out / "pipelines"), dataset_name="silver",
        destination=dlt.destinations.duckdb(str(asked.out / "lake.duckdb")),
    )  # fmt: skip
    pipeline.run(source(asked.base, asked.symbols.split(","), asked.start, asked.today))
    dbt(asked.out)
    with duckdb.connect(str(asked.out / "lake.duckdb"), read_only=True) as con:
        rows = con.execute(whole_project.READ).fetchall()
    rounds.report(begun, rows=[[str(value) for value in row] for row in rows])


if __name__ == "__main__":
    main()
