"""Yardstick of land: a bare aiohttp loop that inflates the answers and writes them with the same gzip level.

No pacing, retries, parsing, hashes, manifest or fsync. Answers stand one after another in files of at most 64
MB inflated.

    python bench/yard_land.py BASE OUT --symbols SYM000,SYM001 --from 2024-02-05 --to 2026-10-31
"""

import argparse
import asyncio
from pathlib import Path

import aiohttp
from isal import igzip

import rounds

PATH = "/stable/historical-price-eod/non-split-adjusted"
FILE_LIMIT = 64 * 1024 * 1024
CONNECTIONS = 8


class Files:
    """Gzip files in a directory, a new one before the limit is passed."""

    def __init__(self, out: Path) -> None:
        self.out, self.paths, self.file, self.room = out, [], None, 0

    def write(self, content: bytes) -> None:
        if self.file is None or len(content) > self.room:
            self.close()
            self.paths.append(self.out / f"part-{len(self.paths):04d}.json.gz")
            self.file, self.room = igzip.IGzipFile(self.paths[-1], "wb", compresslevel=1, mtime=0), FILE_LIMIT
        self.file.write(content)
        self.room -= len(content)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def finish(self) -> None:
        self.close()


async def land(base: str, span: dict[str, str], symbols: list[str], files: Files) -> None:
    left = iter(symbols)

    async def worker(session: aiohttp.ClientSession) -> None:
        for symbol in left:
            async with session.get(base + PATH, params={"symbol": symbol, **span}) as response:
                response.raise_for_status()
                files.write(await response.read())

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(worker(session))


def main(kind: type[Files] = Files) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("out", type=Path)
    parser.add_argument("--symbols", required=True)
    parser.add_argument("--from", dest="first", required=True)
    parser.add_argument("--to", dest="last", required=True)
    asked = parser.parse_args()
    begun = rounds.begin()
    asked.out.mkdir(parents=True)
    files = kind(asked.out)
    symbols = asked.symbols.split(",")
    asyncio.run(land(asked.base, {"from": asked.first, "to": asked.last}, symbols, files))
    files.finish()
    rounds.report(begun, files=[str(path) for path in files.paths], pages=len(symbols))


if __name__ == "__main__":
    main()
