"""Small lakes for tests: a contract of every type, batches written by the real writer, refined by the real engine."""

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyiceberg.catalog import Catalog

from assay import clock
from assay import refine as refining
from assay.contract import odcs
from assay.contract.model import Contract
from assay.engines.duckdb import DuckDBEngine
from assay.lake import bronze, silver, tables
from assay.lake.bronze import Manifest
from assay.lake.files import Files
from assay.land import fact
from assay.targets.local import SqliteLedger
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
class Made:
    """The parts of one small lake."""

    root: Path
    files: Files
    catalog: Catalog
    ledger: SqliteLedger
    engine: DuckDBEngine

    def land(self, contract: Contract, records: list[bytes], *, shard: str = "all", day: int = 1) -> Manifest:
        """One batch of records, as one answer."""
        claim = {
            "source": contract.source, "connector": "1", "origin": "synthetic",
            "capture_fingerprint": contract.capture_fingerprint, "contract_sha256": contract.sha256,
        }  # fmt: skip
        window = Window(date(2024, 1, day), date(2024, 1, day + 1))
        writer = bronze.Writer(self.files, "run", contract.dataset, shard, window, claim)
        asked = {
            "url": "http://127.0.0.1/things",
            "params": {},
            "at": clock.now(),
            "status": 200,
            "bytes": 1,
            "sha256": "0",
        }
        writer.page(asked | {"rows": len(records)}, records)
        manifest = writer.commit()
        self.ledger.record([fact(manifest)])
        return manifest

    def refine(self, contract: Contract, batches: list[Manifest], **how: bool) -> refining.Refined:
        """Refine batches with the real engine and table."""
        return refining.refine(
            contract,
            batches,
            files=self.files,
            catalog=self.catalog,
            ledger=self.ledger,
            engine=self.engine,
            run="run",
            **how,
        )

    def replay(self, contract: Contract, batches: list[Manifest]) -> refining.Refined:
        """Replay their quarantine."""
        return refining.replay(
            contract, batches, files=self.files, catalog=self.catalog, ledger=self.ledger, engine=self.engine, run="run"
        )

    def close(self) -> None:
        """Let go of its databases."""
        self.ledger.close()
        self.catalog.close()

    def rows(self, select: str) -> list[tuple]:
        """What a SELECT gives, in order of all columns."""
        from assay.engines.duckdb import connect

        con = connect()
        try:
            return con.execute(f"SELECT * FROM ({select}) ORDER BY ALL").fetchall()
        finally:
            con.close()

    def versions(self, contract: Contract) -> list[tuple]:
        """All versions of the dataset."""
        table = silver.load(self.catalog, contract.dataset)
        return self.rows(silver.versions(contract, silver.observed(table, silver.snapshot_id(table))))

    def current(self, contract: Contract, columns: str = "*", **clocks) -> list[tuple]:
        """The current rows, or those of a moment."""
        table = silver.load(self.catalog, contract.dataset)
        select = silver.current(contract, silver.observed(table, silver.snapshot_id(table)), **clocks)
        return self.rows(f"SELECT {columns} FROM ({select})")


def make(root: Path) -> Made:
    """An empty lake below a directory."""
    return Made(
        root, Files(root), tables.open_catalog(root), SqliteLedger(root / "ledger.db"), DuckDBEngine(root / "_tmp")
    )
