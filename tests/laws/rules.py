"""A contract's rules in plain Python: what the guard's expressions say of one row, with SQL's three truths."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

from sqlglot import exp

from assay.sqltypes import SqlType

_TWO: Mapping[type[exp.Expr], Callable[[Any, Any], Any]] = {
    exp.EQ: operator.eq, exp.NEQ: operator.ne, exp.LT: operator.lt, exp.LTE: operator.le, exp.GT: operator.gt,
    exp.GTE: operator.ge, exp.Add: operator.add, exp.Sub: operator.sub, exp.Mul: operator.mul,
    exp.Div: lambda a, b: _divided(float(a), float(b)), exp.Mod: lambda *of: _modulo(*of),  # noqa: PLW0108 - it stands below
    exp.RegexpLike: lambda text, shape: _matches(shape, text),
}  # fmt: skip
_ONE: Mapping[type[exp.Expr], Callable[[Any], Any]] = {
    exp.Not: operator.not_, exp.Neg: operator.neg, exp.Abs: abs, exp.Length: len, exp.Upper: str.upper, exp.Lower: str.lower,
    exp.Year: lambda day: day.year, exp.Month: lambda day: day.month,
    exp.DayOfWeekIso: lambda day: day.isoweekday(),
}  # fmt: skip
_OF: Mapping[str, Callable[[Any], Any]] = {
    "TEXT": lambda v: str(v).lower() if isinstance(v, bool) else str(v), "BIGINT": lambda v: int(_rounded(v, 0)),
    "INT": lambda v: int(_rounded(v, 0)), "DOUBLE": float, "BOOLEAN": lambda v: v if isinstance(v, bool) else v == "true",
    "TIMESTAMPTZ": datetime.fromisoformat, "DATE": lambda v: date.fromisoformat(v) if isinstance(v, str) else date(v.year, v.month, v.day),
}  # fmt: skip


def value(node: exp.Expr, row: Mapping[str, Any]) -> Any:
    """What an expression that the guard allows is for a row, None for null; KeyError for a cast to a rare type."""
    these = [value(one, row) for one in _operands(node)]
    match node:
        case exp.Column():
            return row[node.name]
        case exp.Literal() | exp.Null() | exp.Boolean():
            return node.to_py()
        case exp.Paren():
            return these[0]
        case exp.And() | exp.Or():
            decides = isinstance(node, exp.Or)
            return decides if decides in these else None if None in these else not decides
        case exp.Is():
            return these[0] is these[1]
        case exp.In():
            return _any([_strict(operator.eq, these[0], one) for one in these[1:]])
        case exp.Between():
            told = _any([_strict(operator.lt, these[0], these[1]), _strict(operator.gt, these[0], these[2])])
            return None if told is None else not told
        case exp.Coalesce():
            return next((one for one in these if one is not None), None)
        case exp.Greatest() | exp.Least():
            known = [one for one in these if one is not None]
            return (max if isinstance(node, exp.Greatest) else min)(known) if known else None
        case exp.Nullif():
            return None if _strict(operator.eq, *these) else these[0]
        case exp.Case():
            return _case(node, row)
        case exp.Cast():
            return _strict(lambda v: _cast(v, SqlType.parse(node.to.sql("duckdb"))), *these)
        case exp.Round():
            return _strict(_rounded, these[0], these[1] if len(these) > 1 else 0)
        case exp.Trim():
            return _strict(lambda text, of: text.strip(of), these[0], these[1] if len(these) > 1 else " ")
    return _strict(_TWO[type(node)] if len(these) == 2 else _ONE[type(node)], *these)


def _operands(node: exp.Expr) -> Sequence[exp.Expr]:
    """The parts that are computed first, in order."""
    if isinstance(node, exp.Case | exp.Column | exp.Literal):
        return ()
    names = ("this", "expression", "low", "high", "decimals", "expressions")
    found = [part for name in names if (part := node.args.get(name)) is not None]
    return [one for part in found for one in (part if isinstance(part, list) else [part]) if isinstance(one, exp.Expr)]


def _case(node: exp.Case, row: Mapping[str, Any]) -> Any:
    """The value of the first branch that is true, or of the rest."""
    for one in node.args["ifs"]:
        asked = one.this if node.this is None else exp.EQ(this=node.this.copy(), expression=one.this.copy())
        if value(asked, row):
            return value(one.args["true"], row)
    default = node.args.get("default")
    return None if default is None else value(default, row)


def _strict(what: Callable[..., Any], *of: Any) -> Any:
    """Null where an operand is; a decimal beside a float is one too."""
    if None in of:
        return None
    if any(isinstance(one, float) for one in of):
        of = tuple(float(one) if isinstance(one, Decimal | int) and not isinstance(one, bool) else one for one in of)
    return what(*of)


def _any(found: list[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


def _divided(a: float, b: float) -> float:
    return a / b if b else math.nan if not a or math.isnan(a) else math.copysign(math.inf, a)


def _modulo(a: Any, b: Any) -> Any:
    """The rest with the sign of what is divided, exactly."""
    if isinstance(a, float) or isinstance(b, float):
        return math.fmod(a, b)
    with localcontext(prec=80):
        rest = Decimal(a) % Decimal(b)
    return int(rest) if isinstance(a, int) and isinstance(b, int) else rest


def _matches(shape: str, text: str) -> bool:
    """As RE2 reads it: ASCII classes, and `$` is the end and not the line break before it."""
    told = re.sub(r"(\\.|\[\^?(?:\\.|[^\]\\])+\])|\$", lambda one: one[1] or r"\Z", shape)
    return re.search(told, text, re.ASCII) is not None


def _rounded(v: Any, decimals: int) -> Any:
    """Half away from zero."""
    told = Decimal(v).quantize(Decimal(1).scaleb(-int(decimals)), ROUND_HALF_UP)
    return type(v)(told) if isinstance(v, int | float) else told


def _cast(v: Any, kind: SqlType) -> Any:
    return _rounded(Decimal(v), kind.scale) if kind.decimal else _OF[kind.name](v)
