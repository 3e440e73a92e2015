"""Measures a backfill of ten thousand windows on Prefect: CPU of everything, Prefect's server included.

    scripts/bench backfill [--symbols 100] [--days 100] [--limit 2]

Ours is the flow `backfill-ingestion` on a server of its own: each window asked, one task run and one entry a chunk, then a
refine. The yardstick is a thread pool that fetches the same answers and writes as many files of them, gzipped, synced, renamed.
Beside it: `assay backfill` without Prefect. How many commits and entries it took is printed, and whether memory stayed flat.
Last line: `backfill ratio R`, CPU of the landing and of Prefect's server over the thread pool's; the line before, all of it.
"""

import argparse
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
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
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


def yard(base: str, out: Path, symbols: list[str], days: list[date]) -> rounds.Figures:
    """The thread pool, in a process of its own."""
    return rounds.run(__file__, "--yard", base, out, ",".join(symbols), days[0], len(days))


def fetched(base: str, out: Path, symbols: list[str], start: date, number: int) -> None:
    begun, kept, host = rounds.begin(), local(), base.removeprefix("http://")
    out.mkdir()

    def fetch(window: tuple[str, date]) -> bytes:
        if not hasattr(kept, "connection"):
            kept.connection = http.client.HTTPConnection(host)
        symbol, day = window
        kept.connection.request(
            "GET", f"{PATH}?symbol={symbol}&from={day}&to={day}", headers={"Accept-Encoding": "gzip"}
        )
        return gzip.decompress(kept.connection.getresponse().read())

    def land(n: int) -> None:
        made, name = out / f"{n}.tmp", out / f"{n}.json.gz"
        with made.open("wb") as file:
            file.write(gzip.compress(b"\n".join(map(fetch, windows[n : n + CHUNK])), 1, mtime=0))
            file.flush()
            os.fsync(file.fileno())
        made.rename(name)

    windows = [(one, start + timedelta(days=n)) for n in range(number) for one in symbols]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(land, range(0, len(windows), CHUNK)))
    rounds.report(begun)


def flow(root: Path, place: Path, start: date, end: date) -> rounds.Figures:
    """The backfill on a Prefect server, and what both used."""
    port = free()
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(place), "PREFECT_API_URL": url, "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false", "ASSAY_LAKE": str(root), "FMP_API_KEY": "bench", "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    }  # fmt: skip
    place.mkdir()
    with (place / "log").open("wb") as log:
        server = subprocess.Popen(
            [PYTHON, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--port", str(port)], env=environment, stdout=log, stderr=log
        )  # fmt: skip
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        done = subprocess.run(
            [PYTHON, "-c", FLOW, str(start), str(end)], env=environment | {"SERVER": str(server.pid)}, capture_output=True, text=True, check=False
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
        base, out, symbols, start, number = sys.argv[2:]
        fetched(base, Path(out), symbols.split(","), date.fromisoformat(start), int(number))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    asked = parser.parse_args()
    windows = asked.symbols * asked.days
    with tempfile.TemporaryDirectory(prefix="bench-backfill-") as name, server(asked.symbols, asked.days) as remote:
        root, end = Path(name), date.fromisoformat(remote["to"]) + timedelta(days=1)
        start = date.fromisoformat(remote["from"])
        days = [start + timedelta(days=n) for n in range(asked.days)]
        made = lake(root / "flow", remote["base"], remote["symbols"], start, end)
        plain = lake(root / "plain", remote["base"], remote["symbols"], start, end)
        pool = yard(remote["base"], root / "pool", remote["symbols"], days)  # the vendor makes its answers now
        pool = yard(remote["base"], root / "pool2", remote["symbols"], days)
        ours = flow(made, root / "prefect", start, end)
        what = told(made)
        if what["batches"] != windows or what["unjudged"]:
            raise SystemExit(f"{what['batches']} of {windows} windows are landed, {what['unjudged']} not judged")
        command = [
            sys.executable,
            "-m",
            "assay.cli",
            "--lake",
            str(plain),
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
    print(f"{windows} windows of one record, {asked.symbols} symbols")
    print(f"  thread pool                    {pool['cpu']:8.2f} CPU s")
    print(f"  landing, in the flow           {ours['cpu']:8.2f} CPU s, peak {ours['peak']:.0f} MB")
    print(f"  Prefect's server meanwhile     {ours['server']:8.2f} CPU s, {ours['drained']:.2f} when it was through")
    print(f"  the flow's process, whole      {ours['all']:8.2f} CPU s: imports, plan, landing, refine")
    print(
        f"  assay backfill, whole          {used.ru_utime + used.ru_stime:8.2f} CPU s, peak {used.ru_maxrss / 1024:.0f} MB"
    )
    print(f"  {what['entries']} entries, {what['evidence']} evidence: one commit of each table")
    print(f"backfill whole ratio {(ours['all'] + ours['drained']) / pool['cpu']:.3f}")
    rounds.close("backfill", [(ours["cpu"] + ours["drained"]) / pool["cpu"]], asked.limit)


if __name__ == "__main__":
    main()
