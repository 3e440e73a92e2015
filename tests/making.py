"""Small lakes for tests: a contract of every type, batches written by the real writer, refined by the real engine."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.catalog import Catalog

from assay import clock
from assay.contract import odcs
from assay.contract.model import Contract
from assay.lake import account, bronze, duck, silver, tables
from assay.lake.bronze import Asked, Batch, Decision, Entry
from assay.lake.landing import Landing
from assay.lake.moment import literal, moment
from assay.ports import Engine, Files, Ledger, Limits, N
from assay.refine import Refined, refine
from assay.targets import catalog as catalogs
from assay.targets.aws import database, table
from assay.targets.aws.clients import Clients
from assay.targets.aws.dynamodb import DynamoLedger
from assay.targets.aws.s3 import S3Files
from assay.targets.local import DiskFiles
from assay.targets.sqlite import SqliteLedger
from assay.windows import Window

EVERY_TYPE = """apiVersion: v3.1.0
kind: DataContract
id: things
name: Things
version: 1.0.0
status: active
schema:
  - name: things
    properties:
      - {name: id, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1, classification: public}
      - {name: whole, logicalType: integer, required: true, classification: public}
      - {name: amount, logicalType: number, physicalType: "decimal(18,6)", required: true, classification: public}
      - {name: flag, logicalType: boolean, required: true, classification: public}
      - {name: day, logicalType: date, required: true, classification: public}
      - {name: at, logicalType: timestamp, required: true, classification: public}
      - {name: note, logicalType: string, classification: public}
      - {name: maybe, logicalType: number, physicalType: "decimal(38,10)", classification: public}
    quality:
      - {name: whole_is_small, type: custom, engine: assay, implementation: "whole < 1000000", severity: error}
      - {name: amount_positive, type: custom, engine: assay, implementation: "amount > 0", severity: warning}
customProperties:
  - {property: source, value: fmp}
  - {property: options, value: {path: things}}
  - {property: every, value: P1D}
  - {property: knownAt, value: {column: at}}
  - {property: gate, value: {quarantinedAtMost: 50, unit: percent, minRows: 20}}
"""

GOOD = {
    "id": '"a"',
    "whole": "7",
    "amount": "1.25",
    "flag": "true",
    "day": '"2024-02-29"',
    "at": '"2024-02-29T10:00:00Z"',
}


def every_type(*changes: tuple[str, str]) -> Contract:
    """The contract of every type, with texts of its YAML replaced."""
    text = EVERY_TYPE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return odcs.parse(text)


def record(**fields: str | None) -> bytes:
    """A record's tokens: GOOD with some fields replaced by other tokens, or left out by None."""
    tokens = {k: v for k, v in (GOOD | fields).items() if v is not None}
    return ("{" + ",".join(f"{json.dumps(k)}:{v}" for k, v in tokens.items()) + "}").encode()


@dataclass(frozen=True)
class Landed:
    """One batch as it was landed."""

    entry: Entry
    n: int

    @property
    def place(self) -> int:
        """As a number."""
        return self.entry.position * N + self.n

    @property
    def at(self) -> tuple[int, int]:
        """As position and n."""
        return self.entry.position, self.n

    @property
    def spoken(self) -> str:
        """As people see it."""
        return account.spoken(self.place)

    @property
    def batch(self) -> Batch:
        """Its record in the entry."""
        return bronze.batch_of(self.entry, self.n)


@dataclass(frozen=True)
class Made:
    """The parts of one small lake."""

    root: Path
    files: Files
    catalog: Catalog
    ledger: Ledger
    engine: Engine
    limits: Limits = field(default_factory=Limits)

    def engine_named(self, _: str) -> Engine:
        """What refines, whatever a contract wants."""
        return self.engine

    def measure(self, _: object) -> None:
        """What a step came to, which nobody counts."""

    def promise(self, contract: Contract, *, everything: bool = False) -> None:
        """Put the contract into its dataset's log, unless it is in force."""
        bronze.put_contract(self.files, self.ledger, contract, everything=everything)

    def land(
        self, contract: Contract, records: Sequence[bytes], *, shard: str = "all", day: int = 1,
        scope: dict[str, tuple[str, str]] | None = None, origin: str = "synthetic",
    ) -> Landed:  # fmt: skip
        """One batch of records, as one answer, in an entry of its own."""
        return self.land_all(contract, [(shard, day, records)], scope=scope, origin=origin)[0]

    def land_all(
        self, contract: Contract, batches: Sequence[tuple[str, int, Sequence[bytes]]], *,
        scope: dict[str, tuple[str, str]] | None = None, origin: str = "synthetic",
    ) -> list[Landed]:  # fmt: skip
        """Several batches (shard, day, records) in one entry."""
        self.promise(contract)
        seen = bronze.adopt(self.files, self.ledger, contract.dataset)
        with Landing(
            self.files, self.ledger, contract.dataset, seen, run="run", source=contract.source, code="0" * 64,
            origin=origin, capture=contract.capture_fingerprint, contract=contract.sha256,
            reads=[path for column in contract.columns for path in column.origins],
        ) as landing:  # fmt: skip
            for shard, day, records in batches:
                window = Window(date(2024, 1, day), date(2024, 1, day + 1))
                with landing.ask(shard, window, scope=scope) as ask:
                    asked = Asked({}, clock.now(), 1, "0" * 64, len(records), url="http://127.0.0.1/things")
                    ask.page(asked, list(records))
            put = landing.commit()
        assert put
        bronze.adopt(self.files, self.ledger, contract.dataset)
        return [Landed(put[0], batch.n) for batch in put[0].batches]

    def refine(self, contract: Contract, *, everything: bool = False) -> Refined:
        """Promise the contract and fold what the log has and silver has not, with the real engine and tables."""
        self.promise(contract, everything=everything)
        return refine(
            contract.dataset, files=self.files, catalog=self.catalog, ledger=self.ledger, engine=self.engine, run="run"
        )

    def decide(self, contract: Contract, *decisions: Decision) -> Refined:
        """Put decisions in one entry and fold it."""
        bronze.decide(self.files, self.ledger, contract.dataset, decisions, who="a test", why="it wants to")
        return self.refine(contract)

    def close(self) -> None:
        """Let go of its databases."""
        self.ledger.close()
        self.catalog.close()

    def rows(self, select: str) -> list[tuple[Any, ...]]:
        """What a SELECT gives, in order of all columns."""
        return reader().execute(f"SELECT * FROM ({select}) ORDER BY ALL").fetchall()

    def select(self, contract: Contract) -> str:
        """The SELECT of all versions of the dataset, from the tables' heads."""
        pair = silver.load(self.catalog, contract.dataset)
        assert pair
        current, past = (
            duck.relation(tables.relation(table, snapshot, self.files))
            for table, snapshot in zip((pair.current, pair.past), silver.pinned(pair.current), strict=True)
        )
        ends = "NULL::TIMESTAMPTZ AS known_to, NULL::TIMESTAMPTZ AS recorded_to"
        return f"SELECT *, {ends} FROM ({current}) UNION ALL BY NAME {past}"

    def versions(self, contract: Contract) -> list[tuple[Any, ...]]:
        """All versions of the dataset."""
        return self.rows(self.select(contract))

    def current(
        self, contract: Contract, columns: str = "*", *, as_of: datetime | None = None,
        recorded_as_of: datetime | None = None,
    ) -> list[tuple[Any, ...]]:  # fmt: skip
        """The current rows, or those of a moment."""
        return self.rows(f"SELECT {columns} FROM ({self.select(contract)}) WHERE {moment(as_of, recorded_as_of)}")

    def account(self, contract: Contract) -> account.Account:
        """Where the dataset stands."""
        return account.of(self.ledger, contract.dataset)


def reader() -> duckdb.DuckDBPyConnection:
    """A DuckDB that holds nothing and reads files for all tests of this process: opening one takes as long as some tests."""
    return _reader(os.getpid())


@cache
def _reader(_process: int) -> duckdb.DuckDBPyConnection:
    return duck.open(Limits())


def make(root: Path) -> Made:
    """An empty lake below a directory, on a disk."""
    from assay.engines.duckdb import DuckDBEngine

    root.mkdir(parents=True, exist_ok=True)
    files = DiskFiles(root)
    limits = Limits("1GB", 2, root / "_tmp")
    return Made(
        root, files, catalogs.open_catalog(root, files), SqliteLedger(root / "ledger.db"), DuckDBEngine(limits), limits
    )


def make_on_store(root: Path, seed: int = 0, worst: float = 0.25) -> Made:
    """An empty lake whose objects lie in a store at its worst; catalog and ledger below the directory."""
    from assay.engines.duckdb import DuckDBEngine
    from tests.every.stores import StoreFiles, WorstStore

    root.mkdir(parents=True, exist_ok=True)
    files = StoreFiles(WorstStore(root / "_tmp", seed, worst))
    limits = Limits("1GB", 2, root / "_tmp")
    catalog = catalogs.open_catalog(root, files, "lake://")
    return Made(root, files, catalog, SqliteLedger(root / "ledger.db"), DuckDBEngine(limits), limits)


def make_on_aws(root: Path) -> Made:
    """An empty lake in the doubles of AWS, of a name that no other test has."""
    from assay.engines.duckdb import DuckDBEngine
    from tests import clouds

    root.mkdir(parents=True, exist_ok=True)
    files = clouds.files(root)
    limits = Limits("1GB", 2, root / "_tmp")
    return Made(root, files, open_catalog(root, files), open_ledger(root, files), DuckDBEngine(limits), limits)


def open_catalog(root: Path, files: Files) -> Catalog:
    """The catalog of a lake whose objects these are."""
    if isinstance(files, S3Files):
        from assay.targets.aws.glue import LakeCatalog

        return LakeCatalog(files.clients, database(files.clients.aws, "dev", ""), files, files.base)
    return catalogs.open_catalog(root, files, None if isinstance(files, DiskFiles) else "lake://")


def open_ledger(root: Path, files: Files) -> Ledger:
    """One more user of the ledger of a lake whose objects these are."""
    if isinstance(files, S3Files):
        return DynamoLedger(Clients(files.clients.aws), table(files.clients.aws, "dev"))
    return SqliteLedger(root / "ledger.db")


__all__ = [
    "GOOD",
    "Decision",
    "Landed",
    "Made",
    "every_type",
    "literal",
    "make",
    "make_on_aws",
    "make_on_store",
    "record",
]
