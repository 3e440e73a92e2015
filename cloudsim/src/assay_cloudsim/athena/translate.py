# ruff: noqa: ARG002 - the translations of functions are all called alike
"""A statement of Trino's SQL as one of DuckDB's that means the same; what Trino has not is refused, though DuckDB has it."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any

from sqlglot import exp
from sqlglot.errors import ParseError, TokenError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.tokenizer_core import TokenType

from assay_cloudsim.athena import formats
from assay_cloudsim.athena.dialect import (
    FLOATS,
    INTS,
    TEXTS,
    TIMES,
    ZONED,
    Dialect,
    Kind,
    data_type,
    decimal,
    sql_type,
    told,
)
from assay_cloudsim.athena.errors import Failed, Refused, position
from assay_cloudsim.athena.functions import AGGREGATES, SAME, TRINO
from assay_cloudsim.athena.macros import ARITY


def parsed(sql: str) -> exp.Expr:
    """The statement, or Refused with where the grammar does not go on."""
    try:
        trees = [t for t in Dialect().parse(sql) if t is not None]
    except ParseError as error:
        said = error.errors[0] if error.errors else {}
        where = f"line {said.get('line', 1)}:{max(1, (said.get('col') or 1) - len(said.get('highlight') or '') + 1)}"
        raise Refused(f"{where}: mismatched input '{said.get('highlight') or ''}'", "MALFORMED_QUERY") from error
    except TokenError as error:
        raise Refused(f"line 1:1: {str(error).splitlines()[0]}", "MALFORMED_QUERY") from error
    if len(trees) != 1:
        raise Refused("Only one sql statement is allowed. Got: " + sql[:200], "MALFORMED_QUERY")
    _only_trino(sql, trees[0])
    return trees[0]


_NOT_TRINO: tuple[tuple[str, Callable[[exp.Expr], bool]], ...] = (
    ("QUALIFY", lambda n: isinstance(n, exp.Qualify)),
    ("ILIKE", lambda n: isinstance(n, exp.ILike)),
    ("PIVOT", lambda n: isinstance(n, exp.Pivot)),
    ("DISTINCT ON", lambda n: isinstance(n, exp.Distinct) and bool(n.args.get("on"))),
    ("EXCEPT", lambda n: isinstance(n, exp.Star) and bool(n.args.get("except_") or n.args.get("except"))),
    ("REPLACE", lambda n: isinstance(n, exp.Star) and bool(n.args.get("replace"))),
    ("ALL", lambda n: isinstance(n, exp.Group) and bool(n.args.get("all"))),
    ("//", lambda n: isinstance(n, exp.IntDiv)),
    (":", lambda n: isinstance(n, exp.Slice)),
    ("{", lambda n: isinstance(n, exp.Struct) and not n.meta),
    ("ASOF", lambda n: isinstance(n, exp.Join) and (n.args.get("method") or "").upper() == "ASOF"),
    ("SEMI", lambda n: isinstance(n, exp.Join) and n.kind in ("SEMI", "ANTI")),
)
_GRAMMAR = frozenset(
    [
        "in",
        "as",
        "on",
        "over",
        "and",
        "or",
        "not",
        "when",
        "then",
        "else",
        "exists",
        "any",
        "all",
        "some",
        "select",
        "from",
        "where",
        "by",
        "using",
        "row",
        "array",
        "varchar",
        "char",
        "decimal",
        "timestamp",
        "time",
        "values",
        "with",
        "lateral",
        "union",
        "except",
        "intersect",
        "join",
        "group",
        "within",
        "set",
        "rollup",
        "cube",
        "sets",
        "partition",
        "having",
        "limit",
        "cast",
        "try_cast",
        "filter",
        "order",
        "interval",
        "recursive",
        "case",
        "end",
        "if",
        "case",
        "between",
        "is",
        "like",
        "matched",
        "insert",
        "into",
        "update",
        "ordinality",
        "ignore",
        "respect",
        "nulls",
        "escape",
        "delete",
        "merge",
        "table",
        "view",
        "tablesample",
        "bernoulli",
        "system",
        "double",
        "precision",
        "properties",
        "distinct",
        "map",
        "offset",
        "fetch",
    ]
)


def _only_trino(sql: str, tree: exp.Expr) -> None:
    tokens = Dialect().tokenize(sql)
    for token in tokens:
        if token.token_type == TokenType.DCOLON:
            raise Refused(f"line {token.line}:{token.col - 1}: mismatched input '::'", "MALFORMED_QUERY")
        if token.text.upper() in ("QUALIFY", "ILIKE") and token.token_type not in (
            TokenType.STRING,
            TokenType.IDENTIFIER,
        ):
            raise Refused(
                f"line {token.line}:{token.col - len(token.text) + 1}: mismatched input '{token.text}'",
                "MALFORMED_QUERY",
            )
    for node in tree.walk():
        for word, holds in _NOT_TRINO:
            if holds(node):
                line, col = position(node) or (1, 1)
                raise Refused(f"line {line}:{col}: mismatched input '{word}'", "MALFORMED_QUERY")


def check_functions(sql: str, tree: exp.Expr, *targets: str) -> None:
    """FUNCTION_NOT_FOUND for a name that is called and is no function of Trino's. A target's name may have columns after it."""
    named = (
        set(targets)
        | {a.name.lower() for a in tree.find_all(exp.TableAlias)}
        | {t.name.lower() for t in tree.find_all(exp.Table)}
    )
    tokens = Dialect().tokenize(sql)
    for token, after in pairwise(tokens):
        name = token.text.lower()
        if after.token_type != TokenType.L_PAREN or token.token_type in (TokenType.STRING, TokenType.NUMBER):
            continue
        if not re.fullmatch(r"[a-z_]\w*", name) or name in TRINO | _GRAMMAR or name in named:
            continue
        at = (token.line, max(1, token.col - len(token.text) + 1))
        raise Failed("FUNCTION_NOT_FOUND", f"Function '{token.text}' not registered", at)


Schema = Mapping[str, Mapping[str, Mapping[str, str]]]  # database, table, column: type


class Translation:
    """One statement in DuckDB's SQL. Tables must be named `database.table`, and `schema` must have all of them."""

    def __init__(self, tree: exp.Expr, schema: Schema) -> None:
        self.tree = tree
        self._types: dict[int, exp.DataType] = {}
        for at, node in enumerate(tree.walk()):
            node.meta["node"] = at
        _settle(tree)
        self._infer(schema)
        self.outputs = [self._type(p) for p in tree.selects] if isinstance(tree, exp.Query) else []
        self._rewrite()

    def sql(self) -> str:
        return self.tree.sql("duckdb")

    # -- types -------------------------------------------------------------------------------------------------------
    def _infer(self, schema: Schema) -> None:
        for query in _queries(self.tree):
            copy = query.copy()
            # What cannot be told has no type: it is refused where that matters, and DuckDB says what is wrong.
            with suppress(Exception):
                copy = qualify(copy, schema=schema, dialect=Dialect, validate_qualify_columns=False, quote_identifiers=False, identify=False)  # type: ignore[arg-type]  # fmt: skip
            with suppress(Exception):
                copy = annotate_types(copy, schema=schema, dialect=Dialect)  # type: ignore[arg-type]
            for node in copy.walk():
                at, kind = node.meta.get("node"), node.type
                if at is not None and kind is not None and kind.this not in (Kind.UNKNOWN, Kind.NULL):
                    self._types.setdefault(at, kind)

    def _type(self, node: exp.Expr | None) -> exp.DataType:
        at = node.meta.get("node") if node is not None else None
        found = self._types.get(at) if at is not None else None
        if found is None and isinstance(node, exp.Paren | exp.Alias):
            return self._type(node.this)
        return found or exp.DataType.build("unknown")

    def _kind(self, node: exp.Expr | None) -> Any:
        return self._type(node).this

    # -- the rewriting: children before parents, each new node keeps its predecessor's type ---------------------------
    def _rewrite(self) -> None:
        for node in reversed(list(self.tree.walk())):
            new = self._of(node)
            if new is not node:
                new.meta["node"] = node.meta.get("node")
                if node is self.tree:
                    self.tree = new
                else:
                    node.replace(new)

    def _of(self, node: exp.Expr) -> exp.Expr:
        match node:
            case exp.Literal() if not node.is_string and "." in node.this and "e" not in node.this.lower():
                return exp.Literal.number(f"{node.this}e0")  # Athena reads 1.5 as a double
            case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
                self._comparable(node, node.left, node.right)
            case exp.Between():
                self._comparable(node, node.this, node.args["low"])
            case exp.In() if node.expressions:
                self._comparable(node, node.this, node.expressions[0])
            case exp.Add() | exp.Sub():
                return self._added(node)
            case exp.Mul() | exp.Mod():
                self._arithmetic(node)
            case exp.Div():
                return self._divided(node)
            case exp.DPipe():
                return self._joined(node)
            case exp.Concat():
                return self._concat(node)
            case exp.Cast() | exp.TryCast():
                return self._cast(node)
            case exp.Sum():
                return self._sum(node)
            case exp.Avg():
                return self._avg(node)
            case exp.Extract():
                return self._extract(node)
            case exp.Trim():
                return self._trim(node)
            case exp.StrPosition():
                return _call("strpos", node.this, node.args["substr"])
            case exp.Substring():
                start, size = node.args["start"], node.args.get("length")
                return (
                    _macro("substr", node.this, start) if size is None else _macro("substr_to", node.this, start, size)
                )
            case exp.AtTimeZone():
                return self._at_zone(node, node.this, node.args["zone"])
            case exp.Bracket() if not isinstance(node.parent, exp.Table):
                return self._subscript(node)
            case exp.Anonymous():
                return self._function(node)
            case exp.Unnest():
                return self._unnest(node)
            case exp.CurrentTimestamp():
                return exp.cast(_call("date_trunc", exp.Literal.string("millisecond"), _call("now")), "timestamptz")
            case exp.Select():
                self._names(node)
        return node

    def _names(self, node: exp.Select) -> None:
        """Trino calls an expression without a name `_col` and its place."""
        if node is not self.tree and not isinstance(node.parent, exp.Subquery | exp.CTE | exp.SetOperation):
            return
        for at, each in enumerate(node.expressions):
            if not isinstance(each, exp.Alias | exp.Column | exp.Star | exp.Dot):
                alias = exp.alias_(each.copy(), f"_col{at}", quoted=True)
                alias.meta["node"] = each.meta.get("node")
                each.replace(alias)

    def _comparable(self, node: exp.Expr, left: exp.Expr, right: exp.Expr) -> None:
        a, b = self._kind(left), self._kind(right)
        if Kind.UNKNOWN in (a, b) or Kind.NULL in (a, b) or isinstance(right, exp.Subquery | exp.Query):
            return
        if _family(a) != _family(b) and "other" not in (_family(a), _family(b)):
            signs: dict[type[exp.Expr], str] = {
                exp.EQ: "=",
                exp.NEQ: "<>",
                exp.LT: "<",
                exp.LTE: "<=",
                exp.GT: ">",
                exp.GTE: ">=",
            }
            said = f"{self._told(left)} {signs.get(type(node), '')} {self._told(right)}"
            words: dict[type[exp.Expr], str] = {exp.Between: f"Cannot check if {self._told(left)} is BETWEEN {self._told(right)}",
                    exp.In: f"IN value and list items must be the same type: {self._told(left)}, {self._told(right)}"}  # fmt: skip
            raise Failed("TYPE_MISMATCH", words.get(type(node), f"Cannot apply operator: {said}"), position(node))

    def _told(self, node: exp.Expr) -> str:
        kind = self._type(node)
        if isinstance(node, exp.Literal) and node.is_string:
            return f"varchar({len(node.this)})"
        return told(kind)

    def _arithmetic(self, node: exp.Binary) -> None:
        for side in (node.left, node.right):
            if self._kind(side) in TEXTS or self._kind(side) == Kind.BOOLEAN:
                sign = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%"}[type(node)]
                raise Failed(
                    "TYPE_MISMATCH",
                    f"Cannot apply operator: {self._told(node.left)} {sign} {self._told(node.right)}",
                    position(node),
                )

    def _added(self, node: exp.Binary) -> exp.Expr:
        self._arithmetic(node)
        left, right = self._kind(node.left), self._kind(node.right)
        if Kind.DATE in (left, right) and (
            isinstance(node.left, exp.Interval)
            or isinstance(node.right, exp.Interval)
            or Kind.INTERVAL in (left, right)
        ):
            return exp.cast(exp.paren(node.copy()), "date")  # in DuckDB a timestamp
        if left == right == Kind.DATE and isinstance(node, exp.Sub):
            return exp.Paren(
                this=exp.Sub(
                    this=exp.cast(node.left.copy(), "timestamp"), expression=exp.cast(node.right.copy(), "timestamp")
                )
            )
        if Kind.DATE in (left, right) and (left in INTS or right in INTS):
            raise Failed("TYPE_MISMATCH", f"Cannot apply operator: {self._told(node.left)} {'+' if isinstance(node, exp.Add) else '-'} {self._told(node.right)}", position(node))  # fmt: skip
        return node

    def _divided(self, node: exp.Div) -> exp.Expr:
        self._arithmetic(node)
        left, right = self._type(node.left), self._type(node.right)
        a, b = node.left.copy(), node.right.copy()
        if left.this in FLOATS or right.this in FLOATS or left.this == Kind.INTERVAL:
            return _div(a, b)
        if left.this in INTS and right.this in INTS:
            return exp.paren(exp.IntDiv(this=exp.paren(a), expression=exp.paren(b)))
        if (x := decimal(left)) and (y := decimal(right)):
            (p, s), (_, t) = x, y
            scale = max(s, t)  # https://trino.io/docs/current/functions/decimal.html
            return _exact(a, s, b, t, min(38, p + t + max(0, t - s)), scale)
        return _macro("divide_unknown", a, b)

    def _joined(self, node: exp.DPipe) -> exp.Expr:
        for side in (node.left, node.right):
            kind = self._kind(side)
            if kind in INTS | FLOATS | TIMES or kind in (Kind.DECIMAL, Kind.DATE, Kind.BOOLEAN):
                raise Failed("FUNCTION_NOT_FOUND", f"Unexpected parameters ({self._told(node.left)}, {self._told(node.right)}) for function concat", position(node))  # fmt: skip
        return node

    def _concat(self, node: exp.Concat) -> exp.Expr:
        pieces = [p.copy() for p in node.expressions]
        if any(self._kind(p) == Kind.ARRAY for p in pieces):
            joined: exp.Expr = pieces[0]
            for piece in pieces[1:]:
                joined = _macro("concat_arrays", joined, piece)
            return joined
        whole: exp.Expr = pieces[0]
        for piece in pieces[1:]:
            whole = exp.DPipe(this=whole, expression=piece)
        return exp.paren(whole)

    def _sum(self, node: exp.Sum) -> exp.Expr:
        if self._kind(_operand(node)) not in INTS:
            return node
        return self._wrapped(node, lambda inner: exp.cast(inner, "bigint"))  # in DuckDB a HUGEINT

    def _wrapped(self, node: exp.Expr, wrap: Callable[[exp.Expr], exp.Expr]) -> exp.Expr:
        """What is around an aggregate goes around its FILTER and OVER, which are its parents."""
        if isinstance(node.parent, exp.Window | exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup):
            outer = node.parent
            while isinstance(outer.parent, exp.Window | exp.Filter):
                outer = outer.parent
            outer.meta.setdefault("wraps", []).append(wrap)
            return node
        return wrap(node.copy())

    def _avg(self, node: exp.Avg) -> exp.Expr:
        operand = _operand(node)
        kind = self._type(operand)
        if kind.this in INTS | FLOATS or kind.this in TIMES or kind.this == Kind.INTERVAL:
            return node
        if (precise := decimal(kind)) and kind.this == Kind.DECIMAL:
            if isinstance(node.parent, exp.Window | exp.Filter):
                raise Failed("NOT_SUPPORTED", "this double of Athena has no avg of decimals with FILTER or OVER: cast to double", position(node))  # fmt: skip
            p, s = precise
            return _exact(_call("sum", node.this.copy()), s, _call("count", node.this.copy()), 0, p, s)
        if isinstance(node.this, exp.Distinct):
            return node
        return exp.Avg(this=_macro("no_decimal", node.this.copy()))

    def _cast(self, node: exp.Cast) -> exp.Expr:
        tries = isinstance(node, exp.TryCast)
        new = self._converted(node, node.this.copy(), node.to)
        return _call("try", new) if tries else new

    def _converted(self, node: exp.Cast, value: exp.Expr, to: exp.DataType) -> exp.Expr:
        kind, wanted = self._kind(node.this), to.this
        text = node.this.name if isinstance(node.this, exp.Literal) and node.this.is_string else None
        if wanted in TEXTS:
            if kind in FLOATS:
                value = _macro("double_text", value)
            elif kind in TIMES:
                form = "%Y-%m-%d %H:%M:%S" + {0: "", 3: ".%g"}.get(self._digits(node.this), ".%f")
                value = _call("strftime", value, exp.Literal.string(form))
                if kind in ZONED:
                    value = exp.paren(exp.DPipe(this=value, expression=exp.Literal.string(" UTC")))
            elif kind == Kind.JSON:
                value = _call("json_extract_string", value, exp.Literal.string("$"))
            value = exp.cast(value, "varchar")
            size = to.expressions[0] if to.expressions else None
            if wanted == Kind.CHAR:
                raise Failed("NOT_SUPPORTED", "this double of Athena has no char(n): use varchar", position(node))
            return _call("substr", value, exp.Literal.number(1), exp.Literal.number(size.name)) if size else value
        if wanted == Kind.JSON:
            return _call("to_json", value)
        if kind == Kind.JSON:
            return _raw_cast(value if wanted in (Kind.ARRAY, Kind.MAP, Kind.STRUCT) else _call("json_extract_string", value, exp.Literal.string("$")), sql_type(to))  # fmt: skip
        if wanted in INTS:
            if kind in TEXTS:
                return _raw_cast(
                    _macro("text_to_int", value, exp.Literal.string(told(to).upper().replace("INTEGER", "INT"))),
                    sql_type(to),
                )
            if kind in FLOATS:
                return _raw_cast(_call("round", value), sql_type(to))
        if wanted == Kind.BOOLEAN and kind in TEXTS:
            return _macro("text_to_boolean", value)
        if wanted == Kind.DATE and kind in TEXTS:
            return _macro("text_to_date", value)
        if wanted in TIMES and wanted not in ZONED:
            if text is not None and _ZONE.search(text):
                return _raw_cast(value, "TIMESTAMPTZ")  # TIMESTAMP '… UTC' is a timestamp with time zone
            value = _macro("text_to_timestamp", value) if kind in TEXTS else _raw_cast(value, "TIMESTAMP")
            if (self._precision(to) or 3) <= 3 and text is None:
                value = _raw_cast(_raw_cast(value, "TIMESTAMP_MS"), "TIMESTAMP")
            return value
        return _raw_cast(value, sql_type(to))

    @staticmethod
    def _precision(kind: exp.DataType) -> int | None:
        return int(kind.expressions[0].name) if kind.expressions and kind.expressions[0].name.isdigit() else None

    def _digits(self, node: exp.Expr) -> int:
        """How many digits of a second a timestamp has: none, three or six as DuckDB writes them."""
        digits = self._precision(self._type(node))
        return 3 if digits is None or 0 < digits <= 3 else min(digits, 6)

    def _extract(self, node: exp.Extract) -> exp.Expr:
        return self._part(node.name.lower(), node.expression.copy(), node)

    def _part(self, part: str, value: exp.Expr, node: exp.Expr) -> exp.Expr:
        names = {
            "dow": "day_of_week",
            "doy": "day_of_year",
            "day_of_month": "day",
            "week_of_year": "week",
            "yow": "year_of_week",
        }
        name = names.get(part, part)
        if name in ("timezone_hour", "timezone_minute"):
            raise Failed(
                "NOT_SUPPORTED",
                "this double of Athena keeps no time zone of a value: it has instants in UTC",
                position(node),
            )
        return _macro(name, value)

    def _trim(self, node: exp.Trim) -> exp.Expr:
        name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(node.args.get("position") or "", "trim")
        return _call(name, node.this.copy(), (node.expression or exp.Literal.string(" ")).copy())

    def _at_zone(self, node: exp.Expr, value: exp.Expr, zone: exp.Expr) -> exp.Expr:
        """The wall clock there, which is all that a cast or a field of it asks; DuckDB's values keep no zone."""
        if isinstance(zone, exp.Literal) and zone.name.upper() in ("UTC", "GMT", "Z", "+00:00"):
            return exp.cast(value.copy(), "timestamptz")
        outer = node.parent
        while isinstance(outer, exp.Paren):
            outer = outer.parent
        asked = (isinstance(outer, exp.Cast) and outer.to.this not in ZONED | TEXTS) or isinstance(outer, exp.Extract)
        asked |= isinstance(outer, exp.Anonymous) and outer.name.lower() in _OF_CLOCK
        if not asked:
            raise Failed("NOT_SUPPORTED", "this double of Athena keeps no time zone of a value: cast what AT TIME ZONE gives to timestamp or date", position(node))  # fmt: skip
        return _call("timezone", zone.copy(), exp.cast(value.copy(), "timestamptz"))

    def _subscript(self, node: exp.Bracket) -> exp.Expr:
        kind = self._kind(node.this)
        (index,) = node.expressions
        if kind == Kind.MAP:
            return _macro("map_get", node.this.copy(), index.copy())
        if kind == Kind.ARRAY or self._kind(index) in INTS:
            return _macro("subscript", node.this.copy(), index.copy())
        return _macro("map_get", node.this.copy(), index.copy())

    def _unnest(self, node: exp.Unnest) -> exp.Expr:
        for each in node.expressions:
            if self._kind(each) == Kind.MAP:
                raise Failed(
                    "NOT_SUPPORTED",
                    "this double of Athena has no UNNEST of a map: use UNNEST(map_keys(m), map_values(m))",
                    position(node),
                )
        if len(node.expressions) < 2:
            return node
        zipped = _call("list_zip", *[e.copy() for e in node.expressions])
        alias = node.args.get("alias")
        names = [c.name for c in alias.columns] if alias else []
        if len(names) < len(node.expressions):
            raise Failed(
                "NOT_SUPPORTED",
                "this double of Athena wants names for the columns of UNNEST of several arrays",
                position(node),
            )
        items = [f'"_"[{at + 1}] AS "{n}"' for at, n in enumerate(names[: len(node.expressions)])]
        source = f"unnest({zipped.sql('duckdb')})"
        if node.args.get("offset"):
            items.append(f'"_n" AS "{names[-1] if len(names) > len(node.expressions) else "ordinality"}"')
            inner = f'{source} WITH ORDINALITY AS _u("_", "_n")'
        else:
            inner = f'{source} AS _u("_")'
        made = _subquery(f"SELECT {', '.join(items)} FROM {inner}")
        made.set(
            "alias", exp.TableAlias(this=alias.this.copy() if alias and alias.this else exp.to_identifier("_unnested"))
        )
        if isinstance(node.parent, exp.Join):
            name = made.args["alias"]
            made.set("alias", None)
            return exp.Lateral(this=made, alias=name)
        return made

    # -- functions ---------------------------------------------------------------------------------------------------
    def _function(self, node: exp.Anonymous) -> exp.Expr:
        name, args = node.name.lower(), [a.copy() for a in node.expressions]
        special = getattr(self, f"_f_{name}", None)
        if special is not None:
            made: exp.Expr = special(node, args)
            return made
        if name in AGGREGATES:
            return exp.Anonymous(this=AGGREGATES[name], expressions=args)
        if name in SAME:
            return exp.Anonymous(this=SAME[name], expressions=args)
        if name in ARITY:
            if ARITY[name] != len(args):
                raise Failed("FUNCTION_NOT_FOUND", f"Unexpected parameters ({', '.join(self._told(a) for a in node.expressions)}) for function {name}", position(node))  # fmt: skip
            return _macro(name, *args)
        if name.startswith("trino_") or name == "list_zip":
            return node
        if name in TRINO:
            raise Failed("NOT_SUPPORTED", f"Function '{name}' is not emulated by this double of Athena", position(node))
        raise Failed("FUNCTION_NOT_FOUND", f"Function '{name}' not registered", position(node))

    def _binary_only(self, node: exp.Anonymous) -> None:
        if self._kind(node.expressions[0]) in TEXTS:
            raise Failed("FUNCTION_NOT_FOUND", f"Unexpected parameters ({self._told(node.expressions[0])}) for function {node.name.lower()}. Expected: {node.name.lower()}(varbinary)", position(node))  # fmt: skip

    def _f_md5(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        self._binary_only(node)
        return _macro(node.name.lower(), *args)

    _f_sha1 = _f_sha256 = _f_to_hex = _f_md5

    def _f_to_base64(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        self._binary_only(node)
        return _call("to_base64", *args)

    def _f_cardinality(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        kind = self._kind(node.expressions[0])
        made = _call("cardinality" if kind == Kind.MAP else "len", *args)
        return _raw_cast(made, "BIGINT")

    def _f_element_at(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _raw(f"({_sql(args[0])})[{_sql(args[1])}]")

    def _f_reverse(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call("list_reverse" if self._kind(node.expressions[0]) == Kind.ARRAY else "reverse", *args)

    def _f_array_join(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _macro("array_join_null" if len(args) == 3 else "array_join", *args)

    def _f_regexp_extract(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _macro("regexp_extract_group" if len(args) == 3 else "regexp_extract", *args)

    def _f_regexp_extract_all(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call("regexp_extract_all", *args)

    def _f_regexp_replace(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        if len(args) == 3 and not (isinstance(args[2], exp.Literal) or self._kind(node.expressions[2]) in TEXTS):
            raise Failed("NOT_SUPPORTED", "this double of Athena has no regexp_replace with a function", position(node))
        by = args[2] if len(args) == 3 else exp.Literal.string("")
        if isinstance(by, exp.Literal):
            by = exp.Literal.string(re.sub(r"\$(\d)", r"\\\1", by.name))
        return _call("regexp_replace", args[0], args[1], by, exp.Literal.string("g"))

    def _f_replace(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _macro("replace_by" if len(args) == 3 else "replace", *args)

    def _f_bit_count(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _macro("bit_count", *args)

    def _f_rand(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _macro("random_below", *args) if args else _call("random")

    _f_random = _f_rand

    def _f_greatest(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        name = node.name.lower()  # in Trino NULL if any is
        nulls = " OR ".join(f"({_sql(a)}) IS NULL" for a in args)
        return _raw(f"CASE WHEN {nulls} THEN NULL ELSE {name}({', '.join(map(_sql, args))}) END")

    _f_least = _f_greatest

    def _f_ceil(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        kind = self._kind(node.expressions[0])
        return args[0] if kind in INTS else _call("ceil", *args)

    _f_ceiling = _f_ceil

    def _f_floor(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return args[0] if self._kind(node.expressions[0]) in INTS else _call("floor", *args)

    def _f_round(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return args[0] if self._kind(node.expressions[0]) in INTS and len(args) == 1 else _call("round", *args)

    def _f_truncate(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call("trunc", *args)

    def _f_power(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _macro("power", *args)

    _f_pow = _f_power

    def _f_date_trunc(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        made = _call("date_trunc", *args)
        return exp.cast(made, "date") if self._kind(node.expressions[1]) == Kind.DATE else made

    def _f_date_add(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        unit = _literal(args[0], "date_add").lower()
        maker = _UNITS.get(unit)
        if maker is None:
            raise Failed("INVALID_FUNCTION_ARGUMENT", f"'{unit}' is not a valid DATE field", position(node))
        made = _raw(f"(({_sql(args[2])}) + {maker.format(_sql(args[1]))})")
        return exp.cast(made, "date") if self._kind(node.expressions[2]) == Kind.DATE else made

    def _f_date_diff(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call("date_sub", *args)  # whole units, as Trino counts them; DuckDB's date_diff counts boundaries

    def _f_date_format(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return formats.formatted(args[0], formats.mysql(_literal(args[1], "date_format")))

    def _f_date_parse(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call(
            "strptime", args[0], exp.Literal.string(formats.strptime(formats.mysql(_literal(args[1], "date_parse"))))
        )

    def _f_format_datetime(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return formats.formatted(args[0], formats.joda(_literal(args[1], "format_datetime")))

    def _f_parse_datetime(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        made = _call(
            "strptime", args[0], exp.Literal.string(formats.strptime(formats.joda(_literal(args[1], "parse_datetime"))))
        )
        return exp.cast(made, "timestamptz")

    def _f_to_iso8601(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        kind = self._kind(node.expressions[0])
        if kind == Kind.DATE:
            return _raw_cast(args[0], "VARCHAR")
        made = _macro("to_iso8601_timestamp", *args)
        return exp.paren(exp.DPipe(this=made, expression=exp.Literal.string("Z"))) if kind in ZONED else made

    def _f_from_unixtime(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        if len(args) == 1 or _literal(args[1], "from_unixtime").upper() == "UTC":
            return _macro("from_unixtime", args[0])
        return self._at_zone(node, _macro("from_unixtime", args[0]), args[1])

    def _f_at_timezone(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return self._at_zone(node, *args)

    def _f_with_timezone(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call("timezone", args[1], _raw_cast(args[0], "TIMESTAMP"))

    def _f_day_of_month(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return self._part(node.name.lower(), args[0], node)

    _f_dow = _f_doy = _f_yow = _f_week_of_year = _f_day_of_month

    def _f_typeof(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        kind = self._type(node.expressions[0])
        if kind.this == Kind.UNKNOWN:
            raise Failed("NOT_SUPPORTED", "this double of Athena cannot tell the type of this", position(node))
        return exp.Literal.string(self._told(node.expressions[0]))

    def _f_format(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call("printf", exp.Literal.string(_literal(args[0], "format")), *args[1:])

    def _f_sequence(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        kind = self._kind(node.expressions[0])
        if kind == Kind.DATE:
            step = _sql(args[2]) if len(args) == 3 else "INTERVAL 1 DAY"
            return _raw(f"list_transform(generate_series(CAST({_sql(args[0])} AS TIMESTAMP), CAST({_sql(args[1])} AS TIMESTAMP), {step}), lambda _d: CAST(_d AS DATE))")  # fmt: skip
        if len(args) == 2 and kind in INTS | {Kind.UNKNOWN}:
            a, b = _sql(args[0]), _sql(args[1])
            return _raw(f"generate_series({a}, {b}, CASE WHEN ({a}) <= ({b}) THEN 1 ELSE -1 END)")
        return _call("generate_series", *args)

    def _f_approx_distinct(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return exp.Count(this=exp.Distinct(expressions=[args[0]]))

    def _f_approx_percentile(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        if len(args) != 2:
            raise Failed(
                "NOT_SUPPORTED",
                "this double of Athena has no approx_percentile with weights or accuracy",
                position(node),
            )
        return _call("quantile_disc", *args)

    def _f_map_agg(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        if isinstance(node.parent, exp.Window | exp.Filter):
            raise Failed("NOT_SUPPORTED", "this double of Athena has no map_agg with FILTER or OVER", position(node))
        return _raw(
            f"map_from_entries(list(({_sql(args[0])}, {_sql(args[1])})) FILTER (WHERE ({_sql(args[0])}) IS NOT NULL))"
        )

    def _f_map(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call("map", *args)

    def _f_row(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call("row", *args)

    def _f_max_by(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        if len(args) != 2:
            raise Failed("NOT_SUPPORTED", "this double of Athena has no max_by or min_by of n values", position(node))
        return _call(AGGREGATES[node.name.lower()], *args)

    _f_min_by = _f_max_by

    def _f_max(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        if len(args) != 1:
            raise Failed("NOT_SUPPORTED", "this double of Athena has no max or min of n values", position(node))
        return _call(node.name.lower(), *args)

    _f_min = _f_max

    # -- lambdas -----------------------------------------------------------------------------------------------------
    def _f_transform(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call("list_transform", *args)

    def _f_filter(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call("list_filter", *args)

    def _f_any_match(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        every = "list_bool_or" if node.name.lower() == "any_match" else "list_bool_and"
        return _raw(
            f"coalesce({every}(list_transform({_sql(args[0])}, {_sql(args[1])})), {'FALSE' if every == 'list_bool_or' else 'TRUE'})"
        )

    _f_all_match = _f_any_match

    def _f_none_match(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _raw(f"NOT coalesce(list_bool_or(list_transform({_sql(args[0])}, {_sql(args[1])})), FALSE)")

    def _f_reduce(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        items, start, step, last = args
        if not (isinstance(step, exp.Lambda) and isinstance(last, exp.Lambda)):
            raise Failed("FUNCTION_NOT_FOUND", "Unexpected parameters for function reduce", position(node))
        folded = _call("list_reduce", items, step, start)
        return _applied(last, [folded])

    def _f_zip_with(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        made = _applied(args[2], [_raw("_e[1]"), _raw("_e[2]")])
        return _raw(f"list_transform(list_zip({_sql(args[0])}, {_sql(args[1])}), lambda _e: {_sql(made)})")

    def _f_zip(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        return _call("list_zip", *args)

    def _f_map_filter(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        made = _applied(args[1], [_raw("_e.key"), _raw("_e.value")])
        return _raw(f"map_from_entries(list_filter(map_entries({_sql(args[0])}), lambda _e: {_sql(made)}))")

    def _f_transform_values(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        made = _applied(args[1], [_raw("_e.key"), _raw("_e.value")])
        return _raw(
            f"map_from_entries(list_transform(map_entries({_sql(args[0])}), lambda _e: (_e.key, {_sql(made)})))"
        )

    def _f_transform_keys(self, node: exp.Anonymous, args: list[exp.Expr]) -> exp.Expr:
        made = _applied(args[1], [_raw("_e.key"), _raw("_e.value")])
        return _raw(
            f"map_from_entries(list_transform(map_entries({_sql(args[0])}), lambda _e: ({_sql(made)}, _e.value)))"
        )


_OF_CLOCK = frozenset(
    [
        "hour",
        "minute",
        "day",
        "day_of_month",
        "month",
        "year",
        "quarter",
        "week",
        "dow",
        "day_of_week",
        "doy",
        "day_of_year",
        "date",
        "date_format",
        "format_datetime",
        "second",
    ]
)
_UNITS = {
    "millisecond": "to_milliseconds({})", "second": "to_seconds({})", "minute": "to_minutes({})", "hour": "to_hours({})",
    "day": "to_days(CAST({} AS INTEGER))", "week": "to_weeks(CAST({} AS INTEGER))", "month": "to_months(CAST({} AS INTEGER))",
    "quarter": "to_months(CAST(3 * ({}) AS INTEGER))", "year": "to_years(CAST({} AS INTEGER))",
}  # fmt: skip


def _family(kind: Any) -> str:
    if kind in INTS | FLOATS or kind == Kind.DECIMAL:
        return "number"
    if kind in TEXTS:
        return "text"
    if kind in TIMES or kind == Kind.DATE:
        return "time"
    return "boolean" if kind == Kind.BOOLEAN else "other"


def _queries(tree: exp.Expr) -> list[exp.Query]:
    """Queries whose parts have types: the statement itself, or one made of what a MERGE, UPDATE or DELETE computes."""
    if isinstance(tree, exp.Query):
        return [tree]
    found: list[exp.Query] = [q for q in tree.find_all(exp.Query) if q.find_ancestor(exp.Query) is None]
    if isinstance(tree, exp.Merge):
        values = [e.copy() for w in tree.args["whens"].expressions for e in w.find_all(exp.Expression) if e.parent_select is None and isinstance(e, exp.Condition)]  # fmt: skip
        made = exp.Select(expressions=values or [exp.Literal.number(1)], where=exp.Where(this=tree.args["on"].copy()))
        found.append(made.from_(tree.this.copy()).join(tree.args["using"].copy(), join_type="cross"))
    if isinstance(tree, exp.Update | exp.Delete) and isinstance(tree.this, exp.Table):
        values = [e.expression.copy() for e in tree.expressions if isinstance(e, exp.EQ)]
        made = exp.Select(expressions=values or [exp.Literal.number(1)]).from_(tree.this.copy())
        if where := tree.args.get("where"):
            made.set("where", where.copy())
        found.append(made)
    return found


def _settle(tree: exp.Expr) -> None:
    """Types that a literal's text decides: DECIMAL '1.50' is decimal(3,2), TIMESTAMP '… 00:00:00.5' has one digit."""
    for cast in tree.find_all(exp.Cast):
        if cast.to.expressions or cast.to.this not in (Kind.DECIMAL, Kind.TIMESTAMP):
            continue
        text = cast.this.name.strip() if isinstance(cast.this, exp.Literal) and cast.this.is_string else None
        if cast.to.this == Kind.DECIMAL:
            left, _, right = (text or "0" * 38).lstrip("+-").partition(".")
            whole = max(1, len(left.lstrip("0")) + len(right)) if text is not None else 38
            cast.set("to", exp.DataType.build(f"decimal({whole},{len(right)})"))
        elif text is not None and not _ZONE.search(text):
            found = re.search(r"[.](\d+)$", text)
            cast.set("to", data_type(f"timestamp({min(6, len(found[1]) if found else 0)})"))


_ZONE = re.compile(r"\d (?:[A-Za-z]\w+|[+-]\d\d:?\d\d)(?:/\w+)?$")


def _exact(a: exp.Expr, s: int, b: exp.Expr, t: int, precision: int, scale: int) -> exp.Expr:
    """A / b as a decimal(precision, scale), half up; s and t are the scales of a and b."""
    n = f"(CAST(({_sql(a)}) * CAST({10**s} AS DECIMAL({s + 1}, 0)) AS HUGEINT) * {10 ** (scale + t - s) if scale + t >= s else 1})"
    d = f"CAST(({_sql(b)}) * CAST({10**t} AS DECIMAL({t + 1}, 0)) AS HUGEINT)"
    unit = f"CAST({'0.' + '0' * (scale - 1) + '1' if scale else '1'} AS DECIMAL({scale + 1}, {scale}))"
    return _raw(
        f"CAST(CAST(trino_half_up({n}, {d}) AS DECIMAL(38, 0)) * {unit} AS DECIMAL({max(precision, scale)}, {scale}))"
    )


def _operand(node: exp.Expr) -> exp.Expr:
    inner: exp.Expr = node.this.expressions[0] if isinstance(node.this, exp.Distinct) else node.this
    return inner


def _applied(function: exp.Expr, values: list[exp.Expr]) -> exp.Expr:
    """The body of a lambda with values for its parameters."""
    if not isinstance(function, exp.Lambda):
        raise Failed("FUNCTION_NOT_FOUND", "Unexpected parameters: a lambda is wanted", position(function))
    by_name = {p.name.lower(): v for p, v in zip(function.expressions, values, strict=True)}

    def put(node: exp.Expr) -> exp.Expr:
        plain = isinstance(node, exp.Identifier) and not isinstance(node.parent, exp.Column | exp.Dot | exp.Alias)
        if ((isinstance(node, exp.Column) and not node.table) or plain) and node.name.lower() in by_name:
            return exp.paren(by_name[node.name.lower()].copy())
        return node

    return exp.paren(function.this.copy().transform(put))


def _literal(node: exp.Expr, function: str) -> str:
    if not (isinstance(node, exp.Literal) and node.is_string):
        raise Failed(
            "NOT_SUPPORTED",
            f"this double of Athena wants a literal where {function} takes a format or a unit",
            position(node),
        )
    return node.name


def _call(name: str, *args: exp.Expr) -> exp.Anonymous:
    return exp.Anonymous(this=name, expressions=list(args))


def _macro(name: str, *args: exp.Expr) -> exp.Anonymous:
    return _call(f"trino_{name}", *args)


def _sql(node: exp.Expr) -> str:
    return node.sql("duckdb")


def _raw(sql: str) -> exp.Expr:
    """SQL of DuckDB's, which nothing translates again."""
    return exp.Var(this=sql)


def _raw_cast(value: exp.Expr, kind: str) -> exp.Expr:
    return _raw(f"CAST({_sql(value)} AS {kind})")


def _div(a: exp.Expr, b: exp.Expr) -> exp.Expr:
    return _raw(f"(({_sql(a)}) / ({_sql(b)}))")


def _subquery(sql: str) -> exp.Subquery:
    return exp.Subquery(this=_raw(sql))
