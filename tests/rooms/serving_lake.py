"""A small lake with bronze, silver and hand-made gold, and a real server in front of it."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from ulid import ULID

from assay import clock
from assay.contract import odcs
from assay.contract.model import Contract
from assay.lake import bronze, evidence, release, silver
from assay.lake.release import Column, Gold, Input, Model, Release, Silver
from assay.land import fact
from assay.refine import refine
from assay.serve.api import app
from assay.settings import Settings
from assay.targets.local import Local, open_lake
from assay.windows import Window

CONTRACTS = Path(__file__).parents[2] / "lakes/markets/contracts"
SYMBOLS, SESSIONS = ("AAA", "BRK.B", "CCC"), 120

# every type a gold table may have, with the cells that break careless writers
_PRICE = """
SELECT symbol, date, open, close, volume, CAST(close / open - 1 AS DECIMAL(18,12)) AS return_1d,
  CASE WHEN volume % 7 = 0 THEN 'NaN'::DOUBLE WHEN volume % 11 = 0 THEN 'Infinity'::DOUBLE WHEN volume % 5 > 0 THEN close::DOUBLE / 3 END AS score,
  volume % 2 = 0 AS even, date + TIME '21:00:00.25' AS priced_at,
  CASE WHEN volume % 3 = 0 THEN 'a "quoted", word; ünï' WHEN volume % 3 = 1 THEN '<b>=1+1&</b>' END AS note
FROM silver.price_eod"""
_KNOWN = """
SELECT symbol, date, close, known_from, known_from + INTERVAL 30 DAY AS known_to, captured_at
FROM silver.price_eod WHERE symbol = 'AAA'"""


@dataclass
class Lake:
    """The lake's parts, and the address of the server in front of it."""

    local: Local
    contracts: dict[str, Contract]
    url: str = ""

    def release(self, number: int) -> Release:
        """Publish gold as it follows from silver now."""
        t = self.local
        found = tuple(_silver(t, c) for c in self.contracts.values())
        made = Release(
            number=number, id=str(ULID()), parent=number - 1 or None, at=clock.now(), run=str(ULID()), dbt_hash="0" * 64,
            gold=(), silver=found, models=(Model("gold.fct_price", "model", _PRICE),), seeds="", tests=3,
        )  # fmt: skip
        gold = (
            _gold(t, made, "fct_price", _PRICE, ("symbol", "date"), {}),
            _gold(t, made, "mart_known", _KNOWN, ("date",), {"known_from": "known_from", "captured_at": "captured_at"}),
        )
        made = Release(**{**{f: getattr(made, f) for f in made.__struct_fields__}, "gold": gold})
        release.publish(t.files, made)
        return made

    def close(self) -> None:
        """Let go of its databases."""
        self.local.ledger.close()
        self.local.catalog.close()

    def sql(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query on the newest release."""
        t = self.local
        found = release.current(t.files)
        assert found
        con = release.connect(t.files, t.catalog, found)
        try:
            return con.execute(text, list(values)).fetchall()
        finally:
            con.close()


def _silver(t: Local, contract: Contract) -> Silver:
    table = silver.ensure(t.catalog, contract)
    snapshot = silver.snapshot_id(table)
    batches = list(bronze.manifests(t.files, contract.dataset))
    rows = table.scan().count() if snapshot else 0
    return Silver(
        contract.dataset, snapshot, evidence.pin(t.files, contract), rows, tuple(sorted({b.origin for b in batches})),
        max((b.captured_at for b in batches), default=None),
    )  # fmt: skip


def _gold(t: Local, made: Release, name: str, select: str, key: tuple[str, ...], clocks: dict[str, str]) -> Gold:
    con = release.connect(t.files, t.catalog, made)
    serving = f"serving/{name}-{made.number}.duckdb"
    t.files.path("serving").mkdir(exist_ok=True)
    con.execute(f"ATTACH '{t.files.path(serving)}' AS out")
    con.execute(f"CREATE TABLE out.{name} AS {select} ORDER BY {', '.join(key)}")
    columns = tuple(
        Column(c, kind, f"what {c} says", "USD" if c in ("open", "close") else "", "public")
        for c, kind, *_ in con.execute(f"DESCRIBE out.{name}").fetchall()
    )
    rows = con.execute(f"SELECT count(*) FROM out.{name}").fetchall()[0][0]
    con.close()
    return Gold(
        name,
        made.number,
        rows,
        serving,
        columns,
        key,
        clocks,
        (Input("silver.price_eod", "symbol = row.symbol"),),
        f"Test table {name}.",
    )


def price(symbol: str, day: date, close: float, volume: int) -> bytes:
    """A vendor's record."""
    return (
        f'{{"symbol":"{symbol}","date":"{day}","adjOpen":{close - 0.5:.2f},"adjHigh":{close + 1:.3f},"adjLow":{close - 1:.2f},'
        f'"adjClose":{close:.4f},"volume":{volume}}}'
    ).encode()


def land(t: Local, contract: Contract, shard: str, window: Window, records: list[bytes]) -> bronze.Manifest:
    """One batch as a source would land it."""
    run = str(ULID())
    claim = {
        "source": contract.source, "connector": "1", "origin": "sandbox", "capture_fingerprint": contract.capture_fingerprint,
        "contract_sha256": evidence.pin(t.files, contract),
    }  # fmt: skip
    writer = bronze.Writer(t.files, run, contract.dataset, shard, window, claim)
    body = b"[" + b",".join(records) + b"]"
    asked = {
        "url": "http://127.0.0.1:9/stable/prices", "params": {"symbol": shard}, "at": clock.now(), "status": 200,
        "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), "rows": len(records),
    }  # fmt: skip
    writer.page(asked, records)
    made = writer.commit()
    t.ledger.record([fact(made)])
    return made


def days(shard: int) -> list[tuple[date, float, int]]:
    """Sessions with close and volume, the same every time."""
    out, at, close = [], date(2024, 1, 2), 100.0 + 10 * shard
    while len(out) < SESSIONS:
        if at.weekday() < 5:
            close = round(close * (1 + 0.01 * (((len(out) * 7 + shard * 3) % 11) - 5) / 5), 4)
            out.append((at, close, 1000 + (len(out) * 37 + shard) % 500))
        at += timedelta(days=1)
    return out


def empty(root: Path) -> Lake:
    """A lake with contracts and nothing else."""
    t = open_lake(Settings(root=root, name="Test lake", env="dev", data=root / "data" / "dev"))
    return Lake(t, {c.dataset: c for c in (odcs.read(CONTRACTS / f"{n}.yaml") for n in ("price_eod", "splits"))})


def build(root: Path) -> Lake:
    """A lake of one price dataset with good, quarantined and held batches, an empty dataset, and release 1."""
    lake = empty(root)
    t, contracts = lake.local, lake.contracts
    contract = contracts["price_eod"]
    window = Window(date(2020, 1, 1), date(2030, 1, 1))
    batches = []
    for number, symbol in enumerate(SYMBOLS):
        records = [price(symbol, *one) for one in days(number)]
        if symbol == "CCC":
            records += [price(symbol, date(2023, 12, 29), -5.0, 10), records[0]]
        batches.append(land(t, contract, symbol, window, records))
    bad = [price("DDD", one[0], -1.0, 10) for one in days(0)]
    batches.append(land(t, contract, "DDD", window, bad))
    refine(contract, batches, files=t.files, catalog=t.catalog, ledger=t.ledger, engine=t.engine, run=str(ULID()))
    lake.release(1)
    return lake


def correct(lake: Lake) -> datetime:
    """Land another close for one session, a second version of its row; the moment just before."""
    before = clock.now()
    contract = lake.contracts["price_eod"]
    day, close, volume = days(0)[5]
    made = land(
        lake.local, contract, "AAA", Window(date(2020, 1, 1), date(2030, 1, 1)), [price("AAA", day, close + 7, volume)]
    )
    t = lake.local
    refine(contract, [made], files=t.files, catalog=t.catalog, ledger=t.ledger, engine=t.engine, run=str(ULID()))
    return before


@contextmanager
def serving(lake: Lake, explain: Any = None, **options: Any) -> Iterator[str]:
    """The lake's address while a real server runs in front of it."""
    t = lake.local
    made = app(t.files, t.catalog, t.ledger, lake.contracts, explain=explain, title="Test lake", **options)
    server = uvicorn.Server(uvicorn.Config(made, log_level="critical", access_log=False, lifespan="on"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(64)
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        started = threading.Event()
        startup = server.startup

        async def tell(*args: Any, **named: Any) -> None:
            await startup(*args, **named)
            started.set()

        server.startup = tell  # type: ignore[method-assign]
        thread.start()
        assert started.wait(60)
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)


def client(url: str) -> httpx.Client:
    """A client that waits for a loaded machine, where httpx would give up after 5 s."""
    return httpx.Client(base_url=url, timeout=120)


__all__ = ["SESSIONS", "SYMBOLS", "UTC", "Lake", "build", "client", "correct", "days", "land", "price", "serving"]
