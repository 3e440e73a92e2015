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

from assay import clock
from assay.lake import release
from assay.lake.duck import text
from assay.lake.release import Column, Gold, Release
from assay.ports import Files, Limits
from assay.serve.rest import app
from assay.targets.local import DiskFiles
from assay.targets.sqlite import SqliteLedger

NAME, KEY = "prices", ("security_id", "date")


def released(files: Files, prices: Path) -> None:
    """A release of one table, its serving file laid down as a build does."""
    serving = f"serving/{NAME}-1.duckdb"
    scratch = files.scratch()
    con = duckdb.connect()
    con.execute(f"ATTACH {text(str(scratch))} AS serving (STORAGE_VERSION 'v1.0.0')")
    con.execute(
        f"CREATE TABLE serving.{NAME} AS SELECT * FROM read_parquet({text(str(prices))}) ORDER BY {', '.join(KEY)}"
    )
    kinds = con.execute(f"DESCRIBE serving.{NAME}").fetchall()
    rows = con.execute(f"SELECT count(*) FROM serving.{NAME}").fetchall()[0][0]
    con.close()
    sha256 = release.file_sha256(scratch)
    assert files.put_new(serving, scratch, "release.serving")
    columns = tuple(Column(n, k) for n, k, *_ in kinds)
    gold = Gold(NAME, 1, rows, serving, columns, KEY, {}, (), serving_sha256=sha256)
    release.publish(files, Release(1, "bench", None, clock.now(), "bench", "", (gold,), (), (), ""))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    asked = parser.parse_args()
    root = asked.work / "lake"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    files = DiskFiles(root)
    released(files, asked.data / "prices.parquet")
    served = app(
        files,
        SqliteLedger(root / "ledger.db"),
        {},
        explain=None,
        title="bench",
        limits=Limits("1GB", 2),
        key=b"bench",
        cache=0,
    )
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
