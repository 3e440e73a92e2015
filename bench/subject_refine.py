"""Our side of the refine bench: lands existing parts as a batch, and refines what waits."""

import argparse
import json
import os
import shutil
from datetime import date, timedelta
from pathlib import Path

import msgspec
from isal import igzip

import rounds
from assay import clock
from assay import refine as refining
from assay.contract import odcs
from assay.engines.duckdb import DuckDBEngine
from assay.lake import bronze, tables
from assay.lake.bronze import Asked, Manifest, Part
from assay.lake.files import Files
from assay.land import fact
from assay.targets.local import SqliteLedger

CONTRACT = odcs.read(rounds.HERE.parent / "lakes/markets/contracts/price_eod.yaml")
COLUMNS = ["symbol", "date", "open", "high", "low", "close", "volume"]


def prepare(lake: Path, parts: Path) -> None:
    """The parts become a batch: hard-linked under bronze names, with a manifest like the lander's."""
    files = Files(lake)
    names = sorted(parts.glob("*.gz"))
    number = sum(1 for _ in files.names(f"bronze/{CONTRACT.dataset}/_manifests"))
    start = date(2000, 1, 1) + timedelta(days=number)
    made, first = [], 0
    batch = str(bronze.ULID())
    for at, path in enumerate(names):
        stored = path.read_bytes()
        data = igzip.decompress(stored)
        rows = data.count(b"\n")
        name = f"bronze/{CONTRACT.dataset}/dt=2026-11-01/run=bench/{batch}-part-{at:05}.ndjson.gz"
        files.path(name).parent.mkdir(parents=True, exist_ok=True)
        os.link(path, files.path(name)) if path.stat().st_dev == lake.stat().st_dev else shutil.copy(
            path, files.path(name)
        )
        digest = bronze.hashlib.sha256
        made.append(
            Part(name, rows, len(data), digest(data).hexdigest(), digest(stored).hexdigest(), first, first + rows - 1)
        )
        first += rows
    asked = Asked("http://127.0.0.1/", {}, clock.now(), 200, 0, "", first, 0)
    manifest = Manifest(
        batch, CONTRACT.dataset, "bench", "all", start, start + timedelta(days=1), 1, "fmp", "1", "synthetic",
        CONTRACT.capture_fingerprint, CONTRACT.sha256, clock.now(), first, tuple(made), (asked,),
    )  # fmt: skip
    files.put_new(manifest.name, msgspec.json.encode(manifest), "land.manifest")
    ledger = SqliteLedger(lake / "ledger.db")
    ledger.record([fact(manifest)])
    ledger.close()
    print(json.dumps({}))


def run(lake: Path, memory: str) -> None:
    begun = rounds.begin()
    files, catalog, ledger = Files(lake), tables.open_catalog(lake), SqliteLedger(lake / "ledger.db")
    known = {v["batch"] for f in ledger.facts("evidence", CONTRACT.dataset) for v in f.body["evidence"]["verdicts"]}
    waiting = [f.body["name"] for f in ledger.facts("manifest", CONTRACT.dataset) if f.id not in known]
    done = refining.refine(
        CONTRACT, [bronze.read_manifest(files, name) for name in waiting], files=files, catalog=catalog, ledger=ledger,
        engine=DuckDBEngine(lake / "_tmp", memory, 2), run="bench",
    )  # fmt: skip
    counts = {
        w: sum(getattr(v, w) for v in done.evidence.verdicts) for w in ("accepted", "duplicate", "quarantined", "held")
    }
    where = Path(catalog.load_table(f"silver.{CONTRACT.dataset}_observed").location().removeprefix("file://")) / "data"
    rounds.report(begun, **counts, files=[str(p) for p in where.rglob(f"{done.evidence.id}*.parquet")], columns=COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["prepare", "run"])
    parser.add_argument("lake", type=Path)
    parser.add_argument("parts", type=Path, nargs="?")
    parser.add_argument("--memory", default="500MB")
    asked = parser.parse_args()
    asked.lake.mkdir(parents=True, exist_ok=True)
    if asked.what == "prepare":
        prepare(asked.lake, asked.parts)
    else:
        run(asked.lake, asked.memory)


if __name__ == "__main__":
    main()
