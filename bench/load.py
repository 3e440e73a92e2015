"""A closed-loop HTTP client in a process of its own: what a request costs the server, and what it answered.

    python bench/load.py '{"base": "http://127.0.0.1:8000", "pid": 42, "path": "/p/{security_id}/{date}"}'

Further fields: seed (keys), count (requests), connections, rows (name of the list in an answer that is an
object), headers (sent with each), revalidate (asks all keys once before, then again with the ETags it got,
and expects 304s). The last line is JSON: cpu_ms (server CPU a request, user and system, its children too),
p50_ms, p99_ms (wall, on this machine, with this client: recorded, not judged), statuses, bytes (mean length
of a body), digest (of all rows of all answers, whatever the format).
"""

import asyncio
import hashlib
import json
import os
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from yarl import URL

import api_data

TICK = os.sysconf("SC_CLK_TCK")
SCALE = Decimal("0.000001")
DEFAULTS = {"seed": 1, "count": 1000, "connections": 4, "rows": None, "headers": {}, "revalidate": False}


def server_cpu(pid: int) -> float:
    """CPU seconds of a process and all its descendants, ended ones too."""
    parents, used = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue  # it ended while we looked
            fields = text[text.rindex(")") + 2 :].split()
            parents[int(entry.name)] = int(fields[1])
            used[int(entry.name)] = sum(map(int, fields[11:15])) / TICK
    family = {pid}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(used[member] for member in family)


def rows(body: bytes, name: str | None) -> list[tuple[Any, ...]]:
    """The rows of an answer in one spelling: dates as text, prices as decimals of six places."""
    found = orjson.loads(body)
    if isinstance(found, dict):
        found = found[name] if name else [found]
    texts, prices = api_data.COLUMNS[:3], api_data.PRICES
    return [
        (
            *(row[column] for column in texts),
            *(Decimal(str(row[price])).quantize(SCALE) for price in prices),
            int(row["volume"]),
        )
        for row in found
    ]


async def drive(
    asked: dict[str, Any], paths: list[str], etags: list[str] | None = None
) -> list[tuple[int, bytes, str, float]]:
    """Every path once, in order, over a few kept connections: status, body, ETag and seconds of each."""
    found: list[Any] = [None] * len(paths)
    left = iter(range(len(paths)))

    async def worker(session: aiohttp.ClientSession) -> None:
        for number in left:
            headers = {"If-None-Match": etags[number]} if etags else {}
            url = URL(asked["base"] + paths[number], encoded=True)
            begun = time.perf_counter()
            async with session.get(url, headers=headers) as response:
                body = await response.read()
            took = time.perf_counter() - begun
            found[number] = (response.status, body, response.headers.get("ETag", ""), took)

    connector = aiohttp.TCPConnector(limit=asked["connections"])
    headers = {"Accept-Encoding": "identity", **asked["headers"]}
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(asked["connections"]):
            group.create_task(worker(session))
    return found


async def main() -> None:
    asked = {**DEFAULTS, **json.loads(sys.argv[1])}
    paths = [asked["path"].format(**key) for key in api_data.keys(asked["seed"], asked["count"])]
    etags = None
    if asked["revalidate"]:
        etags = [etag for _, _, etag, _ in await drive(asked, paths)]
        if not all(etags):
            raise SystemExit("an answer without an ETag")
    before = server_cpu(asked["pid"])
    found = await drive(asked, paths, etags)
    cpu = server_cpu(asked["pid"]) - before
    digest = hashlib.sha256()
    for status, body, _, _ in found:
        if status == 200:
            digest.update(repr(rows(body, asked["rows"])).encode())
    times = sorted(took for *_, took in found)
    told = {
        "cpu_ms": cpu * 1000 / len(found),
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[len(times) * 99 // 100] * 1000,
        "statuses": Counter(str(status) for status, *_ in found),
        "bytes": sum(len(body) for _, body, *_ in found) / len(found),
        "digest": digest.hexdigest(),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
