"""Yardstick of the API: a bare handler of the same server, FastAPI and uvicorn, four threads, a DuckDB file.

No checks, cursors, ETags, access rules or cache: one prepared query, one answer as bytes.

    python bench/yard_api_bare.py DATA

prints one line of JSON (name, base, pid, point, page) once it listens, and serves until it is ended.
"""

import asyncio
import json
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import orjson
import uvicorn
from fastapi import FastAPI, Response

POINT = "select * from prices where security_id = ? and date = cast(? as date)"
PAGE = """
select * from prices where security_id = ? and date >= cast(? as date) order by security_id, date limit 100
"""


def make(database: Path) -> FastAPI:
    root = duckdb.connect(str(database), read_only=True, config={"threads": 1})
    local, pool = threading.local(), ThreadPoolExecutor(4)
    app = FastAPI(openapi_url=None)

    def ask(query: str, security_id: str, date: str) -> bytes:
        if not hasattr(local, "cursor"):
            local.cursor = root.cursor()
        done = local.cursor.execute(query, [security_id, date])
        names = [column[0] for column in done.description]
        return orjson.dumps([dict(zip(names, row, strict=True)) for row in done.fetchall()], default=str)

    async def answer(query: str, security_id: str, date: str) -> Response:
        body = await asyncio.get_running_loop().run_in_executor(pool, ask, query, security_id, date)
        return Response(body, media_type="application/json")

    @app.get("/point")
    async def point(security_id: str, date: str) -> Response:
        return await answer(POINT, security_id, date)

    @app.get("/page")
    async def page(security_id: str, date: str) -> Response:
        return await answer(PAGE, security_id, date)

    return app


def main() -> None:
    app = make(Path(sys.argv[1]) / "prices.duckdb")
    listener = socket.create_server(("127.0.0.1", 0))
    query = "?security_id={security_id}&date={date}"
    told = {
        "name": "bare handler",
        "base": f"http://127.0.0.1:{listener.getsockname()[1]}",
        "pid": os.getpid(),
        "point": "/point" + query,
        "page": "/page" + query,
    }
    print(json.dumps(told), flush=True)
    uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
