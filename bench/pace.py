"""Measures how much of a vendor's permitted rate is used, by one process and by several with one key, and that the vendor never has to refuse.

    scripts/bench pace [--seconds 120] [--requests 300 750 3000] [--milliseconds 200 400] [--processes 1 4]
                       [--limit 0.96]

So many processes for each rate and latency, which share a ledger, all at once, begins on one word against a local server that counts every window
of 60 s as the vendor does. Share: the calls it served from the first one on, for so many seconds, over those permitted
in that time. Last line: `pace ratio R, N x 429`, the smallest share and all refusals.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import rounds

PER = 60.0


@contextmanager
def server() -> Iterator[str]:
    command = [sys.executable, rounds.HERE / "pace_server.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())["base"]
        finally:
            process.terminate()


def asking(base: str, requests: int, seconds: float, ledger: Path) -> subprocess.Popen[str]:
    """A process that is ready to ask."""
    said = ["--requests", str(requests), "--per", str(PER), "--seconds", str(seconds + 1), "--ledger", ledger]
    process = subprocess.Popen(
        [sys.executable, rounds.subject("pace"), base, *said], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        raise SystemExit(f"{base}: the process did not begin")
    return process


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"a process left with {process.returncode}")
    return json.loads(out.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--requests", type=int, nargs="+", default=[300, 750, 3000])
    parser.add_argument("--milliseconds", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--limit", type=float, help="exit 1 where the ratio is below, or a call was refused")
    asked = parser.parse_args()
    cases = list(product(asked.requests, asked.milliseconds, asked.processes))
    with server() as base, tempfile.TemporaryDirectory() as kept:
        names = [f"/A{many}/{requests}/{milliseconds}" for requests, milliseconds, many in cases]
        processes = [
            asking(base + name, requests, asked.seconds, Path(kept) / "ledger.db")
            for name, (requests, _, many) in zip(names, cases, strict=True)
            for _ in range(many)
        ]
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        done = iter([ended(process) for process in processes])
        figures = [[next(done) for _ in range(many)] for *_, many in cases]
        with urllib.request.urlopen(base + "/told") as answer:
            told = json.load(answer)
    print(f"{asked.seconds:g} s, a window of {PER:g} s; shares of the permitted calls")
    print(
        f"{'a minute':>10} {'answer ms':>10} {'processes':>10} {'served':>8} {'share':>8} {'first s':>8} {'429':>6} {'together':>9}"
    )
    shares, refusals = [], 0
    for name, (requests, milliseconds, many), some in zip(names, cases, figures, strict=True):
        served = [at for at in told[name]["served"] if at <= asked.seconds]
        volley = sum(at < 1 for at in served)
        shares.append(len(served) / (requests * asked.seconds / PER))
        refusals += told[name]["refused"]
        if failed := sum(one["failed"] for one in some):
            raise SystemExit(f"{name}: {failed} calls failed")
        print(
            f"{requests:>10} {milliseconds:>10} {many:>10} {len(served):>8} {shares[-1]:>8.3f} {volley:>8}"
            f" {told[name]['refused']:>6} {max(one['together'] for one in some):>9}"
        )
    print(f"pace ratio {min(shares):.3f}, {refusals} x 429")
    if asked.limit is not None and (min(shares) < asked.limit or refusals):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
