"""A price vendor for the land bench: pretty-printed JSON, gzip, newest day first, answers made beforehand.

`GET /stable/historical-price-eod/non-split-adjusted?symbol=SYM000&from=2024-02-05&to=2026-10-31` gives one
record per day of from..to, both included. An unknown symbol gets `[]`. Prices are a function of symbol and
day alone. Answers for the announced span are made at the start; others when first asked.

    python bench/land_server.py [--symbols 200] [--rows 1000] [--end 2026-10-31]

prints one line of JSON (base, pid, symbols, from, to) once it answers, and serves until it is ended.
"""

import argparse
import asyncio
import gzip
import json
import os
import zlib
from datetime import date, timedelta

from aiohttp import web

PATH = "/stable/historical-price-eod/non-split-adjusted"


def record(symbol: str, day: date) -> dict[str, str | float | int]:
    draw = zlib.crc32(f"{symbol} {day}".encode())
    middle, up, down = 1000 + draw % 49000, (draw >> 8) % 200, (draw >> 16) % 200
    return {
        "symbol": symbol,
        "date": str(day),
        "adjOpen": (middle - down + (draw >> 5) % (up + down + 1)) / 100,
        "adjHigh": (middle + up) / 100,
        "adjLow": (middle - down) / 100,
        "adjClose": (middle - down + (draw >> 11) % (up + down + 1)) / 100,
        "volume": 1000 + draw % 9999000,
    }


def answer(symbol: str, first: date, last: date) -> bytes:
    days = (last - timedelta(days=back) for back in range((last - first).days + 1))
    return gzip.compress(json.dumps([record(symbol, day) for day in days], indent=2).encode(), 6, mtime=0)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--end", type=date.fromisoformat, default=date(2026, 10, 31))
    asked = parser.parse_args()
    start = asked.end - timedelta(days=asked.rows - 1)
    symbols = [f"SYM{number:03d}" for number in range(asked.symbols)]
    ready = {(symbol, start, asked.end): answer(symbol, start, asked.end) for symbol in symbols}
    nothing = gzip.compress(b"[]", mtime=0)

    async def prices(request: web.Request) -> web.Response:
        try:
            span = date.fromisoformat(request.query["from"]), date.fromisoformat(request.query["to"])
            symbol = request.query["symbol"]
        except (KeyError, ValueError) as error:
            raise web.HTTPBadRequest(text=f"symbol, from and to are needed: {error}") from error
        body = nothing
        if symbol in symbols:
            key = (symbol, *span)
            if key not in ready:
                ready[key] = answer(*key)
            body = ready[key]
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json; charset=utf-8"}
        return web.Response(body=body, headers=headers)

    async def dateless(_: web.Request, response: web.StreamResponse) -> None:
        del response.headers["Date"]  # a round's day is not today, and a lake believes no clock that is off

    app = web.Application()
    app.on_response_prepare.append(dateless)
    app.router.add_get(PATH, prices)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    told = {"base": base, "pid": os.getpid(), "symbols": symbols, "from": str(start), "to": str(asked.end)}
    print(json.dumps(told), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
