"""Starts the peers of the api bench, ROAPI and Datasette, from `.venvs/bench`, caches off, on loopback.

Both as fast as they can be made without changing what they answer: ROAPI holds the table in memory, Datasette
opens SQLite as immutable with the key as clustered index, counts and facets off.
"""

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rounds

BIN = rounds.HERE.parent / ".venvs" / "bench" / "bin"
PATIENCE = 120


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def serving(command: list[Any], log: Path, peer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """`peer` with its pid, once `peer["point"]` answers for the first key."""
    if not Path(command[0]).exists():
        raise SystemExit(f"{command[0]} is missing: scripts/bench makes it")
    with log.open("w") as out, subprocess.Popen(list(map(str, command)), stdout=out, stderr=out) as process:
        try:
            url = peer["base"] + peer["point"].format(security_id="sec-00000", date="2014-01-01")
            until = time.monotonic() + PATIENCE
            while True:
                try:
                    urllib.request.urlopen(url, timeout=5).read()
                    break
                except (urllib.error.URLError, ConnectionError) as error:
                    if process.poll() is not None or time.monotonic() > until:
                        raise SystemExit(f"{peer['name']} does not answer ({error}): {log.read_text()}") from error
                    time.sleep(0.2)
            yield {**peer, "pid": process.pid}
        finally:
            process.terminate()


@contextmanager
def roapi(data: Path, work: Path) -> Iterator[dict[str, Any]]:
    port = free_port()
    table = "/api/tables/prices?filter[security_id]=%27{security_id}%27&filter[date]"
    peer = {
        "name": "ROAPI",
        "base": f"http://127.0.0.1:{port}",
        "point": table + "=%27{date}%27",
        "page": table + "gte=%27{date}%27&sort=security_id,date&limit=100",
    }
    command = [
        BIN / "roapi",
        "--table",
        f"prices={data / 'prices.parquet'}",
        "--addr-http",
        f"127.0.0.1:{port}",
    ]
    command += ["--addr-postgres", f"127.0.0.1:{free_port()}"]
    with serving(command, work / "roapi.log", peer) as ready:
        yield ready


@contextmanager
def datasette(data: Path, work: Path) -> Iterator[dict[str, Any]]:
    port = free_port()
    shape = "_shape=array&_nocount=1&_nofacet=1"
    peer = {
        "name": "Datasette",
        "base": f"http://127.0.0.1:{port}",
        "point": "/prices/prices/{security_id},{date}.json?_shape=array",
        "page": "/prices/prices.json?security_id={security_id}&date__gte={date}&_sort=date&_size=100&" + shape,
    }
    command = [BIN / "datasette", "serve", "--immutable", data / "prices.sqlite"]
    command += ["--host", "127.0.0.1", "--port", port]
    command += ["--setting", "default_cache_ttl", 0, "--setting", "suggest_facets", "off"]
    with serving(command, work / "datasette.log", peer) as ready:
        yield ready
