"""How the texts of a column are spelt where that is not our way: blanks, texts that mean null, separators, days and times."""

import re
from collections.abc import Iterator
from typing import Any

from assay.contract.lines import Properties

WORDS = ("format", "decimalSeparator", "groupSeparator", "nulls", "trim")
BLANKS = "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_PARTS = {
    "yyyy": ("year", "[0-9]{4}"), "MM": ("month", "[0-9]{2}"), "M": ("month", "[0-9]{1,2}"), "dd": ("day", "[0-9]{2}"),
    "d": ("day", "[0-9]{1,2}"), "HH": ("hour", "[0-9]{2}"), "H": ("hour", "[0-9]{1,2}"), "mm": ("minute", "[0-9]{2}"),
    "ss": ("second", "[0-9]{2}"), "SSS": ("fraction", "[0-9]{3}"), "SSSSSS": ("fraction", "[0-9]{6}"),
}  # fmt: skip
_GROUPS = {".": ".", ",": ",", " ": " \u00a0\u202f", "'": "'\u2019"}
"""What may stand between groups of three digits, and the signs that are printed for it."""
_KINDS = {
    "format": ("date", "timestamp"),
    "decimalSeparator": ("number", "integer"),
    "groupSeparator": ("number", "integer"),
    "nulls": ("string", "integer", "number", "boolean", "date", "timestamp"),
    "trim": ("string", "integer", "number", "boolean", "date", "timestamp"),
}


def parts(pattern: str) -> Iterator[tuple[str, str]]:
    """The pieces of a format in their order: the part of a day or time, '' for a sign of its own, and its regular expression."""
    for found in re.finditer(r"([A-Za-z])\1*|[^A-Za-z]", pattern):
        yield _PARTS.get(found[0], ("", re.escape(found[0])))


def number(decimal: str, group: str) -> str:
    """The regular expression of a number with these separators; groups are of three digits, but for the first."""
    whole = "[0-9]+"
    if group:
        whole = f"(?:[0-9]+|[0-9]{{1,3}}(?:[{_GROUPS[group]}][0-9]{{3}})+)"
    return f"[+-]?{whole}(?:[{decimal}][0-9]*)?(?:[eE][+-]?[0-9]+)?"


def signs(group: str) -> str:
    """The signs that stand between groups of digits."""
    return _GROUPS.get(group, "")


def words(column: str, kind: str, ours: Properties, *, ordinal: bool) -> dict[str, Any]:
    """What a column's words say of its texts, by the names of `Column`; what cannot be so is noted."""
    said: dict[str, Any] = {}
    for word in WORDS:
        if word in ours and ordinal:
            ours.note(word, f"{column}: an ordinal is read from nowhere and has no {word}; leave it out")
        elif word in ours and kind not in _KINDS[word]:
            ours.note(word, f"{column}: {word} is of {', '.join(_KINDS[word])}, not of this column; leave it out")
        elif word in ours:
            said[word] = ours.get(word)
    trim = said.get("trim") is True
    reading = {
        "trim": ("trim", _truth),
        "format": ("format", lambda one: _format(one, kind, trim=trim)),
        "decimalSeparator": ("decimal", _decimal),
        "groupSeparator": ("group", lambda one: _group(one, said.get("decimalSeparator", "."))),
        "nulls": ("nulls", lambda one: _nulls(one, trim=trim)),
    }
    out = {}
    for word, value in said.items():
        name, read = reading[word]
        try:
            out[name] = read(value)
        except ValueError as error:
            ours.note(word, f"{column}: {word}: {error}")
    return out


def _truth(value: object) -> bool:
    if value is not True and value is not False:
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _decimal(value: object) -> str:
    if value not in (".", ","):
        raise ValueError(f'{value!r} is neither "," nor "."; quote it')
    return str(value)


def _group(value: object, decimal: object) -> str:
    if value not in tuple(_GROUPS):
        raise ValueError(f"""{value!r} is none of ".", ",", " " and "'"; quote it""")
    if value == decimal:
        raise ValueError(f"{value!r} stands before the decimals, as decimalSeparator has it; say another of the two")
    return str(value)


def _nulls(value: object, *, trim: bool) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f'{value} is no list of texts; say one such as [".", "NA"]')
    if other := [one for one in value if not isinstance(one, str)]:
        raise ValueError(f"{other[0]} is no text; quote it")
    for one in value:
        if not one:
            raise ValueError("an empty text is null in any case; leave it out")
        _seen(one, trim=trim)
        if value.count(one) > 1:
            raise ValueError(f"{one} stands there twice; keep one")
    return tuple(value)


def _seen(text: str, *, trim: bool) -> None:
    if re.search(r"[\x00-\x1f\x7f-\x9f]", text):
        raise ValueError(f"{text!r} has a control character; say signs that can be seen")
    if trim and text.strip(BLANKS) != text:
        raise ValueError(f"{text!r} begins or ends with blanks, which trim takes away before; leave them out")


def _format(value: object, kind: str, *, trim: bool) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value} is no text; say a pattern such as dd.MM.yyyy")
    _seen(value, trim=trim)
    for found in re.finditer(r"([A-Za-z])\1*", value):
        if found[0] not in _PARTS and found[0] != "T":
            raise ValueError(f"{value} has {found[0]}, which nothing reads; there are {', '.join(_PARTS)}, T and signs")
    told = list(parts(value))
    names = [part for part, _ in told if part]
    if twice := next((part for part in names if names.count(part) > 1), None):
        raise ValueError(f"{value} has the {twice} twice; keep one")
    needed = ("year", "month", "day") if kind == "date" else ("year", "month", "day", "hour", "minute")
    if lacking := [part for part in needed if part not in names]:
        raise ValueError(f"{value} has no {' and no '.join(lacking)}; a {kind} needs one, such as {_EXAMPLE[kind]}")
    if kind == "date" and len(names) > len(needed):
        raise ValueError(f"{value} has a time of day, which a date would lose; make the column a timestamp")
    if "fraction" in names and "second" not in names:
        raise ValueError(f"{value} has a fraction without its second, ss; say it too")
    for before, (part, digits), after in zip([("", " "), *told], told, [*told[1:], ("", " ")], strict=False):
        if digits == "[0-9]{1,2}" and any(beside or sign.isdecimal() for beside, sign in (before, after)):
            raise ValueError(f"{value}: a {part} of one digit or two needs a sign on either side; say two letters")
    return value


_EXAMPLE = {"date": "dd.MM.yyyy", "timestamp": "dd.MM.yyyy HH:mm"}
