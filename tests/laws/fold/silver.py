"""Silver for the fold's tests: two tables as parquet files in a directory, pruned by the bounds of their keys."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import duckdb

from assay.engines.duckdb.fold import CLOCKS, ENDS, Fold
from assay.lake import duck
from assay.ports import Act, N, Relation, Scope
from assay.windows import Duration
from tests.laws.fold.log import Entry, Row, inside
from tests.laws.fold.planner import Plan, Planner, moment


@dataclass(frozen=True)
class Shape:
    """A contract's columns for the rows of a log: names and types of sym, day, v, s and note, and how the key is spelt.

    Orders hold: of A and B, of 0 and 1. As texts some would sort the other way.
    """

    names: tuple[str, str, str, str, str]
    sym: str
    day: str
    syms: Mapping[str, Any]
    days: Mapping[int, Any]
    cut: tuple[str, str] | None
    texts: bool = False
    scheme: str = ""

    @property
    def columns(self) -> dict[str, str]:
        return dict(zip(self.names, (self.sym, self.day, "BIGINT", "BIGINT", "VARCHAR"), strict=True))

    @property
    def key(self) -> tuple[str, str]:
        return self.names[:2]

    def scope(self, scope: Scope) -> Scope:
        spelt = {self.names[0]: (self.syms, scope.get("sym")), self.names[1]: (self.days, scope.get("day"))}
        found = {c: (values[ends[0]], values[ends[1]]) for c, (values, ends) in spelt.items() if ends}
        return {c: (str(low), str(high)) for c, (low, high) in found.items()} if self.texts else found

    def row(self, row: Row) -> tuple[Any, ...]:
        return (self.syms[row.sym], self.days[row.day], row.v, row.s, row.note)

    def known(self, key: Sequence[Any]) -> tuple[str, int]:
        return (
            next(k for k, v in self.syms.items() if v == key[0]),
            next(k for k, v in self.days.items() if v == key[1]),
        )


DAYS = {0: date(2020, 1, 31), 1: date(2020, 2, 1)}
TIMES = {0: datetime(2019, 12, 31, 23, 59, 59, 999999, UTC), 1: datetime(2020, 1, 1, tzinfo=UTC)}
SHAPES = (
    # Names that an inner name might have been.
    Shape(("op", "place", "s", "seq", "h"), "VARCHAR", "BIGINT", {"A": "'a\"", "B": "b;--"}, {0: 9, 1: 10}, ("op", "value")),
    Shape(
        ("key", "at", "had", "old", "filename"), "DECIMAL(18,6)", "DATE",
        {"A": Decimal("9.5"), "B": Decimal("10.25")}, DAYS, ("at", "month"), texts=True,
    ),
    Shape(
        ("x", "ord", "origin", "p", "file_index"), "BOOLEAN", "TIMESTAMPTZ", {"A": False, "B": True}, TIMES, ("ord", "year"),
        scheme="file://",
    ),
    Shape(("staged", "rowid", "limit", "current", "did"), "VARCHAR", "VARCHAR", {"A": "Z", "B": "z"}, {0: "É", 1: "日"}, None),
    Shape(("e", "b", "w", "k", "c"), "BIGINT", "DATE", {"A": 9, "B": 10}, DAYS, ("e", "value"), texts=True),
)  # fmt: skip


@dataclass(frozen=True)
class File:
    url: str
    rows: int
    bounds: Scope


def columns(shape: Shape, what: str) -> tuple[tuple[int, str, str], ...]:
    """Field ids in another order than the columns', as they are after a table's life."""
    kinds = shape.columns | CLOCKS | (ENDS if what == "past" else {})
    return tuple((100 - i, name, kind) for i, (name, kind) in enumerate(kinds.items()))


class Silver:
    """Folds plans; `read` counts the rows of files that were given to the fold, `again` those written a second time."""

    def __init__(self, con: duckdb.DuckDBPyConnection, root: Path, shape: Shape, sequence: bool) -> None:
        # A hive partition's folder is a folder, whatever the column is called.
        self.con, self.root, self.shape = con, root / f"{shape.names[0]}=0", shape
        self.root.mkdir()
        self.planner = Planner(sequence)
        self.columns = shape.columns
        self.fold = Fold(con, self.columns, shape.key, shape.names[3] if sequence else None, Duration.parse("P2D"))
        self.counts: dict[tuple[int, int], Counter[str]] = {}
        self.number = count()
        self.read = self.again = 0
        self.clear()

    def clear(self) -> None:
        self.files: dict[str, list[File]] = {"current": [], "past": []}
        self.counts.clear()
        self.seen: dict[tuple[str, int], int] = {}
        self.absences: list[tuple[int, Any]] = []

    def refine(self, entries: Sequence[Entry], upto: int) -> None:
        plan = self.planner.plan(entries, upto)
        if plan.everything:
            self.clear()
        for place, found in plan.counts.items():
            self.counts.setdefault(place, Counter()).update(found)
        self._stage(plan)
        acts = [replace(act, scope=None if act.scope is None else self.shape.scope(act.scope)) for act in plan.acts]
        boxes = self.fold.boxes(self.shape.cut, [act.place for act in acts])
        scopes = [self.shape.scope(act.scope) for act in plan.acts if act.scope is not None]
        current = self.met("current", boxes + [typed(self.shape, one) for one in scopes])
        past = self.met("past", boxes)
        self.read += sum(one.rows for one in (*current, *past))
        late = any(act.origin != act.place for act in acts)
        observed = Seen(self) if late else Nobody()
        came = self.fold.fold(acts, self.relation("current", current), self.relation("past", past), observed)
        assert list(came) == [act.place for act in acts]
        self._write([one for one in self.files["current"] if one.url in set(self.fold.leaving())])
        self.planner.folded(plan, came)
        for act in plan.acts:
            self.counts.setdefault(divmod(act.place, N), Counter()).update(came[act.place].counts)
        self._remember(plan, came)

    def met(self, what: str, boxes: Sequence[Scope]) -> list[File]:
        return [
            one
            for one in self.files[what]
            if any(all(box[c][0] <= one.bounds[c][1] and one.bounds[c][0] <= box[c][1] for c in box) for box in boxes)
        ]

    def relation(self, what: str, files: Sequence[File] | None = None) -> Relation:
        return Relation(
            columns(self.shape, what), tuple(one.url for one in (self.files[what] if files is None else files))
        )

    def rows(self, what: str) -> Counter[Any]:
        return Counter(self.con.execute(duck.relation(self.relation(what))).fetchall())

    def _stage(self, plan: Plan) -> None:
        kinds = ", ".join(f'"{c}" {kind}' for c, kind in self.columns.items())
        self.con.execute(f"""CREATE OR REPLACE TEMP TABLE staged (_place BIGINT, _seq BIGINT, _op VARCHAR, {kinds},
            known_at TIMESTAMPTZ, _hash VARCHAR)""")
        # Rows of a batch that is not in lie there too, as the engine's do.
        rows = [(7, 0, "u", next(r for _, _, _, r in plan.staged)), *plan.staged] if plan.staged else []
        values = []
        for place, seq, op, row in rows:
            sym, day, *more = self.shape.row(row)
            told = (*more, moment(row.known_at), row.hash) if op == "u" else (None,) * 5
            values.append((place, seq, op, sym, day, *told))
        if values:
            one = f"({', '.join('?' * len(values[0]))})"
            self.con.execute(
                f"INSERT INTO staged VALUES {', '.join([one] * len(values))}", [v for row in values for v in row]
            )

    def _write(self, leaving: list[File]) -> None:
        for what in ("past", "current"):
            select = self.fold.select(what, self.relation("current", leaving) if leaving else None)
            self.again += sum(one.rows for one in leaving) if what == "current" else 0
            added = self._files(what, select) if select else []
            gone = {one.url for one in leaving} if what == "current" else set()
            self.files[what] = [one for one in self.files[what] if one.url not in gone] + added

    def _files(self, what: str, select: str) -> list[File]:
        """One file a value of sym, so that a refine leaves several."""
        con, (sym, day) = self.con, self.shape.key
        con.execute(f"CREATE OR REPLACE TEMP TABLE out AS {select}")
        ids = ", ".join(f'"{name}": {i}' for i, name, _ in columns(self.shape, what))
        assert [c[0] for c in con.execute("FROM out LIMIT 0").description] == [
            n for _, n, _ in columns(self.shape, what)
        ]
        out = []
        for n, value, low, high in con.execute(
            f'SELECT count(*), "{sym}", min("{day}"), max("{day}") FROM out GROUP BY "{sym}"'
        ).fetchall():
            path = self.root / f"{what}-{next(self.number)}.parquet"
            con.execute(
                f"COPY (FROM out WHERE \"{sym}\" = CAST(? AS {self.shape.sym})) TO '{path}' (FORMAT parquet, FIELD_IDS {{{ids}}})",
                [str(value)],
            )
            out.append(File(f"{self.shape.scheme}{path}", n, {sym: (value, value), day: (low, high)}))
        return out

    def _remember(self, plan: Plan, came: Mapping[int, Any]) -> None:
        """What reading bronze and evidence again would say."""
        by: dict[int, Act] = {act.place: act for act in plan.acts}
        for place, _, op, row in plan.staged:
            if op != "h":
                self.seen[row.key] = max(self.seen.get(row.key, 0), by[place].origin)
        self.absences += [(a.origin, a.scope) for a in plan.acts if a.scope is not None and not came[a.place].pending]


class Seen:
    def __init__(self, silver: Silver) -> None:
        self.silver = silver

    def newest(self, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
        out = {}
        for key in keys:
            known = self.silver.shape.known(key)
            said = [o for o, scope in self.silver.absences if inside(known, scope)]
            if known in self.silver.seen:
                said.append(self.silver.seen[known])
            if said:
                out[key] = max(said)
        return out


class Nobody:
    def newest(self, _: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
        raise AssertionError("no decision is among the acts, so nothing needs to be read")


def typed(shape: Shape, scope: Scope) -> Scope:
    """A scope with the values that its texts spell."""
    spelt = {str(v): v for v in (*shape.syms.values(), *shape.days.values())}
    return {c: (spelt.get(str(low), low), spelt.get(str(high), high)) for c, (low, high) in scope.items()}
