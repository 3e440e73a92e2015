"""Formats of dates: MySQL's (date_format, date_parse) and Joda's (format_datetime, parse_datetime) as DuckDB's strftime."""

import re

from sqlglot import exp

from assay_cloudsim.athena.errors import Failed

# https://trino.io/docs/current/functions/datetime.html#mysql-date-functions
_MYSQL = {
    "a": "%a", "b": "%b", "c": "%-m", "d": "%d", "e": "%-d", "f": "%f", "H": "%H", "h": "%I", "I": "%I", "i": "%M",
    "j": "%j", "k": "%-H", "l": "%-I", "M": "%B", "m": "%m", "p": "%p", "r": "%I:%M:%S %p", "S": "%S", "s": "%S",
    "T": "%H:%M:%S", "v": "%V", "W": "%A", "x": "%G", "Y": "%Y", "y": "%y", "%": "%%",
}  # fmt: skip
_JODA = {
    "yyyy": "%Y", "YYYY": "%Y", "yy": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "M": "%-m", "dd": "%d", "d": "%-d", "HH": "%H",
    "H": "%-H", "hh": "%I", "h": "%-I", "mm": "%M", "m": "%-M", "ss": "%S", "s": "%-S", "SSS": "%g", "SSSSSS": "%f",
    "EEEE": "%A", "EEE": "%a", "E": "%a", "a": "%p", "DDD": "%j", "xxxx": "%G", "ww": "%V", "e": "%u", "Z": "+0000", "ZZ": "+00:00",
}  # fmt: skip


def mysql(text: str) -> str:
    """A format of date_format in strftime's letters. What MySQL has and Trino has not is refused as by Trino."""

    def letter(found: re.Match[str]) -> str:
        if found[1] in "DUuVwX":
            raise Failed("INVALID_FUNCTION_ARGUMENT", f"%{found[1]} not supported in date format string")
        return _MYSQL.get(found[1], found[1])

    return re.sub(r"%(.)", letter, text)


def joda(text: str) -> str:
    """A format of format_datetime in strftime's letters."""

    def piece(found: re.Match[str]) -> str:
        if found[1] is not None:
            return found[1].replace("''", "'").replace("%", "%%") or "'"
        if found[2] is not None:
            if found[2] not in _JODA:
                raise Failed("NOT_SUPPORTED", f"this double of Athena does not know '{found[2]}' of a date format")
            return _JODA[found[2]]
        return "%%" if found[0] == "%" else found[0]

    return re.sub(r"'((?:[^']|'')*)'|((?P<letter>[A-Za-z])(?P=letter)*)|.", piece, text, flags=re.DOTALL)


def strptime(form: str) -> str:
    """The same format to read with: there a number may lack its leading zero."""
    return form.replace("%-", "%")


def formatted(value: exp.Expr, form: str) -> exp.Expr:
    """Strftime of a date or a timestamp."""
    return exp.Anonymous(this="strftime", expressions=[exp.cast(value, "timestamp"), exp.Literal.string(form)])
