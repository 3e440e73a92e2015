"""Silver as a fold, on Spark: the story of each key in windows over all that was said of it, a round at a time.

The rules are those of `assay.engines.duckdb.fold`, whose words and names stand here too; frames take tables' places.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from assay.engines.duckdb.fold import CLOCKS, ENDS
from assay.engines.rounds import rounds
from assay.engines.spark import parquet
from assay.engines.spark.session import keep, query, table
from assay.engines.spark.words import ident, named, spelt, text, told, type_of, typed, value
from assay.errors import LakeDamaged
from assay.ports import Act, Folded, Layout, N, Observed, Parquet, Relation, Scope
from assay.windows import Duration

_PLACE = f"(_position * {N} + _n)"
_FIRST = "CASE WHEN _anew THEN captured_at ELSE least(known_at, captured_at) END"
_LAST = 2**62
_BEFORE = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
_SO_FAR = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


@dataclass(frozen=True)
class _State:
    """What silver holds of the keys that are touched, before a round: current rows, and the newest former one of other keys."""

    current: DataFrame
    last: DataFrame


class Fold:
    """The fold of one group of entries.

    `staged` has a row for each line with a readable key: `_place`, `_seq`, `_op` (u, q, d), the contract's columns, `known_at`,
    `_hash`; see `assay.engines.duckdb.fold.Fold`.
    """

    def __init__(
        self, staged: DataFrame, columns: Mapping[str, str], key: tuple[str, ...], sequence: str | None, settle: Duration,
    ) -> None:  # fmt: skip
        self._spark: SparkSession = staged.sparkSession
        self._staged, self._columns, self._key = staged, dict(columns), key
        self._keys = ", ".join(map(ident, key))
        self._order = ident(sequence) if sequence else "CAST(NULL AS BIGINT)"
        self._sequence = sequence
        seconds = int(settle.exact.total_seconds())
        self._late = f"make_interval(0, {settle.months}, 0, {seconds // 86400}, 0, 0, {seconds % 86400})"
        self._current = self._past = Relation(())
        self._done: list[DataFrame] = []
        self._moves = self._news = False

    def boxes(self, partition: tuple[str, str] | None, places: Collection[int]) -> list[Scope]:
        """Lowest and highest key values of the staged rows of these places; one box a partition."""
        by = "0"
        if partition:
            column, how = ident(partition[0]), partition[1]
            by = {"value": column, "year": f"year({column})"}.get(how, f"year({column}) * 12 + month({column})")
        ends = [
            (f"{end}{i}", f"{end}({ident(k)})", self._columns[k])
            for i, k in enumerate(self._key)
            for end in ("min", "max")
        ]
        found = query(
            f"SELECT {by} AS _by, {', '.join(f'{of} AS {name}' for name, of, _ in ends)} FROM staged WHERE {among('_place', places)} GROUP BY 1",
            staged=self._staged,
        )
        rows = found.orderBy("_by").selectExpr(*told([(name, kind) for name, _, kind in ends])).collect()
        return [
            {
                k: (value(self._columns[k], row[2 * i]), value(self._columns[k], row[2 * i + 1]))
                for i, k in enumerate(self._key)
            }
            for row in rows
        ]

    def fold(self, acts: Sequence[Act], current: Relation, past: Relation, observed: Observed) -> dict[int, Folded]:
        """Fold the acts, in order; what came of each, by place."""
        self._current, self._past = current, past
        self._counts: dict[int, dict[str, int]] = {act.place: {} for act in acts}
        self._pending: dict[int, bool] = {}
        self._held: set[int] = set()
        self._absences: list[tuple[int, Scope]] = []
        self._done, self._moves, self._news = [], False, False
        if not acts:
            return {}
        absent = [act.place for act in acts if act.absent]
        if absent:
            op = f"CASE WHEN {among('_place', absent)} AND _op IN ('u', 'q') THEN 'h' ELSE _op END"
            self._staged = self._staged.withColumn("_op", _expr(op))
        self._acts, self._anew = list(acts), set[int]()
        self._scopes = {
            a.place: {c: tuple(typed(self._columns[c], v) for v in e) for c, e in a.scope.items()}
            for a in acts
            if a.scope is not None
        }
        state = self._touch()
        for some in rounds(acts, self._scopes):
            state = self._round(some, state, observed)
        self._state = state
        return {act.place: Folded(self._counts[act.place], act.place in self._held) for act in acts}

    def leaving(self) -> list[str]:
        """The files of `current`, by the URLs it named, that hold rows which go to past, in order."""
        if not self._moves or not self._current.files:
            return []
        urls = {named(url): url for url in self._current.files}
        found = sorted({named(row[0]) for row in self._moved("_old").select("_file").distinct().collect()})
        if strange := [name for name in found if name not in urls]:
            raise LakeDamaged(f"a row was read from {strange[0]}, which is no file of the table")
        return [urls[name] for name in found]

    def write(self, what: str, layout: Layout, leaving: Relation | None, scratch: Any) -> list[Parquet]:
        """The rows new in `current` or `past`, as files in scratch."""
        parts = self._fresh(leaving) if what == "current" else self._former(leaving)
        if not parts:
            return []
        whole = parts[0]
        for one in parts[1:]:
            whole = whole.unionByName(one)
        return parquet.write(whole, layout, scratch)

    # what silver holds

    def _touch(self) -> _State:
        """Read what silver holds of the keys that the acts say or may withdraw."""
        key, order = list(self._key), f"{self._order} AS _order"
        asked = (
            self._staged.where(f"_op <> 'h' AND {among('_place', [a.place for a in self._acts])}")
            .select(*key)
            .distinct()
        )
        light = [
            *map(ident, key),
            f"{_PLACE} AS _place",
            "_seq",
            "true AS _old",
            "_file",
            "known_at",
            "captured_at",
            "known_from",
            "_hash",
            order,
        ]
        relation = parquet.read(self._spark, self._current, filename="_file").selectExpr(*light)
        current = relation.limit(0)
        if self._current.files:
            current = relation.join(asked, key, "left_semi")
            within = list(self._within([(scope, ()) for scope in self._scopes.values()], relation))
            if within:
                for one in within:
                    current = current.unionByName(one.select(*relation.columns))
                current = current.dropDuplicates(["_place", "_seq"])
            current = keep(current)
        former = parquet.read(self._spark, self._past).selectExpr(
            *map(ident, key), f"{_PLACE} AS _place", "_seq", "known_at", "known_to", order
        )
        if self._past.files:
            former = former.join(asked, key, "left_semi").join(current.select(*key), key, "left_anti")
            former = keep(self._newest_of(former))
        return _State(current, former)

    def _newest_of(self, former: DataFrame) -> DataFrame:
        names = ", ".join(map(ident, former.columns))
        return query(
            f"""SELECT {names} FROM (SELECT *, row_number() OVER (PARTITION BY {self._keys} ORDER BY _place DESC, _seq DESC) AS _nth
            FROM former) WHERE _nth = 1""",
            former=former,
        )

    # one round

    def _round(self, acts: Sequence[Act], state: _State, observed: Observed) -> _State:
        """Fold one round, keep what came of its events, and give what the next one finds."""
        low, high = acts[0].place, acts[-1].place
        rows = self._rows(low, high)
        seen = self._observe(acts, rows, state, observed, low)
        complete = [a for a in acts if a.scope is not None and not (a.absent and self._pending.get(a.origin) is False)]
        gone = self._withdraw(complete, rows, state, seen, (low, high)) if complete else None
        rows = self._rows(low, high)  # by now it is known which of them are new beside what their answer lacks
        done = keep(self._classified(rows, state, seen, gone))
        did = done.where("NOT _did IN ('was', 'seen') AND NOT (_op = 'w' AND _did <> 'withdrawn')")
        for place, what, changed, n in (
            did.groupBy("_place", "_did", _expr("_did = 'accepted' AND _had <> '' AS _changed")).count().collect()
        ):
            counts = self._counts[place]
            counts[what] = counts.get(what, 0) + n
            if changed:
                counts["changed"] = counts.get("changed", 0) + n
            self._news = self._news or what == "accepted"
            self._moves = self._moves or changed or what == "withdrawn"
        self._done.append(done)
        its = [ident(one) for one in (*self._key, "_place", "_seq")]
        story = done.where("_live AND _op IN ('u', 'i')")
        current = story.where("known_to IS NULL").selectExpr(
            *its, "_old", "_file", "known_at", "captured_at", "known_from", "_hash", "_order"
        )
        former = (
            story.where("known_to IS NOT NULL")
            .selectExpr(*its, "known_at", "known_to", "_order")
            .unionByName(done.where("_op = 'l'").selectExpr(*its, "known_at", "known_from AS known_to", "_order"))
        )
        last = self._newest_of(former.join(current.select(*self._key), list(self._key), "left_anti"))
        return _State(current, last)

    def _table(self, acts: Iterable[Act]) -> DataFrame:
        """The acts as a small table."""
        rows = ", ".join(
            f"({a.place}L, TIMESTAMP '{spelt(a.captured_at)}', {a.origin}L, {'true' if a.place in self._anew else 'false'})"
            for a in acts
        )
        return self._spark.sql(f"SELECT * FROM VALUES {rows} AS _a(_place, captured_at, _origin, _anew)").hint(
            "broadcast"
        )

    def _rows(self, low: int, high: int) -> DataFrame:
        """The staged rows of a round that are no mere keys of an `absent` act, beside their acts."""
        acts = self._table(a for a in self._acts if low <= a.place <= high)
        return self._staged.where("_op <> 'h'").join(acts, "_place")

    @property
    def _over(self) -> str:
        return f"(PARTITION BY {self._keys} ORDER BY _place, _seq {_BEFORE})"

    @property
    def _newest(self) -> str:
        """Whether nothing before it in its key's story was said later: the one rule of what lands."""
        return f"_origin >= coalesce(max(_origin) OVER {self._over}, -1L)"

    def _observe(
        self, acts: Sequence[Act], rows: DataFrame, state: _State, observed: Observed, low: int
    ) -> DataFrame | None:
        """What was said before the round, in the group or before it, of keys that acts of an earlier origin touch."""
        late = [act for act in acts if act.origin != act.place]
        if not late:
            return None
        key = list(self._key)
        asked = rows.where("_origin <> _place").select(*key)
        for one in self._within([(self._scopes[a.place], ()) for a in late if a.place in self._scopes], state.current):
            asked = asked.unionByName(one.select(*key))
        asked = keep(asked.distinct())
        kinds = [(k, self._columns[k]) for k in key]
        keys = [
            tuple(value(kind, v) for (_, kind), v in zip(kinds, row, strict=True))
            for row in asked.selectExpr(*told(kinds)).collect()
        ]
        if not keys:
            return None
        said = observed.newest(keys)
        out = table(self._spark, [*kinds, ("_origin", "BIGINT")], [(*k, origin) for k, origin in said.items()])
        before = [a for a in self._acts if a.place < low]
        if before:
            staged = self._staged.where("_op <> 'h'").join(self._table(before), "_place").join(asked, key, "left_semi")
            out = out.unionByName(staged.select(*key, "_origin"))
        for one in self._within([(scope, (origin,)) for origin, scope in self._absences], asked):
            out = out.unionByName(one.selectExpr(*map(ident, key), "_b0 AS _origin"))
        return keep(out)

    def _withdraw(
        self, complete: Sequence[Act], rows: DataFrame, state: _State, seen: DataFrame | None, span: tuple[int, int]
    ) -> DataFrame | None:
        """Decide of each complete act whether its withdrawals take place, by the state just before it; the keys that go."""
        key = list(self._key)
        events = state.current.selectExpr(
            *map(ident, key), "-1L AS _place", "0L AS _seq", "'u' AS _op", "-1L AS _origin"
        )
        if seen is not None:
            events = events.unionByName(
                seen.selectExpr(*map(ident, key), "-1L AS _place", "-1L AS _seq", "'q' AS _op", "_origin")
            )
        events = events.unionByName(rows.select(*key, "_place", "_seq", "_op", "_origin"))
        events = events.withColumn("_fits", _expr(f"_place = -1 OR {self._newest}"))
        has = (
            self._staged.where(f"_place BETWEEN {span[0]} AND {span[1]} AND _op <> 'd'")
            .selectExpr("_place AS _b0", *map(ident, key), "true AS _there")
            .distinct()
        )
        has = keep(has)
        found = {act.place: (0, 0) for act in complete}
        scoped: list[tuple[Scope, tuple[int, ...]]] = [(self._scopes[a.place], (a.place, a.origin)) for a in complete]
        for one in self._within(scoped, events):
            states = query(
                f"""SELECT {self._keys}, _b0, _b1, max(_origin) AS _seen,
                max_by(_op, struct(_place, _seq)) FILTER (WHERE _fits AND _op <> 'q') AS _state
                FROM events WHERE _place < _b0 GROUP BY {self._keys}, _b0, _b1""",
                events=one,
            ).where("_state = 'u'")
            lost = "count_if(_there IS NULL AND _seen <= _b1)"
            for place, there, gone in (
                states.join(has, ["_b0", *key], "left").groupBy("_b0").agg(_expr("count(*)"), _expr(lost)).collect()
            ):
                found[place] = (there, gone)
        # Of two keys, one gone and one new, the new one may be the other, corrected: nobody knew it before.
        self._anew |= {place for place, (_, lost) in found.items() if lost}
        done: list[tuple[Scope, tuple[int, ...]]] = []
        for act in complete:
            there, gone = found[act.place]
            self._pending[act.origin] = pending = act.blocked or (gone >= act.least and gone * 100 > act.limit * there)
            if pending:
                self._held.add(act.place)
            else:
                done.append((self._scopes[act.place], (act.place,)))
                self._absences.append((act.origin, self._scopes[act.place]))
        if not done:
            return None
        known = state.current.select(*key).unionByName(rows.select(*key))
        known = (known if seen is None else known.unionByName(seen.select(*key))).distinct()
        out: DataFrame | None = None
        for one in self._within(done, known):
            part = one.select("_b0", *key).join(has, ["_b0", *key], "left_anti").withColumnRenamed("_b0", "_place")
            out = part if out is None else out.unionByName(part)
        return None if out is None else out.join(self._table(self._acts), "_place")

    def _classified(self, rows: DataFrame, state: _State, seen: DataFrame | None, gone: DataFrame | None) -> DataFrame:
        """Each event of the round's keys, what it did, and from when until when it holds.

        Events are i (current), l (last), u, q, d, and w (withdrawn). `_row` has the columns of a row that is accepted.
        """
        keys, order = self._keys, type_of(self._columns[self._sequence]) if self._sequence else "BIGINT"
        whole = f"named_struct({', '.join(f'{text(c)}, {ident(c)}' for c in self._columns)})"
        nothing = (
            f"CAST(NULL AS STRUCT<{', '.join(f'{ident(c)}: {type_of(kind)}' for c, kind in self._columns.items())}>)"
        )
        null, said = "CAST(NULL AS TIMESTAMP)", "CAST(NULL AS STRING)"
        parts = [
            (state.current, f"""SELECT {keys}, _place, _seq, 'i' AS _op, _old, _file, known_at, captured_at, known_from, _hash, _order,
                -1L AS _origin, false AS _anew, {nothing} AS _row FROM _events"""),
            (state.last, f"""SELECT {keys}, _place, _seq, 'l', true, {said}, known_at, known_to, known_to, {said}, _order, -1L, false, {nothing} FROM _events"""),
            (rows, f"""SELECT {keys}, _place, _seq, _op, false, {said}, known_at, captured_at, {null}, _hash,
                CASE WHEN _op = 'u' THEN {self._order} END, _origin, _anew, CASE WHEN _op = 'u' THEN {whole} END FROM _events"""),
        ]  # fmt: skip
        if seen is not None:
            parts.append((seen, f"""SELECT {keys}, -1L, -1L, 'q', CAST(NULL AS BOOLEAN), {said}, {null}, {null}, {null}, {said}, CAST(NULL AS {order}),
                _origin, false, {nothing} FROM _events"""))  # fmt: skip
        if gone is not None:
            parts.append((gone, f"""SELECT {keys}, _place, {_LAST}L, 'w', false, {said}, {null}, captured_at, {null}, {said}, CAST(NULL AS {order}),
                _origin, false, {nothing} FROM _events"""))  # fmt: skip
        events = query(parts[0][1], _events=parts[0][0])
        for frame, select in parts[1:]:
            events = events.union(query(select, _events=frame))
        fits = self._newest
        if self._sequence:
            fits = f"CASE WHEN _op = 'u' THEN coalesce(_order > max(_order) OVER {self._over}, true) ELSE {self._newest} END"
        had = "CASE WHEN _fits AND _op <> 'q' THEN CASE WHEN _op IN ('u', 'i') THEN _hash ELSE '' END END"
        before = "CASE WHEN _live AND _op IN ('u', 'i', 'l') THEN struct(known_at) END"
        story = f"(PARTITION BY {keys} ORDER BY _place, _seq)"
        return query(
            f"""
            WITH _fitting AS (SELECT *, _op IN ('i', 'l') OR ({fits}) AS _fits FROM events),
            _known AS (SELECT *, coalesce(last_value({had}) IGNORE NULLS OVER {self._over}, '') AS _had FROM _fitting),
            _what AS (SELECT *, CASE WHEN _op IN ('i', 'l') THEN 'was' WHEN _op = 'q' THEN 'seen'
              WHEN _op = 'u' AND _hash = _had THEN 'unchanged' WHEN NOT _fits THEN 'superseded'
              WHEN _op = 'u' THEN 'accepted' WHEN _had <> '' THEN 'withdrawn' ELSE 'unchanged' END AS _did FROM _known),
            _lived AS (SELECT *, _did IN ('was', 'accepted', 'withdrawn') AS _live FROM _what),
            _after AS (SELECT *, last_value({before}) IGNORE NULLS OVER {self._over} AS _before FROM _lived),
            _since AS (SELECT {_LIVED.format(keys=keys)}, CASE WHEN _live THEN max(CASE WHEN _live THEN coalesce(known_from, CASE
                WHEN _op <> 'u' THEN captured_at WHEN _before IS NULL THEN {_FIRST}
                WHEN known_at > _before.known_at THEN least(known_at, captured_at) ELSE captured_at END) END)
              OVER (PARTITION BY {keys} ORDER BY _place, _seq {_SO_FAR}) END AS known_from FROM _after)
            SELECT {keys}, _place, _seq, _op, _old, _file, known_at, captured_at, _hash, _order, _did, _had, _live, known_from,
              CASE WHEN _did = 'accepted' THEN _row END AS _row,
              lead(known_from) IGNORE NULLS OVER {story} AS known_to,
              lead(CASE WHEN _live THEN captured_at END) IGNORE NULLS OVER {story} AS recorded_to
            FROM _since""",
            events=events,
        )

    # what goes out

    def _moved(self, which: str) -> DataFrame:
        """The versions that went to past: those that silver held (`_old`), or those of this group."""
        out: DataFrame | None = None
        for one in self._done:
            some = one.where(f"_live AND _op IN ('u', 'i') AND known_to IS NOT NULL AND {which}")
            out = some if out is None else out.unionByName(some)
        assert out is not None  # noqa: S101 - there is a round
        return out

    def _fresh(self, leaving: Relation | None) -> list[DataFrame]:
        out = []
        if leaving and leaving.files:
            moved = self._moved("_old").selectExpr("_place AS _p", "_seq AS _s")
            rows = parquet.read(self._spark, leaving)
            stay = rows.join(moved, _expr(f"{_PLACE} = _p AND _seq = _s"), "left_anti")
            out.append(stay.select(*self._columns, *CLOCKS))
        if self._news:
            current = self._state.current.where("NOT _old").selectExpr("_place AS _p", "_seq AS _s")
            for one in self._done:
                fresh = one.where("_op = 'u' AND _did = 'accepted'")
                if len(self._done) > 1:
                    fresh = fresh.join(current, _expr("_place = _p AND _seq = _s"), "left_semi")
                else:
                    fresh = fresh.where("known_to IS NULL")
                out.append(self._told(fresh))
        return out

    def _former(self, leaving: Relation | None) -> list[DataFrame]:
        out = []
        if leaving and leaving.files:
            moved = self._moved("_old").selectExpr("_place AS _p", "_seq AS _s", *ENDS)
            rows = parquet.read(self._spark, leaving)
            out.append(rows.join(moved, _expr(f"{_PLACE} = _p AND _seq = _s")).select(*self._columns, *CLOCKS, *ENDS))
        if self._moves and self._news:
            out += self._gone()
        return out

    def _gone(self) -> list[DataFrame]:
        """The rows of this group that were current and are not any more; in a later round than theirs, too."""
        out = []
        for number, one in enumerate(self._done):
            mine = one.where("_op = 'u' AND _did = 'accepted'")
            out.append(self._told(mine.where("known_to IS NOT NULL"), *ENDS))
            for later in self._done[number + 1 :]:
                ends = later.where("_op = 'i' AND NOT _old AND _live AND known_to IS NOT NULL")
                ends = ends.selectExpr("_place AS _p", "_seq AS _s", "known_to AS _until", "recorded_to AS _ended")
                known = mine.drop(*ENDS).join(ends, _expr("_place = _p AND _seq = _s"))
                out.append(self._told(known.withColumnsRenamed({"_until": "known_to", "_ended": "recorded_to"}), *ENDS))
        return out

    def _told(self, versions: DataFrame, *more: str) -> DataFrame:
        """Versions of this group's rows as silver has them."""
        basis = "CASE WHEN known_at IS NOT NULL AND known_from = least(known_at, captured_at) THEN 'vendor' ELSE 'captured' END"
        return versions.selectExpr(
            *(f"_row.{ident(c)} AS {ident(c)}" for c in self._columns), "known_at", "known_from", f"{basis} AS known_basis",
            f"coalesce(captured_at > known_at + {self._late}, false) AS backfilled", "captured_at", "_hash",
            f"_place div {N} AS _position", f"CAST(_place % {N} AS INT) AS _n", "_seq", *more,
        )  # fmt: skip

    # SQL in small

    def _within(self, scopes: Sequence[tuple[Scope, tuple[int, ...]]], frame: DataFrame) -> Iterable[DataFrame]:
        """Per set of scope columns the rows of a frame that lie in a scope, with its numbers as `_b0`, `_b1`.

        Equal bounds join by hash; only ranges compare.
        """
        shapes: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[Scope, tuple[int, ...]]]] = {}
        for scope, numbers in scopes:
            same = tuple(c for c in self._key if c in scope and scope[c][0] == scope[c][1])
            wide = tuple(c for c in self._key if c in scope and c not in same)
            shapes.setdefault((same, wide), []).append((scope, numbers))
        for (same, wide), rows in shapes.items():
            ends = [(f"_is_{c}", c, 0) for c in same] + [
                (f"_{e}_{c}", c, i) for c in wide for i, e in enumerate(("low", "high"))
            ]
            columns = [(name, self._columns[c]) for name, c, _ in ends]
            columns += [(f"_b{i}", "BIGINT") for i in range(len(rows[0][1]))]
            if not columns:
                yield frame
                continue
            bounds = table(
                self._spark, columns, [(*(scope[c][i] for _, c, i in ends), *numbers) for scope, numbers in rows]
            )
            on = [f"{ident(c)} = {ident('_is_' + c)}" for c in same]
            on += [f"{ident(c)} BETWEEN {ident('_low_' + c)} AND {ident('_high_' + c)}" for c in wide]
            if len(rows[0][1]) == 0:
                yield frame.join(bounds.hint("broadcast"), _expr(" AND ".join(on)), "left_semi")
            else:
                yield frame.join(bounds.hint("broadcast"), _expr(" AND ".join(on) or "true")).drop(
                    *(name for name, _, _ in ends)
                )


_LIVED = "{keys}, _place, _seq, _op, _old, _file, known_at, captured_at, _hash, _order, _origin, _anew, _row, _did, _had, _live, _before"


def among(column: str, places: Collection[int]) -> str:
    """Whether a column has one of these numbers."""
    return f"{column} IN ({', '.join(f'{one}L' for one in sorted(places))})" if places else "false"


def _expr(said: str) -> Any:
    from pyspark.sql import functions

    return functions.expr(said)
