"""Our side of the api bench: one gold table of a release, served by the product's own application with its cache off."""

import argparse
import json
import os
import shutil
import socket
import sys
from pathlib import Path

import duckdb
import uvicorn
from assay.serve.api import app

from assay import clock
from assay.lake import release, tables
from assay.lake.files import Files
from assay.lake.release import Column, Gold, Release
from assay.targets.local import SqliteLedger

NAME, KEY = "prices", ("security_id", "date")


def released(files: Files, prices: Path) -> None:
    """A release of one table, its serving file laid down as a build does."""
    serving = f"serving/{NAME}-1.duckdb"
    scratch = files.scratch()
    con = duckdb.connect()
    con.execute(f"ATTACH {tables.text(str(scratch))} AS serving (STORAGE_VERSION 'v1.0.0')")
    con.execute(
        f"CREATE TABLE serving.{NAME} AS SELECT * FROM read_parquet({tables.text(str(prices))}) ORDER BY {', '.join(KEY)}"
    )
    kinds = con.execute(f"DESCRIBE serving.{NAME}").fetchall()
    rows = con.execute(f"SELECT count(*) FROM serving.{NAME}").fetchall()[0][0]
    con.close()
    files.adopt(scratch, serving, "release.serving")
    gold = Gold(NAME, 1, rows, serving, tuple(Column(n, k) for n, k, *_ in kinds), KEY, {}, ())
    release.publish(files, Release(1, "bench", None, clock.now(), "bench", "", (gold,), (), (), ""))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    asked = parser.parse_args()
    root = asked.work / "lake"
    shutil.rmtree(root, ignore_errors=True)
    files, catalog = Files(root), tables.open_catalog(root)
    released(files, asked.data / "prices.parquet")
    served = app(files, catalog, SqliteLedger(root / "ledger.db"), {}, explain=None, title="bench", cache=0)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(served, log_level="warning", access_log=False))
    found = {
        "name": "assay", "base": f"http://127.0.0.1:{port}", "pid": os.getpid(), "rows": "data", "headers": {},
        "point": f"/v1/gold/{NAME}?security_id={{security_id}}&date={{date}}",
        "page": f"/v1/gold/{NAME}?security_id={{security_id}}&date.gte={{date}}&limit=100",
    }  # fmt: skip
    print(json.dumps(found), flush=True)
    server.run([listening])
    sys.exit(0)


if __name__ == "__main__":
    main()
