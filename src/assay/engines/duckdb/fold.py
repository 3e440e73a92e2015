"""Silver as a fold: the judged rows of a group of entries meet what silver holds of their keys, in SQL over whole sets."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb

from assay.engines.rounds import rounds
from assay.errors import LakeDamaged
from assay.lake import duck
from assay.lake.duck import ident
from assay.ports import Act, Folded, N, Observed, Relation, Scope
from assay.windows import Duration

CLOCKS = {
    "known_at": "TIMESTAMPTZ",
    "known_from": "TIMESTAMPTZ",
    "known_basis": "VARCHAR",
    "backfilled": "BOOLEAN",
    "captured_at": "TIMESTAMPTZ",
    "_hash": "VARCHAR",
    "_position": "BIGINT",
    "_n": "INTEGER",
    "_seq": "BIGINT",
}
"""What silver's current rows carry behind the contract's columns."""
ENDS = {"known_to": "TIMESTAMPTZ", "recorded_to": "TIMESTAMPTZ"}
"""What former rows carry behind those."""
_PLACE = f"(_position * {N} + _n)"
_FIRST = "CASE WHEN _anew THEN captured_at ELSE least(coalesce(known_at, captured_at), captured_at) END"
_LAST = 2**62
_BEFORE = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"


class Fold:
    """The fold of one group of entries on one connection.

    It reads the table or view `staged(_place BIGINT, _seq BIGINT, _op VARCHAR, <the contract's columns>, known_at
    TIMESTAMPTZ, _hash VARCHAR)`, which the engine fills after it has judged: a row for each line of the acts' batches
    that has a readable key. `_op` says what it is: `u` a good row, each once; `q` one in quarantine, of which the key
    alone counts; `d` a deletion by hand, key alone; `h` a key of the batch of an `absent` act, good or not. Rows of
    other places are nobody's. Temporary tables and all names that are not the contract's begin with an underscore,
    which no column of a contract does.

    Args:
        con: the group's private connection, in UTC.
        columns: of the contract, with the types as DuckDB spells them.
        key: the columns that are the key; they are never NULL.
        sequence: the column that orders the rows of a key by itself, if there is one.
        settle: a row that was captured later than this after its `known_at` is backfilled.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        columns: Mapping[str, str],
        key: tuple[str, ...],
        sequence: str | None,
        settle: Duration,
    ) -> None:
        self._con, self._columns, self._key, self._sequence = con, dict(columns), key, sequence
        self._keys = ", ".join(map(ident, key))
        self._names = ", ".join(map(ident, columns))
        self._typed_keys = ", ".join(f"{ident(k)} {columns[k]}" for k in key)
        order = columns[sequence] if sequence else "BIGINT"
        self._order = ident(sequence) if sequence else "CAST(NULL AS BIGINT)"
        self._typed_order = f"_order {order}"
        self._late = f"INTERVAL {settle.months} MONTH + INTERVAL {int(settle.exact.total_seconds())} SECOND"
        self._urls: dict[str, str] = {}
        self._several = self._met = self._new = False
        self._span = (0, 0)

    def fold(self, acts: Sequence[Act], current: Relation, past: Relation, observed: Observed) -> dict[int, Folded]:
        """Fold the acts, in order, onto what the relations hold of the keys they touch; what came of each, by place.

        `current` must hold the files that can hold a key of `boxes` or of an act's scope, `past` those of `boxes`.
        `observed` is asked of what was said before this group, and only where an act's origin is not its place. An
        `absent` act does nothing if an act of the same origin came before it in the group and its withdrawals took
        place; else it is taken as it is, so that of others the caller gives those alone whose withdrawals are held.
        """
        self._urls = {_spelt(url): url for url in current.files}
        self._counts: dict[int, dict[str, int]] = {act.place: {} for act in acts}
        self._pending: dict[int, bool] = {}
        self._held: set[int] = set()
        self._absences: list[tuple[int, Scope]] = []
        self._several = self._met = self._new = False
        self._begin(acts)
        if not acts:
            return {}
        self._scopes = self._typed(acts)
        self._touch(current, past)
        cut = rounds(acts, self._scopes)
        self._several = len(cut) > 1
        for number, one in enumerate(cut):
            self._span = one[0].place, one[-1].place
            self._observe(one, observed)
            self._round(one)
            if number + 1 < len(cut):
                self._carry()
        return {act.place: Folded(self._counts[act.place], act.place in self._held) for act in acts}

    def leaving(self) -> list[str]:
        """The files of `current`, by the URLs it named, that hold rows which go to past, in order."""
        found = self._con.execute("SELECT DISTINCT _file FROM _moved WHERE _old ORDER BY _file").fetchall()
        if strange := [name for (name,) in found if name not in self._urls]:
            raise LakeDamaged(f"a row was read from {strange[0]}, which is no file of the table")
        return [self._urls[name] for (name,) in found]

    def select(self, what: str, leaving: Relation | None = None) -> str:
        """The SELECT of the rows to write to `current` or `past` (`what`); '' if there are none.

        `leaving` holds the files that `leaving()` named, all of them and whole: the rows that stay are written to
        `current` again, the others go to `past`. Columns: the contract's, then CLOCKS, for past then ENDS.
        """
        return " UNION ALL ".join(self._fresh(leaving) if what == "current" else self._former(leaving))

    def boxes(self, partition: tuple[str, str] | None, places: Collection[int] | None = None) -> list[Scope]:
        """Lowest and highest key values of the staged rows, of these places alone if named; one box a partition."""
        by = "0"
        if partition:
            column, how = ident(partition[0]), partition[1]
            by = {"value": column, "year": f"year({column})"}.get(how, f"year({column}) * 12 + month({column})")
        bounds = ", ".join(f"min({ident(k)}), max({ident(k)})" for k in self._key)
        these = "" if places is None else "AND _place IN (SELECT unnest(CAST(? AS BIGINT[])))"
        found = self._con.execute(
            f"SELECT {by} AS _by, {bounds} FROM staged WHERE _op <> 'h' {these} GROUP BY _by ORDER BY _by",
            [] if places is None else [list(places)],
        ).fetchall()
        return [{k: (row[2 * i + 1], row[2 * i + 2]) for i, k in enumerate(self._key)} for row in found]

    # what a group begins with

    def _begin(self, acts: Sequence[Act]) -> None:
        story = f"_old BOOLEAN, _file VARCHAR, known_at TIMESTAMPTZ, captured_at TIMESTAMPTZ, known_from TIMESTAMPTZ, _hash VARCHAR, {self._typed_order}"
        self._con.execute(f"""
            CREATE OR REPLACE TEMP TABLE _acts (_place BIGINT, captured_at TIMESTAMPTZ, _origin BIGINT, _anew BOOLEAN);
            CREATE OR REPLACE TEMP TABLE _current ({self._typed_keys}, _place BIGINT, _seq BIGINT, {story});
            CREATE OR REPLACE TEMP TABLE _last ({self._typed_keys}, _place BIGINT, _seq BIGINT, known_at TIMESTAMPTZ,
              known_to TIMESTAMPTZ, {self._typed_order});
            CREATE OR REPLACE TEMP TABLE _observed ({self._typed_keys}, _origin BIGINT);
            CREATE OR REPLACE TEMP TABLE _gone ({self._typed_keys}, _place BIGINT);
            CREATE OR REPLACE TEMP TABLE _several (_h UBIGINT, _same BOOLEAN);
            CREATE OR REPLACE TEMP TABLE _versions ({self._typed_keys}, _place BIGINT, _seq BIGINT, _op VARCHAR, {story},
              known_to TIMESTAMPTZ, recorded_to TIMESTAMPTZ);
            CREATE OR REPLACE TEMP TABLE _moved (_place BIGINT, _seq BIGINT, _old BOOLEAN, _file VARCHAR,
              known_from TIMESTAMPTZ, known_to TIMESTAMPTZ, recorded_to TIMESTAMPTZ)""")
        if acts:
            self._con.execute(
                "INSERT INTO _acts SELECT unnest(CAST(? AS BIGINT[])), unnest(CAST(? AS TIMESTAMPTZ[])), unnest(CAST(? AS BIGINT[])), false",
                [[a.place for a in acts], [a.captured_at for a in acts], [a.origin for a in acts]],
            )

    def _touch(self, current: Relation, past: Relation) -> None:
        """Read what silver holds of the keys that the acts say or may withdraw."""
        con = self._con
        asked = "(SELECT _s.* FROM staged _s SEMI JOIN (FROM _acts) _a ON _s._place = _a._place WHERE _op <> 'h')"
        light = f"{self._keys}, {_PLACE} AS _place, _seq, true AS _old, _file, known_at, captured_at, known_from, _hash, {self._order} AS _order"
        if current.files:
            relation = f"({duck.relation(current, filename='_file')})"
            con.execute(
                f"INSERT INTO _current SELECT {light} FROM {relation} _c SEMI JOIN {asked} _s ON {self._on('_c', '_s')}"
            )
            for join, values, bound in self._within([(s, ()) for s in self._scopes.values()], "_c"):
                con.execute(
                    f"""INSERT INTO _current SELECT {light} FROM (SELECT _c.* FROM {relation} _c SEMI JOIN ({values}) _b ON {join}) _c
                    ANTI JOIN (FROM _current) _o ON {self._on("_c", "_o")}""",
                    bound,
                )
        if past.files:
            con.execute(f"""
                INSERT INTO _last SELECT {self._keys}, max(_place), arg_max(_seq, (_place, _seq)),
                  arg_max(struct_pack(_at := known_at), (_place, _seq))['_at'], arg_max(known_to, (_place, _seq)),
                  arg_max(struct_pack(_at := _order), (_place, _seq))['_at']
                FROM (SELECT {self._keys}, {_PLACE} AS _place, _seq, known_at, known_to, {self._order} AS _order
                  FROM ({duck.relation(past)}) _p SEMI JOIN {asked} _s ON {self._on("_p", "_s")}
                  ANTI JOIN (FROM _current) _c ON {self._on("_p", "_c")}) GROUP BY {self._keys}""")

    # one round

    @property
    def _rows(self) -> str:
        """The staged rows of the round that are no mere keys of an `absent` act."""
        low, high = self._span
        return f"""SELECT _s.*, _a.captured_at, _a._origin, _a._anew FROM staged _s JOIN (FROM _acts) _a USING (_place)
            WHERE _place BETWEEN {low} AND {high} AND _op <> 'h'"""

    @property
    def _over(self) -> str:
        return f"(PARTITION BY {self._keys} ORDER BY _place, _seq {_BEFORE})"

    @property
    def _newest(self) -> str:
        """Whether nothing before it in its key's story was said later: the one rule of what lands."""
        return f"_origin >= coalesce(max(_origin) OVER {self._over}, -1)"

    def _observe(self, acts: Sequence[Act], observed: Observed) -> None:
        """What was said before the round, in the group or before it, of keys that acts of an earlier origin touch."""
        con, low = self._con, self._span[0]
        con.execute("DELETE FROM _observed")
        late = [act for act in acts if act.origin != act.place]
        if not late:
            return
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE _asked AS SELECT DISTINCT {self._keys} FROM ({self._rows}) WHERE _origin <> _place"
        )
        for join, values, bound in self._within(
            [(self._scopes[a.place], ()) for a in late if a.scope is not None], "_c"
        ):
            con.execute(
                f"INSERT INTO _asked SELECT {self._k('_c')} FROM _current _c SEMI JOIN ({values}) _b ON {join} ANTI JOIN (FROM _asked) _o ON {self._on('_c', '_o')}",
                bound,
            )
        asked = con.execute("FROM _asked").fetchall()
        if asked and (said := observed.newest(asked)):
            columns = [[_text(key[i]) for key in said] for i in range(len(self._key))]
            typed = ", ".join(f"unnest(CAST(? AS {self._columns[k]}[]))" for k in self._key)
            con.execute(
                f"INSERT INTO _observed SELECT {typed}, unnest(CAST(? AS BIGINT[]))", [*columns, list(said.values())]
            )
        con.execute(f"""
            INSERT INTO _observed SELECT {self._k("_s")}, max(_origin) FROM staged _s JOIN (FROM _acts) _a USING (_place)
            SEMI JOIN (FROM _asked) _o ON {self._on("_s", "_o")} WHERE _place < {low} AND _op <> 'h' GROUP BY {self._k("_s")}""")
        for join, values, bound in self._within([(scope, (origin,)) for origin, scope in self._absences], "_o"):
            con.execute(
                f"INSERT INTO _observed SELECT {self._k('_o')}, _b0 FROM _asked _o JOIN ({values}) _b ON {join}", bound
            )

    def _round(self, acts: Sequence[Act]) -> None:
        """Fold one round: `_versions` gets the stories of keys that meet something, `_several` says which those are."""
        con, keys = self._con, self._keys
        con.execute("DELETE FROM _gone; DELETE FROM _versions")
        # An `absent` act whose batch withdrew meanwhile, in this very group, has nothing left to do.
        complete = [a for a in acts if a.scope is not None and not (a.absent and self._pending.get(a.origin) is False)]
        if complete:
            self._withdraw(complete)
        # Counted by a number first: only keys that meet something are looked at as texts. A collision costs time, no row.
        equal = f"""SELECT hash({self._k("_r")}) AS _h, true AS _equal FROM ({self._rows}) _r
            JOIN (FROM _current) _c ON {self._on("_r", "_c")} AND _r._hash = _c._hash WHERE _op = 'u'"""
        con.execute(f"""
            CREATE OR REPLACE TEMP TABLE _several AS
            SELECT _h, coalesce(_two AND _equal, false) AS _same FROM (
              SELECT _h, count(*) = 2 AND max(_kind) = 1 AS _two FROM (
                SELECT hash({keys}) AS _h, CASE _op WHEN 'u' THEN 1 ELSE 2 END AS _kind FROM ({self._rows})
                UNION ALL SELECT hash({keys}), 0 FROM _current
                UNION ALL SELECT hash({keys}), 2 FROM _last
                UNION ALL SELECT hash({keys}), 2 FROM _observed
                UNION ALL SELECT hash({keys}), 2 FROM _gone
              ) GROUP BY _h HAVING count(*) > 1) LEFT JOIN ({equal}) USING (_h)""")
        met, told = con.execute("SELECT count(*), count(*) FILTER (WHERE NOT _same) FROM _several").fetchall()[0]
        self._met = bool(met)
        if told:
            self._classify()
        self._count(same=met > told, told=told > 0)
        if told:
            self._tell()

    def _withdraw(self, complete: Sequence[Act]) -> None:
        """Decide of each complete act whether its withdrawals take place, by the state just before it; fill `_gone`."""
        con, keys = self._con, self._keys
        low, high = self._span
        events = f"""SELECT *, _place = -1 OR {self._newest} AS _fits FROM (
            SELECT {keys}, -1 AS _place, 0 AS _seq, 'u' AS _op, -1 AS _origin FROM _current
            UNION ALL SELECT {keys}, -1, -1, 'q', _origin FROM _observed
            UNION ALL SELECT {keys}, _place, _seq, _op, _origin FROM ({self._rows}))"""
        has = f"SELECT DISTINCT _place, {keys} FROM staged WHERE _place BETWEEN {low} AND {high} AND _op <> 'd'"
        found = {act.place: (0, 0) for act in complete}
        scoped: list[tuple[Scope, tuple[int, ...]]] = [(self._scopes[a.place], (a.place, a.origin)) for a in complete]
        for join, values, bound in self._within(scoped, "_e"):
            for place, there, lost in con.execute(
                f"""SELECT _b0, count(*), count(*) FILTER (WHERE _w._place IS NULL AND _seen <= _b1) FROM (
                  SELECT {self._k("_e")}, _b0, _b1, max(_e._origin) AS _seen,
                    arg_max(_e._op, (_e._place, _e._seq)) FILTER (WHERE _e._fits AND _e._op <> 'q') AS _state
                  FROM ({events}) _e JOIN ({values}) _b ON {join} AND _e._place < _b0 GROUP BY ALL) _p
                LEFT JOIN ({has}) _w ON _w._place = _b0 AND {self._on("_w", "_p")} WHERE _state = 'u' GROUP BY _b0""",
                bound,
            ).fetchall():
                found[place] = (there, lost)
        # Of two keys, one gone and one new, the new one may be the other, corrected: nobody knew it before.
        lacking = [place for place, (_, lost) in found.items() if lost]
        con.execute("UPDATE _acts SET _anew = true WHERE _place IN (SELECT unnest(CAST(? AS BIGINT[])))", [lacking])
        done: list[tuple[Scope, tuple[int, ...]]] = []
        for act in complete:
            there, lost = found[act.place]
            self._pending[act.origin] = pending = act.blocked or (lost >= act.least and lost * 100 > act.limit * there)
            if pending:
                self._held.add(act.place)
            else:
                done.append((self._scopes[act.place], (act.place,)))
                self._absences.append((act.origin, self._scopes[act.place]))
        known = (
            f"SELECT {keys} FROM _current UNION SELECT {keys} FROM ({self._rows}) UNION SELECT {keys} FROM _observed"
        )
        for join, values, bound in self._within(done, "_k"):
            con.execute(
                f"""INSERT INTO _gone SELECT {self._k("_k")}, _b0 FROM ({known}) _k JOIN ({values}) _b ON {join}
                ANTI JOIN ({has}) _w ON _w._place = _b0 AND {self._on("_w", "_k")}""",
                bound,
            )

    def _classify(self) -> None:
        """What each event of the keys with a story did: events are i (current), l (last), u, q, d, and w (withdrawn)."""
        keys = self._keys
        fits = self._newest
        if self._sequence:
            fits = f"CASE WHEN _op = 'u' THEN coalesce(_order > max(_order) OVER {self._over}, true) ELSE {self._newest} END"
        self._con.execute(f"""
            CREATE OR REPLACE TEMP TABLE _events AS
            WITH _all AS (
              SELECT {keys}, _place, _seq, 'i' AS _op, _old, _file, known_at, captured_at, known_from, _hash, _order, -1 AS _origin, false AS _anew FROM _current
              UNION ALL SELECT {keys}, _place, _seq, 'l', true, NULL, known_at, known_to, known_to, NULL, _order, -1, false
                FROM (FROM _last QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY _place DESC, _seq DESC) = 1)
              UNION ALL SELECT {keys}, -1, -1, 'q', NULL, NULL, NULL, NULL, NULL, NULL, NULL, _origin, false FROM _observed
              UNION ALL SELECT {keys}, _place, _seq, _op, false, NULL, known_at, captured_at, NULL, _hash,
                CASE WHEN _op = 'u' THEN {self._order} END, _origin, _anew FROM ({self._rows})
              UNION ALL SELECT {keys}, _place, {_LAST}, 'w', false, NULL, NULL, captured_at, NULL, NULL, NULL, _origin, false
                FROM _gone JOIN (FROM _acts) _a USING (_place)
            ), _fitting AS (
              SELECT *, _op IN ('i', 'l') OR ({fits}) AS _fits
              FROM _all SEMI JOIN (FROM _several WHERE NOT _same) _m ON hash({keys}) = _m._h
            ), _known AS (
              SELECT *, coalesce(last_value(CASE WHEN _fits AND _op <> 'q' THEN CASE WHEN _op IN ('u', 'i') THEN _hash ELSE '' END END IGNORE NULLS)
                OVER {self._over}, '') AS _had
              FROM _fitting WHERE NOT (_op = 'q' AND _place = -1)
            )
            SELECT *, CASE WHEN _op IN ('i', 'l') THEN 'was' WHEN _op = 'q' THEN 'seen'
              WHEN _op = 'u' AND _hash = _had THEN 'unchanged' WHEN NOT _fits THEN 'superseded'
              WHEN _op = 'u' THEN 'accepted' WHEN _had <> '' THEN 'withdrawn' ELSE 'unchanged' END AS _did
            FROM _known""")

    def _count(self, *, same: bool, told: bool) -> None:
        """Count each act's terms from what came of its rows."""
        self._new = False
        parts = [
            f"""SELECT _place, CASE _op WHEN 'u' THEN 'new' ELSE 'unchanged' END AS _did, count(*)
            FROM ({self._rows}) _r {self._lone} WHERE _op IN ('u', 'd') GROUP BY ALL"""
        ]
        if same:
            parts.append(f"""SELECT _place, 'unchanged', count(*) FROM ({self._rows}) _r
            SEMI JOIN (FROM _several WHERE _same) _m ON hash({self._keys}) = _m._h GROUP BY ALL""")
        if told:
            parts.append("""SELECT _place, _did, count(*) FROM _events
            WHERE _did NOT IN ('was', 'seen') AND NOT (_op = 'w' AND _did <> 'withdrawn') GROUP BY ALL""")
            parts.append(
                "SELECT _place, 'changed', count(*) FROM _events WHERE _did = 'accepted' AND _had <> '' GROUP BY ALL"
            )
        for place, did, n in self._con.execute(" UNION ALL ".join(parts)).fetchall():
            counts, what = self._counts[place], "accepted" if did == "new" else did
            counts[what] = counts.get(what, 0) + n
            self._new = self._new or did == "new"

    def _tell(self) -> None:
        """The stories as versions: each from when, and until when."""
        said = "CASE WHEN _op IN ('u', 'i', 'l') THEN struct_pack(_at := known_at) END"
        story = f"WINDOW _w AS (PARTITION BY {self._keys} ORDER BY _place, _seq)"
        self._con.execute(f"""
            INSERT INTO _versions BY NAME
            SELECT *, lead(known_from) OVER _w AS known_to, lead(captured_at) OVER _w AS recorded_to
            FROM (
              SELECT * EXCLUDE (known_from, _before, _anew), max(coalesce(known_from, CASE WHEN _op <> 'u' THEN captured_at
                WHEN _before IS NULL THEN {_FIRST}
                WHEN known_at > _before['_at'] THEN least(known_at, captured_at)
                ELSE captured_at END)) OVER _w AS known_from
              FROM (
                SELECT * EXCLUDE (_origin, _fits, _had, _did), lag({said} IGNORE NULLS) OVER _w AS _before
                FROM _events WHERE _did IN ('was', 'accepted', 'withdrawn') {story}
              ) {story}
            ) {story}""")
        self._con.execute("""
            INSERT INTO _moved SELECT _place, _seq, _old, _file, known_from, known_to, recorded_to
            FROM _versions WHERE _op IN ('u', 'i') AND known_to IS NOT NULL""")

    def _carry(self) -> None:
        """Between two rounds: what the next one finds."""
        keys = self._keys
        self._con.execute(f"""
            INSERT INTO _last SELECT {keys}, _place, _seq, known_at, known_to, _order FROM _versions
              WHERE _op IN ('u', 'i') AND known_to IS NOT NULL;
            DELETE FROM _current WHERE (_place, _seq) IN (SELECT (_place, _seq) FROM _versions WHERE known_to IS NOT NULL);
            INSERT INTO _current SELECT {keys}, _place, _seq, false, NULL, known_at, captured_at, known_from, _hash, _order
              FROM _versions WHERE _op = 'u' AND known_to IS NULL;
            INSERT INTO _current SELECT {keys}, _place, _seq, false, NULL, known_at, captured_at,
              {_FIRST}, _hash, {self._order} FROM ({self._rows}) _r {self._lone} WHERE _op = 'u';
            DELETE FROM _last WHERE ({keys}) IN (SELECT ({keys}) FROM _current)""")

    # what goes out

    def _fresh(self, leaving: Relation | None) -> list[str]:
        out = []
        if leaving and leaving.files:
            names = ", ".join([self._names, *CLOCKS])
            out.append(f"""SELECT {names} FROM ({duck.relation(leaving)}) _f ANTI JOIN (SELECT _place, _seq FROM _moved WHERE _old) _m
                ON {_PLACE} = _m._place AND _f._seq = _m._seq""")
        if self._new:
            out.append(f"SELECT {self._row(_FIRST)} FROM ({self._rows}) _r {self._lone} WHERE _op = 'u'")
        those = ["SELECT _place, _seq, known_from AS _from FROM _versions WHERE _op = 'u' AND known_to IS NULL"]
        if self._several:
            those.append("""SELECT _place, _seq, known_from AS _from FROM _current
                WHERE NOT _old AND (_place, _seq) NOT IN (SELECT (_place, _seq) FROM _moved)""")
        return out + [self._told(one) for one in those if self._any(f"({one})")]

    def _former(self, leaving: Relation | None) -> list[str]:
        out = []
        if leaving and leaving.files:
            names = ", ".join([self._names, *(f"_f.{name}" for name in CLOCKS)])
            out.append(f"""SELECT {names}, _m.known_to, _m.recorded_to FROM ({duck.relation(leaving)}) _f JOIN (FROM _moved WHERE _old) _m
                ON {_PLACE} = _m._place AND _f._seq = _m._seq""")
        those = "SELECT _place, _seq, known_from AS _from, known_to, recorded_to FROM _moved WHERE NOT _old"
        return out + ([self._told(those, *ENDS)] if self._any(f"({those})") else [])

    def _told(self, those: str, *more: str) -> str:
        ends = "".join(f", _v.{one}" for one in more)
        return f"""SELECT {self._row("_from")}{ends} FROM staged _s JOIN (FROM _acts) _a USING (_place) JOIN ({those}) _v USING (_place, _seq)
            WHERE _op = 'u'"""

    def _row(self, known_from: str) -> str:
        basis = f"CASE WHEN known_at IS NOT NULL AND {known_from} = least(known_at, captured_at) THEN 'vendor' ELSE 'captured' END"
        return f"""{self._names}, known_at, {known_from} AS known_from, {basis} AS known_basis,
            coalesce(captured_at > known_at + {self._late}, false) AS backfilled, captured_at, _hash,
            _place // {N} AS _position, CAST(_place % {N} AS INTEGER) AS _n, _seq"""

    # SQL in small

    @property
    def _lone(self) -> str:
        """Leaves of `_r` the keys that meet nothing: a good row of them is simply new."""
        return f"ANTI JOIN (FROM _several) _m ON hash({self._keys}) = _m._h" if self._met else ""

    def _on(self, a: str, b: str) -> str:
        return " AND ".join(f"{a}.{ident(k)} = {b}.{ident(k)}" for k in self._key)

    def _k(self, a: str) -> str:
        return ", ".join(f"{a}.{ident(k)}" for k in self._key)

    def _any(self, what: str) -> bool:
        return bool(self._con.execute(f"SELECT EXISTS (FROM {what})").fetchall()[0][0])

    def _typed(self, acts: Sequence[Act]) -> dict[int, Scope]:
        """The acts' scopes by place, with values of their columns' types, which alone can be compared."""
        scopes = {act.place: act.scope for act in acts if act.scope is not None}
        out: dict[int, dict[str, tuple[Any, Any]]] = {place: {} for place in scopes}
        for column in self._key:
            ends = [(place, _text(value)) for place, scope in scopes.items() for value in scope.get(column, ())]
            values = self._con.execute(
                f"SELECT CAST(? AS {self._columns[column]}[])", [[v for _, v in ends]]
            ).fetchall()[0][0]
            for i in range(0, len(ends), 2):
                out[ends[i][0]][column] = (values[i], values[i + 1])
        return dict(out)

    def _within(self, scopes: Sequence[tuple[Scope, tuple[int, ...]]], a: str) -> list[tuple[str, str, list[Any]]]:
        """Per set of scope columns: (join condition with `a`, the SELECT of `_b`, what it binds).

        Each scope is a row of `_b`, with its numbers as `_b0`, `_b1`. Equal bounds join by hash; only ranges compare.
        """
        shapes: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[Scope, tuple[int, ...]]]] = {}
        for scope, numbers in scopes:
            same = tuple(c for c in self._key if c in scope and scope[c][0] == scope[c][1])
            wide = tuple(c for c in self._key if c in scope and c not in same)
            shapes.setdefault((same, wide), []).append((scope, numbers))
        out = []
        for (same, wide), rows in shapes.items():
            on = [f"{a}.{ident(c)} = _b.{ident('_is_' + c)}" for c in same]
            on += [f"{a}.{ident(c)} BETWEEN _b.{ident('_low_' + c)} AND _b.{ident('_high_' + c)}" for c in wide]
            named = [("_is_", c, 0) for c in same] + [
                (e, c, i) for c in wide for i, e in enumerate(("_low_", "_high_"))
            ]
            columns = [f"unnest(CAST(? AS {self._columns[c]}[])) AS {ident(prefix + c)}" for prefix, c, _ in named]
            bound: list[Any] = [[_text(scope[c][i]) for scope, _ in rows] for _, c, i in named]
            numbered = list(zip(*(numbers for _, numbers in rows), strict=True)) or [tuple(range(len(rows)))]
            columns += [f"unnest(CAST(? AS BIGINT[])) AS _b{i}" for i in range(len(numbered))]
            out.append(
                (" AND ".join(on) or "true", f"SELECT {', '.join(columns)}", bound + [list(n) for n in numbered])
            )
        return out


def _spelt(url: str) -> str:
    """A URL as DuckDB gives it back for a row's file."""
    return url.removeprefix("file:").removeprefix("//") if url.startswith("file:") else url


def _text(value: Any) -> str:
    """A value as a text that DuckDB casts back to it."""
    if isinstance(value, date):
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else str(value)
