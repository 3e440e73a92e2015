"""Our side of the refine bench: puts existing parts as one entry, and refines what waits."""

import argparse
import json
import shutil
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

from ulid import ULID

import rounds
from assay import clock
from assay.contract import odcs
from assay.engines import spark
from assay.engines.duckdb import DuckDBEngine
from assay.lake import bronze
from assay.lake.bronze import Asked, Batch, Part
from assay.ports import Limits
from assay.refine import refine
from assay.targets.catalog import open_catalog
from assay.targets.local import DiskFiles, SqliteLedger

CONTRACT = odcs.read(rounds.HERE.parent / "lakes/markets/contracts/price_eod.yaml")
COLUMNS = ["symbol", "date", "open", "high", "low", "close", "volume"]


def prepare(lake: Path, parts: Path) -> None:
    """The parts get bronze names, and an entry like the lander's that names them and their batches."""
    files, ledger = DiskFiles(lake), SqliteLedger(lake / "ledger.db")
    seen = bronze.put_contract(files, ledger, CONTRACT)
    start, landing = date(2000, 1, 1) + timedelta(days=seen.position), str(ULID())
    said, made = json.loads((parts / "batches.json").read_text()), []
    for at, one in enumerate(said["parts"]):
        stored = Path(one["path"]).read_bytes()
        digest, scratch = sha256(stored).hexdigest(), files.scratch()
        shutil.copyfile(one["path"], scratch)
        name = f"bronze/{CONTRACT.dataset}/dt=2026-11-01/{landing}-{at}-{digest[:16]}.ndjson.gz"
        assert files.put_new(name, scratch, "land.part")
        made.append(Part(name, one["rows"], one["bytes"], len(stored), digest))
    batches = []
    for n, pieces in enumerate(said["batches"]):
        rows = sum(piece[2] for piece in pieces)
        asked = Asked({}, clock.now(), 0, "0" * 64, rows, url="http://127.0.0.1/")
        batches.append(
            Batch(
                n, f"S{n:03}", rows, clock.now(), seen.position, (asked,), tuple(map(tuple, pieces)), start,
                start + timedelta(days=1),
            )
        )  # fmt: skip
    entry = bronze.draft(
        "landed", run="bench", source="fmp", code="0" * 64, origin="synthetic", capture=CONTRACT.capture_fingerprint,
        contract=CONTRACT.sha256, parts=tuple(made), batches=tuple(batches),
    )  # fmt: skip
    bronze.append(files, ledger, CONTRACT.dataset, seen, landing, lambda _: None, lambda: entry)
    bronze.adopt(files, ledger, CONTRACT.dataset)
    ledger.close()
    print(json.dumps({}))


def run(lake: Path, memory: str, name: str) -> None:
    begun = rounds.begin()
    files, ledger = DiskFiles(lake), SqliteLedger(lake / "ledger.db")
    engine = spark.opened() if name == "spark" else DuckDBEngine(Limits(memory, 2, lake / "_tmp"))
    done = refine(
        CONTRACT.dataset, files=files, catalog=open_catalog(lake, files), ledger=ledger, engine=engine,
        run="bench",
    )  # fmt: skip
    counts = {w: sum(getattr(v, w) for v in done.verdicts) for w in ("accepted", "duplicate", "quarantined", "held")}
    added = [str(lake / one.name) for e in done.evidence for one in e.current.add]
    rounds.report(begun, **counts, files=added, columns=COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["prepare", "run"])
    parser.add_argument("lake", type=Path)
    parser.add_argument("parts", type=Path, nargs="?")
    parser.add_argument("--memory", default="500MB")
    parser.add_argument("--engine", default="duckdb", choices=("duckdb", "spark"))
    asked = parser.parse_args()
    asked.lake.mkdir(parents=True, exist_ok=True)
    if asked.what == "prepare":
        prepare(asked.lake, asked.parts)
    else:
        run(asked.lake, asked.memory, asked.engine)


if __name__ == "__main__":
    main()
