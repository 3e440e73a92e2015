"""A short, slow, independent reading of the laws: what a line becomes, and what versions a history has."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
_LINE = re.compile(
    r'\{"_seq":[0-9]{1,18},"_n":[0-9]{1,9},(?:"_op":"([a-z]+)",)?(?:"_producer":"[^"]*",)?"_record":(.*)\}', re.DOTALL
)
_TOKENS = re.compile(r""""(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+""")


class Number(str):
    """A JSON number token, spelt as it came."""


class Object(list):
    """A JSON object as its (name, value) pairs, equal names and all."""


def enveloped(line: bytes) -> tuple[str, str]:
    """A line's `_op` and the text of its record, between the beginning and the end that are ours; ValueError if they are not."""
    found = _LINE.fullmatch(line.decode())
    if not found:
        raise ValueError("no envelope")
    return found[1] or "", found[2]


def parse(text: str) -> Any:
    """A record's JSON with number tokens kept and objects as pairs; ValueError where it is none."""
    found = json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_no_json, object_pairs_hook=Object)
    json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate is no text
    return found


def _no_json(constant: str) -> Any:
    raise ValueError(constant)


def get(value: Any, path: Iterable[str]) -> Any:
    """What stands at a path, of equal names the first; None where there is nothing."""
    for name in path:
        if not isinstance(value, Object):
            return None
        value = next((found for key, found in value if key == name), None)
    return value


def twice(value: Any, path: Iterable[str]) -> bool:
    """Whether an object on the path has the next name twice."""
    for name in path:
        if not isinstance(value, Object):
            return False
        if sum(key == name for key, _ in value) > 1:
            return True
        value = get(value, [name])
    return False


def spelt(record: str, path: Iterable[str]) -> str | None:
    """The text of what stands at a path of a record, without whitespace between tokens."""
    tokens = _TOKENS.findall(record)
    for name in path:
        found = None if tokens[0] != "{" else next((v for k, v in _members(tokens) if json.loads(k) == name), None)
        if found is None or found == ["null"]:
            return None
        tokens = found
    return "".join(tokens)


def _members(tokens: list[str]) -> Iterator[tuple[str, list[str]]]:
    """An object's names and the tokens of their values."""
    at = 1
    while tokens[at] != "}":
        end, depth = at + 2, 0
        while depth or tokens[end] not in ",}":
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(tokens[end], 0)
            end += 1
        yield tokens[at], tokens[at + 2 : end]
        at = end + (tokens[end] == ",")


def paths(column: Any) -> tuple[tuple[str, ...], ...]:
    """Where a column's value may stand."""
    return getattr(column, "origins", None) or ((column.origin,),)


def token(column: Any, value: Any) -> tuple[Any, str | None]:
    """One field's (value, reason): the value exactly, or why not."""
    value = ours(column, value)
    if value is None or value == "":
        return None, "required" if column.required else None
    return {"string": _string, "boolean": _boolean, "date": _date, "timestamp": _timestamp}.get(column.kind, _number)(
        column, value
    )


def ours(column: Any, value: Any) -> Any:
    """A text as we would spell it, "?" where it is not of the column's spelling; what is no text as it is."""
    if not isinstance(value, str) or isinstance(value, Number):
        return value
    while column.trim and value and _blank(value[0]):
        value = value[1:]
    while column.trim and value and _blank(value[-1]):
        value = value[:-1]
    if value in column.nulls:
        return None
    if value and column.format:
        return _iso(column.format, value)
    if value and (column.decimal, column.group) != (".", ""):
        return _plain(column.decimal, column.group, value)
    return value


def _blank(letter: str) -> bool:
    return unicodedata.category(letter) in ("Zs", "Zl", "Zp") or letter in "\t\n\v\f\r"


def _iso(pattern: str, text: str) -> str:
    """A day or time of a pattern, letter by letter."""
    told = {}
    for run in re.findall(r"y+|M+|d+|H+|m+|s+|S+|.", pattern):
        if run[0] not in "yMdHmsS":
            digits, fits = run, text[:1] == run
        else:
            digits = text[: len(run)] if len(run) > 1 or text[1:2] not in tuple("0123456789") else text[:2]
            fits = len(digits) >= len(run) and set(digits) <= set("0123456789")
            told[run[0]] = digits if len(run) > 1 else digits.rjust(2, "0")
        if not fits:
            return "?"
        text = text[len(digits) :]
    if text:
        return "?"
    day = "{y}-{M}-{d}".format(**told)
    seconds = (":" + told["s"] if "s" in told else "") + ("." + told["S"] if "S" in told else "")
    return f"{day}T{told['H']}:{told['m']}{seconds}" if "H" in told else day


def _plain(decimal: str, group: str, text: str) -> str:
    """A number with separators, without them."""
    like = {" ": " \u00a0\u202f", "'": "'\u2019"}.get(group, group)
    head = text[1:] if text[0] in "+-" else text
    mantissa = re.split("[eE]", head)[0]
    whole, point, part = mantissa.partition(decimal)
    groups = "".join("," if letter in like else "?" if letter == "," else letter for letter in whole).split(",")
    lengths = [len(one) for one in groups]
    if len(groups) > 1 and (not 1 <= lengths[0] <= 3 or set(lengths[1:]) != {3}):
        return "?"
    digits = "".join(groups)
    if not digits or set(digits + part) - set("0123456789"):
        return "?"
    return text[: len(text) - len(head)] + digits + (point and ".") + part + head[len(mantissa) :]


def _string(_: Any, value: Any) -> tuple[Any, str | None]:
    if not isinstance(value, str) or isinstance(value, Number):
        return None, "type"
    return value, None


def unfit_key(text: str) -> str | None:
    """Why a text is no key."""
    kinds = {unicodedata.category(letter) for letter in text}
    return "control" if "Cc" in kinds else "blank" if kinds <= {"Zs", "Zl", "Zp"} else None


def _boolean(_: Any, value: Any) -> tuple[Any, str | None]:
    if value is True or value is False:
        return value, None
    return (value == "true", None) if value in ("true", "false") else (None, "type")


def _date(column: Any, value: Any) -> tuple[Any, str | None]:
    if isinstance(value, str) and not isinstance(value, Number) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            return date.fromisoformat(value), None
        except ValueError:
            return None, "range" if column.format else "type"
    return None, "type"


def _timestamp(column: Any, value: Any) -> tuple[Any, str | None]:
    shape = r"\d{4}-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.]\d{1,6})?)?(Z|[+-]\d\d:\d\d)?"
    if not isinstance(value, str) or isinstance(value, Number) or not re.fullmatch(shape, value, re.ASCII):
        return None, "type"
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is not None:
            return found.astimezone(UTC), None
        instant = found.replace(tzinfo=ZoneInfo(column.zone)).astimezone(UTC)  # of two, the first
    except (ValueError, OverflowError):
        return None, "range"
    if instant.astimezone(ZoneInfo(column.zone)).replace(tzinfo=None) != found:
        return None, "gap"
    again = found.replace(tzinfo=ZoneInfo(column.zone), fold=1).astimezone(UTC)
    return (instant, None) if again == instant else (None, "ambiguous")


def _number(column: Any, value: Any) -> tuple[Any, str | None]:
    quoted = isinstance(value, str) and not isinstance(value, Number)
    if quoted and not re.fullmatch(r"[+-]?[0-9]+([.][0-9]*)?([eE][+-]?[0-9]+)?", value):
        return None, "type"
    if not quoted and not isinstance(value, Number):
        return None, "type"
    return _fitting(column, _exact(value))


def _exact(token: str) -> Fraction | None:
    """What a number token says; None where that is too large for anything to hold."""
    digits, _, power = token.lower().partition("e")
    mantissa = Fraction(digits.removesuffix("."))
    if not mantissa:
        return mantissa
    if len(power) < 5:
        return mantissa * Fraction(10) ** int(power or 0)
    return Fraction(1, 10**4000) * (1 if mantissa > 0 else -1) if power.startswith("-") else None


def _fitting(column: Any, exact: Fraction | None) -> tuple[Any, str | None]:
    """A number at the column's scale, or why it is none."""
    scale = column.scale if column.kind == "number" else 0
    limit = 10**column.precision if column.kind == "number" else 2**63
    if exact is None:
        return None, "range"
    scaled = exact * 10**scale
    rounded = int(abs(scaled) + Fraction(1, 2)) * (1 if scaled > 0 else -1)  # half away from zero
    if abs(rounded) >= limit and not (column.kind == "integer" and rounded == -limit):
        return None, "range"
    if column.excess != "round" and rounded != scaled:
        return None, "scale"
    with localcontext(prec=100):
        return (rounded if column.kind == "integer" else Decimal(rounded).scaleb(-scale)), None


def _found(record: Any, origins: Any) -> Any:
    """What stands at the first path that leads somewhere, to more than null."""
    for path in origins:
        value = record
        for field in path:
            value = value.get(field) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def judge(contract: Any, line: bytes) -> tuple[dict[str, Any] | None, set[str]]:
    """A bronze line's (row, reasons): exactly one of them is empty. Rules are not judged here."""
    row, reasons = read(contract, line)
    return (None, reasons) if reasons else (row, set())


def read(contract: Any, line: bytes) -> tuple[dict[str, Any], set[str]]:
    """A bronze line's values as far as they can be read, and every reason why it is no row."""
    try:
        text = enveloped(line)[1]
        record = parse(text)
    except UnicodeDecodeError:
        return {}, {"line:encoding"}
    except (ValueError, UnicodeEncodeError, RecursionError):
        return {}, {"line:malformed"}
    if not isinstance(record, Object):
        return {}, {"record:type"}
    row, reasons = {}, set()
    for column in contract.columns:
        if getattr(column, "ordinal", False):
            continue
        if column.kind == "json":
            texts = (spelt(text, path) for path in paths(column))
            row[column.name] = next((one for one in texts if one is not None), None)
            reason = "required" if column.required and row[column.name] is None else None
        else:
            tokens = (get(record, path) for path in paths(column))
            row[column.name], reason = token(column, next((one for one in tokens if one is not None), None))
            if column.kind == "string" and not reason and column.name in contract.key:
                reason = unfit_key(row[column.name])
        if any(twice(record, path) for path in paths(column)):
            reason = "twice"
        if reason:
            reasons.add(f"{column.name}:{reason}")
            row[column.name] = None  # to a rule, too
    return row, reasons


def known_at(contract: Any, row: dict[str, Any]) -> datetime | None:
    """When the public could know a row, by its contract."""
    known = contract.known_at
    value = None if known is None else row[known.column]
    if value is None:
        return None
    days, hours, minutes = re.fullmatch(r"P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:0S)?", known.lag).groups()
    lag = timedelta(days=int(days or 0), hours=int(hours or 0), minutes=int(minutes or 0))
    try:
        if not isinstance(value, datetime):
            early = dict(contract.calendar.early) if contract.calendar and known.time != "24:00" else {}
            hours, *rest = map(int, min(known.time, early.get(value, known.time)).split(":"))
            at = datetime.combine(value + timedelta(hours // 24), time(hours % 24, *rest), ZoneInfo(known.zone))
            value = at.astimezone(UTC)
        return value + lag
    except OverflowError:
        return FIRST if row[known.column].year == 1 else LAST


def session(calendar: Any, day: date | None) -> bool | None:
    """Whether a calendar's market is open on a day; None where it says nothing of it."""
    if day is None or day < calendar.start or day >= calendar.end:
        return None
    return day.strftime("%a") not in ("Sat", "Sun") and day not in calendar.closed


def canonical(column: Any, value: Any) -> str:
    """A value's canonical text, as docs/formats.md spells it."""
    if value is None:
        return chr(30)
    if column.kind == "boolean":
        return "true" if value else "false"
    if column.kind == "number":
        return format(value or abs(value), f".{column.scale}f")  # there is no minus zero
    if column.kind == "timestamp":
        return value.replace(tzinfo=None).isoformat(" ", "microseconds")
    return value.isoformat() if column.kind == "date" else str(value)


def digest(contract: Any, row: dict[str, Any]) -> str:
    """A row's `_hash`."""
    read = [column for column in contract.columns if not getattr(column, "ordinal", False)]
    texts = (canonical(column, row[column.name]) for column in read)
    return hashlib.md5(chr(31).join(texts).encode(), usedforsecurity=False).hexdigest()
