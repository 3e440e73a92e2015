"""The lake as pages for people: no script, one style sheet, the same figures as the API."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import duckdb
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay import windows
from assay.serve import pages
from assay.serve.console import charts, facts
from assay.serve.pages import Column, Problem, Table, token
from assay.serve.reading import Place, Reading, explain_question, opened, way_back

CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
ROWS, SYMBOLS, SESSIONS, BATCHES = 50, 500, 40_000, 50
_HERE = Path(__file__).parent
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#1f4e79"/>'
    '<path d="M3 12.5 8 3l5 9.5" fill="none" stroke="#fff" stroke-width="1.6"/><path d="M5.2 9.6h5.6" stroke="#e3c25a" stroke-width="1.6"/></svg>'
)
_ORIGINS = {
    "vendor": "as the vendor sent it",
    "sandbox": "from the sandbox, a stand-in for the vendor: real old records, not today's market",
    "synthetic": "made up by a program",
}


def routes(place: Place) -> list[Route]:
    """The pages, for the server of `assay.serve.api`."""

    async def overview(request: Request) -> Response:
        _only(request, ())
        reading = await place.newest.reading()
        if reading is None:
            return await _overview(place, None)
        with reading.use():
            return await _overview(place, reading)

    async def gold(request: Request) -> Response:
        return await _dataset(place, request, "gold")

    async def silver(request: Request) -> Response:
        return await _dataset(place, request, "silver")

    async def explained(request: Request) -> Response:
        reading = await opened(place)
        with reading.use():
            table, key, column = explain_question(reading, request)
            found = await way_back(place, table, key, column)
            return _page("explain.html", place, reading, **_explained(table, found), here=("gold", table.name))

    async def style(_: Request) -> Response:
        return _kept((_HERE / "app.css").read_text(), "text/css; charset=utf-8")

    async def icon(_: Request) -> Response:
        return _kept(_ICON, "image/svg+xml")

    return [
        Route("/", overview),
        Route("/gold/{name}", gold),
        Route("/silver/{name}", silver),
        Route("/explain/{name}", explained),
        Route("/app.css", style),
        Route("/icon.svg", icon),
    ]


async def problem(place: Place, request: Request, error: Problem) -> Response:
    """A refusal as a page: what is wrong, who must act, where to go on."""
    try:
        reading = await place.newest.reading()
    except Exception:  # noqa: BLE001 - this page is what is shown when reading fails
        reading = None
    answer = _page("problem.html", place, reading, error=error, asked=request.url.path)
    answer.status_code = error.status
    answer.headers.update(error.headers)
    return answer


# ------------------------------------------------------------------ pages


async def _overview(place: Place, reading: Reading | None) -> Response:
    accounts = await place.newest.work(facts.accounts, place, reading)
    gold = [t for (zone, _), t in reading.tables.items() if zone == "gold"] if reading else []
    terms = ("captured", "accepted", "duplicate", "quarantined", "held", "waiting")
    return _page(
        "overview.html", place, reading, accounts=accounts, gold=gold, terms=terms,
        total={term: sum(a.sum(term) for a in accounts) for term in terms}, here=("", ""),
    )  # fmt: skip


async def _dataset(place: Place, request: Request, zone: str) -> Response:
    reading = await opened(place)
    with reading.use():
        table = reading.table(zone, request.path_params["name"])
        _only(request, ("symbol",))
        symbol = request.query_params.get("symbol")
        shown = await place.newest.ask(reading, _rows, table, symbol)
        context: dict[str, Any] = {"table": table, "zone": zone, "here": (zone, table.name), **shown}
        if zone == "silver":
            context |= await place.newest.work(_silver, place, reading, table)
        else:
            context["gold"] = reading.release.table(table.name)
        return _page("table.html", place, reading, **context)


def _rows(con: duckdb.DuckDBPyConnection, table: Table, symbol: str | None) -> dict[str, Any]:
    """The first rows, and where the table has symbol, date and close, the chart of one symbol."""
    symbols, drawn = _series(con, table, symbol)
    query = urlencode({"symbol": symbol}) if symbol is not None and "symbol" in table.columns else ""
    if symbol is not None and not query:
        raise Problem(
            400, f"{table.full} has no column symbol to choose by; its columns are {', '.join(table.columns)}"
        )
    ask = replace(pages.parse(table, query.encode()), limit=ROWS)
    found = pages.fetch(con, table, ask)
    chosen = symbol if symbol is not None else (symbols[0] if symbols else None)
    return {
        "symbols": symbols, "symbol": symbol, "charted": chosen, "chart": drawn, "names": found.names, "more": found.last is not None,
        "rows": [_cells(table, found.names, row) for row in found.rows], "query": query,
    }  # fmt: skip


def _cells(table: Table, names: Sequence[str], row: Sequence[Any]) -> list[tuple[str, str | None, str]]:
    """Name, text and, in gold, the address of the explanation of each cell."""
    cells = {n: token(c) if c is not None and token(c) != "" else None for n, c in zip(names, row, strict=False)}
    key = {k: cells[k] or "" for k in table.key}
    return [(n, text, _explain_link(table, key, n) if table.zone == "gold" else "") for n, text in cells.items()]


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
            f"SELECT DISTINCT symbol FROM {table.relation} WHERE symbol IS NOT NULL ORDER BY 1 LIMIT {SYMBOLS}"
        ).fetchall()
    ]
    chosen = symbol if symbol is not None else (symbols[0] if symbols else "")
    sql = f"""SELECT date, CAST(close AS DOUBLE), CAST(close AS VARCHAR) FROM {table.relation}
        WHERE symbol = ? AND isfinite(CAST(close AS DOUBLE)) ORDER BY date DESC LIMIT {SESSIONS}"""
    series: list[tuple[date, float, str]] = con.execute(sql, [chosen]).fetchall()
    return symbols, charts.chart(series[::-1])


def _silver(place: Place, reading: Reading, table: Table) -> dict[str, Any]:
    contract = reading.contracts[table.name]
    account = facts.account(place.ledger, contract)
    account.newest_day = facts.newest_day(place, reading, table.name)
    snapshot = next(s.snapshot for s in reading.release.silver if s.dataset == table.name)
    return {"contract": contract, "account": account, "snapshot": snapshot, "batches": account.batches[:BATCHES]}


def _explained(table: Table, found: Mapping[str, Any]) -> dict[str, Any]:
    links = {name: _explain_link(table, found["key"], name) for name in table.columns}
    return {
        "table": table,
        "found": found,
        "flow": charts.flow(found),
        "groups": charts.groups_of(found["observations"]),
        "links": links,
    }


def _explain_link(table: Table, key: Mapping[str, str], column: str) -> str:
    return f"/explain/{table.name}?{urlencode({**key, 'column': column})}"


def _only(request: Request, known: Sequence[str]) -> None:
    for name in request.query_params:
        if name not in known or len(request.query_params.getlist(name)) > 1:
            there = f"this page takes {', '.join(known)}" if known else "this page takes no parameters"
            raise Problem(400, f"{name[:60]!r} means nothing here: {there}")


# ------------------------------------------------------------------ rendering


def _figure(text: str | None, column: Column | None = None) -> Markup:
    """A cell as the API writes it; zeros that only fill up the declared decimals are pale."""
    if text is None:
        return Markup('<span class="null">null</span>')
    kind = column.type.upper() if column else ""
    if kind.startswith("DECIMAL("):
        text = _padded(text, int(kind[8:-1].split(",")[1]))
    found = re.fullmatch(r"(-?\d+)(\.\d*?)(0*)", text) if kind.startswith("DECIMAL(") else None
    if not found or not found[3]:
        return escape(text)
    whole, rest, zeros = found[1], found[2], found[3]
    if rest == ".":
        return Markup('{}<span class="z">.{}</span>').format(whole, zeros)
    return Markup('{}{}<span class="z">{}</span>').format(whole, rest, zeros)


def _padded(text: str, scale: int) -> str:
    if not re.fullmatch(r"-?\d+(\.\d+)?", text) or not scale:
        return text
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest:0<{scale}}"


def _when(at: datetime | str | None) -> Markup:
    if at is None:
        return Markup('<span class="null">never</span>')
    moment = (datetime.fromisoformat(at) if isinstance(at, str) else at).astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.isoformat().replace("+00:00", "Z"), moment.strftime("%-d %b %Y, %H:%M UTC")
    )


def _ago(at: datetime | None) -> str:
    if at is None:
        return ""
    seconds = max(0, int((windows.now() - at).total_seconds()))
    for name, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def _count(number: int) -> Markup:
    return Markup('<data value="{}">{}</data>').format(number, f"{number:,}")


def _sentence(text: str) -> str:
    """The first sentence of a description."""
    return re.split(r"(?<=[.!?])\s", text.strip(), maxsplit=1)[0]


def _opening(text: str) -> str:
    """A sentence with its capital, unless it begins with a name of the data."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0].isalpha() else text


def _record(text: str) -> Markup:
    """A record's tokens, which may wrap after a comma and not inside a number."""
    return Markup(",<wbr>").join(text.split(","))


def _numeric(column: Column) -> bool:
    return column.type.upper().startswith(
        ("DECIMAL", "DOUBLE", "FLOAT", "BIGINT", "INTEGER", "HUGEINT", "SMALLINT", "TINYINT")
    )


_pages = Environment(
    loader=PackageLoader("assay.serve.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_pages.filters.update(
    figure=_figure, when=_when, ago=_ago, count=_count, sentence=_sentence, opening=_opening, record=_record
)
_pages.tests["numeric"] = _numeric
_pages.globals["ORIGINS"] = _ORIGINS


def _page(
    template: str, place: Place, reading: Reading | None, *, here: tuple[str, str] = ("-", ""), **context: Any
) -> Response:
    found = reading.release if reading else None
    tables = list(reading.tables.values()) if reading else []
    body = _pages.get_template(template).render(title=place.title, release=found, tables=tables, here=here, **context)
    headers = {"cache-control": "private, max-age=0, must-revalidate", "content-type": "text/html; charset=utf-8"}
    if found:
        headers |= {"x-assay-release": str(found.number), "x-assay-origin": ",".join(found.origins)}
    return Response(body, 200, headers)


def _kept(text: str, kind: str) -> Response:
    return Response(text, 200, {"content-type": kind, "cache-control": "private, max-age=300"})
