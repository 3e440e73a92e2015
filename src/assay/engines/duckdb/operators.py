"""DuckDB's table of operators: each node of a contract's tree as SQL."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlglot import exp

from assay.contract import spelling
from assay.contract import tree as ops
from assay.contract.tree import Field, Operator, Tree
from assay.engines.tokens import NO_VALUE
from assay.errors import ContractError
from assay.lake.duck import ident, text

FIRST, LAST = "TIMESTAMPTZ '0001-01-01 00:00:00+00'", "TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?\z"
_ZONED = r"(Z|[+-][0-9]{2}:[0-9]{2})\z"


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


def spelt(tree: Tree, *, exact: bool = False) -> list[Field]:
    """The columns whose tokens Python cuts out of the line, because DuckDB would spell them its own way.

    These are the JSON columns, and of a line that is in doubt (`exact`) the numbers: DuckDB reads a fraction through a double.
    """
    kinds = (ops.JsonOf, ops.IntegerOf, ops.NumberOf) if exact else ops.JsonOf
    return [f for f in tree.fields if isinstance(f.value, kinds)]


def shape(tree: Tree) -> str:
    """What `json_transform` is to make of a line: the envelope's numbers, and a text for each token."""
    return json.dumps({"_seq": "BIGINT", "_n": "UINTEGER", "_op": "VARCHAR", "_record": _branches(_paths(tree.fields))})


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


def tokens(tree: Tree, *, exact: bool = False) -> str:
    """A SELECT list: the token of each field but `spelt` ones, by name `_t_<column>`, out of `_v`, the transformed line."""
    shaped = _branches(_paths(tree.fields))
    out, others = [], spelt(tree, exact=exact)
    for f in tree.fields:
        if f in others:
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


def respelt(tree: Tree, source: str, *, exact: bool = False) -> str:
    """A relation of tokens with those of other spellings made ours, but for those that `exact_token` cut out."""
    done = spelt(tree, exact=exact)
    fields = [(f.name, f.spelling) for f in tree.fields if f.spelling and f not in done]
    if not fields:
        return source
    texts = ", ".join(f"{_unescaped(name, op)} AS {_x(name)}" for name, op in fields)
    ours = ", ".join(f"{sql(op, name)} AS {_t(name)}" for name, op in fields)
    return f"(SELECT * REPLACE ({ours}) FROM (SELECT *, {texts} FROM {source}))"


def _x(column: str) -> str:
    return ident(f"_x_{column}")


def _unescaped(column: str, op: ops.Spelling) -> str:
    """The text of a token, null where it is none."""
    t = _t(column)
    out = f"CASE WHEN ASCII({t}) <> 34 THEN NULL WHEN CONTAINS({t}, '\\') THEN CAST({t} AS JSON) ->> '$' ELSE {_inner(column)} END"
    return f"TRIM({out}, {text(spelling.BLANKS)})" if op.trim else out


def _spelling(op: ops.Spelling, c: str) -> str:
    """The token of `_x_<column>`, its text, as ours would be; of a text that fits no pattern it is `NO_VALUE`."""
    x = _x(c)
    none = f"WHEN {x} IN ({', '.join(map(text, op.nulls))}) THEN NULL" if op.nulls else ""
    ours = f"WHEN {x} = '' THEN '\"\"'"
    if op.format:
        ours += f" ELSE {_iso(x, op.format)}"
    elif op.numeric:
        shape = text(rf"^(?:{spelling.number(op.decimal, op.group)})\z")
        plain = f"TRANSLATE({x}, {text(op.decimal + spelling.signs(op.group))}, '.')"
        ours += f" WHEN REGEXP_MATCHES({x}, {shape}) THEN CONCAT('\"', {plain}, '\"') ELSE {text(NO_VALUE)}"
    else:
        ours += f" ELSE CAST(TO_JSON({x}) AS VARCHAR)"
    return f"CASE WHEN {x} IS NULL THEN CAST({_t(c)} AS VARCHAR) {none} {ours} END"


def _iso(x: str, pattern: str) -> str:
    """A text of a format as the token of the same day or time in our own."""
    told = list(spelling.parts(pattern))
    shape = text("^" + "".join(f"({digits})" if part else digits for part, digits in told) + r"\z")
    names = [part for part, _ in told if part]
    found = f"REGEXP_EXTRACT({x}, {shape}, [{', '.join(map(text, names))}])"
    padded = {name: f"LPAD({found}.{ident(name)}, 2, '0')" for name in ("month", "day", "hour")}
    of = {name: padded.get(name, f"{found}.{ident(name)}") for name in names}
    terms = [of["year"], "'-'", of["month"], "'-'", of["day"]]
    for before, name in (("' '", "hour"), ("':'", "minute"), ("':'", "second"), ("'.'", "fraction")):
        terms += [before, of[name]] if name in names else []
    return f"CASE WHEN {of['year']} = '' THEN {text(NO_VALUE)} ELSE CONCAT('\"', {', '.join(terms)}, '\"') END"


# lines in doubt


def doubted(tree: Tree) -> str:
    """Whether a line must be read exactly: cheap, and true too often rather than too seldom.

    In doubt is what DuckDB lets pass (names twice, of which it takes the first; NaN, a comma too many, fields of ours behind the
    record) and what it changes (a number that a double does not hold). `_told` are the reasons found so far. A line in which
    the fields that were read leave no room for any of it needs no search.
    """
    names = dict.fromkeys(name for f in tree.fields for path in f.token.paths for name in path)
    spelt = [re.escape(json.dumps(name, ensure_ascii=False)) for name in names]
    # A name that is spelt with escapes is looked at more closely in any case.
    doubts = [*(rf"{name}\s*:.*{name}\s*:" for name in spelt), r'\\.[^"\\]*"\s*:', *_LAX]
    if _numbers(tree):
        doubts += _LONG
    powers = [f"coalesce({_has_power(_t(f.name))}, false)" for f in _numbers(tree)]
    powers += [f"coalesce(LENGTH({_t(f.name)}) > 18, false)" for f in _numbers(tree) if f.spelling]
    searched = " OR ".join([*powers, f"regexp_matches(_raw, {text('|'.join(doubts))})", "len(json_keys(_raw)) > 3"])
    room = _room(tree)
    return f"CASE WHEN {room} THEN {searched} ELSE false END" if room else f"({searched})"


def _numbers(tree: Tree) -> list[Field]:
    return [f for f in tree.fields if isinstance(f.value, ops.IntegerOf | ops.NumberOf)]


_LAX = [r",\s*[}\]]", r"[:,\[]\s*[-+]?(?:[nN][aA]|[iI][nN])"]
# A fraction of more than 15 digits, or an exponent that leads below the doubles: those above are printed with it.
_LONG = [
    *(rf"[0-9]{{{n}}}[.][0-9]{{{16 - n}}}" for n in range(1, 16)), "[0-9]{16}[eE]", "[0-9][eE]-[0-9]{3}",
]  # fmt: skip
_SHORT, _LOST = 12, 5
# A fraction that a double does not hold has 17 letters or more. Printed with _SHORT at most, it has lost _LOST of them.


def _room(tree: Tree) -> str:
    """Whether a line is longer than what was read of it by as much as any doubt would need; '' if it takes a search.

    A token is never longer than it was in the line, but for a number that was spelt with an exponent, and other spellings.
    """
    if any(f.spelling for f in tree.fields):
        return ""
    paths = [f.token.paths for f in tree.fields]
    if any(len(one) > 1 or len(one[0]) > 1 for one in paths) or len(set(paths)) < len(paths):
        return ""
    sizes = [len(json.dumps(one[0][0], ensure_ascii=False).encode()) + 1 for one in paths]
    read = " - ".join(f"coalesce(strlen({_t(f.name)}) + {n + 1}, 0)" for f, n in zip(tree.fields, sizes, strict=True))
    rest = f"strlen(_raw) - strpos(_raw, '\"_record\":') - {read} >= {_LOST + 11}"
    return " OR ".join(
        [
            rest,
            "_told <> ''",
            *(f"strlen({_t(f.name)}) > {_SHORT}" for f in _numbers(tree)),
            *(_grown(f) for f in _numbers(tree)),
            r"NOT regexp_matches(_raw, '[^,\s]\}\}\z')",
        ]
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
    """A number token cast, but none with an exponent: DuckDB casts some of those to more digits than the type has."""
    t = _t(c)
    return f"""TRY_CAST(CASE WHEN {_has_power(t)} THEN NULL WHEN ASCII({t}) = 34 THEN {_inner(c)}
        ELSE CAST({t} AS VARCHAR) END AS {kind})"""


def _has_power(t: str) -> str:
    return f"CONTAINS({t}, 'e') OR CONTAINS({t}, 'E')"


def _day_of(_: ops.DayOf, c: str) -> str:
    # Ten letters: to DuckDB "infinity" and "epoch" are days too, and no clock can be made of the one.
    return f"TRY_CAST(CASE WHEN LENGTH({_t(c)}) = 12 THEN {_inner(c)} END AS DATE)"


def _instant_of(op: ops.InstantOf, c: str) -> str:
    inner = _inner(c)
    return f"""CASE WHEN NOT REGEXP_MATCHES({inner}, {text(_TIME)}) THEN NULL
        WHEN REGEXP_MATCHES({inner}, {text(_ZONED)}) THEN TRY_CAST({inner} AS TIMESTAMPTZ)
        ELSE TRY_CAST({inner} AS TIMESTAMP) AT TIME ZONE {text(op.zone)} END"""


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
    first = _first(last, z)
    return f"CASE WHEN ({first} AT TIME ZONE {z}) = ({last} AT TIME ZONE {z}) THEN {first} ELSE {last} END"


def _first(instant: str, z: str) -> str:
    """When the local time of an instant would have been by the offset of the day before."""
    before = f"({instant} - TO_HOURS(24))"
    return f"({before} + (({instant} AT TIME ZONE {z}) - ({before} AT TIME ZONE {z})))"


# reasons


def _refused(op: ops.Refused, c: str) -> str:
    """The text `column:reason` where the token does not become the value, null where it does."""
    t, v = _t(c), ident(c)
    missing = f"WHEN {t} IS NULL OR {t} = '\"\"' THEN {_reason(c, 'required') if op.required else 'NULL'}"
    of_type = _reason(c, "type")
    match op.value:
        case ops.TextOf():
            short, unfit = (_USUAL, _unfit_key(c)) if op.key else ("FALSE", "")
            cases = f"WHEN {short.format(t)} THEN NULL {missing} WHEN ASCII({t}) <> 34 OR {v} IS NULL THEN {of_type} {unfit}"
        case ops.BooleanOf():
            cases = f"{missing} WHEN NOT {t} IN ('true', 'false', '\"true\"', '\"false\"') THEN {of_type}"
        case ops.DayOf():
            cases = f"WHEN LENGTH({t}) = 12 AND SUBSTR({t}, 2, 10) = CAST({v} AS VARCHAR) THEN NULL {missing} "
            cases += (
                f"WHEN ASCII({t}) = 34 AND {t} <> {text(NO_VALUE)} THEN {_reason(c, 'range')} " if op.formatted else ""
            )
            cases += f"ELSE {of_type}"
        case ops.InstantOf(zone):
            local = _unclear_time(c, zone) if zone != "UTC" else ""
            cases = f"""{missing} WHEN ASCII({t}) <> 34 OR NOT REGEXP_MATCHES({_inner(c)}, {text(_TIME)}) THEN {of_type}
                WHEN {v} IS NULL OR {v} < {FIRST} OR {v} > {LAST} OR STARTS_WITH({t}, '"0000') THEN {_reason(c, "range")} {local}"""
        case ops.JsonOf():
            required = _reason(c, "required") if op.required else "NULL"
            cases = f"WHEN {t} IS NULL THEN {required} WHEN {t} = '' THEN {of_type}"
        case ops.IntegerOf(excess):
            cases = _refused_number(c, 0, excess, missing)
        case ops.NumberOf(_, scale, excess):
            cases = _refused_number(c, scale, excess, missing)
    return f"CASE {cases} END"


_USUAL = r"REGEXP_MATCHES({}, '^\"[!#-\[\]-~][ !#-\[\]-~]*\"\z')"  # a text in which nothing is to be looked for


def _unfit_key(c: str) -> str:
    v = ident(c)
    return rf"""WHEN REGEXP_MATCHES({v}, '[\x00-\x1f\x7f-\x{{9f}}]') THEN {_reason(c, "control")}
            WHEN REGEXP_MATCHES({v}, '^\p{{Z}}+\z') THEN {_reason(c, "blank")}"""


def _unclear_time(c: str, zone: str) -> str:
    """Of a time without an offset: that it never was, or came twice. DuckDB moved the one, and took the last of the other."""
    v, z = ident(c), text(zone)
    without = f"NOT REGEXP_MATCHES({_inner(c)}, {text(_ZONED)})"
    first = _first(v, z)
    return f"""WHEN {without} AND {v} AT TIME ZONE {z} <> TRY_CAST({_inner(c)} AS TIMESTAMP) THEN {_reason(c, "gap")}
            WHEN {without} AND {first} <> {v} AND {first} AT TIME ZONE {z} = {v} AT TIME ZONE {z}
            THEN {_reason(c, "ambiguous")}"""


def _refused_number(c: str, scale: int, excess: str, missing: str) -> str:
    t, v = _t(c), ident(c)
    short, shape = "FALSE", text(r'^"[+-]?[0-9]+([.][0-9]*)?([eE][+-]?[0-9]+)?"\z')
    too_fine = ""
    if excess == "refuse":
        plain = text(rf'^"?[+-]?[0-9]+([.][0-9]{{0,{scale}}}0*)?"?\z')
        # What nearly every row takes; the other branches are then evaluated for the rest alone.
        short = f"""ASCII({t}) BETWEEN 48 AND 57 AND {v} >= 0.001
            AND (STRPOS({t}, '.') = 0 OR LENGTH({t}) - STRPOS({t}, '.') <= {scale})"""
        too_fine = f"WHEN NOT REGEXP_MATCHES({t}, {plain}) THEN {_reason(c, 'scale')}"
    return f"""WHEN {short} THEN NULL {missing}
        WHEN CASE WHEN ASCII({t}) = 34 THEN NOT REGEXP_MATCHES({t}, {shape}) ELSE NOT ASCII({t}) BETWEEN 45 AND 57 END
            THEN {_reason(c, "type")}
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


def _session(op: ops.Session, _: str) -> str:
    day, first = ident(op.column), f"DATE '{op.calendar.start}'"
    return f"""CASE WHEN {day} >= {first} AND {day} < DATE '{op.calendar.end}'
        THEN GET_BIT({text(op.calendar.bits)}::BIT, CAST({day} - {first} AS INTEGER)) = 1 ELSE TRUE END"""


def but(op: ops.Holds | ops.Session, refused: Mapping[str, str]) -> str:
    """A rule to which a column is null where `refused` has a reason: a rounded number stands there, or a moment out of range."""
    if isinstance(op, ops.Session):
        return sql(op)  # a day that is refused is null
    names = {node.name for node in op.expression.find_all(exp.Column)} & set(refused)
    said = op.expression.transform(
        lambda node: (
            exp.column(f"\1{node.name}", quoted=True) if isinstance(node, exp.Column) and node.name in names else node
        )
    ).sql(dialect="duckdb")
    for name in names:
        said = said.replace(ident(f"\1{name}"), f"(CASE WHEN ({refused[name]}) IS NULL THEN {ident(name)} END)")
    return said


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
    ops.Holds: _holds,
    ops.Session: _session,
}
