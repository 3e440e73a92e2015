"""The lake over HTTP: REST routes made from the newest release, and the console beside them."""

import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import duckdb
import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay.contract.model import Contract
from assay.errors import AssayError, LakeDamaged, UsageError
from assay.lake import release
from assay.ports import Files, Ledger, Limits
from assay.serve import console, openapi, query
from assay.serve.door import HEALTH, LOOPBACK, Door, Keys, is_data, problem_json
from assay.serve.granted import NOTHING
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
    grant_of,
    opened,
    way_back,
)
from assay.serve.query import Ask, Problem, Table

CACHE = 64 * 2**20
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
    limits: Limits, key: bytes, hosts: Collection[str] | None = LOOPBACK, keyed: bool = False, cache: int = CACHE,
    every: float = EVERY, deadline: float = DEADLINE, alerts: Alarm | None = None,
    silver: bool = True, pages: bool = True,
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
        hosts: names this server answers to, against DNS rebinding; None for any, where keys are demanded.
        keyed: whether each request must show an API key, and reads what that was granted.
        cache: bytes of finished answers to keep; 0 for none.
        every: seconds between two looks for a newer release.
        deadline: seconds a query may take.
        silver: whether silver's tables are served beside gold's.
        pages: whether there is a console; without it every refusal is JSON but the one to who shows no key.
        limits: what the queries of a release may hold before they spill, and where to.
        alerts: which alerts fire now, for the console; without it none is shown.
    """
    if hosts is None and not keyed:
        raise ValueError("a server that answers to any name demands keys")
    newest = Newest(files, limits=limits, every=every, deadline=deadline, keyed=keyed, silver=silver)
    place = Place(files, ledger, contracts, newest, explain, newer, title, keyed, alerts, pages)
    keys = Keys(files) if keyed else None

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        newest.close()
        if keys:
            keys.close()

    made = FastAPI(title=title, openapi_url=None, docs_url=None, redoc_url=None, lifespan=life)
    made.router.routes[:] = [*_routes(place, key, Bytes(cache)), *(console.routes(place) if pages else ())]
    for kind in (Problem, HTTPException, AssayError):
        made.add_exception_handler(kind, _refused(place))
    made.add_middleware(Door, hosts=hosts if hosts is None else frozenset(hosts), keys=keys, failed=_failed(place))
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
        return await _told(place, request, lambda r: openapi.document(place.title, r, keyed=place.keyed), bare=True)

    async def health(request: Request) -> Response:
        _no_parameters(request)
        grant = grant_of(request)
        reading = await place.newest.reading(grant)
        # Who shows no key is told no more than that.
        number = reading.release.number if reading and grant != NOTHING else None
        body = {"status": "ok" if reading else "empty", "release": number}
        return _json(body, {"cache-control": "no-store"})

    async def explained(request: Request) -> Response:
        return await _explained(place, request)

    return [
        Route("/v1/gold/{name}", rows),
        Route("/v1/silver/{name}", rows),
        Route("/v1/gold", listed),
        Route("/v1/silver", listed),
        Route("/v1/releases/current", current),
        Route(HEALTH, health),
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
    reading = await opened(place, request)
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
    reading = await opened(place, request)
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
    reading = await opened(place, request)
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
    if is_data(request.url.path) or not place.pages:
        return problem_json(error)
    return await console.problem(place, request, error)
