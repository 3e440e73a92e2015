"""A table's typed query language: a query string in, one bound SELECT out, and the bytes of a page."""

import base64
import csv
import hashlib
import hmac
import io
import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation, localcontext
from functools import cache, lru_cache
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

import duckdb
import msgspec

from assay.lake import duck
from assay.lake.duck import ident
from assay.lake.release import Column
from assay.ports import Limits
from assay.spoken import printable
from assay.sqltypes import SqlType

MOST, USUAL, FIELDS = 10_000, 100, 500
KEPT = 8_192
"""Longer statements are not kept parsed."""
OPERATORS = {"eq": "=", "ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
PARAMETERS = ("select", "limit", "cursor", "format", "as_of", "recorded_as_of")
Format = Literal["json", "csv"]

_json = msgspec.json.Encoder(decimal_format="number")


class Problem(Exception):
    """What a person or program is told instead of data: an HTTP status, one sentence, and who must act."""

    def __init__(self, status: int, detail: str, who: str = "caller", **extra: str) -> None:
        """Keep the sentence; `extra` are response headers."""
        super().__init__(detail)
        self.status, self.detail, self.who, self.headers = status, printable(detail), who, extra


class NoClock(Problem):
    """The table has no such clock; `parameter` asked for it, `clock` is what it would need."""

    def __init__(self, parameter: str, clock: str, detail: str) -> None:
        """Keep what was asked for."""
        super().__init__(400, detail)
        self.parameter, self.clock = parameter, clock


@dataclass(frozen=True)
class Table:
    """What one route serves: `relation` in the release's connection, in the order of `key`.

    `clocks` names the columns `known_from`, `known_to`, `captured_at`, `recorded_to` that stand for each clock;
    `moved` gives the relation at a moment (as_of, recorded_as_of) where the table has versions; `whole` says why a
    table of every version is not read as of one.
    """

    zone: str
    name: str
    relation: str
    columns: Mapping[str, Column]
    key: tuple[str, ...]
    origins: tuple[str, ...]
    clocks: Mapping[str, str] = field(default_factory=dict)
    moved: Callable[[datetime | None, datetime | None], str] | None = None
    title: str = ""
    description: str = ""
    rows: int = 0
    whole: str = ""

    def answers(self, clock: str) -> bool:
        """Whether it can be read at a moment of `known_from` (as_of) or of `captured_at` (recorded_as_of)."""
        return clock in self.clocks and not (self.whole and clock == "known_from")

    @property
    def full(self) -> str:
        """`gold.fct_daily_price`."""
        return f"{self.zone}.{self.name}"

    @property
    def path(self) -> str:
        """Where the API serves it."""
        return f"/v1/{self.zone}/{self.name}"


@dataclass(frozen=True)
class Ask:
    """A checked query: `canonical` is the same text for the same question, `after` the key to go on from."""

    select: tuple[str, ...]
    filters: tuple[tuple[str, str, Any], ...]
    limit: int
    format: Format
    canonical: str
    as_of: datetime | None = None
    recorded_as_of: datetime | None = None
    after: tuple[Any, ...] | None = None
    cursor: str = ""


@dataclass(frozen=True)
class Page:
    """Rows of one page in the order of the key, and the last row's key if more follow."""

    names: tuple[str, ...]
    rows: list[Sequence[Any]]
    last: tuple[Any, ...] | None


# ------------------------------------------------------------------ values


def token(cell: Any) -> str:
    """A cell as the API writes it, without quotes; '' for null. The console shows exactly this."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    text = _json.encode(cell).decode()
    return "" if text == "null" else text.strip('"')


class _Unheld(ValueError):
    """A number that a column of numbers cannot hold; the text says why."""


def value(column: Column, text: str) -> Any:
    """A query's text as a value of the column; Problem says what is expected."""
    kind = SqlType.parse(column.type)
    try:
        if kind.name == "VARCHAR":
            return _plain(text)
        if kind.name == "BOOLEAN":
            return {"true": True, "false": False}[text]
        if kind.name == "DATE":
            return _date(text)
        if kind.timed:
            at = moment(text)
            return at if kind.zoned else at.replace(tzinfo=None)
        if kind.name in _INTEGERS:
            return _integer(text, _INTEGERS[kind.name])
        if kind.decimal:
            return _decimal(text, kind)
        if kind.name == "DOUBLE":
            return _double(text)
    except _Unheld as error:
        raise Problem(400, f"{column.name}: {error}") from None
    except (KeyError, ValueError, InvalidOperation, OverflowError):
        expected = f"; {_EXPECTED.get(kind.name, 'expects a value of its type')}"
        raise Problem(400, f"{column.name}: the value is not a {column.type.lower()}{expected}") from None
    raise Problem(400, f"{column.name} cannot be filtered: its type is {column.type.lower()}")


def moment(text: str) -> datetime:
    """`2024-01-05` (its midnight in UTC) or `2024-01-05T21:00:00Z`; ValueError if it is neither."""
    if len(text) == 10:
        day = _date(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    if not _MOMENT.fullmatch(text):
        raise ValueError(text)
    at = datetime.fromisoformat(text)
    try:
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except OverflowError:  # the first and the last hours of the calendar, seen from another zone
        raise ValueError(text) from None


_INTEGERS = {"INTEGER": 31, "BIGINT": 63}
_EXPECTED = dict.fromkeys(_INTEGERS, "write a whole number, such as 12") | {
    "BOOLEAN": "write true or false", "DATE": "write 2024-01-05", "TIMESTAMP": "write 2024-01-05 or 2024-01-05T21:00:00Z",
    "TIMESTAMPTZ": "write 2024-01-05 or 2024-01-05T21:00:00Z",
    "DECIMAL": "write digits with at most its decimals, such as 12.5", "VARCHAR": "a character in it is not text",
}  # fmt: skip
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,400}(\.\d{0,400})?([eE][+-]?\d{1,3})?", re.ASCII)


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError(text)
    return text


def _date(text: str) -> date:
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    return date.fromisoformat(text)


def _integer(text: str, bits: int) -> int:
    if not re.fullmatch(r"[+-]?\d{1,400}", text, re.ASCII):
        raise ValueError(text)
    found = int(text)
    if not -(2**bits) <= found < 2**bits:
        raise _Unheld(f"the value is beyond what the column can hold, {-(2**bits)} to {2**bits - 1}")
    return found


def _double(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    found = float(text)
    if not math.isfinite(found):
        raise _Unheld("the value is beyond what a double can hold")
    return found


def _decimal(text: str, kind: SqlType) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    with localcontext(prec=1000):
        found = Decimal(text).normalize()
    exponent = int(found.as_tuple().exponent)
    # a value between two of the column's would be rounded by the engine, and `gt` would then mean something else
    if found and found.adjusted() >= kind.precision - kind.scale:
        raise _Unheld(
            f"the value is beyond what the column can hold, {kind.precision - kind.scale} digits before the point"
        )
    if -exponent > kind.scale:
        raise _Unheld(f"the value has more decimals than the column, which has {kind.scale}")
    return format(found, "f")


def _shown(column: Column, name: str) -> str:
    """A fetched column in the SELECT around it, so that Python gets what `token` and JSON write as they should."""
    kind = SqlType.parse(column.type)
    if kind.zoned:
        return f"timezone('UTC', {name})"
    if kind.name in _PLAIN or (kind.decimal and kind.scale <= 6) or kind.timed:
        return name
    return f"CAST({name} AS VARCHAR)"


_PLAIN = {"VARCHAR", "BOOLEAN", "DATE", "DOUBLE", *_INTEGERS}


def _zulu(at: datetime) -> str:
    return at.isoformat() + "Z"


def _mend(columns: Sequence[Column]) -> list[tuple[int, Callable[[Any], Any]]]:
    """Which cells of a fetched row still need Python: moments get their Z, long decimals stay digit for digit."""
    out: list[tuple[int, Callable[[Any], Any]]] = []
    for i, column in enumerate(columns):
        kind = SqlType.parse(column.type)
        if kind.timed:
            out.append((i, _zulu))
        elif kind.decimal and kind.scale > 6:
            # str(Decimal) would turn to 1E-7, which JSON allows and people do not like
            out.append((i, msgspec.Raw))
    return out


# ------------------------------------------------------------------ questions


def parse(table: Table, query: bytes, accept: str = "") -> Ask:
    """The checked question of a query string; Problem (400) names the parameter and what is allowed."""
    once: dict[str, str] = {}
    pinned: set[str] = set()
    filters: list[tuple[str, str, Any]] = []
    for name, text in _pairs(query):
        if name in PARAMETERS:
            if name in once:
                raise Problem(400, f"{name} stands twice in the query; give it once")
            once[name] = text
            continue
        of, _, operator = name.rpartition(".") if name not in table.columns else (name, "", "eq")
        if of not in table.columns or operator not in OPERATORS:
            raise Problem(400, _unknown(table, name))
        if operator == "eq" and of in pinned:
            raise Problem(400, f"{_cut(name)} stands twice in the query, and a row has one value; ask once for each")
        if operator == "eq":
            pinned.add(of)
        filters.append((of, operator, value(table.columns[of], text)))
    if once.get("cursor") == "":
        raise Problem(400, "cursor is empty; leave it out for the first page, and stop where next is null")
    select = _select(table, once.get("select"))
    limit = _limit(once.get("limit"))
    wanted = _format(once.get("format"), accept)
    as_of, recorded = (_clock(table, name, once.get(name)) for name in ("as_of", "recorded_as_of"))
    filters.sort(key=lambda one: (one[0], one[1], token(one[2])))
    canonical = _json.encode(
        [table.full, select, [[c, o, token(v)] for c, o, v in filters], limit, as_of, recorded]
    ).decode()
    return Ask(select, tuple(filters), limit, wanted, canonical, as_of, recorded, None, once.get("cursor", ""))


def _pairs(query: bytes) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(
            query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=FIELDS
        )
    except UnicodeDecodeError:
        raise Problem(400, "the query string is not percent-encoded UTF-8") from None
    except ValueError:
        raise Problem(400, f"the query string is not name=value pairs joined by &, at most {FIELDS}") from None


def _cut(text: str) -> str:
    return repr(text[:60])


def _unknown(table: Table, name: str) -> str:
    of, _, operator = name.rpartition(".")
    if of in table.columns:
        return f"{of} has no operator {_cut(operator)}; there are {', '.join(OPERATORS)}"
    return (
        f"parameter {_cut(name)} means nothing to {table.full}: its columns are {', '.join(table.columns)}; "
        f"other parameters are {', '.join(PARAMETERS)}"
    )


def _select(table: Table, text: str | None) -> tuple[str, ...]:
    if text is None:
        return tuple(table.columns)
    names = tuple(text.split(","))
    for name in names:
        if name not in table.columns:
            raise Problem(400, f"select: {table.full} has no column {_cut(name)}; it has {', '.join(table.columns)}")
    if len(set(names)) < len(names):
        raise Problem(400, "select: a column stands twice; give it once")
    return names


def _limit(text: str | None) -> int:
    if text is None:
        return USUAL
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or not 1 <= int(text) <= MOST:
        raise Problem(400, f"limit must be a number from 1 to {MOST}; go on with the cursor for more")
    return int(text)


def _format(text: str | None, accept: str) -> Format:
    if text is None:
        return "csv" if _liked(accept, "text/csv") > _liked(accept, "application/json") else "json"
    if text not in ("json", "csv"):
        raise Problem(400, f"format {_cut(text)} is not written here; there are json and csv")
    return "csv" if text == "csv" else "json"


def _liked(accept: str, kind: str) -> float:
    """How much an Accept header likes a kind, from 0 to 1; 0 where it does not name it."""
    for one in accept.lower().split(","):
        name, _, rest = one.partition(";")
        if name.strip() == kind:
            weight = re.search(r"\bq=([01](?:\.\d{0,3})?)", rest)
            return float(weight[1]) if weight else 1.0
    return 0.0


def _clock(table: Table, name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    wanted = "known_from" if name == "as_of" else "captured_at"
    if name == "as_of" and table.whole:
        raise Problem(400, table.whole)
    if not table.answers(wanted):
        lacks = "no column that says when the lake got a row" if name == "recorded_as_of" else "no clock columns"
        raise NoClock(name, wanted, f"{table.full} has {lacks}, so it cannot be read {name.replace('_', ' ')} a moment")
    try:
        return moment(text)
    except ValueError:
        raise Problem(400, f"{name} is not a moment; write 2024-01-05 (midnight UTC) or 2024-01-05T21:00:00Z") from None


def needed(table: Table, ask: Ask) -> list[str]:
    """The columns a question reads: those asked for, the key, and at a moment what tells versions of a key apart."""
    apart = ("_position", "_n") if table.moved and (ask.as_of or ask.recorded_as_of) else ()
    return list(dict.fromkeys((*ask.select, *table.key, *apart)))


def statement(table: Table, ask: Ask) -> tuple[str, list[Any]]:
    """The SELECT of a question and its values; it asks for one row more than the page, to see whether there is one."""
    need = needed(table, ask)
    where, values = [], []
    for of, operator, found in ask.filters:
        where.append(f"{ident(of)} {OPERATORS[operator]} CAST(? AS {table.columns[of].type})")
        values.append(found)
    if ask.after:
        first = table.columns[table.key[0]]
        # the first key once more by itself, so that whole row groups are skipped
        where.append(f"{ident(first.name)} >= CAST(? AS {first.type})")
        marks = ", ".join(f"CAST(? AS {table.columns[k].type})" for k in table.key)
        where.append(f"({', '.join(ident(k) for k in table.key)}) > ({marks})")
        values += [ask.after[0], *ask.after]
    relation = table.relation
    if (ask.as_of or ask.recorded_as_of) and table.moved:
        relation = f"({table.moved(ask.as_of, ask.recorded_as_of)})"
    else:
        for at, since, until in (
            (ask.as_of, "known_from", "known_to"),
            (ask.recorded_as_of, "captured_at", "recorded_to"),
        ):
            if at:
                clause, bound = _at(table, at, since, until)
                where.append(clause)
                values += bound
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    pinned = {of for of, operator, _ in ask.filters if operator == "eq"}
    # a whole key gives one row at most, and the engine answers without a sort in two thirds of the time
    order = (
        ""
        if pinned.issuperset(table.key)
        else f" ORDER BY {', '.join(ident(k) for k in table.key)} LIMIT {ask.limit + 1}"
    )
    columns = [table.columns[c] for c in need]
    inner = f"SELECT {', '.join(ident(c) for c in need)} FROM {relation}{condition}{order}"
    outer = [_shown(c, ident(c.name)) for c in columns]
    if outer == [ident(c) for c in need]:
        return inner, values
    # around the LIMIT, not beside it: the engine would render every row before it takes the first ones
    return f"SELECT {', '.join(outer)} FROM ({inner})", values


def _at(table: Table, at: datetime, since: str, until: str) -> tuple[str, list[Any]]:
    def bound(name: str) -> tuple[str, str, Any]:
        column = table.columns[table.clocks[name]]
        zoned = SqlType.parse(column.type).zoned
        return ident(column.name), f"CAST(? AS {column.type})", at if zoned else at.replace(tzinfo=None)

    name, mark, moment_at = bound(since)
    clause, values = f"{name} <= {mark}", [moment_at]
    if until in table.clocks:
        name, mark, moment_at = bound(until)
        clause += f" AND ({name} IS NULL OR {name} > {mark})"
        values.append(moment_at)
    return clause, values


def fetch(con: Any, table: Table, ask: Ask) -> Page:
    """Run the question on a cursor of the release's connection."""
    sql, values = statement(table, ask)
    return page(table, ask, con.execute(_parsed(sql) if len(sql) <= KEPT else sql, values).fetchall())


_parsing = threading.Lock()


@lru_cache(1024)
def _parsed(sql: str) -> duckdb.Statement:
    """The statement of a text; any connection may run it, and its parsing is a tenth of a short query."""
    with _parsing:
        return _parser().extract_statements(sql)[0]


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    return duck.open(Limits("64MB", 1))


def page(table: Table, ask: Ask, rows: list[Sequence[Any]]) -> Page:
    """The page of fetched rows: cells as `token` and JSON write them."""
    need = needed(table, ask)
    last = None
    if len(rows) > ask.limit:
        del rows[ask.limit :]
        end = rows[-1]
        last = tuple(end[need.index(k)] for k in table.key)
    if mend := _mend([table.columns[c] for c in need]):
        for n, row in enumerate(rows):
            cells = list(row)
            for i, how in mend:
                if cells[i] is not None:
                    cells[i] = how(cells[i])
            rows[n] = cells
    return Page(ask.select, rows, last)


def encode(
    found: Page, ask: Ask, following: str | None, release: int, origins: Sequence[str],
    newer: Sequence[Mapping[str, Any]] | None,
) -> bytes:  # fmt: skip
    """The page's bytes: a JSON envelope, or CSV with a header line."""
    names = found.names
    if ask.format == "csv":
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(names)
        width = len(names)
        writer.writerows([token(cell) for cell in row[:width]] for row in found.rows)
        return out.getvalue().encode()
    # zip stops at the last name: what was read only for the cursor stays out
    data = [dict(zip(names, row, strict=False)) for row in found.rows]
    return _json.encode({"data": data, "next": following, "release": release, "origin": origins, "newer": newer})


# ------------------------------------------------------------------ cursors


def sign(secret: bytes, table: Table, ask: Ask, release: str, last: Iterable[Any]) -> str:
    """A cursor: where the next page begins, bound to the question and the release, signed."""
    body = _json.encode([release, digest(ask.canonical), [token(cell) for cell in last]])
    mac = hmac.new(secret, table.full.encode() + b"\0" + body, "sha256").digest()[:16]
    return base64.urlsafe_b64encode(mac + body).decode().rstrip("=")


def resume(secret: bytes, table: Table, ask: Ask, release: str) -> Ask:
    """The question with where to go on; 404 for a cursor we did not make or of another question, 410 of another release."""
    try:
        raw = base64.b64decode(ask.cursor + "=" * (-len(ask.cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    mac, body = raw[:16], raw[16:]
    if not hmac.compare_digest(mac, hmac.new(secret, table.full.encode() + b"\0" + body, "sha256").digest()[:16]):
        raise Problem(404, "there is no such page: take the cursor of the page before, of the same table, unchanged")
    made_at, question, key = msgspec.json.decode(body)
    if made_at != release:
        raise Problem(410, "a newer release is served since this cursor was made; restart paging without cursor")
    if question != digest(ask.canonical):
        raise Problem(
            404, "this cursor belongs to another query; keep filters, select and limit as they were, or restart paging"
        )
    after = tuple(value(table.columns[k], text) for k, text in zip(table.key, key, strict=True))
    return replace(ask, after=after)


def digest(text: str) -> str:
    """A short name of a text."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def following(table: Table, query: bytes, cursor: str) -> str:
    """The path and query of the next page."""
    pairs = [(name, text) for name, text in _pairs(query) if name != "cursor"]
    return f"{table.path}?{urlencode([*pairs, ('cursor', cursor)])}"
