"""The lake over HTTP: REST routes made from the newest release, and the console beside them."""

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any
from urllib.parse import unquote_to_bytes

import duckdb
import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from assay.contract.model import Contract
from assay.errors import AssayError, LakeDamaged, UsageError
from assay.lake import release
from assay.ports import Files, Ledger, Limits
from assay.serve import console, openapi, query
from assay.serve.newer import Newer, newer
from assay.serve.newest import (
    DEADLINE,
    EVERY,
    Alarm,
    Explain,
    Mark,
    Newest,
    Place,
    Reading,
    explain_question,
    opened,
    way_back,
)
from assay.serve.query import Ask, Problem, Table

CACHE, LONGEST = 64 * 2**20, 2**15
_log = logging.getLogger(__name__)
_JSON, _CSV = "application/json", "text/csv; charset=utf-8"
_VERSION = version("assay")
_KEEP = "private, max-age=0, must-revalidate"


Body = tuple[bytes, str | None, str]
"""A finished answer, the cursor of the next page, and how many rows have a newer record."""


class Bytes:
    """Finished bodies by question and release, at most `room` bytes; the oldest go first. Room 0 keeps nothing."""

    def __init__(self, room: int) -> None:
        self._room, self._used = room, 0
        self._kept: OrderedDict[str, Body] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Body | None:
        with self._lock:
            found = self._kept.get(name)
            if found:
                self._kept.move_to_end(name)
            return found

    def put(self, name: str, found: Body) -> None:
        if len(found[0]) > self._room // 16:
            return
        with self._lock:
            if name not in self._kept:
                self._kept[name] = found
                self._used += len(found[0])
            while self._used > self._room:
                self._used -= len(self._kept.popitem(last=False)[1][0])


def app(
    files: Files, ledger: Ledger, contracts: Mapping[str, Contract], *, explain: Explain | None, newer: Mark | None = None, title: str,
    limits: Limits, key: bytes, hosts: Sequence[str] = ("127.0.0.1", "localhost", "::1"), cache: int = CACHE,
    every: float = EVERY, deadline: float = DEADLINE, alerts: Alarm | None = None,
) -> FastAPI:  # fmt: skip
    """REST and console of a lake, read-only.

    Args:
        files: the lake's files.
        ledger: its facts, for the console.
        contracts: by dataset, as they stand now; what is served follows those the release pinned.
        title: the lake's name.
        explain: (release, table, key, column) to the way back of one value; UsageError if there is no such row.
        newer: (release, dataset) to the current rows whose later record was rejected: `key` as texts, `place`, and what
            is told of that record. Without it, pages say that this is not known.
        key: signs cursors.
        hosts: names this server answers to, against DNS rebinding.
        cache: bytes of finished answers to keep; 0 for none.
        every: seconds between two looks for a newer release.
        deadline: seconds a query may take.
        limits: what the queries of a release may hold before they spill, and where to.
        alerts: which alerts fire now, for the console; without it none is shown.
    """
    newest = Newest(files, limits=limits, every=every, deadline=deadline)
    place = Place(files, ledger, contracts, newest, explain, newer, title, alerts)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        newest.close()

    made = FastAPI(title=title, openapi_url=None, docs_url=None, redoc_url=None, lifespan=life)
    made.router.routes[:] = [*_routes(place, key, Bytes(cache)), *console.routes(place)]
    for kind in (Problem, HTTPException, AssayError):
        made.add_exception_handler(kind, _refused(place))
    made.add_middleware(Door, hosts=frozenset(hosts), failed=_failed(place))
    return made


def _routes(place: Place, key: bytes, kept: Bytes) -> list[Route]:
    async def rows(request: Request) -> Response:
        return await _rows(place, key, kept, request)

    async def listed(request: Request) -> Response:
        zone = request.url.path.rsplit("/", 1)[1]
        _no_parameters(request)
        return await _told(
            place, request, lambda r: [openapi.summary(t) for (z, _), t in r.tables.items() if z == zone]
        )

    async def current(request: Request) -> Response:
        _no_parameters(request)
        return await _told(place, request, lambda r: dict(release.describe(r.release)))

    async def schema(request: Request) -> Response:
        _no_parameters(request)
        return await _told(place, request, lambda r: openapi.document(place.title, r), bare=True)

    async def health(request: Request) -> Response:
        _no_parameters(request)
        reading = await place.newest.reading()
        body = {"status": "ok" if reading else "empty", "release": reading.release.number if reading else None}
        return _json(body, {"cache-control": "no-store"})

    async def explained(request: Request) -> Response:
        return await _explained(place, request)

    return [
        Route("/v1/gold/{name}", rows),
        Route("/v1/silver/{name}", rows),
        Route("/v1/gold", listed),
        Route("/v1/silver", listed),
        Route("/v1/releases/current", current),
        Route("/v1/health", health),
        Route("/v1/explain/{name}", explained),
        Route("/openapi.json", schema),
    ]


async def _rows(place: Place, key: bytes, kept: Bytes, request: Request) -> Response:
    scope = request.scope
    path, asked = scope["path"], scope["query_string"]
    accept = condition = ""
    for name, text in scope["headers"]:
        if name == b"accept":
            accept = text.decode("latin-1")
        elif name == b"if-none-match":
            condition += "," + text.decode("latin-1")
    reading = await opened(place)
    with reading.use():
        table = reading.table("gold" if path.startswith("/v1/gold/") else "silver", scope["path_params"]["name"])
        ask = _ask(table, asked, accept, reading)
        marks = await newer(place, reading, table)
        name = query.digest(f"{_VERSION} {reading.mark} {ask.canonical} {ask.format} {ask.cursor} {marks.known}")
        headers = {"etag": f'W/"{name}"', "cache-control": _KEEP, "vary": "Accept"}
        if condition and _matches(condition, name):
            return Response(None, 304, headers)
        if ask.cursor:
            ask = query.resume(key, table, ask, reading.mark)
        found = kept.get(name)
        if found is None:
            found = await place.newest.ask(reading, _body, key, reading, table, ask, marks)
            kept.put(name, found)
    body, cursor, late = found
    headers["x-assay-newer"] = late
    headers["x-assay-release"] = str(reading.release.number)
    headers["x-assay-origin"] = ",".join(table.origins)
    headers["content-type"] = _JSON if ask.format == "json" else _CSV
    if cursor:
        headers["link"] = f'<{query.following(table, asked, cursor)}>; rel="next"'
    return Response(body, 200, headers)


def _ask(table: Table, asked: bytes, accept: str, reading: Reading) -> Ask:
    try:
        return query.parse(table, asked, accept)
    except query.NoClock as error:
        others = [t.full for t in reading.tables.values() if t.answers(error.clock)]
        raise Problem(
            400, f"{error.detail}; {error.parameter} is answered by {', '.join(others) or 'no table of this release'}"
        ) from None


def _body(con: duckdb.DuckDBPyConnection, key: bytes, reading: Reading, table: Table, ask: Ask, marks: Newer) -> Body:
    found = query.fetch(con, table, ask)
    late = marks.of_page(table, ask, found.rows)
    told = "unknown" if late is None else str(sum(one.get("rows", 1) for one in late))
    cursor = query.sign(key, table, ask, reading.mark, found.last) if found.last else None
    return query.encode(found, ask, cursor, reading.release.number, table.origins, late), cursor, told


async def _told(place: Place, request: Request, tell: Callable[[Reading], Any], *, bare: bool = False) -> Response:
    """A description of the release, with its ETag."""
    reading = await opened(place)
    name = query.digest(f"{_VERSION} {place.title} {reading.mark} {request.url.path}")
    headers = {"etag": f'W/"{name}"', "cache-control": _KEEP, "x-assay-release": str(reading.release.number)}
    if _matches(",".join(request.headers.getlist("if-none-match")), name):
        return Response(None, 304, headers)
    told = tell(reading)
    release_of = {"data": told, "release": reading.release.number, "origin": reading.release.origins}
    return _json(told if bare else release_of, headers)


def _matches(condition: str, name: str) -> bool:
    """Whether an If-None-Match says that the caller has this one already; `*` has any."""
    return f'"{name}"' in condition or condition.strip(", ") == "*"


async def _explained(place: Place, request: Request) -> Response:
    reading = await opened(place)
    with reading.use():
        table, key, column = explain_question(reading, request, silver=True)
        found = await way_back(place, reading, table, key, column)
    return _json(found, {"cache-control": "no-store", "x-assay-release": str(reading.release.number)})


def _no_parameters(request: Request) -> None:
    if request.scope["query_string"]:
        raise Problem(400, f"{request.url.path} takes no parameters")


def _json(body: Any, headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(body), 200, {**headers, "content-type": _JSON})


# ------------------------------------------------------------------ errors


def _refused(place: Place) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, Problem):
            return await _problem(place, request, error)
        if isinstance(error, HTTPException):
            return await _problem(
                place, request, Problem(error.status_code, f"nothing is served at {request.url.path[:120]}")
            )
        if isinstance(error, UsageError):
            return await _problem(place, request, Problem(400, str(error)))
        return await _failed(place)(request, error)

    return answer


def _failed(place: Place) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        # the engine's text may quote cells: it goes to the log of the lake's owner, never to the caller
        _log.error("%r failed", request.url.path, exc_info=error)
        what = "what is stored is not what was written" if isinstance(error, LakeDamaged) else "the server failed"
        return await _problem(
            place, request, Problem(500, f"{what}; the lake's owner finds the reason in the server's log", "operator")
        )

    return answer


async def _problem(place: Place, request: Request, error: Problem) -> Response:
    if request.url.path.startswith("/v1/") or request.url.path == "/openapi.json":
        return problem_json(error)
    return await console.problem(place, request, error)


def problem_json(error: Problem) -> Response:
    """RFC 9457, with `who`: caller, operator or nobody must act."""
    names = {400: "The query cannot be answered", 403: "Not from there", 404: "There is no such thing", 405: "Only reading here",
             410: "The release moved on", 414: "The address is too long", 421: "Not this server", 503: "Not now"}  # fmt: skip
    body = {
        "type": "about:blank",
        "title": names.get(error.status, "The server failed"),
        "status": error.status,
        "detail": error.detail,
        "who": error.who,
    }
    headers = {**error.headers, "content-type": "application/problem+json", "cache-control": "no-store"}
    return Response(msgspec.json.encode(body), error.status, headers)


# ------------------------------------------------------------------ the door


class Door:
    """Around every route: only GET and HEAD, our names, no foreign origin, the headers browsers need, no bare failure."""

    def __init__(
        self, app: ASGIApp, hosts: frozenset[str], failed: Callable[[Request, Exception], Awaitable[Response]]
    ) -> None:
        self._inner, self._hosts, self._failed = app, hosts, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        begun = False

        async def sent(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        if refusal := self._refusal(scope):
            await problem_json(refusal)(scope, receive, sent)
            return
        try:
            await self._inner(scope, receive, sent)
        except Exception as error:
            if begun:
                raise
            await (await self._failed(Request(scope), error))(scope, receive, sent)

    def _refusal(self, scope: Scope) -> Problem | None:
        host = origin = b""
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            return Problem(400, "the request names two hosts; send one")
        for name, text in scope["headers"]:
            if name == b"host":
                host = text
            elif name == b"origin":
                origin = text
        if _hostname(host) not in self._hosts:
            return Problem(
                421, "this server does not answer to that Host name; ask it by the address it was started with"
            )
        if origin and origin.partition(b"://")[2] != host:
            return Problem(403, "requests from other web origins are refused")
        if scope["method"] not in ("GET", "HEAD"):
            return Problem(
                405, f"{scope['method'][:20]} is not allowed: everything here is only read", Allow="GET, HEAD"
            )
        if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST:
            return Problem(414, f"the address is longer than {LONGEST} characters; shorten the query")
        if not _encoded(scope["raw_path"]) or not _encoded(scope["query_string"]):
            return Problem(400, "the address is not percent-encoded UTF-8")
        return None


_HEADERS = [
    (b"content-security-policy", console.CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]


def _encoded(text: bytes) -> bool:
    """Whether each % is followed by two hexadecimal digits, and all of it is UTF-8."""
    if re.search(rb"%(?![0-9A-Fa-f]{2})", text):
        return False
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return True


def _hostname(host: bytes) -> str:
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]
