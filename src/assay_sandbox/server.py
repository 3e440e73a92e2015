"""The sandbox itself: the vendor's paths, texts, limits and quirks over HTTP on the loopback address."""

import asyncio
import gzip
import hashlib
import json
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from assay_sandbox.data import DATED, LISTED, PATHS, RATES, RECORDS, Overrides, Records, document
from assay_sandbox.faults import LIMIT, Fault, FaultPlan

UPGRADE = "please visit our subscription page to upgrade your plan at https://financialmodelingprep.com/"
INVALID_KEY = (
    "Invalid API KEY. Feel free to create a Free API Key or visit "
    "https://site.financialmodelingprep.com/faqs?search=why-is-my-api-key-invalid for more information."
)
LEGACY = (
    "Legacy Endpoint : Due to Legacy endpoints being no longer supported - This endpoint is only available "
    "for legacy users who have valid subscriptions prior August 31, 2025."
)
RESTRICTED = f"Restricted Endpoint: This endpoint is not available under your current subscription {UPGRADE}"
PREMIUM = (
    "Premium Query Parameter: 'Special Endpoint : This value set for 'symbol' is not available under your "
    f"current subscription {UPGRADE}"
)
PROXY_PAGE = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    "<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Plan:
    """What a key may do.

    Attributes:
        requests: permitted in any `per` seconds.
        per: seconds.
        history_years: older records are silently left out.
        default_years: span of the answer where no `from` is given.
        restricted: paths that answer 402.
        symbols: the only ones permitted (402 for others); None: all.
        active: False: the subscription has ended, the key is answered as an invalid one.
        limit_status: 429; some free plans answer 403.
    """

    requests: int = 750
    per: float = 60.0
    history_years: int = 30
    default_years: int = 5
    restricted: frozenset[str] = frozenset()
    symbols: frozenset[str] | None = None
    active: bool = True
    limit_status: int = 429


@dataclass(frozen=True)
class Served:
    """One request as the sandbox saw it, without its key; `at` is in seconds of the monotonic clock."""

    at: float
    path: str
    query: Mapping[str, str]
    status: int
    fault: str | None = None


@dataclass(frozen=True)
class _Reply:
    status: int
    body: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Sandbox:
    """The vendor on this machine.

    Args:
        keys: plan by API key; one key, `sandbox-key`, unless told.
        faults: what goes wrong.
        overrides: tokens to serve instead of the records', as `{(symbol, date): {field: token}}`.
        limit: (requests, seconds) for every key, instead of its plan's.
        port: 0 takes a free one.
        records_dir: the four record files.
        today: the vendor's present day; the last day of its prices unless told.
    """

    def __init__(
        self,
        keys: Mapping[str, Plan] | None = None,
        *,
        faults: FaultPlan | None = None,
        overrides: Overrides | None = None,
        limit: tuple[int, float] | None = None,
        port: int = 0,
        records_dir: Path = RECORDS,
        today: date | None = None,
        wheel: Path | None = None,
    ) -> None:
        self.keys = dict(keys) if keys is not None else {"sandbox-key": Plan()}
        self.faults = faults or FaultPlan()
        self.records = Records(records_dir, overrides, wheel)
        self.today = today or self.records.last_day
        self.log: list[Served] = []
        self._limit, self._port = limit, port
        self._arrivals: dict[str, deque[float]] = {key: deque() for key in self.keys}

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve from a thread of its own while the block runs; yields the base URL, `http://127.0.0.1:PORT/stable`."""
        loop, ready, urls = asyncio.new_event_loop(), threading.Event(), list[str]()
        stop = asyncio.Event()
        failures: list[BaseException] = []

        async def serve() -> None:
            runner = self._runner()
            try:
                urls.append(await self._start(runner, self._port))
                ready.set()
                await stop.wait()
            finally:
                await runner.cleanup()

        def work() -> None:
            try:
                loop.run_until_complete(serve())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(error)
            finally:
                loop.close()
                ready.set()

        thread = threading.Thread(target=work, name="sandbox", daemon=True)
        thread.start()
        ready.wait()
        if failures:
            thread.join()
            raise failures[0]
        try:
            yield urls[0]
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()

    def serve_forever(self, port: int | None = None) -> None:
        """Print the base URL, a line for each key that is accepted, then serve until SIGTERM or SIGINT."""

        async def serve() -> None:
            stop = asyncio.Event()
            for name in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(name, stop.set)
            runner = self._runner()
            try:
                print(await self._start(runner, self._port if port is None else port))
                for key in self.keys:
                    print(f"accepts the key {key} (export FMP_API_KEY={key})")
                sys.stdout.flush()
                await stop.wait()
            finally:
                await runner.cleanup()

        asyncio.run(serve())

    def _runner(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/stable/{path:.*}", self._stable)
        app.router.add_get("/api/{path:.*}", self._legacy)
        app.router.add_get("/_sandbox/log", self._show_log)
        for name in ("faults", "override", "split"):
            app.router.add_post(f"/_sandbox/{name}", self._control)
        app.router.add_delete("/_sandbox/faults", self._control)
        return web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)

    @staticmethod
    async def _start(runner: web.AppRunner, port: int) -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/stable"

    async def _stable(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        query = {name: value for name, value in request.query.items() if name != "apikey"}
        key = request.headers.get("apikey") or request.query.get("apikey") or ""
        fault = None
        reply = self._admit(key, path, query)
        if reply is None:
            fault = self.faults.due(path, query)
            reply = (
                self._spoilt(fault, path, query, self.keys[key]) if fault else self._answer(path, query, self.keys[key])
            )
        self.log.append(Served(time.monotonic(), path, query, reply.status, fault.kind if fault else None))
        return await _send(request, reply, fault)

    async def _legacy(self, request: web.Request) -> web.StreamResponse:
        self.log.append(Served(time.monotonic(), request.path.lstrip("/"), {}, 403))
        return await _send(request, _error(403, LEGACY), None)

    def _admit(self, key: str, path: str, query: Mapping[str, str]) -> _Reply | None:
        """What the key's plan says no to; None if it may."""
        plan = self.keys.get(key)
        if plan is None or not plan.active:
            return _error(401, INVALID_KEY)
        requests, per = self._limit or (plan.requests, plan.per)
        arrivals, now = self._arrivals.setdefault(key, deque()), time.monotonic()
        while arrivals and arrivals[0] <= now - per:
            arrivals.popleft()
        if len(arrivals) >= requests:
            return _error(plan.limit_status, LIMIT)
        arrivals.append(now)
        if path in plan.restricted:
            return _Reply(402, RESTRICTED.encode(), "text/plain")
        if plan.symbols is not None and "symbol" in query and query["symbol"] not in plan.symbols:
            return _Reply(402, PREMIUM.encode(), "text/plain")
        return None

    def _answer(self, path: str, query: Mapping[str, str], plan: Plan, rows: int | None = None) -> _Reply:
        if path not in PATHS:
            return _Reply(404, b"[]")
        if path not in (LISTED, RATES) and not query.get("symbol"):
            return _error(400, "Query Error: Invalid or missing query parameter - symbol")
        found = self.records.rows(path, "" if path in (LISTED, RATES) else query["symbol"])
        if path in DATED:
            for name in ("from", "to"):
                if name in query and not DAY.fullmatch(query[name]):
                    return _error(400, f"Query Error: Invalid or missing query parameter - {name}")
            first = query.get("from") or _years_before(self.today, plan.default_years)
            first = max(first, _years_before(self.today, plan.history_years))
            last = min(query.get("to") or "9999-12-31", self.today.isoformat())
            found = [(day, text) for day, text in found if first <= day <= last]
        elif query.get("limit", "").isdecimal():
            found = found[: int(query["limit"])]
        return _Reply(200, document([text for _, text in found[:rows]]))

    def _spoilt(self, fault: Fault, path: str, query: Mapping[str, str], plan: Plan) -> _Reply:
        """The answer as the fault leaves it; what happens to the connection is `_send`'s part."""
        params, status = fault.params, int(fault.params.get("status", 200))
        match fault.kind:
            case "limit":
                wish = {"Retry-After": str(params["retry_after"])} if "retry_after" in params else {}
                return _error(int(params.get("status", 429)), LIMIT, wish)
            case "error":
                return _error(status, str(params.get("text", LIMIT)))
            case "plain":
                return _Reply(status, str(params.get("text", PREMIUM)).encode(), "text/plain")
            case "empty":
                return _Reply(200, b"")
            case "html":
                return _Reply(int(params.get("status", 502)), PROXY_PAGE.encode(), "text/html")
            case "garbage":
                body = params.get("body", "\x1f not what you asked for")
                return _Reply(200, body if isinstance(body, bytes) else str(body).encode("utf-8", "surrogateescape"))
            case "redirect":
                return _Reply(int(params.get("status", 302)), b"", headers={"Location": str(params["location"])})
            case "bomb":
                return _Reply(200, b" " * (int(params.get("megabytes", 128)) << 20))
            case "capped":
                return self._answer(path, query, plan, int(params.get("rows", 100)))
            case "unfiltered":
                return self._answer(path, {**query, "from": "0001-01-01", "to": "9999-12-31"}, plan)
            case "stranger":
                return self._answer(path, {**query, "symbol": str(params.get("symbol", "IBM"))}, plan)
            case "truncated":
                whole = self._answer(path, query, plan)
                return _Reply(whole.status, whole.body[: max(1, len(whole.body) // 2)], whole.kind)
        return self._answer(path, query, plan)

    async def _show_log(self, request: web.Request) -> web.Response:
        _only_local(request)
        return web.json_response([one.__dict__ for one in self.log])

    async def _control(self, request: web.Request) -> web.Response:
        """Faults {kind, …}, override {symbol, date, field, token}, split {symbol, date, numerator, …}."""
        _only_local(request)
        if request.method == "DELETE":
            self.faults.clear()
            return web.json_response({})
        try:
            said: dict[str, Any] = await request.json()
            match request.path.rpartition("/")[2]:
                case "faults":
                    self.faults.add(Fault(**said))
                case "override":
                    self.records.override(said["symbol"], said["date"], said["field"], said["token"])
                case _:
                    self.records.split(said["symbol"], said["date"], int(said["numerator"]), int(said["denominator"]))
        except (KeyError, TypeError, ValueError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.json_response({})


def _only_local(request: web.Request) -> None:
    """A page in a browser may reach the loopback address too, but not with our Host and without an Origin."""
    if request.url.host not in ("127.0.0.1", "localhost") or "Origin" in request.headers:
        raise web.HTTPForbidden


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> _Reply:
    return _Reply(status, json.dumps({"Error Message": text}, indent=2).encode(), headers=headers or {})


def _years_before(day: date, years: int) -> str:
    return (day - timedelta(days=round(365.25 * years))).isoformat()


async def _send(request: web.Request, reply: _Reply, fault: Fault | None) -> web.StreamResponse:
    """Write the reply as Express behind nginx does: a weak ETag, gzip where accepted."""
    body, headers = reply.body, {"Content-Type": reply.kind, "Server": "nginx", **reply.headers}
    if body and reply.kind != "text/html":
        headers["Content-Type"] += "; charset=utf-8"
        headers["ETag"] = f'W/"{len(body):x}-{hashlib.sha1(body, usedforsecurity=False).hexdigest()[:27]}"'
    if len(body) > 1024 and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = gzip.compress(body, 1, mtime=0)
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    kind, params = (fault.kind, fault.params) if fault else ("", {})
    if kind == "latency":
        await asyncio.sleep(float(params.get("seconds", 0.05)))
    if kind not in ("reset", "cut", "drip"):
        return web.Response(status=reply.status, body=body, headers=headers)
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    if kind == "drip":
        size = max(1, -(-len(body) // int(params.get("pieces", 10))))
        for start in range(0, len(body), size):
            await asyncio.sleep(float(params.get("seconds", 0.005)))
            await response.write(body[start : start + size])
        await response.write_eof()
        return response
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.abort() if kind == "reset" else request.transport.close()
    return response
