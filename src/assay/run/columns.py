"""Which columns of silver and seeds a model's column is computed from: each model's SQL resolved, and put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope
from sqlglot.schema import MappingSchema

from assay.lake.release import Model

DIRECT = ("IDENTITY", "TRANSFORMATION", "AGGREGATION")
"""How a value comes from another, as OpenLineage names it; a later one contains an earlier."""
_PICKS = (
    exp.Lag,
    exp.Lead,
    exp.FirstValue,
    exp.LastValue,
    exp.NthValue,
)  # one row's value, aggregates though sqlglot says

From = Mapping[tuple[str, str], frozenset[str]]
"""Relation and column, both in lower case, to how a value comes from it."""


def origins(models: Sequence[Model], stored: Mapping[str, Sequence[str]]) -> dict[str, dict[str, From]]:
    """Of each model and column, in lower case, what it is computed from; `stored` has the columns of silver's views and of seeds.

    What cannot be resolved for sure is left out: a nested query, a star over what is not known, anything unclear.
    """
    schema = MappingSchema(dialect="duckdb")
    known: dict[str, set[str]] = {}
    for relation, columns in stored.items():
        known[relation.lower()] = {one.lower() for one in columns}
        _promise(schema, relation, columns)
    out: dict[str, dict[str, From]] = {}
    for model in models:
        if model.kind == "seed":
            continue
        given = _given(model.sql, schema)
        mine = out[model.relation.lower()] = {}
        for column, read in given.items():
            if read is not None and (whole := _whole(read, known, out)) is not None:
                mine[column] = whole
        if given and "*" not in given:
            _promise(schema, model.relation, list(given))
    return out


def _promise(schema: MappingSchema, relation: str, columns: Sequence[str]) -> None:
    zone, _, name = relation.partition(".")
    schema.add_table(exp.table_(name, db=zone, quoted=True), dict.fromkeys(columns, "VARCHAR"))


def _whole(read: From, known: Mapping[str, set[str]], done: Mapping[str, Mapping[str, From]]) -> From | None:
    """What a column reads, down to silver and seeds; None if a part of it is not known."""
    out: dict[tuple[str, str], frozenset[str]] = {}
    for (relation, column), how in read.items():
        if column in known.get(relation, ()):
            _add(out, {(relation, column): frozenset({"IDENTITY"})}, how)
        elif column in done.get(relation, {}):
            _add(out, done[relation][column], how)
        else:
            return None
    return out


def _add(out: dict[tuple[str, str], frozenset[str]], inner: From, outer: frozenset[str]) -> None:
    for source, how in inner.items():
        both = frozenset(_after(one, other) for one in how for other in outer)
        out[source] = out.get(source, frozenset()) | both


def _after(inner: str, outer: str) -> str:
    """What two steps are together: what only chooses is no value; else the one that contains the other."""
    if outer not in DIRECT:
        return outer
    return inner if inner not in DIRECT else max(inner, outer, key=DIRECT.index)


# ------------------------------------------------------------------ one SELECT


def _given(sql: str, schema: MappingSchema) -> dict[str, From | None]:
    """The columns that a SELECT gives, with the columns of tables that each reads; None where that is not clear."""
    try:
        tree = qualify(
            parse_one(sql, dialect="duckdb"), schema=schema, dialect="duckdb", validate_qualify_columns=False
        )
        scope = build_scope(tree)
    except SqlglotError:
        return {}
    if scope is None or not isinstance(tree, exp.Query):
        return {}
    _recursive(scope)
    seen = _Seen()
    while True:  # what reads itself reads what it read the last time, until that is all
        out = {name: seen.of(scope, name) for name in tree.named_selects}
        if seen.found == seen.before:
            return out
        seen = _Seen(seen.found)


def _recursive(scope: Scope) -> None:
    """Have a recursive query read all of itself: sqlglot takes what it begins with for it."""
    for outer in scope.traverse():
        for one in outer.cte_scopes:
            query = one.expression
            if isinstance(query, exp.SetOperation):
                for inner in one.traverse():
                    for name, source in list(inner.sources.items()):
                        if isinstance(source, Scope) and source.expression is query.this:
                            inner.sources[name] = one


@dataclass
class _Seen:
    """What columns of scopes read, so that each is looked at once; `before` is what was found the last time."""

    before: dict[tuple[int, str], From | None] = field(default_factory=dict)
    found: dict[tuple[int, str], From | None] = field(default_factory=dict)
    looked: set[tuple[int, str]] = field(default_factory=set)

    def of(self, scope: Scope, name: str) -> From | None:
        """What a column reads of tables."""
        at = (id(scope), name)
        if at in self.looked:
            return self.found.get(at, self.before.get(at, {}))
        self.looked.add(at)
        self.found[at] = _read(scope, name, self)
        return self.found[at]


def _read(scope: Scope, name: str, seen: _Seen) -> From | None:
    query = scope.expression
    if isinstance(query, exp.SetOperation):
        return _both(scope, query, name, seen)
    if not isinstance(query, exp.Select):
        return None
    chosen = [one for one in query.selects if one.alias_or_name == name]
    if len(chosen) != 1 or not _plain(query) or chosen[0].find(exp.Query):
        return None
    out: dict[tuple[str, str], frozenset[str]] = {}
    for column in chosen[0].find_all(exp.Column):
        source = scope.sources.get(column.table)
        inner: From | None = None
        if isinstance(source, Scope):
            inner = seen.of(source, column.name)
        elif isinstance(source, exp.Table) and source.db and not source.args.get("pivots"):
            inner = {(f"{source.db}.{source.name}".lower(), column.name.lower()): frozenset({"IDENTITY"})}
        if inner is None:
            return None
        _add(out, inner, frozenset({_how(column, chosen[0])}))
    return out


def _both(scope: Scope, query: exp.SetOperation, name: str, seen: _Seen) -> From | None:
    """A column of a UNION and the like: what both sides have at its place, or by its name."""
    out: dict[tuple[str, str], frozenset[str]] = {}
    place = query.named_selects.index(name) if name in query.named_selects else -1
    for side in scope.set_operation_scopes:
        part = side.expression
        if not isinstance(part, exp.SetOperation) and not _plain(part):
            return None
        names = part.named_selects
        if query.args.get("by_name"):
            mine = name if name in names else None
            if mine is None:
                continue
        elif 0 <= place < len(names):
            mine = names[place]
        else:
            return None
        inner = seen.of(side, mine)
        if inner is None:
            return None
        _add(out, inner, frozenset({"IDENTITY"}))
    return out


def _plain(query: exp.Expr) -> TypeGuard[exp.Select]:
    """Whether a SELECT says its columns one by one."""
    return isinstance(query, exp.Select) and not any(
        one.is_star or one.find(exp.Columns) or not one.alias_or_name for one in query.selects
    )


def _how(column: exp.Column, root: exp.Expr) -> str:
    """How a column takes part in an expression."""
    how = 0
    node: exp.Expr = column
    while node is not root:
        parent = node.parent
        if parent is None:
            break
        if isinstance(parent, exp.Window) and node.arg_key != "this":
            return "WINDOW"
        if isinstance(parent, exp.Filter) and node.arg_key == "expression":
            return "FILTER"
        if isinstance(parent, exp.If | exp.Case) and node.arg_key == "this":
            return "CONDITIONAL"
        if isinstance(parent, exp.AggFunc) and not isinstance(parent, _PICKS):
            how = 2
        elif not isinstance(parent, exp.Alias | exp.Paren):
            how = max(how, 1)
        node = parent
    return DIRECT[how]


__all__ = ["DIRECT", "From", "origins"]
