"""Types, judges and folds on DuckDB: every bronze line is read once into a table, which spills to disk where memory ends."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import duckdb
from isal import igzip

from assay.contract.model import Contract
from assay.contract.tree import Field, Holds, Session, Tree, tree
from assay.engines.duckdb import operators
from assay.engines.duckdb.fold import Fold
from assay.engines.duckdb.operators import FIRST, LAST, sql
from assay.engines.tokens import ENVELOPE, exact_token, is_text, record_of
from assay.errors import AssayError, ContractError, LakeDamaged
from assay.lake import duck, parquet
from assay.lake.duck import ident, text
from assay.ports import (
    CONFLICT,
    Act,
    Counted,
    Folded,
    Group,
    Layout,
    Limits,
    Lines,
    Observed,
    Parquet,
    Rejected,
    Relation,
    Scope,
)
from assay.windows import Duration

GROUP_BYTES = 192 * 2**20
_UNREADABLE = {
    "INVALID ENCODING": "line:encoding",
    "INVALID UNICODE": "line:encoding",
    "LINE SIZE OVER MAXIMUM": "line:too_long",
}
# A line that is no JSON still says whose it is: we wrote its beginning.
_ENVELOPE = r'^\{"_seq":([0-9]{1,18}),"_n":([0-9]{1,9}),'
_TOMBSTONE = _ENVELOPE + '"_op":"erased",'


@dataclass(frozen=True)
class DuckDBEngine:
    """The engine of the local target; `limits` bound what one group may hold before it spills to their scratch."""

    limits: Limits

    @contextmanager
    def group(
        self, contract: Contract, lines: Sequence[Lines], only: Mapping[int, Collection[int]] | None = None
    ) -> Iterator[Group]:
        """Read every line once and judge; see `assay.ports.Engine`."""
        with self._open() as con:
            yield DuckDBGroup(con, contract, lines, only)

    def rows(self, contract: Contract, lines: Sequence[bytes]) -> list[dict[str, Any] | None]:
        """Each line by itself; see `assay.ports.Engine`."""
        out: list[dict[str, Any] | None] = [None] * len(lines)
        texts = [(n, one.decode()) for n, one in enumerate(lines) if is_text(one)]
        if not texts:
            return out
        plan = tree(contract)
        names = [*(f.name for f in plan.fields), "known_at", "_hash"]
        with self._open() as con:
            _spell(con, plan, ((n, lines[n]) for n, _ in texts), exact=True)
            con.execute("CREATE TABLE _given (_part BIGINT, _raw VARCHAR)")
            _insert(con, "_given", texts)
            found = con.execute(
                f"SELECT _part, {', '.join(map(ident, names))} FROM ({_judged_sql(plan, '_given', placed=False, exact=True)}) WHERE _reasons = ''"
            ).fetchall()
        for part, *values in found:
            out[part] = dict(zip(names, values, strict=True))
        return out

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        con = duck.open(self.limits, ordered=False)
        try:
            yield con
        except duckdb.Error as error:
            raise _meaning(error, self.limits) from error
        finally:
            con.close()


def _insert(con: duckdb.DuckDBPyConnection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Put rows of values into a table. Many a statement: DuckDB plans each `executemany` row anew, ten times the time."""
    for first in range(0, len(rows), 500):
        some = rows[first : first + 500]
        marks = f"({', '.join('?' * len(some[0]))})"
        con.execute(f"INSERT INTO {into} VALUES {', '.join([marks] * len(some))}", [v for row in some for v in row])


class DuckDBGroup:
    """See `assay.ports.Group`. The table `_lines` holds each line of the wanted batches, typed, once.

    Its `_op` is `u` for a good row, `d` for a deletion, `q` for a quarantined one with a readable key, `same` for a duplicate and null
    for the rest. Names of ours begin with an underscore, which no column of a contract does.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        contract: Contract,
        lines: Sequence[Lines],
        only: Mapping[int, Collection[int]] | None,
    ) -> None:
        self._con, self._lines, self._tree = con, list(lines), tree(contract)
        columns = {c.name: c.type for c in contract.columns}
        self._fold = Fold(con, columns, contract.key, contract.sequence, Duration.parse(contract.settle))
        typed = ", ".join(f"{ident(name)} {kind}" for name, kind in columns.items())
        con.execute(f"""
            CREATE TABLE _wanted (_part BIGINT, _n BIGINT, _place BIGINT);
            CREATE TABLE _lines (_place BIGINT, _seq BIGINT, _op VARCHAR, {typed}, known_at TIMESTAMPTZ, _hash VARCHAR,
              _reasons VARCHAR, _warnings VARCHAR, _raw VARCHAR, _part BIGINT, _n BIGINT);
            CREATE VIEW staged AS SELECT _place, _seq, _op, {", ".join(map(ident, columns))}, known_at, _hash
              FROM _lines WHERE _op IN ('u', 'q', 'd', 'h')""")
        self._unreadable: dict[tuple[int, int], tuple[int, int]] = {}
        for first, some in _runs(self._lines):
            self._read(first, some)
        if self._tree.ordinal:
            self._number()
        self._compare()
        self._share()
        if only is not None:
            self._limit(only)
        self._kept: tuple[int, dict[tuple[int, int], bytes]] = (-1, {})

    # reading and judging

    def _read(self, first: int, lines: Sequence[Lines]) -> None:
        """Stage a run of parts, of which the first is number `first` of the group."""
        con = self._con
        wanted = [(first + i, n, place) for i, one in enumerate(lines) for n, place in one.batches.items()]
        if not wanted:
            return
        parts, numbers, places = zip(*wanted, strict=True)
        con.execute(
            "INSERT INTO _wanted SELECT unnest(CAST(? AS BIGINT[])), unnest(CAST(? AS BIGINT[])), unnest(CAST(? AS BIGINT[]))",
            [parts, numbers, places],
        )
        if operators.spelt(self._tree):
            wanted_lines = (
                (first + i, line)
                for i, one in enumerate(lines)
                for line in self._bytes(first + i).split(b"\n")
                if one.batches
            )
            _spell(con, self._tree, wanted_lines)
        con.execute(f"INSERT INTO _lines BY NAME {_judged_sql(self._tree, _parts_sql(lines, first))}")
        self._read_exactly()
        self._read_unreadable(first, lines)

    def _read_exactly(self) -> None:
        """Stage once more, exactly, the lines that were in doubt."""
        con = self._con
        con.execute("CREATE TABLE _doubted AS SELECT _part, _raw FROM _lines WHERE _op = 'doubted'")
        doubted = con.cursor()
        doubted.execute("SELECT _part, encode(_raw) FROM _doubted")
        some = doubted.fetchmany(10_000)
        if some:
            con.execute("DELETE FROM _lines WHERE _op = 'doubted'")
            lines = chain(some, chain.from_iterable(iter(lambda: doubted.fetchmany(10_000), [])))
            _spell(con, self._tree, lines, exact=True)
            con.execute(f"INSERT INTO _lines BY NAME {_judged_sql(self._tree, '_doubted', exact=True)}")
        con.execute("DROP TABLE _doubted")

    def _read_unreadable(self, first: int, lines: Sequence[Lines]) -> None:
        """Lines DuckDB could not read as text come by their number: bytes that are no UTF-8, or a line over its limit."""
        found = self._con.execute("""
            SELECT DISTINCT s.file_path, e.line, e.error_type::VARCHAR
            FROM reject_errors e JOIN reject_scans s ON e.scan_id = s.scan_id AND e.file_id = s.file_id""").fetchall()
        if not found:
            return
        parts = {one.url: first + i for i, one in enumerate(lines)}
        rows = []
        for url in dict.fromkeys(path for path, _, _ in found):
            part = parts[url]
            texts = self._bytes(part).split(b"\n")
            for number, error in sorted({(n, error) for path, n, error in found if path == url}):
                place = self._place(part, texts[number - 1])
                if place:
                    rows.append((*place, _UNREADABLE.get(error, "line:unreadable"), "", part))
        self._con.execute("DROP TABLE reject_errors; DROP TABLE reject_scans")
        if rows:
            _insert(self._con, "_lines (_place, _n, _seq, _reasons, _warnings, _part)", rows)

    def _place(self, part: int, line: bytes) -> tuple[int, int, int] | None:
        """The place, `_n` and `_seq` of a line that cannot be parsed; None if it is of no wanted batch."""
        envelope = ENVELOPE.match(line)
        if not envelope:
            return None
        seq, n = int(envelope[1]), int(envelope[2])
        place = self._lines[part].batches.get(n)
        return None if place is None else (place, n, seq)

    def _number(self) -> None:
        """Number the records of a batch that share the rest of the key: equal ones alike, each bad one by itself."""
        con, nth = self._con, ident(self._tree.ordinal)
        rest = ", ".join(map(ident, self._tree.rest))
        con.execute(f"UPDATE _lines SET {nth} = 1 WHERE _op IS NOT NULL")
        con.execute(f"""
            CREATE TABLE _nth AS
            SELECT _row, dense_rank() OVER (PARTITION BY _place, {rest} ORDER BY _first) AS _is FROM (
              SELECT rowid AS _row, _place, {rest},
                min(_seq) OVER (PARTITION BY _place, {rest}, CASE WHEN _op = 'u' THEN _hash ELSE CAST(_seq AS VARCHAR) END) AS _first
              FROM _lines SEMI JOIN (
                SELECT hash(_place, {rest}) AS _h FROM _lines WHERE _op IS NOT NULL GROUP BY _h HAVING count(*) > 1) _d
              ON hash(_place, {rest}) = _d._h WHERE _op IS NOT NULL)""")
        con.execute(f"UPDATE _lines SET {nth} = _is FROM _nth WHERE _lines.rowid = _nth._row AND _is > 1")
        con.execute("DROP TABLE _nth")

    def _compare(self) -> None:
        """Reject the rows of a batch that contradict each other, and leave one of those that are equal.

        Keys meet by a short hash first; only where two rows have the same are they looked at as they are.
        """
        con = self._con
        columns = ", ".join(map(ident, self._tree.identity))
        con.execute(f"""
            CREATE TABLE _again AS
            SELECT rowid AS _row, min(_hash) OVER _w <> max(_hash) OVER _w AS _differ,
              row_number() OVER (_w ORDER BY _seq) > 1 AS _later
            FROM _lines SEMI JOIN (
              SELECT hash(_place, {columns}) AS _h FROM _lines WHERE _op = 'u' GROUP BY _h HAVING count(*) > 1) _d
            ON hash(_place, {columns}) = _d._h WHERE _op = 'u'
            WINDOW _w AS (PARTITION BY _place, {columns})""")
        con.execute(f"""
            UPDATE _lines SET _op = CASE WHEN _differ THEN 'q' ELSE 'same' END,
              _reasons = CASE WHEN _differ THEN {text(CONFLICT)} ELSE '' END
            FROM _again WHERE _lines.rowid = _again._row AND (_differ OR _later)""")
        con.execute("DROP TABLE _again")

    def _share(self) -> None:
        """Reject the good rows of a batch that share a value which the contract promises to be in one row only."""
        con = self._con
        if not self._tree.unique:
            return
        con.execute("CREATE TABLE _shared (_row BIGINT, _why VARCHAR, _nr INTEGER)")
        for number, one in enumerate(self._tree.unique):
            columns = ", ".join(map(ident, one.columns))
            there = " AND ".join(f"{ident(c)} IS NOT NULL" for c in one.columns)
            con.execute(f"""
                INSERT INTO _shared SELECT rowid, {text(one.name)}, {number} FROM _lines WHERE _op = 'u' AND {there}
                QUALIFY count(*) OVER (PARTITION BY _place, {columns}) > 1""")
        con.execute("""
            UPDATE _lines SET _op = 'q', _reasons = _told._why
            FROM (SELECT _row, string_agg(_why, ';' ORDER BY _nr) AS _why FROM _shared GROUP BY _row) _told
            WHERE _lines.rowid = _told._row""")
        con.execute("DROP TABLE _shared")

    def _limit(self, only: Mapping[int, Collection[int]]) -> None:
        con = self._con
        con.execute("CREATE TABLE _only (_place BIGINT, _seq BIGINT)")
        for place, seqs in only.items():
            con.execute("INSERT INTO _only SELECT ?, unnest(CAST(? AS BIGINT[]))", [place, sorted(seqs)])
        con.execute(
            """DELETE FROM _lines WHERE _place IN (SELECT unnest(CAST(? AS BIGINT[])))
            AND (_place, _seq) NOT IN (SELECT (_place, _seq) FROM _only)""",
            [list(only)],
        )

    # what was found

    def judged(self) -> dict[int, Counted]:
        """See `assay.ports.Group`."""
        con = self._con
        counts = con.execute("""
            SELECT _place, count(*), count(*) FILTER (_op IN ('u', 'd')), count(*) FILTER (_op = 'same'),
              count(*) FILTER (_reasons <> ''), count(*) FILTER (_reasons <> '' AND _op IS NULL)
            FROM _lines GROUP BY _place""").fetchall()
        counted = {place: Counted(*terms) for place, *terms in counts}
        named: dict[str, dict[int, dict[str, int]]] = {"_reasons": {}, "_warnings": {}}
        for column, by_place in named.items():
            for place, name, n in con.execute(f"""
                SELECT _place, _name, count(*) FROM (
                  SELECT _place, unnest(string_split({column}, ';')) AS _name FROM _lines WHERE {column} <> '')
                GROUP BY ALL ORDER BY ALL""").fetchall():
                by_place.setdefault(place, {})[name] = n
        places = sorted({place for one in self._lines for place in one.batches.values()})
        return {
            place: replace(
                counted.get(place, Counted()),
                reasons=named["_reasons"].get(place, {}),
                warnings=named["_warnings"].get(place, {}),
            )
            for place in places
        }

    def rejected(self, places: Collection[int]) -> Iterator[Rejected]:
        """See `assay.ports.Group`."""
        cursor = self._con.cursor()
        cursor.execute(
            """SELECT _place, _seq, _reasons, _raw, _part, _n FROM _lines
            WHERE _reasons <> '' AND _place IN (SELECT unnest(CAST(? AS BIGINT[]))) ORDER BY _place, _seq""",
            [list(places)],
        )
        while rows := cursor.fetchmany(10_000):
            for place, seq, reasons, raw, part, n in rows:
                # The reader's delimiter may have cut a line that is no JSON, and a row that contradicts was read
                # as a good one; bronze has both whole.
                whole = raw is None or reasons.startswith("line:")
                line = self._whole(part, n, seq) if whole else raw.encode()
                yield Rejected(place, seq, tuple(reasons.split(";")), line)

    def _whole(self, part: int, n: int, seq: int) -> bytes:
        """A line as it lies in bronze; those of one part that are asked for are kept until another part is read."""
        if self._kept[0] != part:
            found = self._con.cursor().execute(
                "SELECT _n, _seq FROM _lines WHERE _part = ? AND (_raw IS NULL OR starts_with(_reasons, 'line:')) AND _reasons <> ''",
                [part],
            )
            asked = set(found.fetchall())
            lines = {}
            for line in self._bytes(part).split(b"\n"):
                envelope = ENVELOPE.match(line)
                if envelope and (name := (int(envelope[2]), int(envelope[1]))) in asked:
                    lines[name] = line
            self._kept = part, lines
        return self._kept[1][n, seq]

    def _bytes(self, part: int) -> bytes:
        found = self._con.cursor().execute("SELECT content FROM read_blob(?)", [self._lines[part].url]).fetchall()
        data: bytes = igzip.decompress(found[0][0])
        return data

    def bounds(self, places: Collection[int]) -> dict[int, Scope]:
        """See `assay.ports.Group`."""
        keys = self._tree.key
        found = self._con.execute(
            f"""SELECT _place, {", ".join(f"min({ident(k)}), max({ident(k)})" for k in keys)} FROM _lines
            WHERE _op IS NOT NULL AND _place IN (SELECT unnest(CAST(? AS BIGINT[]))) GROUP BY _place""",
            [list(places)],
        ).fetchall()
        return {place: {k: (row[2 * i], row[2 * i + 1]) for i, k in enumerate(keys)} for place, *row in found}

    def seen(self, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
        """See `assay.ports.Group`."""
        if not keys:
            return {}
        names = ", ".join(map(ident, self._tree.key))
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE _asked AS SELECT {names} FROM _lines LIMIT 0")
        _insert(self._con, "_asked", keys)
        found = self._con.execute(
            f"SELECT {names}, max(_place) FROM _lines JOIN _asked USING ({names}) WHERE _op IS NOT NULL GROUP BY {names}"
        ).fetchall()
        return {tuple(key): place for *key, place in found}

    # the fold

    def boxes(self, places: Collection[int], partition: tuple[str, str] | None) -> Sequence[Scope]:
        """See `assay.ports.Group`."""
        return self._fold.boxes(partition, places)

    def fold(self, acts: Sequence[Act], current: Relation, past: Relation, observed: Observed) -> Mapping[int, Folded]:
        """See `assay.ports.Group`."""
        absent = [act.place for act in acts if act.absent]
        if absent:
            self._con.execute(
                "UPDATE _lines SET _op = 'h' WHERE _op IN ('u', 'q') AND _place IN (SELECT unnest(CAST(? AS BIGINT[])))",
                [absent],
            )
        return self._fold.fold(acts, current, past, observed)

    def leaving(self) -> Sequence[str]:
        """See `assay.ports.Group`."""
        return self._fold.leaving()

    def write(self, what: str, layout: Layout, leaving: Relation | None, scratch: Path) -> list[Parquet]:
        """See `assay.ports.Group`."""
        select = self._fold.select(what, leaving)
        return parquet.write(self._con, layout, select, scratch) if select else []


def _runs(lines: Sequence[Lines]) -> list[tuple[int, list[Lines]]]:
    """The parts in order, in runs of at most GROUP_BYTES of text, each with the number of its first."""
    out: list[tuple[int, list[Lines]]] = []
    size = 0
    for number, one in enumerate(lines):
        if not out or size + one.bytes > GROUP_BYTES:
            out.append((number, []))
            size = 0
        out[-1][1].append(one)
        size += one.bytes
    return out


def _parts_sql(lines: Sequence[Lines], first: int) -> str:
    """A relation of the parts' lines: `_part`, the number of its part in the group, and `_raw`."""
    urls = ", ".join(text(one.url) for one in lines)
    return f"""(SELECT CAST(file_index AS BIGINT) + {first} AS _part, _raw FROM read_csv([{urls}],
        columns = {{'_raw': 'VARCHAR'}}, delim = '\x01', quote = '', escape = '', comment = '', header = false,
        auto_detect = false, strict_mode = false, null_padding = false, nullstr = '\x02', store_rejects = true,
        compression = 'gzip'))"""


def _spell(
    con: duckdb.DuckDBPyConnection, plan: Tree, lines: Iterable[tuple[int, bytes]], *, exact: bool = False
) -> None:
    """Put the tokens that Python cuts out of lines, each with the number of its part, into the table `_spelt`.

    `_strict` says whether the line is JSON and its record one value.
    """
    fields = operators.spelt(plan, exact=exact)
    if not fields and not exact:
        return
    import pyarrow as pa

    names = [f"_t_{f.name}" for f in fields]
    con.execute(
        f"CREATE OR REPLACE TABLE _spelt (_part BIGINT, _n BIGINT, _seq BIGINT, _strict BOOLEAN{''.join(f', {ident(n)} VARCHAR' for n in names)})"
    )
    kinds = [pa.int64()] * 3 + [pa.bool_()] + [pa.string()] * len(names)
    schema = pa.schema(list(zip(["_part", "_n", "_seq", "_strict", *names], kinds, strict=True)))
    rows = (_spelt_row(part, line, fields) for part, line in lines)
    told = (row for row in rows if row)
    while some := list(islice(told, 10_000)):
        found = pa.table([list(column) for column in zip(*some, strict=True)], schema=schema)
        con.register("_found", found)
        con.execute("INSERT INTO _spelt SELECT * FROM _found")
        con.unregister("_found")


def _spelt_row(part: int, line: bytes, fields: Sequence[Field]) -> tuple[Any, ...] | None:
    envelope = ENVELOPE.match(line)
    if not envelope or not is_text(line):
        return None
    record = record_of(line)
    tokens = ("" if record is None else exact_token(record, f) for f in fields)
    return (part, int(envelope[2]), int(envelope[1]), record is not None, *tokens)


def _judged_sql(plan: Tree, given: str, *, placed: bool = True, exact: bool = False) -> str:
    """The one SELECT that reads lines, those of `given` (_part, _raw): tokens, values, reasons, clocks.

    `placed`: a line belongs to the batch that `_wanted` has for its part and number; others are left out. A line in
    doubt has the `_op` doubted, unless it is read exactly, with what `_spell` put into `_spelt`.
    """
    names = ", ".join(ident(f.name) for f in plan.fields)
    values = ", ".join(f"{sql(f.value, f.name)} AS {ident(f.name)}" for f in plan.fields)
    refused = [sql(f.refused, f.name) for f in plan.fields]
    if exact:
        refused = [
            f"CASE WHEN CASE WHEN _is_json THEN {operators.twice(f)} ELSE false END THEN {text(f.name + ':twice')} ELSE {why} END"
            for f, why in zip(plan.fields, refused, strict=True)
        ]
    whys = {f.name: why for f, why in zip(plan.fields, refused, strict=True)}
    rules, warned = (_broken(some) for some in (plan.rules, plan.warnings))
    among_refused, warned_among = (_broken(some, whys) for some in (plan.rules, plan.warnings))
    of_key = [why for f, why in zip(plan.fields, refused, strict=True) if f.name in plan.key]
    keyless = " OR ".join(f"({why}) IS NOT NULL" for why in of_key)
    no_token = " AND ".join(f"{ident('_t_' + f.name)} IS NULL" for f in plan.fields)
    seq, n = (
        f"coalesce(_v.{ident(name)}, TRY_CAST(regexp_extract(_raw, {text(_ENVELOPE)}, {group}) AS BIGINT))"
        for name, group in (("_seq", 1), ("_n", 2))
    )
    source = "_read JOIN _wanted USING (_part, _n)" if placed else "(SELECT *, 0 AS _place FROM _read)"
    source += " LEFT JOIN _spelt USING (_part, _n, _seq)" if operators.spelt(plan, exact=exact) or exact else ""
    source = operators.respelt(plan, source, exact=exact)
    is_json = "_is_json AND coalesce(_strict, false)" if exact else "_is_json"
    doubted = "false" if exact else f"CASE WHEN _is_json THEN {operators.doubted(plan)} ELSE false END"
    return f"""
WITH _parsed AS (SELECT _part, _raw, TRY(json_transform(_raw, {text(operators.shape(plan))})) AS _v FROM {given} _g),
_read AS (SELECT _part, _raw, _v IS NOT NULL AS _is_json, coalesce(_v._op = 'delete', false) AS _is_delete, CASE WHEN _v._op = 'erased' THEN regexp_matches(_raw, {text(_TOMBSTONE)}) ELSE false END AS _is_erased,
  CASE WHEN _v._op IN ('shard', 'window') THEN 'record:' || _v._op END AS _strange, CAST({seq} AS BIGINT) AS _seq, CAST({n} AS BIGINT) AS _n, {operators.tokens(plan, exact=exact)} FROM _parsed),
_typed AS (SELECT * REPLACE ({is_json} AS _is_json), {values} FROM {source} WHERE _seq IS NOT NULL AND NOT _is_erased),
_kept AS (SELECT *, concat_ws(';', {", ".join(refused)}) AS _lost FROM _typed),
_told AS (SELECT *, CASE WHEN _is_delete THEN concat_ws(';', {", ".join(of_key)})
  WHEN _lost = '' THEN {rules} ELSE concat_ws(';', _lost, nullif({among_refused}, '')) END AS _told FROM _kept),
_found AS (
  SELECT *, {sql(plan.known_at) if plan.known_at else "CAST(NULL AS TIMESTAMPTZ)"} AS _known, {sql(plan.hash)} AS _hash,
    {doubted} AS _doubted,
    CASE WHEN NOT _is_json THEN 'line:malformed'
      WHEN {no_token} AND json_type(_raw, '/_record') IS DISTINCT FROM 'OBJECT' THEN 'record:type'
      WHEN _strange IS NOT NULL THEN concat_ws(';', _strange, nullif(_told, ''))
      ELSE _told END AS _reasons,
    {f"CASE WHEN NOT _is_json OR _is_delete THEN '' WHEN _lost = '' THEN {warned} ELSE {warned_among} END" if plan.warnings else "''"} AS _warnings
  FROM _told)
SELECT _place, _seq, {names}, _hash, _reasons, _warnings, _part, _n,
  CASE WHEN _known < {FIRST} THEN {FIRST} WHEN _known > {LAST} THEN {LAST} ELSE _known END AS known_at,
  CASE WHEN _doubted THEN 'doubted' WHEN _reasons = '' THEN CASE WHEN _is_delete THEN 'd' ELSE 'u' END WHEN NOT _is_json OR {no_token} THEN NULL WHEN {keyless} THEN NULL ELSE 'q' END AS _op,
  CASE WHEN _doubted OR _reasons <> '' THEN _raw END AS _raw
FROM _found"""


def _broken(some: Iterable[Holds | Session], refused: Mapping[str, str] | None = None) -> str:
    """The names of the rules that are broken, as one text; a column is null to them where `refused` says why it is none."""
    names = []
    for rule in some:
        said = sql(rule) if refused is None else operators.but(rule, refused)
        names.append(f"CASE WHEN NOT ({said}) THEN {text(rule.name)} END")
    return f"concat_ws(';', {', '.join(names)})" if names else "''"


def bind(contract: Contract) -> None:
    """Compute every operator and rule over no rows; ContractError names each rule that cannot be computed, and where it stands."""
    plan = tree(contract)
    operators.check(plan)
    empty = ", ".join(f"CAST(NULL AS {c.type}) AS {ident(c.name)}" for c in contract.columns)
    wrong = []
    con = duck.open(Limits())
    try:
        for rule in (*plan.rules, *plan.warnings):
            try:
                con.execute(f"SELECT {sql(rule)} FROM (SELECT {empty}) LIMIT 0").fetchall()
            except duckdb.Error as error:
                where = contract.where(rule.name.rpartition(":")[2])
                wrong.append(f"{where}: rule {rule.name} cannot be computed: {str(error).splitlines()[0]}")
    finally:
        con.close()
    if wrong:
        raise ContractError(*wrong)


def _meaning(error: duckdb.Error, limits: Limits) -> AssayError:
    """What an engine error asks of whom, without quoting any value of the data."""
    rules = duckdb.BinderException | duckdb.ConversionException | duckdb.OutOfRangeException
    if isinstance(error, rules) or "Division by zero" in str(error).partition("\n")[0]:
        return ContractError(
            f"a rule of the contract cannot be computed ({type(error).__name__}); `assay check` names it"
        )
    if told := duck.meaning(error, limits, "this refine"):
        return told
    return LakeDamaged(f"a bronze object cannot be read ({type(error).__name__}); `assay verify bronze` names it")
