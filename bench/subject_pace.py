"""Our side of the pace bench: a process asks as often as it may, as many at once as its pace says.

With a ledger it shares the rate with all processes that have the same one.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

import rounds
from assay.errors import SourceError
from assay.land import http, pace
from assay.land.running import together
from assay.land.source import SourceSettings
from assay.targets.sqlite import SqliteLedger


async def ask(base: str, requests: int, per: float, seconds: float, ledger: SqliteLedger | None) -> list[int]:
    """Ask until the seconds are over: how many asked at once, seen before each ask."""
    settings = SourceSettings(base, "synthetic", allow_private=True, requests=requests, per=per)
    sizes: list[int] = []
    async with http.client(settings, {}, pace.shared(base, requests, per, ledger)) as remote:
        end = time.monotonic() + seconds

        async def one(_: int) -> None:
            try:
                await remote.get("prices", {}, http.plain)
            except SourceError:
                sizes.append(-1)

        def size() -> int:
            sizes.append(pace.size(remote))
            return sizes[-1]

        await together(iter(lambda: int(time.monotonic() >= end), 1), one, size)
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--per", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--ledger", type=Path)
    asked = parser.parse_args()
    ledger = SqliteLedger(asked.ledger) if asked.ledger else None
    print("ready", flush=True)
    sys.stdin.readline()
    begun = rounds.begin()
    sizes = asyncio.run(ask(asked.base, asked.requests, asked.per, asked.seconds, ledger))
    rounds.report(begun, together=max(sizes), failed=sizes.count(-1))


if __name__ == "__main__":
    main()
