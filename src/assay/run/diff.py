"""What a change altered: two releases of a lake, or of two of its environments, compared by the key of each gold table."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from assay import settings, targets
from assay.errors import LakeDamaged, UsageError
from assay.lake import duck, release
from assay.lake.duck import ident
from assay.lake.release import Column, Gold, Release, Silver
from assay.ports import Files, Limits
from assay.run.explain import render
from assay.serve.reader import attach, damaged
from assay.sqltypes import SqlType

if TYPE_CHECKING:
    from assay.run.lake import Lake

LISTED = 20
RELEASE = re.compile(r"(?:([\w-]+):)?([0-9]{1,9})")
"""A release of this environment, or of another: `12`, `prod:12`."""
_FLOATS = ("DOUBLE", "FLOAT", "REAL")
_PROMISED = ("type", "unit", "classification")


class Side(NamedTuple):
    """One of the two releases, and where its files lie."""

    env: str
    target: targets.Target
    release: Release

    @property
    def files(self) -> Files:
        """Its objects."""
        return self.target.files


def diff(
    lake: "Lake", old: int | str | None = None, new: int | str | None = None, tables: Sequence[str] = (), *,
    limit: int = LISTED,
) -> dict[str, Any]:  # fmt: skip
    """What differs between two releases, as JSON; each pair in it is the old and the new.

    `gold` has every table of either release, or those of `tables`: its `state` (`same`, `changed`, `added`, `removed`),
    its columns that came, went or promise something else, how many rows were added, removed and changed, in which columns,
    and of each kind the first `limit` by the key. A table of the same content is told without being read. Floats within 1e-9 of
    each other are the same, as for `explain`; everything else is compared exactly, NaN and null as themselves. A column whose type
    changed differs in a row unless each value is what the other becomes in its type. Where the key itself changed, rows are not
    compared, and their counts are None. `silver` says how far each release read its logs, `dbt` which models differ.

    UsageError if there is no such release or table; LakeDamaged if a file that serves one is lost, or holds a key twice.
    """
    after = _side(lake, new) if new is not None else Side(_env(lake), lake.target, lake.released())
    before = _side(lake, old) if old is not None else _before(after)
    names = list(dict.fromkeys(g.name for side in (before, after) for g in side.release.gold))
    chosen = [name.removeprefix("gold.") for name in tables]
    if unknown := [name for name in chosen if name not in names]:
        raise UsageError(f"no gold table {unknown[0]!r}; these releases have {', '.join(names) or 'none'}")
    return {
        "old": _described(before), "new": _described(after), "dbt": _dbt(before.release, after.release),
        "silver": _silver(before.release, after.release),
        "gold": {name: _table(before, after, name, lake.target.limits, limit) for name in names if name in chosen or not chosen},
    }  # fmt: skip


def _env(lake: "Lake") -> str:
    return lake.target.settings.env


def _side(lake: "Lake", spoken: int | str) -> Side:
    found = RELEASE.fullmatch(str(spoken))
    if not found:
        raise UsageError(f"{spoken!r} names no release; say 12, or prod:12 for one of another environment")
    env, number = found[1] or _env(lake), int(found[2])
    target = lake.target
    if env != _env(lake):
        from assay.run.lake import exists

        exists(lake.root, env)
        target = targets.open(lake.target.name, settings.read(lake.root, env))
    return Side(env, target, release.read(target.files, number))


def _before(after: Side) -> Side:
    older = [n for n in release.numbers(after.files) if n < after.release.number]
    if not older:
        raise UsageError(f"release {after.release.number} is the oldest there is; name another as OLD")
    return Side(after.env, after.target, release.read(after.files, older[-1]))


def _described(side: Side) -> dict[str, Any]:
    return {"env": side.env, "number": side.release.number, "at": render(side.release.at)}


# ------------------------------------------------------------------ what they were computed from


def _dbt(before: Release, after: Release) -> dict[str, Any]:
    """Whether the dbt projects differ; the models whose SQL does, or that only one has; and whether the seeds do."""
    sql = [{m.relation: (m.kind, m.sql) for m in one.models} for one in (before, after)]
    return {
        "changed": before.dbt_hash != after.dbt_hash,
        "models": sorted(name for name in {*sql[0], *sql[1]} if sql[0].get(name) != sql[1].get(name)),
        "seeds": before.seeds_sha256 != after.seeds_sha256,
    }


def _silver(before: Release, after: Release) -> dict[str, Any]:
    """Per dataset how far either release read its log, by which contract, and how many rows were current."""
    sides = [{s.dataset: s for s in one.silver} for one in (before, after)]
    return {name: _dataset(sides[0].get(name), sides[1].get(name)) for name in {**sides[0], **sides[1]}}


def _dataset(old: Silver | None, new: Silver | None) -> dict[str, Any]:
    pairs: dict[str, list[Any]] = {
        "position": [one.position if one else None for one in (old, new)],
        "rows": [one.rows if one else None for one in (old, new)],
        "contract": [one.contract_sha256 if one else None for one in (old, new)],
    }
    return {"state": _state(old, new, changed=any(a != b for a, b in pairs.values())), **pairs}


def _state(old: object, new: object, *, changed: bool) -> str:
    if not old or not new:
        return "removed" if old else "added"
    return "changed" if changed else "same"


# ------------------------------------------------------------------ a gold table


def _table(before: Side, after: Side, name: str, limits: Limits, limit: int) -> dict[str, Any]:
    old, new = (next((g for g in side.release.gold if g.name == name), None) for side in (before, after))
    columns = _columns(old, new)
    found: dict[str, Any] = {
        "rows": [one.rows if one else None for one in (old, new)],
        "key": [list(one.key) if one else None for one in (old, new)],
        "columns": columns, "added": 0, "removed": 0, "changed": 0, "changed_columns": {},
        "listed": {"added": [], "removed": [], "changed": []},
    }  # fmt: skip
    compared = True
    if old and new and not _same(old, new):
        compared = old.key == new.key and not any(
            k in columns["changed"] and "type" in columns["changed"][k] for k in new.key
        )
        if compared:
            found |= _compared(before, after, old, new, limits, limit)
        else:
            found |= dict.fromkeys(("added", "removed", "changed"))
    promised = any(columns.values()) or not compared
    changed = promised or any(found[kind] for kind in ("added", "removed", "changed"))
    return {"state": _state(old, new, changed=changed), **found}


def _same(old: Gold, new: Gold) -> bool:
    """Whether both are known to hold the same rows in the same columns, without reading either."""
    if old.key != new.key:
        return False
    if old.content and old.content == new.content:
        return True
    return bool(old.serving_sha256) and old.serving_sha256 == new.serving_sha256


def _columns(old: Gold | None, new: Gold | None) -> dict[str, Any]:
    """The columns that only one has, and what the others promise otherwise."""
    sides = [{c.name: _promised(c) for c in one.columns} if one else {} for one in (old, new)]
    if not old or not new:
        return {"added": {}, "removed": {}, "changed": {}}
    return {
        "added": {name: said["type"] for name, said in sides[1].items() if name not in sides[0]},
        "removed": {name: said["type"] for name, said in sides[0].items() if name not in sides[1]},
        "changed": {
            name: {what: [sides[0][name][what], said[what]] for what in _PROMISED if sides[0][name][what] != said[what]}
            for name, said in sides[1].items()
            if name in sides[0] and sides[0][name] != said
        },
    }


def _promised(column: Column) -> dict[str, str]:
    return {"type": str(SqlType.parse(column.type)), "unit": column.unit, "classification": column.classification}


def _compared(before: Side, after: Side, old: Gold, new: Gold, limits: Limits, limit: int) -> dict[str, Any]:
    """The rows of both serving files by their key: counts, and the first of each kind."""
    with duck.open(limits, ordered=False) as con:
        try:
            for side, gold, alias in ((before, old, "_old"), (after, new, "_new")):
                _attach(con, side, gold, alias)
            return _rows(con, old, new, limit)
        except duckdb.Error as error:
            told = damaged(error) or duck.meaning(error, limits, f"the comparison of gold.{new.name}")
            if told is None:
                raise
            raise told from error


def _attach(con: duckdb.DuckDBPyConnection, side: Side, gold: Gold, alias: str) -> None:
    """A serving file as a view `old` or `new`; the error says what to do about one that is gone, lost or holds a key twice."""
    number = side.release.number
    try:
        attach(con, side.files, gold.serving, gold.serving_sha256, alias)
    except LakeDamaged as error:
        release.read(side.files, number)  # upkeep, that took it away since, is told as that
        if number == release.newest(side.files, number):
            raise
        raise LakeDamaged(
            f"{gold.serving} of release {number} is lost or damaged; restore it from a copy, or compare a newer release"
        ) from error
    keys = ", ".join(map(ident, gold.key))
    con.execute(f"CREATE TEMP VIEW {alias[1:]} AS SELECT * FROM {ident(alias)}.main.{ident(gold.name)}")
    if con.execute(f"SELECT 1 FROM {alias[1:]} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1").fetchall():
        raise LakeDamaged(
            f"{gold.serving} of release {number} has a key of {gold.name} ({', '.join(gold.key)}) twice, which no build "
            "releases: restore it from a copy, or `assay build` and compare the new release"
        )


def _rows(con: duckdb.DuckDBPyConnection, old: Gold, new: Gold, limit: int) -> dict[str, Any]:
    types = [{c.name: SqlType.parse(c.type) for c in one.columns} for one in (old, new)]
    common = [c for c in types[1] if c in types[0] and c not in new.key]
    differs = {c: _differs(c, types[0][c], types[1][c]) for c in common}
    on = " AND ".join(f"old.{ident(k)} IS NOT DISTINCT FROM new.{ident(k)}" for k in new.key)
    both, any_differs = f"old JOIN new ON {on}", " OR ".join(differs.values()) or "false"
    counted = ", ".join(f"count(*) FILTER ({one})" for one in (any_differs, *differs.values()))
    [(there, now)] = con.execute("SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM new)").fetchall()
    [(paired, changed, *by_column)] = con.execute(f"SELECT count(*), {counted} FROM {both}").fetchall()
    counts = {"added": now - paired, "removed": there - paired, "changed": changed}

    def listed(kind: str, select: str, side: str) -> list[tuple[Any, ...]]:
        if not counts[kind] or not limit:
            return []
        order = ", ".join(f"{side}.{ident(k)}" for k in new.key)
        return con.execute(f"{select} ORDER BY {order} LIMIT {limit}").fetchall()

    def whole(kind: str, side: str, other: str, gold: Gold) -> list[dict[str, Any]]:
        names = [c.name for c in gold.columns]
        rows = listed(kind, f"SELECT {_named(side, names)} FROM {side} ANTI JOIN {other} ON {on}", side)
        return [_rendered(names, row) for row in rows]

    select = f"SELECT {_named('new', new.key)}, {', '.join(f'({one})' for one in differs.values()) or 'false'}"
    select += (
        "".join(f", {_named(side, common)}" for side in ("old", "new") if common) + f" FROM {both} WHERE {any_differs}"
    )
    width, size = len(new.key), max(1, len(common))
    moved = [
        {
            "key": _rendered(new.key, row[:width]),
            "columns": {
                c: [render(row[width + size + i]), render(row[width + size + len(common) + i])]
                for i, c in enumerate(common)
                if row[width + i]
            },
        }
        for row in listed("changed", select, "new")
    ]
    return {
        **counts, "changed_columns": {c: n for c, n in zip(common, by_column, strict=True) if n},
        "listed": {"added": whole("added", "new", "old", new), "removed": whole("removed", "old", "new", old), "changed": moved},
    }  # fmt: skip


def _named(side: str, names: Sequence[str]) -> str:
    return ", ".join(f"{side}.{ident(name)}" for name in names)


def _rendered(names: Sequence[str], row: Sequence[Any]) -> dict[str, str | None]:
    return dict(zip(names, map(render, row), strict=True))


def _differs(column: str, was: SqlType, now: SqlType) -> str:
    """The condition on a pair of rows that a column's values are not the same; see `assay.lake.recompute.same`."""
    old, new = f"old.{ident(column)}", f"new.{ident(column)}"
    if was != now:
        to_new, to_old = f"TRY_CAST({old}::VARCHAR AS {now})", f"TRY_CAST({new}::VARCHAR AS {was})"
        return f"({to_new} IS DISTINCT FROM {new} OR {to_old} IS DISTINCT FROM {old})"
    if was.name not in _FLOATS:
        return f"({old} IS DISTINCT FROM {new})"
    # NaN is the greatest number to DuckDB, and infinity is near everything by this measure.
    near = f"abs({old}::DOUBLE - {new}::DOUBLE) <= 1e-9 * greatest(abs({old}::DOUBLE), abs({new}::DOUBLE))"
    return f"({old} IS DISTINCT FROM {new} AND NOT coalesce(isfinite({old}) AND isfinite({new}) AND {near}, false))"


__all__ = ["LISTED", "RELEASE", "diff"]
