"""A vendor for the pace bench: it counts the calls of every window of 60 s, refuses what is over, and is slow.

`GET /A/<requests>/<milliseconds>/prices` is answered `[]` after so many milliseconds, or 429 at once where `requests`
calls came in the 60 s before; a refused call counts too. `GET /told` says what came: `{"/A/300/200": {"served": [seconds
since the first], "refused": n}}`.

    python bench/pace_server.py

prints one line of JSON (base, pid) once it answers, and serves until it is ended.
"""

import asyncio
import json
import os
import time
from collections import deque
from dataclasses import dataclass, field

from aiohttp import web

PER = 60.0


@dataclass
class Account:
    """What one client asked."""

    window: deque[float] = field(default_factory=deque)
    served: list[float] = field(default_factory=list)
    refused: int = 0


async def main() -> None:
    accounts: dict[str, Account] = {}

    async def prices(request: web.Request) -> web.Response:
        now = time.monotonic()
        name, requests, milliseconds = (request.match_info[part] for part in ("name", "requests", "milliseconds"))
        one = accounts.setdefault(f"/{name}/{requests}/{milliseconds}", Account())
        while one.window and one.window[0] <= now - PER:
            one.window.popleft()
        one.window.append(now)
        if len(one.window) > int(requests):
            one.refused += 1
            return web.Response(status=429, text="too many requests")
        one.served.append(now)
        await asyncio.sleep(int(milliseconds) / 1000)
        return web.json_response([])

    async def told(_: web.Request) -> web.Response:
        return web.json_response(
            {
                name: {"served": [at - one.served[0] for at in one.served], "refused": one.refused}
                for name, one in accounts.items()
            }
        )

    app = web.Application()
    app.router.add_get("/{name}/{requests}/{milliseconds}/prices", prices)
    app.router.add_get("/told", told)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps({"base": f"http://127.0.0.1:{runner.addresses[0][1]}", "pid": os.getpid()}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
