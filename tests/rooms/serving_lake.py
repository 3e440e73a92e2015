"""A small lake with bronze and silver of the real writer and refine, hand-made gold, and a real server in front of it."""

import hashlib
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import uvicorn
from ulid import ULID

from assay import clock
from assay.build import publish, silver_as_read
from assay.build.compute import Built
from assay.build.judge import Judged
from assay.contract import calendars, odcs
from assay.contract.model import Contract
from assay.lake import bronze, duck, release
from assay.lake.bronze import Asked
from assay.lake.landing import Landing
from assay.lake.release import Column, Gold, Input, Model, Release, Silver
from assay.run import marked
from assay.serve.reader import Reader
from assay.serve.rest import app
from assay.windows import Window
from tests.making import Landed, Made, make

CONTRACTS = Path(__file__).parents[2] / "lakes/markets/contracts"
NEW_YORK = calendars.read(CONTRACTS.parent / "calendars/XNYS.csv")
WINDOW = Window(date(2020, 1, 1), date(2030, 1, 1))
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


@dataclass(frozen=True)
class Table:
    """A gold table made by hand: what of silver it is, and what its yml would say."""

    name: str
    select: str
    key: tuple[str, ...]
    clocks: tuple[tuple[str, str], ...] = ()
    inputs: tuple[Input, ...] | None = None


TABLES = (
    Table("fct_price", _PRICE, ("symbol", "date")),
    Table("mart_known", _KNOWN, ("date",), (("known_from", "known_from"), ("captured_at", "captured_at"))),
)


@dataclass
class Lake:
    """The lake's parts, and the address of the server in front of it."""

    local: Made
    contracts: dict[str, Contract]
    url: str = ""

    def release(self, number: int, tables: Sequence[Table] = TABLES) -> Release:
        """Publish silver as it stands and gold as it follows from that; only dbt and its judge are left out."""
        t = self.local
        parent, parent_sha256 = release.stored(t.files, number - 1) if number > 1 else (None, None)
        before = {s.dataset: s for s in parent.silver} if parent else {}
        silver = tuple(
            silver_as_read(c, t.catalog, t.files, t.ledger, before.get(c.dataset)) for c in self.contracts.values()
        )
        release_id, work = str(ULID()), t.files.scratch()
        work.mkdir(parents=True)
        try:
            built, judged = _computed(t, silver, tables, work / "made.duckdb")
            gold, seeds, docs = publish.publish(
                built, judged, parent, release_id, files=t.files, catalog=t.catalog, limits=t.limits
            )
        finally:
            shutil.rmtree(work)
        made = Release(
            number=number, id=release_id, parent=number - 1 or None, at=clock.now(), run=str(ULID()), dbt_hash="0" * 64,
            gold=gold, silver=silver, models=built.models, seeds=seeds[0], seeds_sha256=seeds[1], tests=3,
            parent_sha256=parent_sha256, docs=docs[0], docs_sha256=docs[1],
        )  # fmt: skip
        release.publish(t.files, made)
        return made

    def land(self, dataset: str, shard: str, records: list[bytes], window: Window | None = None) -> Landed:
        """One batch as a source would land it."""
        return land(self.local, self.contracts[dataset], shard, window or WINDOW, records)

    def refine(self, dataset: str = "price_eod") -> Any:
        """Fold what was landed."""
        return self.local.refine(self.contracts[dataset])

    def close(self) -> None:
        """Let go of its databases."""
        self.local.close()

    def reader(self) -> Reader:
        """What makes the relations of the newest release."""
        found = release.current(self.local.files)
        assert found
        return Reader(self.local.files, found, self.local.limits)

    def sql(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query on the newest release."""
        con = self.reader().connect()
        try:
            return con.execute(text, list(values)).fetchall()
        finally:
            con.close()


def _computed(t: Made, silver: Sequence[Silver], tables: Sequence[Table], database: Path) -> tuple[Built, list[Judged]]:
    """What dbt would leave, and what its judge would say of it: here a double may be NaN."""
    judged = []
    with duck.open(t.limits, database) as con:
        con.execute("CREATE SCHEMA gold; CREATE SCHEMA silver")
        for one in silver:
            con.execute(f"CREATE VIEW silver.{one.dataset} AS {duck.relation(one.current.relation(t.files))}")
        for one in tables:
            con.execute(f"CREATE TABLE gold.{one.name} AS {one.select}")
            rows = con.execute(f"SELECT * FROM gold.{one.name} ORDER BY ALL").fetchall()
            columns = tuple(
                Column(c, kind, f"what {c} says", "USD" if c in ("open", "close") else "", "public")
                for c, kind, *_ in con.execute(f"DESCRIBE gold.{one.name}").fetchall()
            )
            inputs = one.inputs
            if inputs is None:
                named = "symbol" in {c.name for c in columns}
                inputs = (Input("silver.price_eod", "symbol = row.symbol"),) if named else ()
            gold = Gold(
                one.name, 0, len(rows), "", columns, one.key, dict(one.clocks), inputs, f"Test table {one.name}."
            )
            judged.append(Judged(gold, hashlib.sha256(repr((columns, rows)).encode()).hexdigest()))
        for one in silver:
            con.execute(f"DROP VIEW silver.{one.dataset}")
    models = tuple(Model(f"gold.{one.name}", "model", one.select) for one in tables)
    return Built(database, models, tuple(j.gold for j in judged), "0" * 64, 3, (), _manifest(silver, tables)), judged


def _manifest(silver: Sequence[Silver], tables: Sequence[Table]) -> dict[str, Any]:
    """What of dbt's manifest its page shows, and what of a machine dbt writes into it beside."""
    about = {"schema": "gold", "database": "lake", "package_name": "test", "config": {"materialized": "table"}}
    made = {
        f"model.test.{one.name}": {
            **about, "unique_id": f"model.test.{one.name}", "resource_type": "model", "name": one.name, "alias": one.name,
            "original_file_path": f"models/{one.name}.sql", "description": "</script><b>ends", "raw_code": one.select, "compiled_code": one.select,
            "columns": {}, "tags": [], "meta": {}, "depends_on": {"nodes": [], "macros": ["macro.dbt.ours"]}, "root_path": "/home/ada/lake",
        }
        for one in tables
    }  # fmt: skip
    read = {
        f"source.test.silver.{one.dataset}": {
            **about, "unique_id": f"source.test.silver.{one.dataset}", "resource_type": "source", "name": one.dataset, "identifier": one.dataset,
            "source_name": "silver", "schema": "silver", "original_file_path": "models/sources.yml", "description": "", "columns": {}, "tags": [], "meta": {},
        }
        for one in silver
    }  # fmt: skip
    metadata = {
        "dbt_schema_version": "v12", "dbt_version": "1.11", "project_name": "test", "adapter_type": "duckdb", "user_id": "0a1b-user",
        "invocation_id": "0a1b-run", "env": {"NAME": "0a1b-secret"}, "send_anonymous_usage_stats": True,
    }  # fmt: skip
    macros = {"macro.dbt.ours": {"package_name": "dbt", "name": "ours", "macro_sql": "0a1b-dbts"}}
    return {"metadata": metadata, "nodes": made, "sources": read, "macros": macros, "docs": {}, "parent_map": {}}


def price(symbol: str, day: date, close: float, volume: int) -> bytes:
    """A vendor's record."""
    return (
        f'{{"symbol":"{symbol}","date":"{day}","adjOpen":{close - 0.5:.2f},"adjHigh":{close + 1:.3f},"adjLow":{close - 1:.2f},'
        f'"adjClose":{close:.4f},"volume":{volume}}}'
    ).encode()


def land(t: Made, contract: Contract, shard: str, window: Window, records: list[bytes]) -> Landed:
    """One batch as a source would land it."""
    t.promise(contract)
    seen = bronze.adopt(t.files, t.ledger, contract.dataset)
    with Landing(
        t.files, t.ledger, contract.dataset, seen, run=str(ULID()), source=contract.source, code="0" * 64, origin="sandbox",
        capture=contract.capture_fingerprint, contract=contract.sha256,
    ) as landing:  # fmt: skip
        with landing.ask(shard, window) as ask:
            body = b"[" + b",".join(records) + b"]"
            asked = Asked(
                {"symbol": shard}, clock.now(), len(body), hashlib.sha256(body).hexdigest(), len(records),
                url="http://127.0.0.1:9/stable/prices",
            )  # fmt: skip
            ask.page(asked, records)
        put = landing.commit()
    bronze.adopt(t.files, t.ledger, contract.dataset)
    return Landed(put[0], put[0].batches[0].n)


def days(shard: int) -> list[tuple[date, float, int]]:
    """Sessions with close and volume, the same every time."""
    out, at, close = [], date(2024, 1, 2), 100.0 + 10 * shard
    while len(out) < SESSIONS:
        if NEW_YORK.session(at):
            close = round(close * (1 + 0.01 * (((len(out) * 7 + shard * 3) % 11) - 5) / 5), 4)
            out.append((at, close, 1000 + (len(out) * 37 + shard) % 500))
        at += timedelta(days=1)
    return out


def empty(root: Path) -> Lake:
    """A lake with contracts and nothing else."""
    contracts = (odcs.read(CONTRACTS / f"{n}.yaml") for n in ("price_eod", "splits"))
    return Lake(make(root / "data/dev"), {c.dataset: c for c in contracts})


def build(root: Path) -> Lake:
    """A lake of one price dataset with good, quarantined and held batches, an empty dataset, and release 1."""
    lake = empty(root)
    for number, symbol in enumerate(SYMBOLS):
        records = [price(symbol, *one) for one in days(number)]
        if symbol == "CCC":
            records += [price(symbol, date(2023, 12, 29), -5.0, 10), records[0]]
        lake.land("price_eod", symbol, records)
    lake.land("price_eod", "DDD", [price("DDD", one[0], -1.0, 10) for one in days(0)])
    lake.refine()
    lake.release(1)
    return lake


def correct(lake: Lake) -> datetime:
    """Land another close for one session, a second version of its row; the moment just before."""
    before = clock.now()
    day, close, volume = days(0)[5]
    lake.land("price_eod", "AAA", [price("AAA", day, close + 7, volume)])
    lake.refine()
    return before


def around(lake: Lake) -> Any:
    """The lake as its methods see it, for what needs no more than its target and contracts."""
    return SimpleNamespace(target=lake.local, contract=lake.contracts.__getitem__)


@contextmanager
def serving(lake: Lake, explain: Any = None, **options: Any) -> Iterator[str]:
    """The lake's address while a real server runs in front of it."""
    t = lake.local
    options = {"newer": lambda found, dataset: marked.rows(around(lake), found, dataset)} | options
    made = app(
        t.files, t.ledger, lake.contracts, explain=explain, title="Test lake", limits=t.limits, key=b"k" * 32, **options
    )
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


__all__ = [
    "SESSIONS",
    "SYMBOLS",
    "UTC",
    "Lake",
    "Table",
    "build",
    "client",
    "correct",
    "days",
    "land",
    "price",
    "serving",
]
