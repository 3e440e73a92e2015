"""The first number: which one the demo shows, how it is fetched, and why it is that number."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assay.errors import AssayError, UsageError
from assay.run import emulated, loop
from assay.run import lake as lakes
from assay.run.lake import Lake

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
    rows = lake.sql(f"select security_id from gold.{TABLE} where symbol = '{SYMBOL}' and date = '{DATE}'").rows
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


def why(lake: Lake, shown: dict[str, Any]) -> list[str]:
    """The explanation of the first number in a few lines."""
    found = lake.explain(TABLE, shown["key"], COLUMN, listed=6)
    again = found["recomputed"]
    rows = ", ".join(f"{i['rows']} rows of {i['table']}" for i in found["inputs"])
    lines = [f"  recomputed from {rows}: {again['value']} ({'equal' if again['equal'] else 'DIFFERENT'})"]
    for one in found["records"][:3]:
        lines.append(f"  {one['record']}")
        lines.append(f"    from {one['file']}:{one['line']}, asked of {one['request']['url']} (origin {one['origin']})")
    return lines


def land_again(lake: Lake, changed: Sequence[str], say: Callable[[str], None]) -> None:
    """Ask again for what changed at the source: the symbols of `SYMBOL:DATE:FIELD=VALUE`."""
    symbols = {one.split(":", 1)[0] for one in changed}
    if lake.target.ledger.newest("tail", "price_eod", "tail") is None:
        return
    for dataset in ("price_eod", "price_eod_adjusted"):
        lake.apply([s for s in lake.landings(dataset, again=True) if s.shard in symbols], say=say)


def example_lakes(name: str) -> tuple[Path, ...]:
    """The directories of an example, shipped with the package (or beside it, in a checkout): `wide` lies over `markets`."""
    here = Path(__file__).resolve().parents[1]
    for place in (here / "lakes", here.parents[1] / "lakes"):
        if (place / name).is_dir():
            return (place / "markets", place / name) if name == "wide" else (place / name,)
    raise UsageError(f"the example lake {name} is not installed")


def sandbox_command(
    port: int,
    seed: int | None = None,
    rate: float = 0.0,
    override: Sequence[str] = (),
    wide: Path | None = None,
) -> list[str]:
    """The command that serves the vendor's stand-in; with the file `wide`, its companies and index too."""
    command = [sys.executable, "-m", "assay_sandbox", "--port", str(port)]
    if wide:
        command += ["--wide", str(wide)]
    if seed is not None or rate:
        command += ["--seed", str(seed or 0), "--fault-rate", str(rate)]
    for one in override:
        command += ["--override", one]
    return command


@contextmanager
def begun(
    directory: Path, sandbox_port: int, override: Sequence[str], say: Callable[[str], None], wide: Path | None = None
) -> Iterator[None]:
    """The demo's lake, made if it is not there, and the sandbox that it asks while the block runs."""
    os.environ.setdefault("ASSAY_SECRET_FMP_API_KEY", "sandbox-key")
    made = (directory / "assay.toml").exists()
    if made and (directory / "universe_adjusted.csv").exists() != (wide is not None):
        remedy = "choose another --directory" if wide else "say --wide WHEEL again, or choose another --directory"
        raise UsageError(f"{directory} is a lake made {'without' if wide else 'with'} --wide: {remedy}")
    with vendor(sandbox_command(sandbox_port, override=override, wide=wide)) as address:
        say(f"sandbox: {address}")
        if not made:
            lakes.init(directory, *example_lakes("wide" if wide else "markets"))
        _ask(directory, sandbox_port)
        yield


@contextmanager
def shown(
    directory: Path,
    env: str,
    target: str,
    port: int,
    sandbox_port: int,
    override: Sequence[str],
    say: Callable[[str], None],
    wide: Path | None = None,
) -> Iterator[list[str]]:
    """Sandbox, land, refine, build, serve: the lines of the first number; it is served while the block runs.

    With target `aws` the doubles of AWS run beside the sandbox, and are empty when they begin.
    """
    started = time.monotonic()
    told = (directory, env, target)
    with begun(directory, sandbox_port, override, say, wide), cloud(*told, say), lakes.open(*told) as lake:
        if override:
            land_again(lake, override, say)
        _all(lake.apply(lake.plan(), say=say).errors)
        first = first_number(lake)
        with lake.serving("127.0.0.1", port) as console:
            got = fetch(console + first["path"])
            yield [
                f"{first['title']}: {got['data'][0][first['column']]}",
                *why(lake, first),
                f"first number after {time.monotonic() - started:.1f} s · console: {console}",
            ]


@contextmanager
def cloud(directory: Path, env: str, target: str, say: Callable[[str], None]) -> Iterator[None]:
    """Run the doubles of AWS while the block does, for a lake that is there; nothing for another target."""
    if target != "aws":
        yield
        return
    with emulated.started(directory / "cloud"):
        say("AWS is emulated: assay-cloudsim runs its doubles on this machine")
        emulated.prepare(directory, env, {"FMP_API_KEY": os.environ["ASSAY_SECRET_FMP_API_KEY"]})
        yield


def released(directory: Path, env: str, target: str = "local") -> list[str]:
    """The lines of the first number, once flows have released it; none before."""
    with lakes.open(directory, env, target) as lake:
        if not loop.released(lake.target.ledger):
            return []
        first = first_number(lake)
        row = lake.sql(
            f"select {COLUMN} from gold.{TABLE} where security_id = '{first['key']['security_id']}' and date = '{DATE}'"
        ).rows[0]
        return [f"{first['title']}: {row[0]}", *why(lake, first)]


def _ask(directory: Path, sandbox_port: int) -> None:
    path = directory / "assay.toml"
    text, found = re.subn(
        r'(base_url = ")http://127\.0\.0\.1:\d+', rf"\g<1>http://127.0.0.1:{sandbox_port}", path.read_text(), count=1
    )
    if not found:
        raise UsageError(
            f"{path} asks no sandbox: it is a lake of your own; `assay --lake {directory} apply` works on it"
        )
    path.write_text(text)


def _all(errors: Sequence[AssayError]) -> None:
    if errors:
        raise errors[0]
