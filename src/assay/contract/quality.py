"""What ODCS says of values, as rules of ours: options of a column's type, metrics of its library. ValueError is the remedy."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from math import ceil, floor
from typing import Any
from zoneinfo import ZoneInfo

from sqlglot import exp

from assay.contract.model import Column, Rule

Spelt = Callable[[Sequence[str | int]], str]
"""The text of a scalar below the place that is read, as its author wrote it: no number passes through a double."""

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_OPTIONS = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "integer": (*_BOUNDS, "multipleOf", "format"),
    "number": (*_BOUNDS, "multipleOf"),
    "date": (*_BOUNDS, "format"),
    "timestamp": (*_BOUNDS, "timezone", "defaultTimezone"),
}
_FORMATS = {
    "uuid": "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    "email": r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*$",
    "hostname": r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
    "ipv4": r"^(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$",
    "uri": r"^[A-Za-z][A-Za-z0-9+.-]*:[!#$%&'()*+,\-./0-9:;=?@A-Z_a-z~\[\]]+$",
}
_BITS = {f"{sign}{bits}" for sign in "iu" for bits in (8, 16, 32, 64, 128)}

# What RE2, which DuckDB runs, and ECMA-262, which ODCS means, read alike.
_QUANTIFIER = r"(?:[*+?]|\{\d{1,4}(?:,\d{0,4})?\})\??"
_CLASS = r"\[\^?(?:\\[dDwWtnr]|\\[^A-Za-z0-9\x00]|[^\]\\\[\x00])+\]"
_ATOM = rf"(?:\\[dDwWtnr]|\\[^A-Za-z0-9\x00]|{_CLASS}|\.|[^\\\[\](){{}}*+?|^$.\x00])(?:{_QUANTIFIER})?"
_PATTERN = re.compile(rf"(?:{_ATOM}|\((?:\?:)?|\)(?:{_QUANTIFIER})?|\||\^|\$|\\[bB])*")
_DIGITS = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")


def option(column: Column, name: str, value: object, text: str) -> Rule | None:
    """The rule that an option of a column's type is, none where every value keeps it; `text` is the value as it is spelt."""
    known = _OPTIONS.get(column.kind, ())
    if name not in known:
        raise ValueError(f"{name} says nothing of a column of this type; {', '.join(known) or 'no option'} does")
    said = _said(column, name, value, text)
    return None if said is None else Rule(f"{column.name}:{name}", said, description=f"{name}: {text}")


def _said(column: Column, name: str, value: object, text: str) -> str | None:
    it = _name(column.name)
    if name in _BOUNDS:
        return f"{it} {_BOUNDS[name]} {literal(column, value, text)}"
    if name in ("minLength", "maxLength"):
        return f"length({it}) {'>=' if name == 'minLength' else '<='} {_count(value)}"
    if name == "multipleOf":
        step = literal(column, value, text)
        if Decimal(text) <= 0:
            raise ValueError(f"multipleOf: {text} is not above 0")
        return f"{it} % {step} = 0"
    if name == "pattern":
        return f"regexp_matches({it}, {_quoted(pattern(value))})"
    if name == "timezone" and value is not True:
        raise ValueError("timezone: silver's timestamps are instants; say true, or leave it out")
    return _format(column, str(value)) if name == "format" else None


def _format(column: Column, value: str) -> str | None:
    it = _name(column.name)
    if column.kind == "string":
        if value not in _FORMATS:
            raise ValueError(f"format: {value} is not judged here; {', '.join(_FORMATS)} are, or say a pattern")
        return f"regexp_matches({it}, {_quoted(_FORMATS[value])})"
    if column.kind == "date":
        read = column.format or "yyyy-MM-dd"
        if value != read:
            raise ValueError(
                f"format: {value} is not how this date is read, {read}; say the same here and in the customProperty format"
            )
        return None
    if value not in _BITS or value in ("u64", "i128", "u128"):
        raise ValueError(f"format: {value} is no format of a column of 64 bits; say i8, i16, i32, i64, u8, u16 or u32")
    bits = int(value[1:])
    low, high = (0, 2**bits - 1) if value[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return None if value == "i64" else f"{it} BETWEEN {low} AND {high}"


def contradiction(options: Mapping[str, Any], column: Column, spelt: Spelt) -> str | None:
    """What two options of a column say against each other, so that no value could be right."""
    least, most = options.get("minLength"), options.get("maxLength")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        return f"minLength {least} is above maxLength {most}"
    if column.kind not in ("integer", "number", "date", "timestamp"):
        return None
    for low in ("minimum", "exclusiveMinimum"):
        for high in ("maximum", "exclusiveMaximum"):
            if low in options and high in options:
                least, most = (_value(column, spelt((one,))) for one in (low, high))
                if least > most or (least == most and "exclusive" in low + high):
                    return f"{low} {spelt((low,))} leaves nothing below {high} {spelt((high,))}"
    return None


def pattern(value: object) -> str:
    """A regular expression that every engine reads alike, in time linear in the text."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"pattern: {value} is no text; say a regular expression")
    found = _PATTERN.match(value)
    end = found.end() if found else 0
    if end < len(value):
        raise ValueError(
            f"pattern: at character {end + 1}, {value[end:][:12]!r} is not what every engine reads alike; there are classes, groups "
            r"( ) and (?: ), | * + ? {m,n} ^ $ . \b \d \w and escaped signs, and no \s, look-around or back-reference"
        )
    if any(re.search(r"--|&&|\|\||~~", one) for one in re.findall(_CLASS, value)):
        raise ValueError("pattern: a class with a doubled -, &, | or ~ is read in several ways; escape the second")
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"pattern: {error}") from None
    return value


def literal(column: Column, value: object, text: str) -> str:
    """A value that a column can hold, as SQL."""
    if column.kind == "string":
        if not isinstance(value, str):
            raise ValueError(f"{text} is no text; quote it")
        return _quoted(value)
    if column.kind == "boolean":
        if not isinstance(value, bool):
            raise ValueError(f"{text} is neither true nor false")
        return str(value).lower()
    found = _value(column, text)
    if column.kind == "integer":
        return str(found)
    if column.kind == "timestamp":
        return f"CAST({_quoted(found.isoformat(' ', 'microseconds'))} AS TIMESTAMPTZ)"
    return f"CAST({_quoted(format(found, 'f') if column.kind == 'number' else found.isoformat())} AS {column.type})"


def _value(column: Column, text: str) -> Any:
    """What a text is as a value of a column; ValueError for what the column cannot hold."""
    if column.kind == "date":
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text} is no day as YYYY-MM-DD") from None
    if column.kind == "timestamp":
        try:
            at = datetime.fromisoformat(text)
            return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(column.zone))).astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValueError(f"{text} is no time as 2024-01-31T16:00:00Z") from None
    if not _DIGITS.fullmatch(text):
        raise ValueError(f"{text} is no number")
    number = Decimal(text)
    scale = column.scale if column.kind == "number" else 0
    _, digits, exponent = number.normalize().as_tuple()
    if not isinstance(exponent, int) or -exponent > scale:
        raise ValueError(f"{text} has more decimals than {column.name}, which has {scale}")
    whole = column.precision - scale if column.kind == "number" else 19
    if number and (len(digits) + exponent > whole or (column.kind == "integer" and not -(2**63) <= number < 2**63)):
        raise ValueError(f"{text} is more than {column.name} can hold")
    return number if column.kind == "number" else int(number)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value} is no length; say a whole number")
    return value


def _name(name: str) -> str:
    return f'"{name}"'


def _quoted(text: str) -> str:
    return exp.Literal.string(text).sql(dialect="duckdb")


# ------------------------------------------------------------------ the library


METRICS = ("nullValues", "missingValues", "invalidValues", "duplicateValues", "rowCount")
_ARGUMENTS = {
    "missingValues": {"missingValues"},
    "invalidValues": {"validValues", "pattern"},
    "duplicateValues": {"properties"},
}
_TOO_MANY = {"mustBe": False, "mustBeLessThan": True, "mustBeLessOrEqualTo": False}


def breaks(metric: str, arguments: Mapping[str, Any], column: Column, spelt: Spelt) -> str:
    """The expression that is false of a row which a metric counts."""
    it = _name(column.name)
    if metric == "nullValues":
        return f"{it} IS NOT NULL"
    if metric == "missingValues":
        values = _list(arguments, "missingValues")
        there = [n for n, one in enumerate(values) if one not in (None, "")]  # an empty text is read as null
        said = [f"{it} IS NULL"] if len(there) < len(values) else []
        if there:
            said.append(f"{it} IN ({', '.join(_listed(column, metric, n, values, spelt) for n in there)})")
        return f"NOT coalesce({' OR '.join(said)}, false)"
    if "pattern" in arguments and column.kind != "string":
        raise ValueError("a pattern is of a text, and the column is none")
    said = [f"regexp_matches({it}, {_quoted(pattern(arguments['pattern']))})"] if "pattern" in arguments else []
    if "validValues" in arguments:
        values = _list(arguments, "validValues")
        told = [_listed(column, "validValues", n, values, spelt) for n in range(len(values))]
        said.append(f"{it} IN ({', '.join(told)})")
    if not said:
        raise ValueError("invalidValues needs the arguments validValues or pattern")
    return " AND ".join(said)


def _listed(column: Column, of: str, n: int, values: Sequence[Any], spelt: Spelt) -> str:
    return literal(column, values[n], spelt(("arguments", of, n)))


def _list(arguments: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = arguments.get(name)
    if not isinstance(found, list) or not found:
        raise ValueError(f"{name} is a list of at least one value")
    return found


def known(metric: str, arguments: Mapping[str, Any]) -> None:
    """ValueError for an argument that a metric does not know."""
    wanted = _ARGUMENTS.get(metric, set())
    if extra := sorted(arguments.keys() - wanted):
        raise ValueError(f"{metric} has no argument {extra[0]}; it has {', '.join(sorted(wanted)) or 'none'}")


def limit(operators: Mapping[str, Any]) -> tuple[float, bool]:
    """How much of what a metric counts a batch may have: the number, and whether it must stay below it."""
    name, value = _one(operators)
    if name not in _TOO_MANY or (name == "mustBe" and value != 0):
        raise ValueError(
            f"{name}: a batch is held for too much, so say mustBe: 0, mustBeLessThan or mustBeLessOrEqualTo"
        )
    if value < 0 or (value == 0 and _TOO_MANY[name]):
        raise ValueError(f"{name}: {value} is less than nothing")
    return float(value), _TOO_MANY[name]


def rows(operators: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The rows that a batch must have at least and may have at most."""
    name, value = _one(operators)
    match name:
        case "mustBe":
            least, most = ceil(value), floor(value)
        case "mustBeLessThan":
            return None, ceil(value) - 1
        case "mustBeLessOrEqualTo":
            return None, floor(value)
        case "mustBeGreaterThan":
            return floor(value) + 1, None
        case "mustBeGreaterOrEqualTo":
            return ceil(value), None
        case _:
            least, most = floor(value[0]) + 1, ceil(value[1]) - 1
    if least > most:
        raise ValueError(f"{name}: {value} leaves no number of rows")
    return least, most


def _one(operators: Mapping[str, Any]) -> tuple[str, Any]:
    if len(operators) != 1:
        raise ValueError(f"a metric has one bound such as mustBe: 0; here are {', '.join(operators) or 'none'}")
    [(name, value)] = operators.items()
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, int | float) or isinstance(one, bool) or not abs(one) <= 2**53:
            raise ValueError(f"{name}: {one} is no number")
    return name, value
