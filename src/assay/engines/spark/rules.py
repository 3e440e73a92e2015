"""A contract's rules as Spark SQL that says what DuckDB says: each kind of node the guard allows, in its canonical form."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import NamedTuple

from sqlglot import exp

from assay.contract.quality import pattern as fit_pattern
from assay.engines.spark.words import ident, spelt, text
from assay.errors import ContractError
from assay.sqltypes import SqlType


class Said(NamedTuple):
    """An expression's SQL and its type, as a contract spells it; NULL of what is nothing but null."""

    sql: str
    kind: str


_COMPARED: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
}
_COUNTED: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Mod: "%"}
_BLANK = "".join(map(chr, (0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)))
_WORD = "0-9A-Za-z_"
_EDGE = f"(?:(?<=[{_WORD}])(?![{_WORD}])|(?<![{_WORD}])(?=[{_WORD}]))"
_IOTA = [at + i for at in (0x1F80, 0x1F90, 0x1FA0) for i in range(8)]
_ONES = (
    "ß" + "".join(map(chr, (*_IOTA, 0x1FB3, 0x1FC3, 0x1FF3))),
    "ẞ" + "".join(map(chr, (*(c + 8 for c in _IOTA), 0x1FBC, 0x1FCC, 0x1FFC))),
)
"""Letters that Java makes several of, and the one that they are to DuckDB."""
_WHOLE = {"TINYINT": "TINYINT", "SMALLINT": "SMALLINT", "INT": "INT", "BIGINT": "BIGINT"}


def sql(node: exp.Expr, kinds: Mapping[str, str]) -> str:
    """A rule as Spark SQL; ContractError says what of it Spark cannot say as DuckDB does."""
    return _said(node, kinds).sql


def _said(node: exp.Expr, kinds: Mapping[str, str]) -> Said:
    found = _TABLE.get(type(node))
    if found is None:
        raise _no(node, "is not known to it")
    return found(node, kinds)


def _no(node: exp.Expr, why: str) -> ContractError:
    shown = node.sql(dialect="duckdb")
    return ContractError(
        f"the Spark engine cannot judge {shown[:80]}: it {why}; say it otherwise, or let DuckDB refine it"
    )


# what stands by itself


def _column(node: exp.Column, kinds: Mapping[str, str]) -> Said:
    kind = SqlType.parse(kinds[node.name])
    return Said(ident(node.name), str(kind))


def _literal(node: exp.Literal, _: Mapping[str, str]) -> Said:
    said = str(node.this)
    if node.is_string:
        return Said(text(said), "TEXT LITERAL")
    if re.fullmatch(r"[0-9]{1,19}", said) and int(said) < 2**63:
        # An INTEGER to DuckDB, where it fits: what is counted with it is counted as widely here as there.
        return Said(said if int(said) < 2**31 else f"{said}L", "INT" if int(said) < 2**31 else "BIGINT")
    if not re.fullmatch(r"[0-9]*[.]?[0-9]*", said):
        return Said(f"CAST({text(said)} AS DOUBLE)", "DOUBLE")
    whole, part = said.split(".") if "." in said else (said, "")
    if len(whole.lstrip("0") + part) > 38:
        raise _no(node, "has more digits than a decimal holds")
    return Said(f"{said}BD", f"DECIMAL({max(len(whole.lstrip('0')) + len(part), 1)},{len(part)})")


def _null(_: exp.Null, __: Mapping[str, str]) -> Said:
    return Said("NULL", "NULL")


def _boolean(node: exp.Boolean, _: Mapping[str, str]) -> Said:
    return Said("true" if node.this else "false", "BOOLEAN")


def _paren(node: exp.Paren, kinds: Mapping[str, str]) -> Said:
    said = _said(node.this, kinds)
    return Said(f"({said.sql})", said.kind)


# truths


def _and(node: exp.And | exp.Or, kinds: Mapping[str, str]) -> Said:
    word = "AND" if isinstance(node, exp.And) else "OR"
    return Said(f"({_truth(node.this, kinds)} {word} {_truth(node.expression, kinds)})", "BOOLEAN")


def _not(node: exp.Not, kinds: Mapping[str, str]) -> Said:
    return Said(f"(NOT {_truth(node.this, kinds)})", "BOOLEAN")


def _truth(node: exp.Expr, kinds: Mapping[str, str]) -> str:
    said = _said(node, kinds)
    if said.kind not in ("BOOLEAN", "NULL"):
        raise _no(node, "is neither true nor false")
    return said.sql


def _compared(node: exp.Expr, kinds: Mapping[str, str]) -> Said:
    a, b = _alike(node, [node.this, node.expression], kinds)
    return Said(f"({a} {_COMPARED[type(node)]} {b})", "BOOLEAN")


def _between(node: exp.Between, kinds: Mapping[str, str]) -> Said:
    it, low, high = _alike(node, [node.this, node.args["low"], node.args["high"]], kinds)
    return Said(f"({it} BETWEEN {low} AND {high})", "BOOLEAN")


def _in(node: exp.In, kinds: Mapping[str, str]) -> Said:
    it, *those = _alike(node, [node.this, *node.expressions], kinds)
    return Said(f"({it} IN ({', '.join(those)}))", "BOOLEAN")


def _is(node: exp.Is, kinds: Mapping[str, str]) -> Said:
    if isinstance(node.expression, exp.Null):
        return Said(f"({_said(node.this, kinds).sql} IS NULL)", "BOOLEAN")
    if not isinstance(node.expression, exp.Boolean):
        raise _no(node, "asks for more than null, true and false")
    return Said(f"({_truth(node.this, kinds)} IS {'TRUE' if node.expression.this else 'FALSE'})", "BOOLEAN")


def _matches(node: exp.RegexpLike, kinds: Mapping[str, str]) -> Said:
    told = node.expression
    if not isinstance(told, exp.Literal) or not told.is_string or node.args.get("flag"):
        raise _no(node, "has a pattern that is no plain text, or flags")
    try:
        shape = fit_pattern(str(told.this))
    except ValueError as error:
        raise _no(node, f"has a {error}") from None
    return Said(f"({_text(node.this, kinds)} RLIKE {text(java(shape))})", "BOOLEAN")


def java(shape: str) -> str:
    """A pattern that every engine reads alike, as Java reads it so: `$` is the end, `.` all but a line break, `\\b` of ASCII."""
    pieces = re.findall(r"\\.|\[\^?(?:\\.|[^\]\\])+\]|.", shape, re.DOTALL)
    inside = r"(?<!\\)((?:\\\\)*)([\[&])"
    own = {"$": r"\z", ".": r"[^\n]", r"\b": _EDGE, r"\B": f"(?!{_EDGE})"}
    return "".join(
        own.get(one) or (one[0] + re.sub(inside, r"\1\\\2", one[1:]) if len(one) > 2 else one) for one in pieces
    )


# numbers


def _counted(node: exp.Expr, kinds: Mapping[str, str]) -> Said:
    a, b = (_said(one, kinds) for one in (node.this, node.expression))
    if not (_numeric(a.kind) and _numeric(b.kind)):
        raise _no(node, "counts with what is no number")
    if (
        isinstance(node, exp.Mul)
        and "DOUBLE" not in (a.kind, b.kind)
        and any(one.kind.startswith("DECIMAL") for one in (a, b))
    ):
        one, two = (_digits(said.kind) for said in (a, b))
        if one[1] + two[1] > 38:
            raise _no(node, "has more decimals than a decimal holds")
        return Said(f"({a.sql} * {b.sql})", f"DECIMAL({min(one[0] + two[0], 38)},{one[1] + two[1]})")
    kind = _wider(node, [a, b])
    if isinstance(node, exp.Mod) and kind == "DOUBLE":
        raise _no(node, "asks for the rest of a double")
    if kind.startswith("DECIMAL") and not isinstance(node, exp.Mod):
        precision, scale = _digits(kind)
        kind = f"DECIMAL({min(precision + 1, 38)},{scale})"
    terms = [_as(one, kind if kind == "DOUBLE" else "") for one in (a, b)]
    return Said(f"({terms[0]} {_COUNTED[type(node)]} {terms[1]})", kind)


def _divided(node: exp.Div, kinds: Mapping[str, str]) -> Said:
    """In doubles, as everywhere: by nothing it is without end, and nothing by nothing is no number."""
    a, b = (f"CAST({_number(one, kinds)} AS DOUBLE)" for one in (node.this, node.expression))
    return Said(f"(CASE WHEN {b} = 0 THEN {a} * CAST('Infinity' AS DOUBLE) ELSE {a} / {b} END)", "DOUBLE")


def _neg(node: exp.Neg, kinds: Mapping[str, str]) -> Said:
    said = _said(node.this, kinds)
    if not _numeric(said.kind):
        raise _no(node, "counts with what is no number")
    return Said(f"(- {said.sql})", said.kind)


def _abs(node: exp.Abs, kinds: Mapping[str, str]) -> Said:
    return Said(f"abs({_number(node.this, kinds)})", _said(node.this, kinds).kind)


def _round(node: exp.Round, kinds: Mapping[str, str]) -> Said:
    said = _said(node.this, kinds)
    decimals = node.args.get("decimals")
    if decimals is not None and not (isinstance(decimals, exp.Literal) and decimals.is_int):
        raise _no(node, "has decimals that are no plain number")
    if said.kind != "NULL" and not SqlType.parse(said.kind).decimal and said.kind not in _WHOLE:
        raise _no(node, "rounds a double, which lies on either side of what is seen")
    if said.kind in _WHOLE:
        return said
    to = int(str(decimals.this)) if decimals is not None else 0
    precision, scale = _digits(said.kind)
    return Said(f"round({said.sql}, {to})", f"DECIMAL({precision},{min(to, scale)})")


def _number(node: exp.Expr, kinds: Mapping[str, str]) -> str:
    said = _said(node, kinds)
    if not _numeric(said.kind):
        raise _no(node, "counts with what is no number")
    return said.sql


# texts and days


def _text(node: exp.Expr, kinds: Mapping[str, str]) -> str:
    said = _said(node, kinds)
    if said.kind not in ("VARCHAR", "TEXT LITERAL", "NULL"):
        raise _no(node, "takes for a text what is none")
    return said.sql


def _length(node: exp.Length, kinds: Mapping[str, str]) -> Said:
    return Said(f"CAST(length({_text(node.this, kinds)}) AS BIGINT)", "BIGINT")


def _upper(node: exp.Upper | exp.Lower, kinds: Mapping[str, str]) -> Said:
    """Letter by letter, one for one: neither engine makes two of one, and the end of a word is no special place."""
    case, after = ("upper", _ONES) if isinstance(node, exp.Upper) else ("lower", ("İ", "i"))
    it = _text(node.this, kinds)
    each = f"transform(split({it}, ''), _c -> CASE WHEN length({case}(_c)) = 1 THEN {case}(_c) ELSE _c END)"
    plain = f"CASE WHEN {it} RLIKE {text('^[ -~]*' + chr(92) + 'z')} THEN {case}({it}) ELSE translate(array_join({each}, ''), {text(after[0])}, {text(after[1])}) END"
    return Said(f"({plain})", "VARCHAR")


def _trim(node: exp.Trim, kinds: Mapping[str, str]) -> Said:
    where = str(node.args.get("position") or "BOTH").upper()
    those = _text(node.expression, kinds) if node.expression is not None else text(_BLANK)
    return Said(f"trim({where} {those} FROM {_text(node.this, kinds)})", "VARCHAR")


def _part(node: exp.Year | exp.Month | exp.DayOfWeekIso, kinds: Mapping[str, str]) -> Said:
    said = _said(node.this, kinds)
    if said.kind not in ("DATE", "TIMESTAMPTZ", "NULL"):
        raise _no(node, "takes for a day what is none")
    name = {"Year": "year({})", "Month": "month({})", "DayOfWeekIso": "(weekday({}) + 1)"}[type(node).__name__]
    return Said(f"CAST({name.format(said.sql)} AS BIGINT)", "BIGINT")


# choices


def _first(node: exp.Expr, kinds: Mapping[str, str]) -> Said:
    parts = [node.this, *node.expressions]
    word = {"Coalesce": "coalesce", "Greatest": "greatest", "Least": "least"}[type(node).__name__]
    if len(parts) == 1:
        return _said(parts[0], kinds)
    return Said(f"{word}({', '.join(_alike(node, parts, kinds))})", _of_all(node, parts, kinds))


def _nullif(node: exp.Nullif, kinds: Mapping[str, str]) -> Said:
    a, b = _alike(node, [node.this, node.expression], kinds)
    it = _said(node.this, kinds)
    return Said(f"(CASE WHEN {a} = {b} THEN NULL ELSE {it.sql} END)", it.kind)


def _case(node: exp.Case, kinds: Mapping[str, str]) -> Said:
    default = node.args.get("default")
    ifs = list(node.args["ifs"])
    values = [one.args["true"] for one in ifs] + ([default] if default is not None else [])
    whens = [
        one.this if node.this is None else exp.EQ(this=node.this.copy(), expression=one.this.copy()) for one in ifs
    ]
    told = _alike(node, values, kinds)
    cases = [f"WHEN {_truth(when, kinds)} THEN {then}" for when, then in zip(whens, told, strict=False)]
    rest = f" ELSE {told[-1]}" if default is not None else ""
    return Said(f"(CASE {' '.join(cases)}{rest} END)", _of_all(node, values, kinds))


def _if(node: exp.If, kinds: Mapping[str, str]) -> Said:
    return _case(
        exp.Case(ifs=[exp.If(this=node.this.copy(), true=node.args["true"].copy())], default=node.args.get("false")),
        kinds,
    )


# types


def _cast(node: exp.Cast, kinds: Mapping[str, str]) -> Said:
    to = SqlType.parse(node.to.sql(dialect="duckdb"))
    name = {"TEXT": "VARCHAR", "CHAR": "VARCHAR"}.get(to.name, to.name)
    of = _said(node.this, kinds)
    if of.kind == "NULL":
        return Said("NULL", str(to) if name != "VARCHAR" else "VARCHAR")
    if of.kind == "TEXT LITERAL":
        return Said(_constant(node, str(node.this.unnest().this), to if name != "VARCHAR" else SqlType(name)), str(to))
    if of.kind == name or of.kind == str(to):
        return of
    kind = SqlType.parse(of.kind)
    made = _casts(kind, to, name, of.sql)
    if made is None:
        raise _no(node, f"makes {to} of {kind}, which the engines do in different ways")
    return Said(made, "VARCHAR" if name == "VARCHAR" else str(to))


def _casts(kind: SqlType, to: SqlType, name: str, it: str) -> str | None:
    """The cast as DuckDB does it, None where there is none that is alike."""
    number = kind.decimal or kind.name in _WHOLE
    if name == "VARCHAR":
        if kind.decimal and kind.precision == kind.scale:
            return f"regexp_replace(CAST({it} AS STRING), '^(-?)0[.]', '$1.')"
        if kind.zoned:
            return f"concat(CAST({it} AS STRING), '+00')"
        return f"CAST({it} AS STRING)" if number or kind.name in ("BOOLEAN", "DATE") else None
    if name in _WHOLE:
        if kind.decimal:
            return f"CAST(round({it}, 0) AS {name})"
        if kind.name == "DOUBLE":
            return f"CAST(rint({it}) AS {name})"
        return f"CAST({it} AS {name})" if number or kind.name == "BOOLEAN" else None
    if name == "DOUBLE" or (to.decimal and number):
        return f"CAST({it} AS {to})" if number else None
    if name == "DATE" and kind.zoned:
        return f"CAST({it} AS DATE)"
    if name == "TIMESTAMPTZ" and kind.name == "DATE":
        return f"CAST({it} AS TIMESTAMP)"
    return f"({it} <> 0)" if name == "BOOLEAN" and number else None


def _constant(node: exp.Expr, said: str, to: SqlType) -> str:
    """A text of the contract itself as a value of a type: read here, once."""
    try:
        if to.name == "VARCHAR":
            return text(said)
        if to.name == "DATE":
            return f"DATE '{date.fromisoformat(said)}'"
        if to.zoned:
            moment = datetime.fromisoformat(said)
            return f"TIMESTAMP '{spelt(moment if moment.tzinfo else moment.replace(tzinfo=UTC))}'"
        if to.decimal and re.fullmatch(r"[+-]?[0-9]+([.][0-9]+)?", said):
            return f"CAST({text(said)} AS {to})"
        if to.name in ("BIGINT", "INT", "SMALLINT", "TINYINT") and re.fullmatch(r"[+-]?[0-9]{1,18}", said):
            return f"CAST({text(said)} AS {to.name})"
    except ValueError:
        pass
    raise _no(node, f"makes {to} of a text, which the engines do in different ways")


def _numeric(kind: str) -> bool:
    return kind in (*_WHOLE, "DOUBLE", "NULL") or kind.startswith("DECIMAL")


def _digits(kind: str) -> tuple[int, int]:
    """Precision and scale of a number that is counted exactly."""
    found = SqlType.parse(kind) if kind.startswith("DECIMAL") else None
    whole = {"TINYINT": 3, "SMALLINT": 5, "INT": 10, "BIGINT": 19, "NULL": 1}
    return (found.precision, found.scale) if found else (whole[kind], 0)


def _wider(node: exp.Expr, said: list[Said]) -> str:
    """The one type of several numbers."""
    kinds = {one.kind for one in said if one.kind != "NULL"} or {"NULL"}
    if "DOUBLE" in kinds:
        return "DOUBLE"
    if any(one.startswith("DECIMAL") for one in kinds):
        digits = [_digits(one) for one in kinds]
        scale = max(s for _, s in digits)
        precision = max(p - s for p, s in digits) + scale
        if precision > 38:
            raise _no(node, "has more digits than a decimal holds")
        return f"DECIMAL({precision},{scale})"
    return max(kinds, key=["NULL", *_WHOLE].index)


def _of_all(node: exp.Expr, parts: list[exp.Expr], kinds: Mapping[str, str]) -> str:
    said = [_said(one, kinds) for one in parts]
    told = [one for one in said if one.kind not in ("NULL", "TEXT LITERAL")]
    if told and all(_numeric(one.kind) for one in told):
        return _wider(node, told)
    return told[0].kind if told else "VARCHAR" if any(one.kind == "TEXT LITERAL" for one in said) else "NULL"


def _alike(node: exp.Expr, parts: list[exp.Expr], kinds: Mapping[str, str]) -> list[str]:
    """Parts that are compared, as SQL: of one kind, texts of the contract read as what they stand beside."""
    said = [_said(one, kinds) for one in parts]
    known = {one.kind for one in said} - {"NULL", "TEXT LITERAL"}
    numeric = bool(known) and all(_numeric(one) for one in known)
    if len(known) > 1 and not numeric and not known <= {"DATE", "TIMESTAMPTZ"}:
        raise _no(node, f"compares {' with '.join(sorted(known))}")
    if known and known != {"VARCHAR"}:
        beside = SqlType.parse(_wider(node, said_numbers(said)) if numeric else max(known))
        said = [
            Said(_constant(node, str(part.unnest().this), beside), str(beside)) if one.kind == "TEXT LITERAL" else one
            for one, part in zip(said, parts, strict=True)
        ]
    to = "DOUBLE" if numeric and "DOUBLE" in known else ""
    if numeric:
        to = to or _wider(node, said_numbers(said))
    return [_as(one, to if numeric and (to == "DOUBLE" or to.startswith("DECIMAL")) else "") for one in said]


def said_numbers(said: list[Said]) -> list[Said]:
    """Those of them that are numbers."""
    return [one for one in said if _numeric(one.kind)]


def _as(said: Said, kind: str) -> str:
    return said.sql if not kind or said.kind in (kind, "NULL") else f"CAST({said.sql} AS {kind})"


_TABLE: Mapping[type[exp.Expr], Callable[..., Said]] = {
    exp.Column: _column, exp.Literal: _literal, exp.Null: _null, exp.Boolean: _boolean, exp.Paren: _paren,
    exp.And: _and, exp.Or: _and, exp.Not: _not, exp.Between: _between, exp.In: _in, exp.Is: _is, exp.RegexpLike: _matches,
    **dict.fromkeys(_COMPARED, _compared), **dict.fromkeys(_COUNTED, _counted), exp.Div: _divided, exp.Neg: _neg,
    exp.Abs: _abs, exp.Round: _round, exp.Length: _length, exp.Upper: _upper, exp.Lower: _upper, exp.Trim: _trim,
    exp.Year: _part, exp.Month: _part, exp.DayOfWeekIso: _part, exp.Coalesce: _first, exp.Greatest: _first,
    exp.Least: _first, exp.Nullif: _nullif, exp.Case: _case, exp.If: _if, exp.Cast: _cast,
}  # fmt: skip
