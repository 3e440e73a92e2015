"""A contract's rules in plain Python: what the guard's expressions say of one row, with SQL's three truths."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

_TWO: Mapping[type[exp.Expr], Callable[[Any, Any], Any]] = {
    exp.EQ: operator.eq, exp.NEQ: operator.ne, exp.LT: operator.lt, exp.LTE: operator.le, exp.GT: operator.gt,
    exp.GTE: operator.ge, exp.Add: operator.add, exp.Sub: operator.sub, exp.Mul: operator.mul,
}  # fmt: skip
_ONE: Mapping[type[exp.Expr], Callable[[Any], Any]] = {
    exp.Not: operator.not_, exp.Neg: operator.neg, exp.Abs: abs, exp.Length: len, exp.Upper: str.upper, exp.Lower: str.lower
}  # fmt: skip


def value(node: exp.Expr, row: Mapping[str, Any]) -> Any:
    """What an expression is for a row, None for null; NotImplementedError for what no test has needed so far."""
    match node:
        case exp.Column():
            return row[node.name]
        case exp.Literal() | exp.Null() | exp.Boolean():
            return node.to_py()
        case exp.Paren():
            return value(node.this, row)
        case exp.And() | exp.Or():
            decides = isinstance(node, exp.Or)
            both = (value(node.left, row), value(node.right, row))
            return decides if decides in both else None if None in both else not decides
        case exp.Is():
            return value(node.this, row) is value(node.expression, row)
        case exp.In():
            return _any([_two(operator.eq, value(node.this, row), value(one, row)) for one in node.expressions])
        case exp.Between():
            told = value(node.this, row)
            low, high = (value(node.args[end], row) for end in ("low", "high"))
            return _not(_any([_two(operator.lt, told, low), _two(operator.gt, told, high)]))
        case exp.Coalesce():
            return next(
                (found for one in (node.this, *node.expressions) if (found := value(one, row)) is not None), None
            )
    if (two := _TWO.get(type(node))) is not None:
        return _two(two, value(node.left, row), value(node.right, row))
    if (one := _ONE.get(type(node))) is not None:
        told = value(node.this, row)
        return None if told is None else one(told)
    raise NotImplementedError(f"the slow engine has no {type(node).__name__}")


def _two(what: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    return None if left is None or right is None else what(left, right)


def _any(found: list[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


def _not(told: bool | None) -> bool | None:
    return None if told is None else not told
