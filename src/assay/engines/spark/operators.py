"""Spark's table of operators: each node of a contract's tree as Spark SQL, over the tokens that Python cut out of the lines."""

from collections.abc import Callable, Mapping
from typing import Any

from assay.contract import spelling
from assay.contract import tree as ops
from assay.contract.tree import Operator, Tree
from assay.engines.spark import rules
from assay.engines.spark.words import ident, text
from assay.engines.tokens import NO_VALUE
from assay.errors import ContractError

FIRST, LAST = "TIMESTAMP '0001-01-01 00:00:00Z'", "TIMESTAMP '9999-12-31 23:59:59.999999Z'"
_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\z"
_CONTROL, _BLANK = r"[\x00-\x1f\x7f-\x9f]", r"^\p{Z}+\z"
_ZONE = r"(Z|[+-][0-9]{2}:[0-9]{2})\z"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?\z"


def sql(operator: Operator, column: str = "", kinds: Mapping[str, str] | None = None) -> str:
    """An operator as SQL over the tokens `_t_<column>` and the values `<column>`; ContractError if this engine has none.

    `kinds` are the types of the contract's columns, which rules need.
    """
    if isinstance(operator, ops.Holds):
        return rules.sql(operator.expression, kinds or {})
    found = _TABLE.get(type(operator))
    if found is None:
        raise ContractError(f"the Spark engine has no operator {type(operator).__name__}")
    return found(operator, column)


def check(tree: Tree, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
    """The operators that cannot be said, each rule's by its name, and why; nothing if all can."""
    wrong = []
    for one in tree.operators:
        try:
            sql(one, "_", kinds)
        except ContractError as error:
            wrong.append((getattr(one, "name", ""), str(error)))
    return wrong


def spellings(tree: Tree) -> dict[str, str]:
    """By a name `_y_<column>` the texts of tokens that are to be respelt; a step of its own: what is nested deeply Spark types for
    minutes.
    """
    found = {}
    for f in tree.fields:
        if f.spelling and not isinstance(f.value, ops.IntegerOf | ops.NumberOf):
            x = _unescaped(f.name)
            found[f"_y_{f.name}"] = f"trim(BOTH {text(spelling.BLANKS)} FROM {x})" if f.spelling.trim else x
    return found


def respelt(tree: Tree) -> dict[str, str]:
    """By the name of a token's column the token as ours would be, where texts are spelt another way: numbers are already."""
    return {
        f"_t_{f.name}": sql(f.spelling, f.name)
        for f in tree.fields
        if f.spelling and not isinstance(f.value, ops.IntegerOf | ops.NumberOf)
    }


def _t(column: str) -> str:
    return ident(f"_t_{column}")


def _inner(column: str) -> str:
    return f"substring({_t(column)}, 2, length({_t(column)}) - 2)"


def _quoted(column: str) -> str:
    return f"startswith({_t(column)}, '\"')"


def _x(column: str) -> str:
    return ident(f"_x_{column}")


def _l(column: str) -> str:
    return ident(f"_l_{column}")


def texts(tree: Tree) -> dict[str, str]:
    """By the name of a column what several operators read: the text of a token, null where it is none, as `_x_<column>`."""
    found = {}
    for f in tree.fields:
        if isinstance(f.value, ops.TextOf):
            found[f"_x_{f.name}"] = _unescaped(f.name)
        elif isinstance(f.value, ops.DayOf | ops.InstantOf):
            found[f"_x_{f.name}"] = f"CASE WHEN {_quoted(f.name)} THEN {_inner(f.name)} END"
    return found


def locals_(tree: Tree) -> dict[str, str]:
    """And the time that such a text says, whatever its zone is, as `_l_<column>`."""
    found = {}
    for f in tree.fields:
        if isinstance(f.value, ops.InstantOf):
            x = _x(f.name)
            said = f"regexp_replace({x}, {text(_ZONE)}, '')"
            whole = f"concat({said}, CASE WHEN length({said}) = 16 THEN ':00' ELSE '' END)"
            fits = f"{x} RLIKE {text(_TIME)} AND NOT startswith({x}, '0000')"
            found[f"_l_{f.name}"] = f"CASE WHEN {fits} THEN try_cast({whole} AS TIMESTAMP) END"
    return found


def _unescaped(column: str) -> str:
    """The text of a token, null where it is none."""
    t = _t(column)
    escaped = f"get_json_object(concat('{{\"v\":', {t}, '}}'), '$.v')"
    return f"CASE WHEN NOT {_quoted(column)} THEN NULL WHEN contains({t}, {text(chr(92))}) THEN {escaped} ELSE {_inner(column)} END"


# spelling: a token as ours would be


def _spelling(op: ops.Spelling, c: str) -> str:
    x = ident(f"_y_{c}")
    none = f"WHEN {x} IN ({', '.join(map(text, op.nulls))}) THEN NULL" if op.nulls else ""
    quoted = f"to_json(named_struct('v', {x}))"
    ours = _iso(x, op.format) if op.format else f"substring({quoted}, 6, length({quoted}) - 6)"
    return f"CASE WHEN {x} IS NULL THEN {_t(c)} {none} WHEN {x} = '' THEN '\"\"' ELSE {ours} END"


def _iso(x: str, pattern: str) -> str:
    """A text of a format as the token of the same day or time in our own."""
    told = list(spelling.parts(pattern))
    shape = text("^" + "".join(f"({digits})" if part else digits for part, digits in told) + r"\z")
    names = [part for part, _ in told if part]
    of = {name: f"regexp_extract({x}, {shape}, {names.index(name) + 1})" for name in names}
    of |= {name: f"lpad({of[name]}, 2, '0')" for name in ("month", "day", "hour") if name in of}
    terms = [of["year"], "'-'", of["month"], "'-'", of["day"]]
    for before, name in (("' '", "hour"), ("':'", "minute"), ("':'", "second"), ("'.'", "fraction")):
        terms += [before, of[name]] if name in names else []
    return f"CASE WHEN NOT {x} RLIKE {shape} THEN {text(NO_VALUE)} ELSE concat('\"', {', '.join(terms)}, '\"') END"


# values: what a token becomes, null where it is none


def _text_of(_: ops.TextOf, c: str) -> str:
    return f"nullif({_x(c)}, '')"


def _boolean_of(_: ops.BooleanOf, c: str) -> str:
    t = _t(c)
    return f"CASE WHEN {t} IN ('true', '\"true\"') THEN true WHEN {t} IN ('false', '\"false\"') THEN false END"


def _integer_of(_: ops.IntegerOf, c: str) -> str:
    return f"try_cast({_numeric(c, 20, 0)} AS BIGINT)"


def _number_of(op: ops.NumberOf, c: str) -> str:
    return _numeric(c, op.precision, op.scale)


def _numeric(c: str, precision: int, scale: int) -> str:
    """A number token, rounded half away from zero; null if its digits before the point are too many."""
    return f"try_cast(CASE WHEN {_quoted(c)} THEN {_inner(c)} ELSE {_t(c)} END AS DECIMAL({precision},{scale}))"


def _day_of(_: ops.DayOf, c: str) -> str:
    return (
        f"CASE WHEN {_x(c)} RLIKE {text(_DAY)} AND NOT startswith({_x(c)}, '0000') THEN try_cast({_x(c)} AS DATE) END"
    )


def _instant_of(op: ops.InstantOf, c: str) -> str:
    x, local = _x(c), _l(c)
    minutes = f"(CAST(substring({x}, -5, 2) AS INT) * 60 + CAST(substring({x}, -2, 2) AS INT))"
    offset = f"CASE WHEN endswith({x}, 'Z') THEN 0 WHEN substring({x}, -6, 1) = '-' THEN -{minutes} ELSE {minutes} END"
    return f"""CASE WHEN {local} IS NULL THEN NULL
        WHEN {x} RLIKE {text(_ZONE)} THEN timestampadd(MINUTE, -({offset}), {local})
        ELSE {_at_home(local, op.zone)} END"""


def _json_of(_: ops.JsonOf, c: str) -> str:
    return _t(c)


def _at_home(local: str, zone: str) -> str:
    """The instant of a local time: the first of two, and one in a gap later by the gap."""
    return local if zone == "UTC" else f"to_utc_timestamp({local}, {text(zone)})"


# reasons


def _refused(op: ops.Refused, c: str) -> str:
    """The text `column:reason` where the token does not become the value, null where it does."""
    t, v = _t(c), ident(c)
    missing = f"WHEN {t} IS NULL OR {t} = '\"\"' THEN {_reason(c, 'required') if op.required else 'NULL'}"
    of_type = _reason(c, "type")
    match op.value:
        case ops.TextOf():
            cases = f"{missing} WHEN NOT {_quoted(c)} OR {v} IS NULL THEN {of_type} {_unfit_key(c) if op.key else ''}"
        case ops.BooleanOf():
            cases = f"{missing} WHEN {v} IS NULL THEN {of_type}"
        case ops.DayOf():
            past = f"WHEN {_quoted(c)} AND {t} <> {text(NO_VALUE)} THEN {_reason(c, 'range')}" if op.formatted else ""
            cases = f"{missing} WHEN {v} IS NOT NULL THEN NULL {past} ELSE {of_type}"
        case ops.InstantOf(zone):
            unclear = _unclear_time(c, zone) if zone != "UTC" else ""
            cases = f"""{missing} WHEN {_x(c)} IS NULL OR NOT {_x(c)} RLIKE {text(_TIME)} THEN {of_type}
                WHEN {v} IS NULL OR {v} < {FIRST} OR {v} > {LAST} THEN {_reason(c, "range")} {unclear}"""
        case ops.JsonOf():
            cases = f"WHEN {t} IS NULL THEN {_reason(c, 'required') if op.required else 'NULL'}"
        case ops.IntegerOf(excess):
            cases = _refused_number(c, 0, excess, missing)
        case ops.NumberOf(_, scale, excess):
            cases = _refused_number(c, scale, excess, missing)
    twice = f"WHEN contains(_twice, ',{c},') THEN {_reason(c, 'twice')}"
    return f"CASE {twice} {cases} END"


def _unfit_key(c: str) -> str:
    v = ident(c)
    return f"""WHEN {v} RLIKE {text(_CONTROL)} THEN {_reason(c, "control")}
            WHEN {v} RLIKE {text(_BLANK)} THEN {_reason(c, "blank")}"""


def _unclear_time(c: str, zone: str) -> str:
    """Of a time without an offset: that it never was, or came twice. A second one is what the offset of the day after gives."""
    v, z = ident(c), text(zone)
    local, without = _l(c), f"NOT {_x(c)} RLIKE {text(_ZONE)}"
    after = f"timestampadd(HOUR, 24, {v})"
    other = f"({local} - (from_utc_timestamp({after}, {z}) - {after}))"
    return f"""WHEN {without} AND from_utc_timestamp({v}, {z}) <> {local} THEN {_reason(c, "gap")}
            WHEN {without} AND {other} <> {v} AND from_utc_timestamp({other}, {z}) = {local}
            THEN {_reason(c, "ambiguous")}"""


def _refused_number(c: str, scale: int, excess: str, missing: str) -> str:
    t, v = _t(c), ident(c)
    shape = text(r'^(?:"[+-]?[0-9]+([.][0-9]*)?"|[+-]?[0-9]+([.][0-9]*)?)\z')
    plain = text(rf'^"?[+-]?[0-9]+([.][0-9]{{0,{scale}}}0*)?"?\z')
    too_fine = f"WHEN NOT {t} RLIKE {plain} THEN {_reason(c, 'scale')}" if excess == "refuse" else ""
    return f"""{missing} WHEN NOT {t} RLIKE {shape} THEN {_reason(c, "type")}
        WHEN {v} IS NULL THEN {_reason(c, "range")} {too_fine}"""


def _reason(column: str, reason: str) -> str:
    return text(f"{column}:{reason}")


# clocks, hash, rules


def _at(op: ops.At, _: str) -> str:
    return ident(op.column)


def _day_at(op: ops.DayAt, _: str) -> str:
    usual = _day_at_time(op, op.time)
    if not op.early:
        return usual
    days: dict[str, list[str]] = {}
    for day, at in op.early:
        days.setdefault(at, []).append(f"DATE '{day}'")
    cases = (f"WHEN {ident(op.column)} IN ({', '.join(on)}) THEN {_day_at_time(op, at)}" for at, on in days.items())
    return f"CASE {' '.join(cases)} ELSE {usual} END"


def _day_at_time(op: ops.DayAt, at: str) -> str:
    hours, minutes, *seconds = (int(part) for part in at.split(":"))
    into = hours * 3600 + minutes * 60 + sum(seconds)
    return _at_home(f"timestampadd(SECOND, {into}, CAST({ident(op.column)} AS TIMESTAMP))", op.zone)


def _later(op: ops.Later, _: str) -> str:
    return f"timestampadd(SECOND, {op.seconds}, {sql(op.instant)})"


def _digest(op: ops.Digest, _: str) -> str:
    parts = [f"coalesce({canonical(name, value)}, chr(30))" for name, value in op.columns]
    return f"md5(CAST(concat_ws(chr(31), {', '.join(parts)}) AS BINARY))"


def canonical(column: str, value: ops.Value) -> str:
    """A column's canonical text, as docs/formats.md spells it per type."""
    c = ident(column)
    match value:
        case ops.TextOf() | ops.JsonOf():
            return c
        case ops.InstantOf():
            return f"date_format({c}, 'yyyy-MM-dd HH:mm:ss.SSSSSS')"
    return f"CAST({c} AS STRING)"


def _session(op: ops.Session, _: str) -> str:
    day, first = ident(op.column), f"DATE '{op.calendar.start}'"
    # Of bytes: to reach a text's n-th letter, Spark counts its letters from the first, row by row.
    return f"""CASE WHEN {day} >= {first} AND {day} < DATE '{op.calendar.end}'
        THEN substring(CAST({text(op.calendar.bits)} AS BINARY), datediff({day}, {first}) + 1, 1) = CAST('1' AS BINARY) ELSE true END"""


_TABLE: Mapping[type, Callable[[Any, str], str]] = {
    ops.TextOf: _text_of,
    ops.BooleanOf: _boolean_of,
    ops.IntegerOf: _integer_of,
    ops.NumberOf: _number_of,
    ops.DayOf: _day_of,
    ops.InstantOf: _instant_of,
    ops.JsonOf: _json_of,
    ops.Spelling: _spelling,
    ops.Refused: _refused,
    ops.At: _at,
    ops.DayAt: _day_at,
    ops.Later: _later,
    ops.Digest: _digest,
    ops.Session: _session,
}
