"""One guard for every expression and query that people write: an allow-list, deny by default."""

from collections.abc import Collection, Mapping

import sqlglot
from sqlglot import exp

from assay.errors import UsageError

MAX_TEXT, MAX_DEPTH, MAX_NODES = 20_000, 150, 5_000

_EXPRESSION: tuple[type[exp.Expression], ...] = (
    exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ,
    exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Is, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg,
    exp.Abs, exp.Coalesce, exp.Nullif, exp.Length, exp.Upper, exp.Lower, exp.Trim, exp.Cast, exp.DataType,
    exp.DataTypeParam, exp.Case, exp.If, exp.RegexpLike, exp.Round, exp.Greatest, exp.Least, exp.Year, exp.Month,
)  # fmt: skip

_FUNCTIONS = frozenset(
    ["abs", "avg", "any_value", "arg_max", "arg_min", "bool_and", "bool_or", "ceil", "ceiling", "coalesce", "concat", "concat_ws", "contains", "corr", "count", "covar_pop", "covar_samp", "cume_dist", "date_diff", "date_part", "date_trunc", "datediff", "day", "dayofweek", "dense_rank", "exp", "extract", "first", "first_value", "floor", "greatest", "hour", "if", "ifnull", "instr", "isfinite", "isnan", "lag", "last", "last_value", "lead", "least", "left", "length", "ln", "log", "log10", "lower", "ltrim", "make_date", "max", "md5", "median", "min", "minute", "mod", "mode", "month", "nth_value", "ntile", "nullif", "percent_rank", "pow", "power", "quantile_cont", "quantile_disc", "quarter", "rank", "regexp_extract", "regexp_matches", "regexp_replace", "replace", "reverse", "right", "round", "row_number", "rtrim", "second", "sign", "split_part", "sqrt", "starts_with", "stddev", "stddev_pop", "stddev_samp", "strftime", "strpos", "substr", "substring", "sum", "trim", "trunc", "unnest", "upper", "var_pop", "var_samp", "variance", "week", "year", "bool_or", "count_star", "isodow", "dayname", "monthname", "last_day", "add", "subtract"]
)


def expression(text: str, columns: Collection[str]) -> exp.Expression:
    """A contract's rule as a tree over known columns; UsageError says what is not allowed."""
    tree = _parse(text)
    for node in tree.walk():
        if not isinstance(node, _EXPRESSION):
            raise UsageError(f"{text!r}: {type(node).__name__} is not allowed in a rule")
        if isinstance(node, exp.Column) and (node.name not in columns or node.table):
            raise UsageError(
                f"{text!r}: no column {node.sql()!r}; the contract has {', '.join(sorted(columns))}"
            )
    return tree


def query(text: str, tables: Mapping[str, str]) -> str:
    """One read-only SELECT over `tables` (name to relation), rewritten to run; UsageError says what is not allowed.

    The generated text is what runs, never the caller's: comments are gone, each table is one of `tables`, each
    function one of a short list. DuckDB's own parser is asked again by the caller (`verify`).
    """
    tree = _parse(text)
    if not isinstance(tree, exp.Select | exp.SetOperation | exp.Subquery):
        raise UsageError(f"only a SELECT is answered here, not {type(tree).__name__.upper()}")
    ctes = {one.alias_or_name.lower() for one in tree.find_all(exp.CTE)}
    for name in ctes & {table.lower() for table in tables} | {name for name in ctes if "." in name}:
        raise UsageError(f"WITH {name}: that name is a table; choose another")
    forbidden = (exp.Command, exp.DDL, exp.DML, exp.Copy, exp.Into, exp.Pragma, exp.Set, exp.Attach, exp.Detach, exp.Describe, exp.Show, exp.Use, exp.Lock, exp.Placeholder, exp.Parameter, exp.SessionParameter)  # fmt: skip
    for node in tree.walk():
        if isinstance(node, forbidden) and not isinstance(node, exp.Select | exp.SetOperation | exp.Subquery):
            raise UsageError(f"{type(node).__name__} is not allowed in a query")
        if isinstance(node, exp.Func) and not isinstance(node, exp.And | exp.Or | exp.Cast | exp.Case):
            name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
            if isinstance(node, exp.Anonymous) and name not in _FUNCTIONS:
                raise UsageError(f"function {name} is not allowed in a query")
    for table in list(tree.find_all(exp.Table)):
        if not isinstance(table.this, exp.Identifier):
            raise UsageError("a table function is not allowed in a query")
        name = f"{table.db}.{table.name}".lower() if table.db else table.name.lower()
        if name in ctes and not table.db:
            continue
        if name not in tables or table.catalog:
            raise UsageError(f"no table {table.sql()!r}; there are {', '.join(sorted(tables))}")
        relation = exp.to_table(tables[name], dialect="duckdb")
        relation.set(
            "alias",
            table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name, quoted=True)),
        )
        for part in ("joins", "laterals", "pivots", "sample"):
            if table.args.get(part):
                relation.set(part, table.args[part])
        table.replace(relation)
    return tree.sql(dialect="duckdb", comments=False)


def functions() -> frozenset[str]:
    """The functions a query may call, for the engine's own check."""
    return _FUNCTIONS


def _parse(text: str) -> exp.Expression:
    if len(text) > MAX_TEXT:
        raise UsageError(f"the text is longer than {MAX_TEXT} characters")
    depth = deepest = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise UsageError(f"brackets are nested deeper than {MAX_DEPTH}")
    try:
        trees = [tree for tree in sqlglot.parse(text, read="duckdb") if tree is not None]
    except (sqlglot.errors.SqlglotError, RecursionError) as error:
        raise UsageError(f"not valid SQL: {str(error).splitlines()[0][:120]}") from None
    if len(trees) != 1:
        raise UsageError("exactly one statement is expected")
    if sum(1 for _ in trees[0].walk()) > MAX_NODES:
        raise UsageError(f"the query has more than {MAX_NODES} parts")
    return trees[0]
