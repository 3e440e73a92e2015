"""One guard for every expression and query that people write: an allow-list, deny by default."""

import re
from collections.abc import Collection, Mapping, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.parsers.duckdb import DuckDBParser

from assay.errors import UsageError

MAX_TEXT, MAX_DEPTH, MAX_NODES, MAX_READS = 20_000, 150, 5_000, 200
CTE = "_cte_"


class _Parser(DuckDBParser):
    """DuckDB's parser, which logs nothing: whoever wrote the text is told by UsageError."""

    def _warn_unsupported(self) -> None:
        pass


_DUCKDB = DuckDB()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _classes(text: str) -> tuple[type[exp.Expr], ...]:
    return tuple(getattr(exp, name) for name in text.split())


_EXPRESSION = _classes(
    "Column Identifier Literal Boolean Null Paren And Or Not EQ NEQ GT GTE LT LTE Between In Is Add Sub "
    "Mul Div Mod Neg Abs Coalesce Nullif Length Upper Lower Trim Cast DataType DataTypeParam Case If "
    "RegexpLike Round Greatest Least Year Month DayOfWeekIso"
)
_NO_TRUTH = _classes("Literal Add Sub Mul Div Mod Neg Abs Length Upper Lower Trim Round Year Month DayOfWeekIso")
_TYPES = {
    exp.DataType.Type[name]
    for name in _names(
        "VARCHAR TEXT CHAR BOOLEAN TINYINT SMALLINT INT BIGINT INT128 FLOAT DOUBLE DECIMAL DATE TIME "
        "TIMESTAMP TIMESTAMPTZ TIMESTAMPNTZ INTERVAL"
    )
}
_CLAUSES = _classes(
    "Select Union Except Intersect Subquery With CTE TableAlias From Table Join Lateral Where Group "
    "Cube Rollup GroupingSets Having Qualify Order Ordered Limit Offset Distinct Values Tuple Alias "
    "Star Window WindowSpec Filter WithinGroup IgnoreNulls RespectNulls Exists Interval Var"
)
_OPERATORS = _classes("Like ILike NullSafeEQ NullSafeNEQ DPipe IntDiv Pow TryCast AtTimeZone")
# functions that have a class of their own
_CALLS = _classes(
    "AnyValue ApproxDistinct ArgMax ArgMin Avg Ceil Concat ConcatWs Corr Count CovarPop CovarSamp "
    "CumeDist CurrentDate CurrentTimestamp DateDiff DateFromParts DateTrunc Day DayOfWeek DayOfWeekIso "
    "DayOfYear Dayname DenseRank Exp Extract First FirstValue Floor Grouping Hour IsInf IsNan Lag Last "
    "LastDay LastValue Lead Left Ln Log LogicalAnd LogicalOr Max MD5 Median Min Minute Mode Monthname "
    "NthValue Ntile PercentRank PercentileCont PercentileDisc Quantile Quarter Rank RegexpExtract "
    "RegexpReplace Replace Reverse Right RowNumber Second Sign SplitPart Sqrt StartsWith Stddev "
    "StddevPop StddevSamp StrPosition Substring Sum TimestampTrunc TimeToStr Trunc Variance VariancePop "
    "WeekOfYear Week"
)
_QUERY = (*_EXPRESSION, *_CLAUSES, *_OPERATORS, *_CALLS)

# what DuckDB calls the functions and operators a query may use; nothing here reads, writes, waits or looks at the engine's settings
_FUNCTIONS = _names(
    "abs any_value approx_count_distinct arg_max arg_min avg bool_and bool_or ceil ceiling concat "
    "concat_ws corr count count_star covar_pop covar_samp cume_dist current_date date_diff date_part "
    "date_trunc datediff day dayname dayofweek dayofyear dense_rank exp first first_value floor "
    "get_current_timestamp greatest hour ifnull instr isfinite isinf isnan isodow lag last last_day "
    "last_value lead least left length ln log log10 lower ltrim make_date max md5 median min minute mod "
    "mode month monthname now nth_value ntile nullif percent_rank pow power quantile_cont quantile_disc "
    "quarter rank regexp_extract regexp_matches regexp_replace replace reverse right round row_number "
    "rtrim second sign split_part sqrt starts_with stddev stddev_pop stddev_samp strftime strpos substr "
    "substring sum timezone to_days to_hours to_microseconds to_milliseconds to_minutes to_months "
    "to_quarters to_seconds to_weeks to_years trim trunc upper var_pop var_samp variance week weekofyear "
    "year + - * / // % ** ^ || ~~ !~~ ~~* !~~* like_escape not_like_escape ilike_escape not_ilike_escape"
)
_ANONYMOUS = frozenset(name for name in _FUNCTIONS if name.isidentifier())
_MODIFIERS = {"this", "db", "catalog", "alias", "joins", "laterals"}


def expression(text: str, columns: Collection[str]) -> exp.Expr:
    """A contract's rule as a tree over known columns; UsageError says what is not allowed and where."""
    tree = _parse(text)
    for node in tree.walk():
        if not isinstance(node, _EXPRESSION):
            raise UsageError(f"{text!r}: {_named(node)} is not allowed in a rule{_at(node, text)}")
        _typed(node, text)
        if isinstance(node, exp.Column) and (node.name not in columns or node.table):
            raise UsageError(f"{text!r}: no column {node.sql()!r}; the contract has {', '.join(sorted(columns))}")
    if isinstance(tree.unnest(), _NO_TRUTH):
        raise UsageError(f"{text!r} is neither true nor false; compare it with something")
    return tree


def query(text: str, tables: Mapping[str, str]) -> str:
    """One read-only SELECT over `tables` (name to relation `schema.table`), rewritten to run; UsageError says why not.

    The generated text is what runs, never the caller's: comments are gone, each table is one of `tables` by its
    quoted name, each name of a WITH begins with `CTE`, so nothing outside can stand for it. The engine's own parser
    is asked again by whoever runs it.
    """
    tree = _parse(text)
    if not isinstance(tree, exp.Select | exp.SetOperation | exp.Subquery):
        raise UsageError(f"only a SELECT is answered here, not {_named(tree)}")
    for node in tree.walk():
        _allowed(node, text)
    known = {name.lower(): relation for name, relation in tables.items()}
    ctes = list(tree.find_all(exp.CTE))
    names = {cte.alias.lower() for cte in ctes}
    for cte in ctes:
        _cte(cte, known, text)
    for table in list(tree.find_all(exp.Table)):
        _table(table, known, names, text)
    _bounded(tree, ctes)
    for select in tree.find_all(exp.Select):
        _aliases(select)
    try:
        return tree.sql(dialect="duckdb", comments=False, unsupported_level=sqlglot.ErrorLevel.RAISE)
    except sqlglot.UnsupportedError as error:
        raise UsageError(f"this cannot be asked here: {str(error).splitlines()[0][:100]}") from None


def functions() -> frozenset[str]:
    """The functions and operators a query may use, as DuckDB names them."""
    return _FUNCTIONS


def _allowed(node: exp.Expr, text: str) -> None:
    if isinstance(node, exp.Anonymous):
        if node.name.lower() not in _ANONYMOUS:
            raise UsageError(f"function {node.name[:60]} is not allowed in a query{_at(node, text)}")
    elif not isinstance(node, _QUERY):
        raise UsageError(f"{_named(node)} is not allowed in a query{_at(node, text)}")
    if isinstance(node, exp.With) and node.args.get("recursive"):
        raise UsageError("WITH RECURSIVE is not allowed in a query")
    _typed(node, text)


def _typed(node: exp.Expr, text: str) -> None:
    if isinstance(node, exp.DataType) and node.this not in _TYPES:
        raise UsageError(f"type {node.sql(dialect='duckdb')[:60]} is not allowed{_at(node, text)}")


def _cte(cte: exp.CTE, tables: Mapping[str, str], text: str) -> None:
    name = cte.alias.lower()
    if name in tables or not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise UsageError(
            f"WITH {cte.alias[:60]}: that name is a table or no plain name; choose another{_at(cte, text)}"
        )
    cte.args["alias"].set("this", exp.to_identifier(CTE + name, quoted=True))


def _table(table: exp.Table, tables: Mapping[str, str], ctes: Collection[str], text: str) -> None:
    if not isinstance(table.this, exp.Identifier):
        raise UsageError(f"a table function is not allowed in a query{_at(table, text)}")
    if extra := {part for part, value in table.args.items() if value} - _MODIFIERS:
        raise UsageError(f"{sorted(extra)[0]} is not allowed at a table{_at(table, text)}")
    name = f"{table.db}.{table.name}".lower() if table.db else table.name.lower()
    alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name, quoted=True))
    if name in ctes and not table.db:
        relation = exp.table_(CTE + name, quoted=True)
    elif name in tables and not table.catalog:
        schema, _, of = tables[name].partition(".")
        relation = exp.table_(of, db=schema, quoted=True)
    else:
        raise UsageError(f"no table {table.name[:60]!r}{_at(table, text)}; there are {', '.join(sorted(tables))}")
    relation.set("alias", alias)
    for part in ("joins", "laterals"):
        if table.args.get(part):
            relation.set(part, table.args[part])
    table.replace(relation)


def _aliases(select: exp.Select) -> None:
    """A column that uses an earlier one twice doubles what is planned, and the engine cannot be stopped while it plans."""
    sizes: dict[str, int] = {}
    for column in select.expressions:
        found = list(column.walk())
        size = len(found) + sum(sizes.get(n.name.lower(), 0) for n in found if isinstance(n, exp.Column))
        if column.alias:
            sizes[column.alias.lower()] = size
        if size > MAX_NODES:
            raise UsageError(
                f"{column.alias_or_name[:60]} uses earlier columns so often that it has over {MAX_NODES} parts"
            )


def _bounded(tree: exp.Expr, ctes: Sequence[exp.CTE]) -> None:
    """Each WITH that reads another twice doubles the plan, and the engine cannot be stopped while it plans."""
    inside: dict[str, list[str]] = {cte.alias: [] for cte in ctes}
    outside: list[str] = []
    for table in tree.find_all(exp.Table):
        within = table.find_ancestor(exp.CTE)
        (inside[within.alias] if isinstance(within, exp.CTE) else outside).append("" if table.db else table.name)
    reads: dict[str, int] = dict.fromkeys(inside, 0)

    def sized(used: Sequence[str]) -> int:
        return min(MAX_READS + 1, sum([1 + reads.get(one, 0) for one in used]))

    for _ in range(len(ctes) + 1):
        reads = {name: sized(used) for name, used in inside.items()}
    if sized(outside) > MAX_READS or len(ctes) > MAX_READS:
        raise UsageError(f"with its WITH parts put in, the query reads tables more than {MAX_READS} times")


def _parse(text: str) -> exp.Expr:
    if len(text) > MAX_TEXT:
        raise UsageError(f"the text is longer than {MAX_TEXT} characters")
    depth = deepest = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH or text.lower().count("case") > MAX_DEPTH:
        raise UsageError(f"brackets or CASE are nested deeper than {MAX_DEPTH}")
    try:
        found = _Parser(dialect=_DUCKDB).parse(_DUCKDB.tokenize(text), text)
        trees = [tree for tree in found if tree is not None]
    except sqlglot.errors.ParseError as error:
        first = error.errors[0] if error.errors else {}
        where = f" at line {first['line']}, column {first['col']}" if first.get("line") else ""
        said = re.sub(r" but got.*|Required keyword.*", "", str(first.get("description") or ""), flags=re.DOTALL)
        raise UsageError(f"not valid SQL{where}: {said.strip()[:100] or 'something is missing'}") from None
    except (sqlglot.errors.SqlglotError, RecursionError, ValueError) as error:
        raise UsageError(f"not valid SQL: {(str(error).splitlines() or ['cannot be read'])[0][:100]}") from None
    if len(trees) != 1:
        raise UsageError("exactly one statement is expected")
    if sum(1 for _ in trees[0].walk()) > MAX_NODES:
        raise UsageError(f"the query has more than {MAX_NODES} parts")
    return trees[0]


def _named(node: exp.Expr) -> str:
    if isinstance(node, exp.Command):
        return str(node.this).upper()[:30]
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__).upper()


def _at(node: exp.Expr, text: str) -> str:
    """` (line 1, column 8)` of the first word of a node, where the parser kept it."""
    found = [n.meta["start"] for n in node.walk() if "start" in n.meta]
    if not found:
        return ""
    start = min(found)
    return f" (line {text.count(chr(10), 0, start) + 1}, column {start - text.rfind(chr(10), 0, start)})"
