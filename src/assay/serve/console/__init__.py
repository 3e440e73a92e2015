"""The lake as pages for people: no script but in dbt's own page, one style sheet, the same figures as the API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import duckdb
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay.lake import account, drift, heat, holes, runs
from assay.lake.duck import ident
from assay.serve import query
from assay.serve.console import charts, dbtdocs, facts
from assay.serve.console.figures import templates
from assay.serve.granted import Grant
from assay.serve.newer import Newer, newer
from assay.serve.newest import Place, Reading, explain_question, grant_of, opened, way_back
from assay.serve.query import MOST, Ask, Problem, Table, token, value
from assay.spoken import TERMS
from assay.windows import Window

CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
ROWS, SYMBOLS, SESSIONS, BATCHES, SHOWN, SHOWN_RUNS = 50, 500, 40_000, 50, 20, 100
_HERE = Path(__file__).parent
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#1f4e79"/>'
    '<path d="M3 12.5 8 3l5 9.5" fill="none" stroke="#fff" stroke-width="1.6"/><path d="M5.2 9.6h5.6" stroke="#e3c25a" stroke-width="1.6"/></svg>'
)


def routes(place: Place) -> list[Route]:
    """The pages, for the server of `assay.serve.rest`."""

    async def overview(request: Request) -> Response:
        _only(request, ())
        grant = grant_of(request)
        reading = await place.newest.reading(grant)
        if reading is None:
            return await _overview(place, None, grant)
        with reading.use():
            return await _overview(place, reading, grant)

    async def gold(request: Request) -> Response:
        return await _dataset(place, request, "gold")

    async def silver(request: Request) -> Response:
        return await _dataset(place, request, "silver")

    async def explained(request: Request) -> Response:
        reading = await opened(place, request)
        with reading.use():
            table, key, column = explain_question(reading, request, silver=True)
            found = await way_back(place, reading, table, key, column)
            context = _explained(table, found, column)
            return _page("explain.html", place, reading, **context, here=(table.zone, table.name))

    async def listed(request: Request) -> Response:
        _only(request, ())
        reading = await place.newest.reading(grant_of(request))
        found = await place.newest.work(_runs, place, grant_of(request))
        return _page(
            "runs.html", place, reading, runs=found[:SHOWN_RUNS], goes_on=any(map(_goes_on, found)), here=("runs", "")
        )

    async def run(request: Request) -> Response:
        _only(request, ())
        reading = await place.newest.reading(grant_of(request))
        found = await place.newest.work(_run, place, grant_of(request), request.path_params["run"])
        return _page("run.html", place, reading, **found, here=("runs", ""))

    async def documented(request: Request) -> Response:
        _only(request, ())
        reading = await opened(place, request)
        return await _documented(place, reading, grant_of(request))

    async def style(_: Request) -> Response:
        return _kept((_HERE / "app.css").read_text(), "text/css; charset=utf-8")

    async def icon(_: Request) -> Response:
        return _kept(_ICON, "image/svg+xml")

    return [
        Route("/", overview),
        Route("/gold/{name}", gold),
        Route("/silver/{name}", silver),
        Route("/explain/{name}", explained),
        Route("/runs", listed),
        Route("/runs/{run}", run),
        Route("/dbt", documented),
        Route("/app.css", style),
        Route("/icon.svg", icon),
    ]


async def problem(place: Place, request: Request, error: Problem) -> Response:
    """A refusal as a page: what is wrong, who must act, where to go on."""
    try:
        reading = await place.newest.reading(grant_of(request))
    except Exception:  # noqa: BLE001 - this page is what is shown when reading fails
        reading = None
    answer = _page("problem.html", place, reading, error=error, asked=request.url.path)
    answer.status_code = error.status
    answer.headers.update(error.headers)
    return answer


def locked(error: Problem) -> Response:
    """What somebody without a key is shown: nothing of the lake, not even its name."""
    body = templates.get_template("locked.html").render(error=error)
    headers = {**error.headers, "content-type": "text/html; charset=utf-8", "cache-control": "no-store"}
    return Response(body, error.status, headers)


# ------------------------------------------------------------------ pages


async def _overview(place: Place, reading: Reading | None, grant: Grant) -> Response:
    found = await place.newest.work(facts.standings, place, reading, grant)
    # A failed build may quote rows of any table, and an alert any dataset.
    building = await place.newest.work(account.failing, place.ledger, "") if grant is None else []
    alerts = await place.newest.work(place.alerts) if place.alerts and grant is None else []
    gold = [t for (zone, _), t in reading.tables.items() if zone == "gold"] if reading else []
    return _page(
        "overview.html", place, reading, standings=found, building=building, alerts=alerts, gold=gold, terms=TERMS, shown=SHOWN, whole=grant is None,
        total={term: sum(one.account.sum(term) for one in found) for term in ("captured", *TERMS, "withdrawn", "waiting")},
        replaced=sum(one.replaced for one in found), here=("", ""),
    )  # fmt: skip


def _runs(place: Place, grant: Grant) -> list[dict[str, Any]]:
    """The runs that landed nothing but what was granted."""
    found = runs.listed(place.ledger)
    if grant is None:
        return found
    # What was asked for may name more than what was landed.
    return [{**one, "select": one["datasets"]} for one in found if set(one["datasets"]) <= grant]


def _goes_on(run: Mapping[str, Any]) -> bool:
    return run["state"] in ("running", "paused")


def _run(place: Place, grant: Grant, name: str) -> dict[str, Any]:
    found = next((one for one in _runs(place, grant) if one["run"] == name), None)
    if found is None:
        raise Problem(404, f"no run {name[:60]!r} is known of the last 30 days; /runs lists them")
    span = Window.parse(found["span"]) if found["span"] else None
    contracts = [place.contracts[one] for one in found["datasets"] if one in place.contracts]
    heats = [heat.of(place.files, place.ledger, one, span) for one in contracts]
    return {
        "run": found, "goes_on": _goes_on(found), "heats": [one for one in heats if one],
        "failing": runs.failing(place.ledger, found),
    }  # fmt: skip


async def _documented(place: Place, reading: Reading, grant: Grant) -> Response:
    found = reading.release
    if grant is not None:
        raise Problem(
            403, "dbt's documentation tells of every table, and your key reads some; whoever made the key can make one that reads everything"
        )  # fmt: skip
    if not found.docs:
        raise Problem(
            404, f"release {found.number} was built before dbt's documentation was kept with it; the next `assay build` keeps it", "operator"
        )  # fmt: skip
    body = await place.newest.work(dbtdocs.page, place.files, found, place.title)
    headers = dbtdocs.HEADERS | {"content-type": "text/html; charset=utf-8", "x-assay-release": str(found.number)}
    return Response(body, 200, headers | {"cache-control": "private, max-age=0, must-revalidate"})


async def _dataset(place: Place, request: Request, zone: str) -> Response:
    reading = await opened(place, request)
    with reading.use():
        table = reading.table(zone, request.path_params["name"])
        _only(request, ("symbol", "after"), often=("after",))
        symbol, after = request.query_params.get("symbol"), request.query_params.getlist("after")
        marks = await newer(place, reading, table)
        shown = await place.newest.ask(reading, _rows, table, symbol, after, marks)
        context: dict[str, Any] = {
            "table": table,
            "zone": zone,
            "here": (zone, table.name.removesuffix("_versions") if table.whole else table.name),
        }
        context |= shown
        if zone == "silver" and not table.whole:
            context |= await place.newest.work(_silver, place, reading, table)
        elif zone == "gold":
            context["gold"] = reading.release.table(table.name)
        return _page("table.html", place, reading, **context)


def _rows(
    con: duckdb.DuckDBPyConnection, table: Table, symbol: str | None, after: Sequence[str], marks: Newer
) -> dict[str, Any]:
    """Some rows, how many there are, which are not the newest, and where the table has symbol, date and close, the chart of one symbol."""
    if symbol is not None and "symbol" not in table.columns:
        raise Problem(
            400, f"{table.full} has no column symbol to choose by; its columns are {', '.join(table.columns)}"
        )
    symbols, drawn = _series(con, table, symbol)
    asked = {"symbol": symbol} if symbol is not None else {}
    ask = replace(query.parse(table, urlencode(asked).encode()), limit=ROWS, after=_after(table, after))
    found = query.fetch(con, table, ask)
    chosen = symbol if symbol is not None else (symbols[0] if symbols else None)
    late = [one and _explain_link(table, one["key"]) for one in marks.of_rows(table, ask, found.rows)]
    following = [*asked.items(), *(("after", token(cell)) for cell in found.last)] if found.last else None
    return {
        "symbols": symbols[:SYMBOLS], "some": len(symbols) > SYMBOLS, "symbol": symbol, "charted": chosen, "chart": drawn,
        "names": found.names, "rows": [_cells(table, found.names, row) for row in found.rows], "after": after,
        "next": urlencode(following) if following else "", "total": _total(con, table, ask), "most": MOST,
        "query": urlencode({**asked, "limit": MOST}), "start": urlencode(asked), "late": late if any(late) else [], "known": marks.known, "inputs": marks.inputs,
    }  # fmt: skip


def _after(table: Table, after: Sequence[str]) -> tuple[Any, ...] | None:
    """The key to go on from, as the query says it: every key column in order."""
    if not after:
        return None
    if len(after) != len(table.key):
        raise Problem(400, f"after is a whole key of {table.full}: {', '.join(table.key)}, each as after=")
    return tuple(value(table.columns[k], text) for k, text in zip(table.key, after, strict=True))


def _total(con: duckdb.DuckDBPyConnection, table: Table, ask: Ask) -> int:
    where = " AND ".join(f"{ident(of)} = CAST(? AS {table.columns[of].type})" for of, _, _ in ask.filters) or "true"
    values = [one for _, _, one in ask.filters]
    found: int = con.execute(f"SELECT count(*) FROM {table.relation} WHERE {where}", values).fetchall()[0][0]
    return found


@dataclass(frozen=True)
class Cell:
    """A cell as the API writes it, None for null; `href` explains it, or if it is the row's `stop`, the row."""

    name: str
    text: str | None
    href: str = ""
    stop: str = ""


def _cells(table: Table, names: Sequence[str], row: Sequence[Any]) -> list[Cell]:
    texts = {n: _text(cell) for n, cell in zip(names, row, strict=False)}
    if table.zone != "gold":
        return [Cell(n, text) for n, text in texts.items()]
    key = {k: texts[k] or "" for k in table.key}
    return [
        Cell(n, text, _explain_link(table, key), f"{', '.join(key.values())}: why this row")
        if n == table.key[0]
        else Cell(n, text, _explain_link(table, key, n))
        for n, text in texts.items()
    ]


def _text(cell: Any) -> str | None:
    text = token(cell)
    # a number that JSON cannot say is null in the API
    return text if text or isinstance(cell, str) else None


def _series(con: duckdb.DuckDBPyConnection, table: Table, symbol: str | None) -> tuple[list[str], charts.Chart | None]:
    kinds = {name: table.columns[name].type.upper() for name in ("symbol", "date", "close") if name in table.columns}
    if (
        kinds.get("symbol") != "VARCHAR"
        or kinds.get("date") != "DATE"
        or not kinds.get("close", "").startswith(("DECIMAL", "DOUBLE"))
    ):
        return [], None
    symbols = [
        s
        for (s,) in con.execute(
            f"SELECT DISTINCT symbol FROM {table.relation} WHERE symbol IS NOT NULL ORDER BY 1 LIMIT {SYMBOLS + 1}"
        ).fetchall()
    ]
    chosen = symbol if symbol is not None else (symbols[0] if symbols else "")
    sql = f"""SELECT date, CAST(close AS DOUBLE), CAST(close AS VARCHAR) FROM {table.relation}
        WHERE symbol = ? AND isfinite(CAST(close AS DOUBLE)) ORDER BY date DESC LIMIT {SESSIONS}"""
    series: list[tuple[date, float, str]] = con.execute(sql, [chosen]).fetchall()
    return symbols, charts.chart(series[::-1])


def _silver(place: Place, reading: Reading, table: Table) -> dict[str, Any]:
    one = reading.release.dataset(table.name)
    contract, standing = facts.promise(place, reading, one), facts.standing(place, reading, table.name)
    return {
        "contract": contract, "standing": standing,
        "drift": drift.of(place.ledger, contract, standing.account.refused),
        "holes": holes.of(place.ledger, contract), "silver": one, "batches": account.newest(place.files, place.ledger, table.name, BATCHES), "shown": SHOWN,
    }  # fmt: skip


def _explained(table: Table, found: Mapping[str, Any], column: str | None) -> dict[str, Any]:
    links = {name: _explain_link(table, found["key"], name) for name in table.columns}
    # The last version of a row that is gone has two clocks more; nobody asks for them here.
    found = {**found, "row": {name: found["row"][name] for name in table.columns if name in found["row"]}}
    groups = charts.groups_of(found["records"])
    flow = charts.flow(found, groups, column) if found["model"] else None
    return {
        "table": table, "found": found, "column": column, "flow": flow, "groups": groups,
        "links": links,
    }  # fmt: skip


def _explain_link(table: Table, key: Mapping[str, str], column: str | None = None) -> str:
    name = (
        f"silver.{table.name.removesuffix('_versions') if table.whole else table.name}"
        if table.zone == "silver"
        else table.name
    )
    return f"/explain/{name}?{urlencode({**key, 'column': column} if column else key)}"


def _only(request: Request, known: Sequence[str], often: Sequence[str] = ()) -> None:
    for name in request.query_params:
        if name not in known or (len(request.query_params.getlist(name)) > 1 and name not in often):
            there = f"this page takes {', '.join(known)}" if known else "this page takes no parameters"
            raise Problem(400, f"{name[:60]!r} means nothing here: {there}")


def _page(
    template: str, place: Place, reading: Reading | None, *, here: tuple[str, str] = ("-", ""), **context: Any
) -> Response:
    found = reading.release if reading else None
    tables = [one for one in reading.tables.values() if not one.whole] if reading else []
    body = templates.get_template(template).render(
        title=place.title, release=found, tables=tables, here=here, **context
    )
    headers = {"cache-control": "private, max-age=0, must-revalidate", "content-type": "text/html; charset=utf-8"}
    if found:
        headers |= {"x-assay-release": str(found.number), "x-assay-origin": ",".join(found.origins)}
    return Response(body, 200, headers)


def _kept(text: str, kind: str) -> Response:
    return Response(text, 200, {"content-type": kind, "cache-control": "private, max-age=300"})
