"""Trino's grammar and types, as far as sqlglot's own need help: functions keep the names they are written with."""

from collections.abc import Iterable
from typing import Any

from sqlglot import exp
from sqlglot.dialects.trino import Trino
from sqlglot.parsers.trino import TrinoParser

from assay_cloudsim.athena.functions import GIVES

Kind = exp.DataType.Type
INTS = frozenset({Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT})
FLOATS = frozenset({Kind.DOUBLE, Kind.FLOAT})
TEXTS = frozenset({Kind.VARCHAR, Kind.TEXT, Kind.CHAR})
ZONED = frozenset({Kind.TIMESTAMPTZ, Kind.TIMESTAMPLTZ})
TIMES = frozenset({Kind.TIMESTAMP, Kind.DATETIME, Kind.TIMESTAMPNTZ}) | ZONED
_DIGITS = {Kind.TINYINT: 3, Kind.SMALLINT: 5, Kind.INT: 10, Kind.BIGINT: 19}
_TYPED = ("ABS", "COUNT", "SUM", "AVG", "COALESCE", "NULLIF", "IF", "UNNEST", "CONCAT")


class _Parser(TrinoParser):
    """Trino's grammar, with functions left as they are written: what each means is said in `translate` and `macros`."""

    FUNCTIONS = {k: v for k, v in TrinoParser.FUNCTIONS.items() if k in _TYPED}  # noqa: RUF012
    FUNCTION_PARSERS = {  # noqa: RUF012
        k: v for k, v in TrinoParser.FUNCTION_PARSERS.items() if k in ("CAST", "TRY_CAST", "EXTRACT", "TRIM", "POSITION", "SUBSTRING")
    }  # fmt: skip
    NO_PAREN_FUNCTION_PARSERS = {  # noqa: RUF012
        k: v for k, v in TrinoParser.NO_PAREN_FUNCTION_PARSERS.items() if k in ("CASE", "ANY", "IF")
    }


def _of_call(annotator: Any, node: exp.Anonymous) -> None:
    """What a function gives, by its name and its arguments' types."""
    gives = GIVES.get(node.name.lower(), "")
    args = node.expressions
    if gives.isdigit():
        kind = args[int(gives)].type if len(args) > int(gives) else None
    elif gives in ("list", "element"):
        first = args[0] if args else None
        first = first.this if isinstance(first, exp.Order | exp.Ordered | exp.Distinct) else first
        kind = first.type if first is not None else None
        if node.name.lower() == "sequence" and kind is not None and kind.this in INTS:
            kind = exp.DataType.build("bigint")
        if kind is not None and gives == "list":
            kind = exp.DataType(this=Kind.ARRAY, expressions=[kind.copy()], nested=True)
        elif kind is not None:
            kind = inner(kind, 0 if kind.this == Kind.ARRAY else 1)
    elif gives == "map":
        parts = [
            inner(a.type, 0) if a.type is not None and a.type.this == Kind.ARRAY else data_type("unknown") for a in args
        ]
        kind = (
            exp.DataType(this=Kind.MAP, expressions=[p.copy() for p in parts], nested=True) if len(parts) == 2 else None
        )
    else:
        kind = data_type(gives) if gives else None
    annotator._set_type(node, kind or Kind.UNKNOWN)  # noqa: SLF001 - sqlglot's own annotators do so


def _of_arithmetic(annotator: Any, node: exp.Binary) -> None:
    """Decimals by https://trino.io/docs/current/functions/decimal.html, all else as sqlglot does it."""
    sides = [s.type or exp.DataType.build("unknown") for s in (node.left, node.right)]
    kinds = [s.this for s in sides]
    if Kind.DECIMAL not in kinds or not all(decimal(s) for s in sides):
        if isinstance(node, exp.Div) and all(k in INTS for k in kinds):
            annotator._set_type(node, max(kinds, key=lambda k: _DIGITS[k]))  # noqa: SLF001
        elif any(k in FLOATS for k in kinds):
            annotator._set_type(node, Kind.DOUBLE)  # noqa: SLF001
        else:
            annotator._annotate_binary(node)  # noqa: SLF001
        return
    (p, s), (q, t) = decimal(sides[0]) or (38, 0), decimal(sides[1]) or (38, 0)
    if isinstance(node, exp.Mul):
        precision, scale = p + q, s + t
    elif isinstance(node, exp.Div):
        precision, scale = p + t + max(0, t - s), max(s, t)
    elif isinstance(node, exp.Mod):
        precision, scale = min(p - s, q - t) + max(s, t), max(s, t)
    else:
        precision, scale = max(p - s, q - t) + max(s, t) + 1, max(s, t)
    annotator._set_type(node, exp.DataType.build(f"decimal({min(38, precision)},{scale})"))  # noqa: SLF001


def _of_total(annotator: Any, node: exp.Sum | exp.Avg) -> None:
    inside = node.this.expressions[0] if isinstance(node.this, exp.Distinct) else node.this
    kind = inside.type or exp.DataType.build("unknown")
    if kind.this == Kind.DECIMAL and (precise := decimal(kind)):
        kind = exp.DataType.build(f"decimal({38 if isinstance(node, exp.Sum) else precise[0]},{precise[1]})")
    elif kind.this in INTS:
        kind = exp.DataType.build("bigint" if isinstance(node, exp.Sum) else "double")
    annotator._set_type(node, kind)  # noqa: SLF001


class Dialect(Trino):
    """Trino as it is written in queries to Athena."""

    INDEX_OFFSET = 0  # an index stays what is written
    Parser = _Parser
    EXPRESSION_METADATA = {  # noqa: RUF012
        **Trino.EXPRESSION_METADATA,
        exp.Anonymous: {"annotator": _of_call},
        **{k: {"annotator": _of_arithmetic} for k in (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)},
        **{k: {"annotator": _of_total} for k in (exp.Sum, exp.Avg)},
    }


def data_type(text: str) -> exp.DataType:
    """A type as Trino writes it."""
    return exp.DataType.build(text, dialect=Dialect)


def sql_type(kind: exp.DataType) -> str:
    """A type of Trino's as DuckDB's."""
    if kind.this == Kind.DECIMAL and not kind.expressions:
        return "DECIMAL(38, 0)"
    if kind.this in ZONED:
        return "TIMESTAMPTZ"
    if kind.this in TIMES:
        return "TIMESTAMP"
    if kind.this in TEXTS:
        return "VARCHAR"
    if kind.this == Kind.ARRAY:
        return f"{sql_type(inner(kind, 0))}[]"
    if kind.this == Kind.MAP:
        return f"MAP({sql_type(inner(kind, 0))}, {sql_type(inner(kind, 1))})"
    if kind.this == Kind.STRUCT:
        return "STRUCT(" + ", ".join(f'"{n}" {sql_type(t)}' for n, t in fields(kind)) + ")"
    return kind.sql("duckdb")


def inner(kind: exp.DataType, at: int) -> exp.DataType:
    found = kind.expressions[at] if len(kind.expressions) > at else None
    return found if isinstance(found, exp.DataType) else exp.DataType.build("unknown")


def fields(kind: exp.DataType) -> Iterable[tuple[str, exp.DataType]]:
    for at, each in enumerate(kind.expressions):
        if isinstance(each, exp.ColumnDef):
            yield each.name, each.args["kind"]
        else:
            yield f"field{at}", each


def told(kind: exp.DataType) -> str:
    """A type as Trino writes it in an error and in typeof()."""
    if kind.this == Kind.ARRAY:
        return f"array({told(inner(kind, 0))})"
    if kind.this == Kind.MAP:
        return f"map({told(inner(kind, 0))}, {told(inner(kind, 1))})"
    if kind.this == Kind.DECIMAL:
        p, s = decimal(kind) or (38, 0)
        return f"decimal({p},{s})"
    if kind.this in TIMES:
        size = kind.expressions[0].name if kind.expressions else "3"
        return f"timestamp({size})" + (" with time zone" if kind.this in ZONED else "")
    names = {
        Kind.INT: "integer",
        Kind.TEXT: "varchar",
        Kind.VARBINARY: "varbinary",
        Kind.FLOAT: "real",
        Kind.STRUCT: "row",
    }
    return names.get(kind.this, kind.this.value.lower() if isinstance(kind.this, Kind) else str(kind.this))


def decimal(kind: exp.DataType) -> tuple[int, int] | None:
    """Precision and scale of a decimal, or of an integer as one."""
    if kind.this in _DIGITS:
        return _DIGITS[kind.this], 0
    if kind.this != Kind.DECIMAL:
        return None
    numbers = [int(e.name) for e in kind.expressions]
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0) if numbers else (38, 0)
