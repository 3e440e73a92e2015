"""DuckDB's table of operators: each node of a contract's tree as SQL."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from assay.contract import tree as ops
from assay.contract.tree import Field, Operator, Tree
from assay.errors import ContractError
from assay.lake.duck import ident, text

FIRST, LAST = "TIMESTAMPTZ '0001-01-01 00:00:00+00'", "TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?\z"
_ZONED = r"(Z|[+-][0-9]{2}:[0-9]{2})\z"
_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')
_records = msgspec.json.Decoder(dict[str, msgspec.Raw])


def sql(operator: Operator, column: str = "") -> str:
    """An operator as SQL over the tokens `_t_<column>` and the values `<column>`; ContractError if this engine has none."""
    found = _TABLE.get(type(operator))
    if found is None:
        raise ContractError(f"the DuckDB engine has no operator {type(operator).__name__}")
    return found(operator, column)


def check(tree: Tree) -> None:
    """ContractError where the tree holds an operator that this engine has not."""
    for one in tree.operators:
        sql(one, "_")


def spelt(tree: Tree) -> list[Field]:
    """The JSON columns: DuckDB would spell their numbers and escapes its own way, so Python cuts them out of the line."""
    return [f for f in tree.fields if isinstance(f.value, ops.JsonOf)]


def shape(tree: Tree) -> str:
    """What `json_transform` is to make of a line: the envelope's numbers, and a text for each token."""
    return json.dumps({"_seq": "BIGINT", "_n": "UINTEGER", "_op": "VARCHAR", "_record": _branches(_paths(tree.fields))})


def json_token(line: bytes, paths: Sequence[Sequence[str]]) -> str | None:
    """The token at the first of the paths that is there, as it is spelt; '' where the line is no strict JSON."""
    try:
        record = _records.decode(line)["_record"]
        for path in paths:
            if (found := _walk(record, path)) is not None and bytes(found) != b"null":
                return _SPACE.sub(r"\1", bytes(found).decode())
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, KeyError):
        return ""
    return None


def _walk(value: msgspec.Raw, path: Sequence[str]) -> msgspec.Raw | None:
    for name in path:
        if not bytes(value).startswith(b"{"):
            return None
        found = _records.decode(value).get(name)
        if found is None:
            return None
        value = found
    return value


# tokens


def _paths(fields: Sequence[Field]) -> list[tuple[str, ...]]:
    """The paths that are read out of the parsed line: JSON columns come from its text."""
    return [path for f in fields if not isinstance(f.value, ops.JsonOf) for path in f.token.paths]


def _branches(paths: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Paths as a nested record; where one path ends and another goes on, the token is taken whole."""
    out: dict[str, Any] = {}
    for name in dict.fromkeys(path[0] for path in paths):
        rest = [path[1:] for path in paths if path[0] == name]
        out[name] = "JSON" if () in rest else _branches(rest)
    return out


def tokens(tree: Tree) -> str:
    """A SELECT list: the token of each field but `spelt` ones, by name `_t_<column>`, out of `_v`, the transformed line."""
    shaped = _branches(_paths(tree.fields))
    out = []
    for f in tree.fields:
        if f in spelt(tree):
            continue
        found = ", ".join(_path(path, shaped) for path in f.token.paths)
        found = f"coalesce({found})" if len(f.token.paths) > 1 else found
        out.append(f"{found} AS {_t(f.name)}")
    return ", ".join(out or ["NULL AS _no_token"])


def _path(path: tuple[str, ...], shaped: Any) -> str:
    out = "_v._record"
    for i, name in enumerate(path):
        shaped = shaped[name]
        out += f".{ident(name)}"
        if shaped == "JSON" and i + 1 < len(path):
            return f"nullif(json_extract({out}, {text(_pointer(path[i + 1 :]))}), 'null')"
    return out


def _pointer(path: Sequence[str]) -> str:
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path)


def _t(column: str) -> str:
    return ident(f"_t_{column}")


# names that a record says twice


def suspected(tree: Tree) -> str:
    """Whether a line may hold a name twice that is read: cheap, and true too often rather than too seldom.

    `_told` are the reasons found so far. A line in which the fields that were read leave no room for one more needs no search.
    """
    names = dict.fromkeys(name for f in tree.fields for path in f.token.paths for name in path)
    spelt = [re.escape(json.dumps(name, ensure_ascii=False)) for name in names]
    # A name that is spelt with escapes is looked at more closely in any case.
    doubts = "|".join([*(rf"{name}\s*:.*{name}\s*:" for name in spelt), r'\\.[^"\\]*"\s*:'])
    searched = f"regexp_matches(_raw, {text(doubts)})"
    room = _room(tree)
    return f"CASE WHEN {room} THEN {searched} ELSE false END" if room else searched


def _room(tree: Tree) -> str:
    """Whether a line is longer than what was read of it by as much as another field would need; '' if it takes a search.

    A token is never longer than it was in the line, but for a number that was spelt with an exponent.
    """
    paths = [f.token.paths for f in tree.fields]
    if any(len(one) > 1 or len(one[0]) > 1 for one in paths) or len(set(paths)) < len(paths):
        return ""
    sizes = [len(json.dumps(one[0][0], ensure_ascii=False).encode()) + 1 for one in paths]
    read = " - ".join(f"coalesce(strlen({_t(f.name)}) + {n + 1}, 0)" for f, n in zip(tree.fields, sizes, strict=True))
    rest = f"strlen(_raw) - strpos(_raw, '\"_record\":') - {read} >= {min(sizes) + 2 + 11}"
    return " OR ".join(
        [rest, "_told <> ''", *(_grown(f) for f in tree.fields if isinstance(f.value, ops.IntegerOf | ops.NumberOf))]
    )


def _grown(field: Field) -> str:
    """Whether a number may be printed longer than it was spelt: as 1000.0 for 1e3, or as 0.001 for 1e-3."""
    v = ident(field.name)
    if isinstance(field.value, ops.IntegerOf):
        return f"ends_with(CAST({_t(field.name)} AS VARCHAR), '.0')"
    return f"{v} < 0.02 OR ({v} >= 10 AND {v} % 1 = 0)"


def twice(field: Field) -> str:
    """Whether an object on the way to the field's token has the next name twice. `_raw` must be JSON."""
    steps = dict.fromkeys(path[: i + 1] for path in field.token.paths for i in range(len(path)))
    return " OR ".join(
        f"coalesce(len(list_filter(json_keys(_raw, {text(_pointer(('_record', *step[:-1])))}), lambda _k: _k = {text(step[-1])})) > 1, false)"
        for step in steps
    )


# values: what a token becomes, null where it is none; what was lost on the way is the business of `Refused`


def _inner(column: str) -> str:
    return f"SUBSTR({_t(column)}, 2, LENGTH({_t(column)}) - 2)"


def _text_of(_: ops.TextOf, c: str) -> str:
    t = _t(c)
    return f"CASE WHEN CONTAINS({t}, '\\') THEN CAST({t} AS JSON) ->> '$' WHEN ASCII({t}) = 34 THEN NULLIF({_inner(c)}, '') END"


def _boolean_of(_: ops.BooleanOf, c: str) -> str:
    t = _t(c)
    return f"CASE WHEN {t} IN ('true', '\"true\"') THEN TRUE WHEN {t} IN ('false', '\"false\"') THEN FALSE END"


def _integer_of(_: ops.IntegerOf, c: str) -> str:
    return _numeric(c, "BIGINT")


def _number_of(op: ops.NumberOf, c: str) -> str:
    return _numeric(c, f"DECIMAL({op.precision},{op.scale})")


def _numeric(c: str, kind: str) -> str:
    return f"TRY_CAST(CASE WHEN ASCII({_t(c)}) = 34 THEN {_inner(c)} ELSE CAST({_t(c)} AS VARCHAR) END AS {kind})"


def _day_of(_: ops.DayOf, c: str) -> str:
    return f"TRY_CAST({_inner(c)} AS DATE)"


def _instant_of(op: ops.InstantOf, c: str) -> str:
    inner = _inner(c)
    return f"""CASE WHEN NOT REGEXP_MATCHES({inner}, {text(_TIME)}) THEN NULL
        WHEN REGEXP_MATCHES({inner}, {text(_ZONED)}) THEN TRY_CAST({inner} AS TIMESTAMPTZ)
        ELSE {_local(f"TRY_CAST({inner} AS TIMESTAMP)", op.zone)} END"""


def _json_of(_: ops.JsonOf, c: str) -> str:
    return f"NULLIF({_t(c)}, '')"


def _local(local: str, zone: str, *, may_repeat: bool = True) -> str:
    """The instant of a local time. DuckDB takes the last of two, and moves one in a gap on by the gap.

    The first of two is what the offset of the day before gives, if it is that local time at all.
    """
    z = text(zone)
    if zone == "UTC" or not may_repeat:
        return f"({local}) AT TIME ZONE {z}"
    last = f"(({local}) AT TIME ZONE {z})"
    before = f"({last} - TO_HOURS(24))"
    first = f"({before} + (({last} AT TIME ZONE {z}) - ({before} AT TIME ZONE {z})))"
    return f"CASE WHEN ({first} AT TIME ZONE {z}) = ({last} AT TIME ZONE {z}) THEN {first} ELSE {last} END"


# reasons


def _refused(op: ops.Refused, c: str) -> str:
    """The text `column:reason` where the token does not become the value, null where it does."""
    t, v = _t(c), ident(c)
    missing = f"WHEN {t} IS NULL OR {t} = '\"\"' THEN {_reason(c, 'required') if op.required else 'NULL'}"
    of_type = _reason(c, "type")
    match op.value:
        case ops.TextOf():
            cases = f"{missing} WHEN ASCII({t}) <> 34 OR {v} IS NULL THEN {of_type}"
        case ops.BooleanOf():
            cases = f"{missing} WHEN NOT {t} IN ('true', 'false', '\"true\"', '\"false\"') THEN {of_type}"
        case ops.DayOf():
            cases = f"WHEN LENGTH({t}) = 12 AND SUBSTR({t}, 2, 10) = CAST({v} AS VARCHAR) THEN NULL {missing} ELSE {of_type}"
        case ops.InstantOf(zone):
            gap = ""
            if zone != "UTC":
                local = f"TRY_CAST({_inner(c)} AS TIMESTAMP)"
                gap = f"""WHEN NOT REGEXP_MATCHES({_inner(c)}, {text(_ZONED)}) AND {v} AT TIME ZONE {text(zone)} <> {local}
                    THEN {_reason(c, "gap")}"""
            cases = f"""{missing} WHEN ASCII({t}) <> 34 OR NOT REGEXP_MATCHES({_inner(c)}, {text(_TIME)}) THEN {of_type}
                WHEN {v} IS NULL OR {v} < {FIRST} OR {v} > {LAST} OR STARTS_WITH({t}, '"0000') THEN {_reason(c, "range")} {gap}"""
        case ops.JsonOf():
            required = _reason(c, "required") if op.required else "NULL"
            cases = f"WHEN {t} IS NULL THEN {required} WHEN {t} = '' THEN {of_type}"
        case ops.IntegerOf(excess):
            cases = _refused_number(c, 0, excess, missing)
        case ops.NumberOf(_, scale, excess):
            cases = _refused_number(c, scale, excess, missing)
    return f"CASE {cases} END"


def _refused_number(c: str, scale: int, excess: str, missing: str) -> str:
    t, v, exact = _t(c), ident(c), 10 ** max(0, 15 - scale)
    of_type, of_range = _reason(c, "type"), _reason(c, "range")
    if excess == "round":
        rough = text(r'^"[+-]?[0-9]{1,38}([.][0-9]*)?([eE][+-]?[0-9]{1,3})?"\z')
        return f"""{missing} WHEN {v} IS NULL AND ASCII({t}) BETWEEN 45 AND 57 AND {t} <> '-Infinity' THEN {of_range}
            WHEN {v} IS NULL OR (ASCII({t}) = 34 AND NOT REGEXP_MATCHES({t}, {rough})) THEN {of_type}"""
    as_text = text(rf'^"[+-]?[0-9]{{1,38}}([.][0-9]{{0,{scale}}}0*)?"\z')
    # The first branch is what nearly every row takes; the others are then evaluated for the rest alone.
    # A JSON number is printed with as few digits as tell its double apart, so excess decimals show in its length;
    # and from 0.001 to 10^15 it is printed without exponent.
    return f"""WHEN ASCII({t}) BETWEEN 48 AND 57 AND {v} >= 0.001 AND {v} < {exact}
            AND (STRPOS({t}, '.') = 0 OR LENGTH({t}) - STRPOS({t}, '.') <= {scale}) THEN NULL
        {missing}
        WHEN ASCII({t}) = 34 THEN CASE WHEN {v} IS NULL OR NOT REGEXP_MATCHES({t}, {as_text}) THEN {of_type} END
        WHEN NOT ASCII({t}) BETWEEN 45 AND 57 OR {t} = '-Infinity' THEN {of_type}
        WHEN {v} IS NULL THEN {of_range}
        WHEN TRY_CAST({t} AS DOUBLE) <> CAST({v} AS DOUBLE) THEN {_reason(c, "scale")}
        WHEN ({v} >= {exact} OR {v} <= -{exact}) AND (CONTAINS({t}, '.') OR CONTAINS({t}, 'e') OR CONTAINS({t}, 'E'))
            THEN {_reason(c, "digits")}"""


def _reason(column: str, reason: str) -> str:
    return text(f"{column}:{reason}")


# clocks, hash, rules


def _at(op: ops.At, _: str) -> str:
    return ident(op.column)


def _day_at(op: ops.DayAt, _: str) -> str:
    hours, minutes, *seconds = (int(part) for part in op.time.split(":"))
    into = hours * 3600 + minutes * 60 + sum(seconds)
    return _local(
        f"CAST({ident(op.column)} AS TIMESTAMP) + TO_SECONDS({into})", op.zone, may_repeat=_repeats(op.zone, into)
    )


@lru_cache
def _repeats(zone: str, into: int) -> bool:
    """Whether this time of a day came twice on any day from 1900 to 2100 or so: looked for where a week's offset changes."""
    where, week = ZoneInfo(zone), timedelta(days=7)
    day = datetime(1900, 1, 1, tzinfo=UTC)
    while day.year < 2100:
        if day.astimezone(where).utcoffset() != (day + week).astimezone(where).utcoffset():
            for ahead in range(-1, 9):
                local = datetime.combine(date(day.year, day.month, day.day), datetime.min.time()) + timedelta(
                    days=ahead, seconds=into
                )
                first, last = local.replace(tzinfo=where), local.replace(tzinfo=where, fold=1)
                if first.utcoffset() > last.utcoffset():  # type: ignore[operator]
                    return True
        day += week
    return False


def _later(op: ops.Later, _: str) -> str:
    return f"({sql(op.instant)}) + TO_SECONDS({op.seconds})"


def _digest(op: ops.Digest, _: str) -> str:
    texts = ((n, canonical(n, v)) for n, v in op.columns)
    parts = [spelt if n in op.required else f"COALESCE({spelt}, CHR(30))" for n, spelt in texts]
    return f"MD5(CONCAT({', CHR(31), '.join(parts)}))"


def canonical(column: str, value: ops.Value) -> str:
    """A column's canonical text, as docs/formats.md spells it per type."""
    c = ident(column)
    match value:
        case ops.TextOf() | ops.JsonOf():
            return c
        case ops.InstantOf():
            return f"STRFTIME({c} AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M:%S.%f')"
        case ops.NumberOf(precision, scale) if precision == scale:
            return f"REPLACE(CAST({c} AS VARCHAR), '.', '0.')"  # DuckDB prints no digit before this point
    return f"CAST({c} AS VARCHAR)"


def _holds(op: ops.Holds, _: str) -> str:
    return op.expression.sql(dialect="duckdb")


_TABLE: Mapping[type, Callable[[Any, str], str]] = {
    ops.TextOf: _text_of,
    ops.BooleanOf: _boolean_of,
    ops.IntegerOf: _integer_of,
    ops.NumberOf: _number_of,
    ops.DayOf: _day_of,
    ops.InstantOf: _instant_of,
    ops.JsonOf: _json_of,
    ops.Refused: _refused,
    ops.At: _at,
    ops.DayAt: _day_at,
    ops.Later: _later,
    ops.Digest: _digest,
    ops.Holds: _holds,
}
