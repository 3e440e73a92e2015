"""Measures a backfill of ten thousand windows on Prefect: CPU of everything, Prefect's server included.

    scripts/bench backfill [--symbols 100] [--days 100] [--singly 10] [--limit 2]

Ours is the flow `backfill-ingestion` on a server of its own: each window asked, one task run and one entry a chunk, then a
refine. The yardstick is a thread pool that fetches the same answers and writes as many files of them, gzipped, synced, renamed:
with bare `http.client`, which R is over, with `requests`, and in a loop with `aiohttp`, which we ask with ourselves.
Beside it: `assay backfill` without Prefect, and a flow with a task run a window, of fewer windows, that fetches and writes as the pool does.
How many commits and entries it took is printed, and whether memory stayed flat.
Last line: `backfill ratio R`, CPU of the landing and of Prefect's server over the bare pool's; the lines before say it of the whole
process, and over the other pools.
"""

import argparse
import asyncio
import gzip
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from importlib import import_module
from pathlib import Path
from threading import local
from typing import Any

import rounds
from land import server
from up import cpu, free

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venvs/prefect/bin/python"
PATH = "/stable/historical-price-eod/non-split-adjusted"
CHUNK = 150
CLIENTS = ("http.client", "requests", "aiohttp")
FLOW = """
import json, os, resource, sys, time
from datetime import datetime
from assay.flows import backfill, steps
landed = {}
ask = backfill.ingest
def ingest(*a, **k):
    before = os.times()
    found = ask(*a, **k)
    after = os.times()
    landed["cpu"] = after.user + after.system - before.user - before.system
    landed["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    landed["server"] = os.environ["SERVER"] and cpu(int(os.environ["SERVER"])) - landed.get("began", 0)
    return found
def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
backfill.ingest = ingest
landed["began"] = cpu(int(os.environ["SERVER"]))
backfill.backfill_historical_data("price_eod", datetime.fromisoformat(sys.argv[1]), datetime.fromisoformat(sys.argv[2]))
used = os.times()
print(json.dumps(landed | {"all": used.user + used.system + used.children_user + used.children_system}))
"""


def lake(root: Path, base: str, symbols: list[str], start: date, end: date) -> Path:
    """The markets lake with these symbols, whose prices are asked day by day, and no gold."""
    shutil.copytree(ROOT / "lakes/markets", root)
    for one in (root / "contracts").glob("*.yaml"):
        if one.name != "price_eod.yaml":
            one.unlink()
    shutil.rmtree(root / "dbt")
    contract = root / "contracts/price_eod.yaml"
    contract.write_text(contract.read_text().replace("value: P10Y", "value: P1D"))
    rows = "".join(f"{one},{start},{end}\n" for one in symbols)
    (root / "universe_us.csv").write_text("symbol,valid_from,valid_to\n" + rows)
    settings = root / "assay.toml"
    text = settings.read_text().replace("http://127.0.0.1:8321/stable", f"{base}/stable")
    settings.write_text(text.replace("requests = 3000\nper = 60.0", "requests = 1000000\nper = 1.0"))
    return root


def told(root: Path) -> dict[str, Any]:
    """What came of it, as `status` says, and how many entries and pieces of evidence it took."""
    said = subprocess.run(
        [sys.executable, "-m", "assay.cli", "--lake", root, "--json", "status"],
        capture_output=True,
        text=True,
        check=True,
    )
    data = root / "data/dev"
    return {
        **json.loads(said.stdout)["datasets"]["price_eod"],
        "entries": len(list((data / "bronze/price_eod/log").iterdir())),
        "evidence": len(list((data / "evidence/price_eod").iterdir())),
    }


def asked(window: tuple[str, date]) -> str:
    symbol, day = window
    return f"{PATH}?symbol={symbol}&from={day}&to={day}"


def written(out: Path, n: int, answers: Iterable[bytes]) -> None:
    """A file of answers, durable before it has its name."""
    made, name = out / f"{n}.tmp", out / f"{n}.json.gz"
    with made.open("wb") as file:
        file.write(gzip.compress(b"\n".join(answers), 1, mtime=0))
        file.flush()
        os.fsync(file.fileno())
    made.rename(name)


def content(out: Path) -> bytes:
    """All answers in the order of their windows."""
    names = sorted(out.glob("*.json.gz"), key=lambda one: int(one.name.partition(".")[0]))
    return b"\n".join(gzip.decompress(one.read_bytes()) for one in names)


def bare(base: str) -> Callable[[str], bytes]:
    """What fetches an answer by bare `http.client`."""
    kept, host = local(), base.removeprefix("http://")

    def fetch(path: str) -> bytes:
        if not hasattr(kept, "connection"):
            kept.connection = http.client.HTTPConnection(host)
        kept.connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        return gzip.decompress(kept.connection.getresponse().read())

    return fetch


def requested(base: str) -> Callable[[str], bytes]:
    """What fetches an answer by `requests`, a session a thread."""
    import requests

    kept = local()

    def fetch(path: str) -> bytes:
        if not hasattr(kept, "session"):
            kept.session = requests.Session()
        answer = kept.session.get(base + path, timeout=60)
        answer.raise_for_status()
        return answer.content

    return fetch


async def awaited(base: str, out: Path, windows: Sequence[tuple[str, date]]) -> None:
    """The same by `aiohttp`, which we ask with ourselves: one loop and eight that ask instead of eight threads."""
    import aiohttp

    async with aiohttp.ClientSession(base, raise_for_status=True) as session:
        chunks = iter(range(0, len(windows), CHUNK))

        async def fetch(path: str) -> bytes:
            async with session.get(path) as answer:
                return await answer.read()

        async def land() -> None:
            for n in chunks:
                written(out, n, [await fetch(asked(one)) for one in windows[n : n + CHUNK]])

        await asyncio.gather(*(land() for _ in range(8)))


def yard(client: str, base: str, out: Path, symbols: list[str], days: list[date]) -> rounds.Figures:
    """A yardstick, in a process of its own."""
    return rounds.run(__file__, "--yard", client, base, out, ",".join(symbols), days[0], len(days))


def fetched(client: str, base: str, out: Path, symbols: list[str], start: date, number: int) -> None:
    import_module(client)
    begun = rounds.begin()
    out.mkdir()
    windows = [(one, start + timedelta(days=n)) for n in range(number) for one in symbols]
    if client == "aiohttp":
        asyncio.run(awaited(base, out, windows))
    else:
        fetch = {"http.client": bare, "requests": requested}[client](base)
        with ThreadPoolExecutor(8) as pool:
            chunks = {n: map(asked, windows[n : n + CHUNK]) for n in range(0, len(windows), CHUNK)}
            list(pool.map(lambda n: written(out, n, map(fetch, chunks[n])), chunks))
    rounds.report(begun)


def prefect(place: Path, *command: Any, **environment: str) -> rounds.Figures:
    """What a script with a flow printed, which ran beside a Prefect server of its own, and what the server used."""
    port = free()
    url = f"http://127.0.0.1:{port}/api"
    said = os.environ | environment | {
        "PREFECT_HOME": str(place), "PREFECT_API_URL": url, "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false", "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    }  # fmt: skip
    place.mkdir()
    with (place / "log").open("wb") as log:
        server = subprocess.Popen(
            [PYTHON, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--port", str(port)], env=said, stdout=log, stderr=log
        )  # fmt: skip
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        done = subprocess.run(
            [PYTHON, *map(str, command)], env=said | {"SERVER": str(server.pid)}, capture_output=True, text=True, check=False
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
        found = json.loads(done.stdout.splitlines()[-1])
        settled = -1.0
        while (now := cpu([server.pid])) - settled > 0.5:  # it digests events for a while
            settled = now
            time.sleep(5)
        return found | {"drained": now - found["began"]}
    finally:
        server.terminate()
        server.wait(30)


def main() -> None:
    if sys.argv[1:2] == ["--yard"]:
        client, base, out, symbols, start, number = sys.argv[2:]
        fetched(client, base, Path(out), symbols.split(","), date.fromisoformat(start), int(number))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--singly", type=int, default=10, help="days of which each window is a task run")
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    said = parser.parse_args()
    windows, singly = said.symbols * said.days, said.symbols * said.singly
    with tempfile.TemporaryDirectory(prefix="bench-backfill-") as name, server(said.symbols, said.days) as remote:
        root, end = Path(name), date.fromisoformat(remote["to"]) + timedelta(days=1)
        base, symbols, start = remote["base"], remote["symbols"], date.fromisoformat(remote["from"])
        days = [start + timedelta(days=n) for n in range(said.days)]
        made = lake(root / "flow", base, symbols, start, end)
        plain = lake(root / "plain", base, symbols, start, end)
        yard("http.client", base, root / "first", symbols, days)  # the vendor makes its answers now
        pools = {client: yard(client, base, root / client, symbols, days) for client in CLIENTS}
        wanted = content(root / "first")
        if any(content(root / client) != wanted for client in CLIENTS):
            raise SystemExit("the pools wrote different answers")
        ours = prefect(root / "prefect", "-c", FLOW, start, end, ASSAY_LAKE=str(made), FMP_API_KEY="bench")
        what = told(made)
        if what["batches"] != windows or what["unjudged"]:
            raise SystemExit(f"{what['batches']} of {windows} windows are landed, {what['unjudged']} not judged")
        each = prefect(
            root / "each", rounds.HERE / "yard_singly.py", base, root / "singly", ",".join(symbols), start, said.singly
        )
        if len(list((root / "singly").iterdir())) != singly or not wanted.startswith(content(root / "singly")):
            raise SystemExit("the flow with a task run a window wrote different answers")
        command = [
            sys.executable,
            "-m",
            "assay.cli",
            "--lake",
            plain,
            "--quiet",
            "backfill",
            "price_eod",
            f"{start}..{end}",
        ]
        with subprocess.Popen(command, env=os.environ | {"FMP_API_KEY": "bench"}) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit("assay backfill failed")
    print(f"{windows} windows of one record, {said.symbols} symbols")
    for client, pool in pools.items():
        print(f"  eight at once, {client:<15} {pool['cpu']:8.2f} CPU s, {1000 * pool['cpu'] / windows:.2f} ms a window")
    print(f"  landing, in the flow           {ours['cpu']:8.2f} CPU s, peak {ours['peak']:.0f} MB")
    print(f"  Prefect's server meanwhile     {ours['server']:8.2f} CPU s, {ours['drained']:.2f} when it was through")
    print(f"  the flow's process, whole      {ours['all']:8.2f} CPU s: imports, plan, landing, refine")
    print(
        f"  assay backfill, whole          {used.ru_utime + used.ru_stime:8.2f} CPU s, peak {used.ru_maxrss / 1024:.0f} MB"
    )
    print(f"  {what['entries']} entries, {what['evidence']} evidence: one commit of each table")
    both, once = ours["cpu"] + ours["drained"], each["cpu"] + each["drained"]
    print(f"  both, a window                 {1000 * both / windows:8.2f} CPU ms")
    print(
        f"  a task run a window, of {singly:,}   {1000 * once / singly:8.2f} CPU ms: the flow {each['cpu']:.2f} s, the server {each['drained']:.2f} s"
    )
    bare_cpu = pools["http.client"]["cpu"]
    print(f"backfill whole ratio {(ours['all'] + ours['drained']) / bare_cpu:.3f}")
    for client in ("requests", "aiohttp"):
        print(f"backfill {client} ratio {both / pools[client]['cpu']:.3f}")
    print(f"backfill task run a window ratio {(once / singly) / (both / windows):.3f}")
    rounds.close("backfill", [both / bare_cpu], said.limit)


if __name__ == "__main__":
    main()
