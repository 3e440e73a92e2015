"""One query: what kind of statement it is, and its execution on a DuckDB connection of its own."""

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
from sqlglot import exp

from assay_cloudsim.athena import macros, translate, values
from assay_cloudsim.athena.catalog import Catalog
from assay_cloudsim.athena.dialect import Dialect
from assay_cloudsim.athena.errors import Failed, Refused, Stopped, translated
from assay_cloudsim.athena.mount import Mounts

ROWS = 10_000
_COMMENT = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)


@dataclass
class Outcome:
    """What a statement gave. `suffix` is how the name of its result's object goes on after the query's id."""

    kind: str = "DDL"  # StatementType
    substatement: str = ""
    columns: list[tuple[str, str]] = field(default_factory=list)
    rows: list[list[str | None]] = field(default_factory=list)
    updated: int | None = None
    suffix: str = ".txt"
    folder: str = ""
    written: list[str] | None = None  # the files of Hive tables that it wrote: they make a manifest
    scanned: int = 0


@dataclass
class Session:
    """What a query runs with."""

    catalog: Catalog
    database: str
    id: str
    results: str
    cutoff: int | None
    stopped: threading.Event = field(default_factory=threading.Event)
    _con: duckdb.DuckDBPyConnection | None = None

    def stop(self) -> None:
        """Interrupts what DuckDB computes; what is fetched or written at the moment ends first."""
        self.stopped.set()
        if self._con is not None:
            with suppress(duckdb.Error):
                self._con.interrupt()

    def run(self, sql: str) -> Outcome:
        """The statement's outcome; Failed or Stopped in Athena's words."""
        run = handler(sql)
        tree: exp.Expr | None = None
        try:
            self._con = duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "1GB"})
            for setting in (
                "TimeZone='UTC'",
                "python_enable_replacements=false",
                "autoinstall_known_extensions=false",
                "autoload_known_extensions=false",
            ):
                self._con.execute(f"SET {setting}").fetchall()
            self.go_on()
            with suppress(Refused):
                tree = translate.parsed(sql) if run is query else None
            return run(self, sql)
        except Refused as error:
            raise Failed("SYNTAX_ERROR", str(error)) from error
        except Exception as error:
            raise translated(error, tree) from error
        finally:
            if self._con is not None:
                self._con.close()

    def go_on(self) -> None:
        """Stopped if the query was."""
        if self.stopped.is_set():
            raise Stopped("Query was cancelled by user")

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        if self._con is None:
            raise RuntimeError("a session has a connection while it runs")
        return self._con

    def mounts(self) -> Mounts:
        return Mounts(self.con, self.catalog, self.database, self.stopped)

    def ready(self, mounts: Mounts) -> None:
        """Everything is mounted: the cap on bytes holds, and the connection reads no more of this machine."""
        if self.cutoff is not None and mounts.scanned > self.cutoff:
            raise Stopped("Bytes scanned limit was exceeded")
        mounts.close_the_door()

    def prepared(self, sql: str, tree: exp.Expr, mounts: Mounts, *targets: str) -> tuple[str, translate.Translation]:
        """A query in DuckDB's SQL, over what is mounted."""
        translate.check_functions(sql, tree, *targets)
        mounts.bind(tree)
        made = translate.Translation(tree, mounts.schema)
        text = made.sql()
        macros.install(self.con, text)
        return text, made

    def arrow(self, sql: str) -> tuple[pa.Table, list[tuple[str, str]]]:
        """A query's rows, and its columns with Trino's types."""
        described = self.con.execute(f"SELECT * FROM ({sql}) AS q LIMIT 0")
        columns = [(d[0], values.of_duckdb(d[1])) for d in described.description]
        described.fetchall()
        if len({n.lower() for n, _ in columns}) < len(columns):
            twice = next(n for n, _ in columns if [m.lower() for m, _ in columns].count(n.lower()) > 1)
            raise Failed("DUPLICATE_COLUMN_NAME", f"Column name '{twice}' specified more than once")
        items = ", ".join(f'CAST("{n}" AS {_arrow_type(t)}) AS "{n.lower()}"' for n, t in columns)
        table: pa.Table = self.con.sql(f"SELECT {items} FROM ({sql}) AS q").to_arrow_table()
        return table, [(n.lower(), t) for n, t in columns]


def _arrow_type(trino: str) -> str:
    """NULL has no type of Trino's: as an integer it fits every column."""
    return {"json": "VARCHAR", "uuid": "VARCHAR", "unknown": "INTEGER"}.get(trino) or values.duckdb_type(trino)


def query(session: Session, sql: str) -> Outcome:
    """SELECT, and what else gives rows of a query."""
    tree = translate.parsed(sql)
    mounts = session.mounts()
    text, made = session.prepared(sql, tree, mounts)
    session.ready(mounts)
    try:
        cursor = session.con.execute(text)
        columns = [(d[0], values.of_duckdb(d[1])) for d in cursor.description]
        columns = [(n, _known(t, made, at)) for at, (n, t) in enumerate(columns)]
        rows: list[list[str | None]] = []
        while some := cursor.fetchmany(ROWS):
            rows += [[values.text(v, t) for v, (_, t) in zip(row, columns, strict=True)] for row in some]
            if session.stopped.is_set():
                raise Stopped("Query was cancelled by user")
    except duckdb.Error as error:
        raise translated(error, tree) from error
    return Outcome("DML", "SELECT", columns, rows, suffix=".csv", scanned=mounts.scanned)


def _known(kind: str, made: translate.Translation, at: int) -> str:
    """A timestamp is written with three digits unless the statement says more; DuckDB's have always six."""
    if not kind.startswith("timestamp") or len(made.outputs) <= at:
        return kind
    digits = made.outputs[at].expressions[0].name if made.outputs[at].expressions else "3"
    return kind.replace("(6)", "(6)" if int(digits) > 3 else "(3)")


def explain(session: Session, sql: str) -> Outcome:
    """EXPLAIN: the statement is translated and bound, and DuckDB's plan shown."""
    body = without_comment(sql)
    inner = re.sub(r"(?is)\Aexplain\s+(?:\([^)]*\)\s*)?", "", body)
    if re.match(r"(?is)analyze\b", inner):
        raise Failed("NOT_SUPPORTED", "EXPLAIN ANALYZE is not emulated by this double of Athena")
    mounts = session.mounts()
    text, _ = session.prepared(inner, translate.parsed(inner), mounts)
    session.ready(mounts)
    plan = session.con.execute(f"EXPLAIN {text}").fetchall()
    lines = ["Query Plan", *(line for _, told in plan for line in told.splitlines())]
    return Outcome("DML", "EXPLAIN", [("Query Plan", "varchar")], [[line] for line in lines])


Handler = Callable[[Session, str], Outcome]


def without_comment(sql: str) -> str:
    """A statement from its first word on."""
    return _COMMENT.sub("", sql, count=1)


def handler(sql: str) -> Handler:
    """What runs a statement, by its first words; Refused if nothing does."""
    from assay_cloudsim.athena import ddl, dml

    body = without_comment(sql)
    for pattern, function in (
        (r"(?:select|with|values|table)\b|\(", query),
        (r"explain\b", explain),
        (r"create\s+(?:or\s+replace\s+)?view\b", ddl.create_view),
        (r"create\s+(?:database|schema)\b", ddl.create_database),
        (r"create\s+table\b(?=.*?\bas\b\s*(?:\(\s*)*(?:select|with|values|table)\b)", dml.create_table_as),
        (r"create\s+(?:external\s+)?table\b", ddl.create_table),
        (r"drop\s+table\b", ddl.drop_table),
        (r"drop\s+view\b", ddl.drop_view),
        (r"drop\s+(?:database|schema)\b", ddl.drop_database),
        (r"alter\s+table\b", ddl.alter_table),
        (r"insert\s+into\b", dml.insert),
        (r"merge\s+into\b", dml.change),
        (r"update\b", dml.change),
        (r"delete\s+from\b", dml.change),
        (r"unload\b", dml.unload),
        (r"show\b", ddl.show),
        (r"desc(?:ribe)?\b", ddl.describe),
        (r"msck\s+repair\s+table\b", ddl.repair),
        (r"optimize\b", dml.optimize),
        (r"vacuum\b", dml.vacuum),
    ):
        if re.match(pattern, body, re.IGNORECASE | re.DOTALL):
            return function
    raise Refused("Queries of this type are not supported", "MALFORMED_QUERY")


def check(sql: str) -> None:
    """Refused for what Athena does not take as a query at all."""
    if handler(sql) is query:
        translate.parsed(sql)


def bound(sql: str, parameters: list[str]) -> str:
    """The statement with its `?` replaced: a value that is an expression without names stays one, else it is a text."""
    places = [t for t in Dialect().tokenize(sql) if t.text == "?" and t.token_type.name == "PLACEHOLDER"]
    if not places:
        return sql
    if len(places) != len(parameters):
        raise Failed(
            "INVALID_PARAMETER_USAGE",
            f"Incorrect number of parameters: expected {len(places)} but found {len(parameters)}",
        )
    pieces, at = [], 0
    for token, value in zip(places, parameters, strict=True):
        pieces += [sql[at : token.start], _value(value)]
        at = token.end + 1
    return "".join([*pieces, sql[at:]])


def _value(text: str) -> str:
    try:
        tree = translate.parsed(f"SELECT {text}")
        plain = (
            isinstance(tree, exp.Select)
            and len(tree.expressions) == 1
            and not any(True for _ in tree.find_all(exp.Column, exp.From))
        )
    except Refused:
        plain = False
    return text if plain else "'" + text.replace("'", "''") + "'"
