"""A short, slow, independent reading of the laws: what a line becomes, and what versions a history has."""

import json
import re
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any


class Number(str):
    """A JSON number token, spelt as it came."""


class Constant(str):
    """NaN, Infinity or -Infinity."""


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        out.setdefault(key, value)
    return out


def parse(line: bytes) -> Any:
    """The line's JSON with number tokens kept; ValueError where it is none."""
    text = line.decode()
    found = json.loads(
        text, parse_int=Number, parse_float=Number, parse_constant=Constant, object_pairs_hook=_first_wins
    )
    json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate is no text
    return found


def token(column: Any, value: Any) -> tuple[Any, str | None]:
    """One field's (value, reason): the value exactly, or why not."""
    if value is None or value == "":
        return None, "required" if column.required else None
    return {"string": _string, "boolean": _boolean, "date": _date, "timestamp": _timestamp}.get(column.kind, _number)(
        column, value
    )


def _string(_: Any, value: Any) -> tuple[Any, str | None]:
    if not isinstance(value, str) or isinstance(value, Number | Constant):
        return None, "type"
    return value, None


def _boolean(_: Any, value: Any) -> tuple[Any, str | None]:
    if value is True or value is False:
        return value, None
    return (value == "true", None) if value in ("true", "false") else (None, "type")


def _date(_: Any, value: Any) -> tuple[Any, str | None]:
    if isinstance(value, str) and not isinstance(value, Number) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            return date.fromisoformat(value), None
        except ValueError:
            pass
    return None, "type"


def _timestamp(_: Any, value: Any) -> tuple[Any, str | None]:
    shape = r"\d{4}-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.]\d{1,6})?)?(Z|[+-]\d\d:\d\d)?"
    if not isinstance(value, str) or isinstance(value, Number) or not re.fullmatch(shape, value, re.ASCII):
        return None, "type"
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None, "range"
    return (found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)), None


def _number(column: Any, value: Any) -> tuple[Any, str | None]:
    scale = column.scale if column.kind == "number" else 0
    limit = Decimal(10) ** (column.precision - scale) if column.kind == "number" else Decimal(2) ** 63
    quoted = isinstance(value, str) and not isinstance(value, Number | Constant)
    if quoted and not re.fullmatch(rf"[+-]?[0-9]{{1,38}}([.][0-9]{{0,{scale}}}0*)?", value):
        return None, "type"
    if not quoted and not isinstance(value, Number):
        return None, "type"
    exact = Decimal(value)
    with localcontext(prec=200):
        rounded = exact.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP) if abs(exact) < limit * 2 else exact
    if abs(rounded) >= limit and not (column.kind == "integer" and rounded == -limit):
        return None, "type" if quoted else "range"
    if not quoted and float(exact) != float(rounded):
        return None, "scale"
    if not quoted and abs(rounded) >= Decimal(10) ** max(0, 15 - scale) and not re.fullmatch(r"-?[0-9]+", value):
        return None, "digits"
    return (int(rounded) if column.kind == "integer" else rounded), None


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
    try:
        found = parse(line)
    except UnicodeDecodeError:
        return None, {"line:encoding"}
    except (ValueError, UnicodeEncodeError, RecursionError):
        return None, {"line:malformed"}
    record = found.get("_record")
    if not isinstance(record, dict):
        return None, {"record:type"}
    row, reasons = {}, set()
    for column in contract.columns:
        row[column.name], reason = token(column, _found(record, column.origins))
        if reason:
            reasons.add(f"{column.name}:{reason}")
    return (None, reasons) if reasons else (row, set())


def versions(rows: list[dict[str, Any]], recorded_as_of: Any = None) -> list[dict[str, Any]]:
    """The versions of every key, given observed rows: dicts with key, hash, op, known_at, captured_at, batch, seq."""
    out = []
    for key in sorted({r["key"] for r in rows}):
        mine = [r for r in rows if r["key"] == key and (recorded_as_of is None or r["captured_at"] <= recorded_as_of)]
        kept: list[dict[str, Any]] = []
        for row in sorted(mine, key=lambda r: (r["captured_at"], r["batch"], r["seq"])):
            if not kept or (kept[-1]["hash"], kept[-1]["op"]) != (row["hash"], row["op"]):
                kept.append(dict(row))
        running = None
        for i, row in enumerate(kept):
            known, captured = row["known_at"], row["captured_at"]
            later = (
                i > 0 and known is not None and kept[i - 1]["known_at"] is not None and known > kept[i - 1]["known_at"]
            )
            claimed = min(known if known is not None else captured, captured) if i == 0 or later else captured
            running = claimed if running is None else max(running, claimed)
            row["known_from"] = running
            vendor = known is not None and running == min(known, captured)
            row["known_basis"] = "vendor" if vendor else "captured"
        for row, following in zip(kept, [*kept[1:], None][: len(kept)], strict=True):
            row["known_to"] = following and following["known_from"]
            row["recorded_to"] = following and following["captured_at"]
        out += kept
    return out
