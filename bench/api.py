"""Measures the API against ROAPI, Datasette and a bare handler: server CPU of a point, a 100-row page, a 304.

    scripts/bench api [--rounds 5] [--points 600] [--pages 400] [--revalidations 4000] [--itself]

1,050,000 rows, random keys (new ones each round, the same for every server), caches off, answers equal. Last
line: `api ratio R`, the larger of point and page, each the median over the rounds of our CPU over the bare
handler's.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import api_data
import peers
import rounds

Runs = dict[str, list[rounds.Figures]]


@contextmanager
def script(*command: Any) -> Iterator[dict[str, Any]]:
    """A server that tells where it is in its first line of output."""
    argv = [sys.executable, *map(str, command)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{' '.join(argv)} ended without a word")
            yield json.loads(line)
        finally:
            process.terminate()


def load(server: dict[str, Any], kind: str, seed: int, count: int) -> rounds.Figures:
    """One run of the client; every answer must be a 200, or a 304 where kind is `304`."""
    asked = {name: server[name] for name in ("base", "pid", "rows", "headers") if name in server}
    asked |= {"path": server["point" if kind == "304" else kind], "seed": seed, "count": count}
    found = rounds.run(rounds.HERE / "load.py", json.dumps(asked | {"revalidate": kind == "304"}))
    if found["statuses"] != {"304" if kind == "304" else "200": count}:
        raise SystemExit(f"{server['name']}, {kind}: {found['statuses']}")
    return found


def measure(servers: dict[str, dict[str, Any]], kind: str, count: int, times: int) -> Runs:
    for server in servers.values():
        load(server, kind, seed=0, count=100)  # warm

    def side(server: dict[str, Any]) -> Any:
        return lambda number: load(server, kind, seed=1000 + number, count=count)

    found = rounds.interleave({name: side(server) for name, server in servers.items()}, times)
    for number in range(times):
        digests = {name: runs[number]["digest"] for name, runs in found.items()}
        if len(set(digests.values())) != 1:
            raise SystemExit(f"{kind}, round {number}: the answers differ: {digests}")
    print(f"{kind}, {count} requests a round, 4 connections" + (", answers equal" if len(found) > 1 else ""))
    for name, runs in found.items():
        print(rounds.line(f"  {name}, server CPU", [run["cpu_ms"] for run in runs], "ms"))
    for name, runs in found.items():
        wall = [statistics.median(run[key] for run in runs) for key in ("p50_ms", "p99_ms", "bytes")]
        print(f"  {name}: p50 {wall[0]:.1f} ms, p99 {wall[1]:.1f} ms, {wall[2]:.0f} bytes")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, default=600)
    parser.add_argument("--pages", type=int, default=400)
    parser.add_argument("--revalidations", type=int, default=4000)
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is above")
    parser.add_argument(
        "--itself", action="store_true", help="the bare handler against itself: the noise of the harness"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-api-") as root, ExitStack() as stack:
        data, work = Path(root) / "data", Path(root) / "work"
        work.mkdir()
        count = api_data.write(data)
        print(f"{count} rows, {len(api_data.COLUMNS)} columns")
        bare = rounds.HERE / "yard_api_bare.py"
        ours = [bare, data] if asked.itself else [rounds.subject("api"), data, work]
        servers = {
            "ours": stack.enter_context(script(*ours)),
            "bare handler": stack.enter_context(script(bare, data)),
            "ROAPI": stack.enter_context(peers.roapi(data, work)),
            "Datasette": stack.enter_context(peers.datasette(data, work)),
        }
        ratio: dict[str, list[float]] = {}
        for kind, requests in (("point", asked.points), ("page", asked.pages)):
            found = measure(servers, kind, requests, asked.rounds)
            for name in ("bare handler", "ROAPI", "Datasette"):
                over = rounds.ratios(found["ours"], found[name], "cpu_ms")
                print(rounds.line(f"  ours over {name}, {kind}", over, ""))
                if name == "bare handler":
                    ratio[kind] = over
        if not asked.itself:
            measure({"ours": servers["ours"]}, "304", asked.revalidations, asked.rounds)
    rounds.close("api", max(ratio.values(), key=statistics.median), asked.limit)


if __name__ == "__main__":
    main()
