"""Our side of the age bench: a lake with a history of so many days, and what one more day costs it.

subject_age.py make LAKE --symbols 100 --days 400    bulk-made by the product's own functions, an entry a day
subject_age.py once LAKE --round R                   one more day, in this process: CPU of each act
"""

import argparse
import asyncio
import cProfile
import importlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import rounds
from assay import clock
from assay.build import _silver
from assay.lake import bronze, release
from assay.lake.bronze import Asked
from assay.lake.landing import Landing
from assay.lake.release import Release
from assay.land import scope_of
from assay.land.source import load
from assay.ports import Fact
from assay.run import lake as lakes
from assay.run.lake import Lake
from assay.windows import Window

REASK = 60
SINGLY = 3
SOURCE = rounds.HERE / "age_source.py"
EVENING = 20 * 3600
CONTRACT = """apiVersion: v3.1.0
kind: DataContract
id: {name}
name: {name}
version: 1.0.0
status: active
schema:
  - name: {name}
    properties:
      - {{name: symbol, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1, classification: public}}
{day}      - {{name: close, logicalType: number, physicalType: "decimal(18,6)", required: true, classification: public}}
      - {{name: volume, logicalType: integer, required: true, classification: public}}
    quality:
      - {{name: close_positive, type: custom, engine: assay, implementation: "close > 0", severity: error}}
customProperties:
  - {{property: source, value: sources.made}}
  - {{property: gate, value: {{quarantinedAtMost: 50, unit: percent, minRows: 1}}}}
"""
DAY = "      - {name: date, logicalType: date, required: true, primaryKey: true, primaryKeyPosition: 2, classification: public}\n"
DATASETS = {
    "prices": (
        "options: {of: shard}", "universe: all", "window: P1D", "start: {start}", "settle: P0D", "reask: P0D",
        "partitioning: {{column: date, by: year}}", "knownAt: {{column: date}}",
    ),
    "loose": ("options: {of: day}", "window: P1D", "start: {start}", "settle: P0D", "reask: P0D"),
    "listing": ("options: {of: list}", "every: P1D", "complete: true"),
    "revised": ("options: {of: few}", "window: P1D", "start: {start}", "settle: P3D", f"reask: P{REASK}D"),
}  # fmt: skip


def write(root: Path, symbols: int, days: int) -> None:
    """The lake's files: settings, universe, source and contracts."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "contracts").mkdir(parents=True)
    (root / "sources").mkdir()
    shutil.copy(SOURCE, root / "sources/made.py")
    start = real_day() - timedelta(days=days + 1)
    (root / "assay.toml").write_text(
        '[lake]\nname = "age"\n[source."sources.made"]\nbase_url = "http://127.0.0.1/"\norigin = "synthetic"\n'
        f'allow_private = true\nrequests = 1000000\nper = 1.0\n[source."sources.made".options]\nsymbols = {symbols}\nbad = {start.toordinal() + 5}\n'
    )
    listed = "".join(f"S{n:04},{start},\n" for n in range(symbols))
    (root / "universe_all.csv").write_text(f"symbol,valid_from,valid_to\n{listed}")
    for name, said in DATASETS.items():
        text = CONTRACT.format(name=name, day="" if name == "listing" else DAY)
        for one in said:
            key, _, value = one.replace("{start}", str(start)).replace("{{", "{").replace("}}", "}").partition(": ")
            text += f"  - {{property: {key}, value: {value}}}\n"
        (root / f"contracts/{name}.yaml").write_text(text)


def real_day() -> date:
    """The day of this machine's own clock, whatever the lake's says."""
    return datetime.now(UTC).date()


def at(day: date) -> None:
    """It is the evening of that day."""
    then = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=EVENING)
    os.environ["ASSAY_CLOCK_OFFSET"] = str((then - datetime.now(UTC)).total_seconds())


def asks(lake: Lake, dataset: str, today: date, first: date) -> list[tuple[str, Window]]:
    """What is asked of a dataset on a day."""
    yesterday = Window(today - timedelta(days=1), today)
    if dataset == "listing":
        return [("all", Window(today, today + timedelta(days=1)))]
    if dataset == "prices":
        return [(shard, yesterday) for shard in lake.shards(dataset)]
    back = min(REASK + 1 if dataset == "revised" else 1, (today - first).days)
    return [("all", Window(d, d + timedelta(days=1))) for d in (today - timedelta(days=n) for n in range(back, 0, -1))]


def land(
    lake: Lake, dataset: str, today: date, first: date, records: Callable[..., list[bytes]], symbols: int, bad: int
) -> None:
    """One entry: all that a day asks for."""
    t, contract = lake.target, lake.contract(dataset)
    seen = bronze.adopt(t.files, t.ledger, dataset)
    with Landing(
        t.files, t.ledger, dataset, seen, run="bulk", source=contract.source, code="0" * 64, origin="synthetic",
        capture=contract.capture_fingerprint, contract=contract.sha256,
    ) as landing:  # fmt: skip
        for shard, window in asks(lake, dataset, today, first):
            days = None if contract.every else window
            with landing.ask(shard, window, scope=scope_of(contract, shard, days)) as ask:
                found = records(contract.options["of"], shard, days, symbols, bad, today)
                ask.page(Asked({}, clock.now(), 200, "0" * 64, len(found), url="http://127.0.0.1/"), found)
        assert landing.commit()


def released(lake: Lake) -> None:
    """A release of silver alone, as a build writes it, without the dbt in it."""
    t = lake.target
    number = release.newest(t.files)
    parent, sha256 = release.stored(t.files, number) if number else (None, None)
    _, read = _silver(lake.contracts, t.catalog, t.files, t.ledger, parent)
    made = Release(
        number + 1, "bench", number or None, clock.now(), "bench", "", (), read, (), "", parent_sha256=sha256
    )
    release.publish(t.files, made)
    t.ledger.record([Fact("release", "", f"{made.number:08}", made.at, {"id": made.id, "run": "bench"})])


def make(root: Path, symbols: int, days: int, group: int) -> None:
    """Every day an entry; refined in groups, the last days one by one."""
    group = group or days // 5
    write(root, symbols, days)
    first = real_day() - timedelta(days=days)
    at(first)
    load("sources.made", root)
    records = sys.modules[next(m for m in sys.modules if m.endswith(".sources.made"))].records
    with lakes.open(root) as lake:
        t = lake.target
        for contract in lake.contracts.values():
            bronze.put_contract(t.files, t.ledger, contract)
        for number in range(days):
            today = first + timedelta(days=number)
            at(today)
            for dataset in lake.contracts:
                land(lake, dataset, today, first - timedelta(days=1), records, symbols, first.toordinal() + 4)
            if (number + 1) % group == 0 or number >= days - SINGLY:
                for name in lake.contracts:
                    lake.refine(name)
        at(real_day() - timedelta(days=1))
        released(lake)
        print(json.dumps({name: a["captured"] for name, a in lake.status()["datasets"].items()}))


def answered(lake: Lake, path: str, query: str = "") -> bytes:
    """What `assay serve` answers, asked of the application itself."""
    out: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        out.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    asyncio.run(lake.application()(scope, receive, send))
    body = b"".join(one.get("body", b"") for one in out[1:])
    if out[0]["status"] != 200:
        raise RuntimeError(f"{path} answers {out[0]['status']}: {body[:500]!r}")
    return body


POINT = "select close from silver.prices where symbol = 'S0007' and date = DATE '{day}'"


def acts(today: date) -> Iterator[tuple[str, Callable[[Lake], Any]]]:
    """One more day, act by act; each on a lake just opened."""
    yield "plan", lambda lake: lake.plan()
    yield "land", lambda lake: [_landed(lake, dataset) for dataset in lake.contracts]
    for dataset in DATASETS:
        yield f"refine {dataset}", lambda lake, dataset=dataset: lake.refine(dataset)
    yield "status", lambda lake: lake.status()
    yield "sql", lambda lake: lake.sql(POINT.format(day=today - timedelta(days=20))).rows[0]
    yield "console", lambda lake: answered(lake, "/")


def _landed(lake: Lake, dataset: str) -> None:
    done = lake.apply(lake.landings(dataset))
    if done.errors:
        raise done.errors[0]


def once(root: Path, number: int, profile: str = "") -> None:
    """CPU of each act of one more day, in milliseconds, in this process; the release is made between, unmeasured."""
    today = real_day() + timedelta(days=number)
    at(today)
    warm()
    logging.disable(logging.CRITICAL)
    found: dict[str, float] = {}

    def measured(name: str, act: Callable[[], Any]) -> None:
        begun = time.process_time()
        if profile and profile in (name, "all"):
            with cProfile.Profile() as kept:
                act()
            kept.dump_stats(f"{root.name}-{name.replace(' ', '-')}.prof")
        else:
            act()
        found[name] = (time.process_time() - begun) * 1000

    def opened() -> None:
        with lakes.open(root) as lake:
            assert lake.target.ledger

    measured("open", opened)
    for name, act in acts(today):
        if name == "status":
            with lakes.open(root) as lake:
                released(lake)
        with lakes.open(root) as lake:
            assert lake.target.ledger
            try:
                measured(name, lambda act=act, lake=lake: act(lake))
            except Exception as error:  # one act that cannot be measured does not hide the others
                if os.environ.get("AGE_STRICT"):
                    raise
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    print(json.dumps(found))


def warm() -> None:
    """Import what the acts import."""
    for name in ("engines.duckdb", "refine", "run.explain", "serve.rest", "serve.sql", "targets.catalog"):
        importlib.import_module(f"assay.{name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "once", "release"])
    parser.add_argument("lake", type=Path)
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--group", type=int, default=0, help="days refined at once; a fifth of all unless told")
    parser.add_argument("--round", type=int, default=0)
    parser.add_argument("--profile", default="")
    asked = parser.parse_args()
    if asked.what == "make":
        make(asked.lake, asked.symbols, asked.days, asked.group)
    elif asked.what == "release":
        with lakes.open(asked.lake) as lake:
            released(lake)
        print("{}")
    else:
        once(asked.lake, asked.round, asked.profile)


if __name__ == "__main__":
    main()
