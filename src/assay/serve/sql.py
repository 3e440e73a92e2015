"""Free SELECTs over a release: guarded, and checked again by the engine's own parser."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import duckdb

from assay import guard
from assay.errors import UsageError
from assay.lake import duck
from assay.lake.release import Release
from assay.ports import Files, Limits
from assay.serve.fenced import SPENT
from assay.serve.reader import SPILL, Reader, damaged

ROWS = 1000
_NODES = {"SELECT_NODE", "SET_OPERATION_NODE"}
_REFERENCES = {"BASE_TABLE", "SUBQUERY", "JOIN", "EMPTY", "EXPRESSION_LIST"}
_CLASSES = {
    "COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "FUNCTION", "OPERATOR", "CAST", "CASE", "BETWEEN", "STAR", "SUBQUERY",
    "WINDOW", "TYPE", "AGGREGATE",
}  # fmt: skip
_OPERATORS = {
    "COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_COALESCE", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_NOT", "OPERATOR_NULLIF",
    "GROUPING_FUNCTION",
}  # fmt: skip


def prepare() -> None:
    """Load what the first use of parser and engine loads."""
    guard.query("select 1", {})
    with duck.open(Limits(threads=1)) as con:
        con.execute("SELECT json_serialize_sql('SELECT 1')").fetchall()


def answer(files: Files, found: Release, limits: Limits, text: str, limit: int) -> Iterator[Any]:
    """The columns of a SELECT over a release, its first `limit` rows in lists, and last whether there are more.

    UsageError says what is not allowed or unknown. It has no deadline: see `assay.serve.fenced`.
    """
    reader = Reader(files, found, replace(limits, spill=limits.spill or SPILL))
    known = named(reader.names)
    sql = guard.query(text, known)
    with reader.connect(locked=True) as con:
        verify(con, sql, set(known.values()))
        try:
            running = con.execute(sql)
            yield tuple(one[0] for one in running.description or ())
            left = limit
            while rows := running.fetchmany(min(ROWS, left + 1)):
                yield rows[:left]
                left -= len(rows)
                if left < 0:
                    break
            yield left < 0
        except duckdb.Error as error:
            told = damaged(error) or duck.meaning(error)
            # Too little memory is first the question's matter.
            if told and not isinstance(error, duckdb.OutOfMemoryException):
                raise told from error
            raise UsageError(_told(error, text)) from None


def named(tables: Iterable[str]) -> dict[str, str]:
    """The names a query may use, each with the relation it stands for."""
    found = {name: name for name in tables}
    return {name.removeprefix("gold."): name for name in found if name.startswith("gold.")} | found


def verify(con: duckdb.DuckDBPyConnection, sql: str, relations: Collection[str]) -> None:
    """Ask DuckDB's own parser what the generated text is; UsageError unless every part is on a list, whatever went wrong.

    The statement's type is no guard: a WITH that inserts is a SELECT to it. The tree is.
    """
    try:
        tree = json.loads(con.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0])
        if tree.get("error") or len(tree["statements"]) != 1:
            raise UsageError("the engine does not read this as one SELECT")
        node = tree["statements"][0]["node"]
        _walk(node, {relation.lower() for relation in relations} | _withs(node), guard.functions())
    except (duckdb.Error, RecursionError, ValueError, KeyError, TypeError, AttributeError):
        raise UsageError("the engine's parser could not check this query, so it is not run") from None


def _withs(part: Any) -> set[str]:
    """The names of every WITH, as far as the guard gave them."""
    if isinstance(part, list):
        return {name for one in part for name in _withs(one)}
    if not isinstance(part, dict):
        return set()
    found = {str(one["key"]).lower() for one in (part.get("cte_map") or {}).get("map", [])}
    return {name for name in found if name.startswith(guard.CTE)} | _withs(list(part.values()))


def _walk(part: Any, relations: Collection[str], functions: Collection[str]) -> None:
    if isinstance(part, list):
        for one in part:
            _walk(one, relations, functions)
    if not isinstance(part, dict):
        return
    kind, group = str(part.get("type", "")), part.get("class")
    if kind.endswith("_NODE") and kind not in _NODES:
        raise UsageError(f"{_words(kind.removesuffix('_NODE'))} is not allowed in a query")
    if group is None and "sample" in part and "alias" in part and kind not in _REFERENCES:
        raise UsageError(f"{_words(kind)} is not allowed in FROM")
    if part.get("sample") or part.get("at_clause"):
        raise UsageError("SAMPLE and AT are not allowed in a query")
    if kind == "BASE_TABLE":
        _reference(part, relations)
    if group is not None:
        if group not in _CLASSES:
            raise UsageError(f"{_words(str(group))} is not allowed in a query")
        if group == "OPERATOR" and kind not in _OPERATORS:
            raise UsageError(f"{_words(kind)} is not allowed in a query")
        if "function_name" in part and (
            str(part["function_name"]).lower() not in functions or part.get("schema") or part.get("catalog")
        ):
            raise UsageError(f"function {str(part['function_name'])[:60]} is not allowed in a query")
    for one in part.values():
        _walk(one, relations, functions)


def _reference(part: Mapping[str, Any], relations: Collection[str]) -> None:
    """A table reference is one of ours by its full name, or a WITH the guard renamed."""
    catalog, schema, table = (
        str(part.get(name) or "").lower() for name in ("catalog_name", "schema_name", "table_name")
    )
    path = [str(one).lower() for one in part["qualified_name"]["path"]]
    ours = schema and f"{schema}.{table}" in relations and path == [schema, table]
    renamed = not schema and table.startswith(guard.CTE) and table in relations and path == [table]
    if catalog or not (ours or renamed):
        raise UsageError("the query reads a table it may not")


def _words(kind: str) -> str:
    return kind.replace("_", " ")[:40]


def _told(error: duckdb.Error, text: str) -> str:
    """What the engine said, as far as it speaks of the query and not of cells."""
    first = str(error).splitlines()[0]
    if isinstance(error, duckdb.BinderException | duckdb.CatalogException | duckdb.ParserException):
        said = first.partition(":")[2].strip().replace(guard.CTE, "")[:200]
        return f"the query cannot run{_place(said, text)}: {said}"
    if isinstance(error, duckdb.OutOfMemoryException):
        return SPENT
    return f"the query failed while it ran ({type(error).__name__.removesuffix('Exception')}); a value does not fit, cast or filter it"


def _place(said: str, text: str) -> str:
    for name in re.findall(r'"([^"]+)"', said):
        found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
        if found:
            start = found.start()
            return f" (line {text.count(chr(10), 0, start) + 1}, column {start - text.rfind(chr(10), 0, start)})"
    return ""
