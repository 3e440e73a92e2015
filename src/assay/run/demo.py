"""The first number: which one the demo shows, how it is fetched, and why it is that number."""

import json
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from assay import run
from assay.errors import UsageError
from assay.run import Lake

TABLE, COLUMN = "fct_daily_price", "return_1d"
SYMBOL, DATE = "AAPL", "2005-02-28"


@contextmanager
def vendor(command: Sequence[str]) -> Iterator[str]:
    """Run the sandbox while the block does; gives its address. UsageError, in its own words, if it does not start."""
    # Into a file: nobody reads along, and a full pipe would stop it.
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=said, text=True
    ) as process:  # fmt: skip
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            if not address:
                code = process.wait(10)
                said.seek(0)
                last = (said.read().strip().splitlines() or [f"it ended with code {code}"])[-1]
                raise UsageError(f"the sandbox did not start: {last.rpartition(' error: ')[2]}")
            yield address
        finally:
            process.terminate()


def first_number(lake: Lake) -> dict[str, Any]:
    """The demo's cell: Apple's return on the day of its split, where a raw price alone would say −50 percent."""
    rows = run.sql(lake, f"select security_id from gold.{TABLE} where symbol = '{SYMBOL}' and date = '{DATE}'").rows
    key = {"security_id": rows[0][0], "date": DATE}
    query = "&".join(f"{k}={v}" for k, v in key.items())
    return {
        "title": f"{SYMBOL} {DATE} {COLUMN}",
        "column": COLUMN,
        "key": key,
        "path": f"/v1/gold/{TABLE}?{query}",
        "explain": f"/explain/{TABLE}?{query}&column={COLUMN}",
    }


def fetch(url: str) -> Any:
    """A JSON answer over HTTP, from this machine."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own loopback address
        return json.load(answer)


def why(lake: Lake, shown: dict[str, Any]) -> str:
    """The explanation of the first number in a few lines."""
    found = run.explain(lake, TABLE, shown["key"], COLUMN, listed=6)
    again = found["recomputed"]
    rows = ", ".join(f"{i['rows']} rows of {i['table']}" for i in found["inputs"])
    lines = [f"  recomputed from {rows}: {again['value']} ({'equal' if again['equal'] else 'DIFFERENT'})"]
    for one in found["observations"][:3]:
        lines.append(f"  {one['record']}")
        lines.append(f"    from {one['file']}:{one['line']}, asked of {one['request']['url']} (origin {one['origin']})")
    return "\n".join(lines)


def land_again(lake: Lake, changed: Sequence[str], say: Callable[[str], None]) -> None:
    """Ask again for what changed at the source: the symbols of `SYMBOL:DATE:FIELD=VALUE`."""
    symbols = {one.split(":", 1)[0] for one in changed}
    if not list(lake.target.ledger.facts("manifest", "price_eod")):
        return
    for dataset in ("price_eod", "price_eod_adjusted"):
        steps = [s for s in run.landings(lake, dataset, again=True) if s.shard in symbols]
        run.apply(lake, steps, say=say)
