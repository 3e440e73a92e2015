"""Refines on DuckDB: every bronze line is read once into a staged table, which spills to disk where memory ends."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from isal import igzip
from pyiceberg.table import Table
from sqlglot import exp

from assay.errors import AssayError, ContractError, LakeDamaged, SettingsError
from assay.lake import tables
from assay.lake.tables import Written, ident, text
from assay.ports import CONFLICT, Input, Refinement, Rejected

GROUP_BYTES = 192 * 2**20
_UNREADABLE = {
    "INVALID ENCODING": "line:encoding",
    "INVALID UNICODE": "line:encoding",
    "LINE SIZE OVER MAXIMUM": "line:too_long",
}


def connect(memory: str = "1GB", threads: int = 2, scratch: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A private in-memory DuckDB in UTC that never looks for extensions."""
    con = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    con.execute("SET enable_progress_bar = false; SET timezone = 'UTC'; SET preserve_insertion_order = false")
    con.execute(f"SET memory_limit = {text(memory)}; SET threads = {threads}")
    if scratch:
        con.execute(f"SET temp_directory = {text(str(scratch))}")
    return con


@dataclass(frozen=True)
class DuckDBEngine:
    """The engine of the local target; `memory` bounds what one refine may hold before it spills to `scratch`."""

    scratch: Path
    memory: str = "1GB"
    threads: int = 2

    @contextmanager
    def stage(
        self,
        refinement: Refinement,
        inputs: Sequence[Input],
        table: Table,
        stem: str,
        only: Mapping[str, Sequence[int]] | None = None,
    ) -> Iterator["DuckDBStaged"]:
        """Read every line once and write the good rows; see `assay.ports.Engine`."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        con = connect(self.memory, self.threads, self.scratch)
        try:
            yield DuckDBStaged(con, refinement, list(inputs), table, stem, only)
        except duckdb.Error as error:
            raise _meaning(error, self.scratch) from error
        finally:
            con.close()

    def rows(self, refinement: Refinement, lines: Sequence[bytes]) -> list[dict[str, Any] | None]:
        """Each line by itself; see `assay.ports.Engine`."""
        out: list[dict[str, Any] | None] = [None] * len(lines)
        texts = [(str(n), one.decode()) for n, one in enumerate(lines) if _is_text(one)]
        if not texts:
            return out
        alone = [Input(n, n, 0, 1, 0) for n, _ in texts]
        names = [*refinement.values, "known_at"]
        con = connect(self.memory, self.threads, self.scratch)
        try:
            con.execute("CREATE TABLE lines (_file VARCHAR, _raw VARCHAR)")
            con.executemany("INSERT INTO lines VALUES (?, ?)", texts)
            staged = _stage_sql(refinement, alone, [n for n, _ in texts], "lines")
            found = con.execute(
                f"SELECT _b, {', '.join(map(ident, names))} FROM ({staged}) WHERE _reasons = ''"
            ).fetchall()
        except duckdb.Error as error:
            raise _meaning(error, self.scratch) from error
        finally:
            con.close()
        for b, *values in found:
            out[int(texts[b][0])] = dict(zip(names, values, strict=True))
        return out


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


class DuckDBStaged:
    """See `assay.ports.Staged`. Files are read in groups that fit into memory together with their typed rows."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        refinement: Refinement,
        inputs: list[Input],
        table: Table,
        stem: str,
        only: Mapping[str, Sequence[int]] | None,
    ) -> None:
        self.con, self.refinement, self.table, self._only = con, refinement, table, only
        self.inputs, self._stem = inputs, stem
        self.batches = sorted({one.batch for one in inputs})
        self._lines: dict[str, list[bytes]] = {}
        con.execute("CREATE TABLE rejected (_b USMALLINT, _seq BIGINT, _reasons VARCHAR, _raw VARCHAR)")
        con.execute("CREATE TABLE seen (_b USMALLINT, _seq BIGINT, _key UBIGINT, _hash VARCHAR)")
        con.execute("CREATE TABLE contradicting (_b USMALLINT, _key UBIGINT, _text UBIGINT)")
        con.execute("CREATE TABLE wanted (_b USMALLINT, _seq BIGINT)")
        if only is not None:
            rows = [[self.batches.index(b), s] for b, seqs in only.items() if b in self.batches for s in seqs]
            if rows:
                con.executemany("INSERT INTO wanted VALUES (?, ?)", rows)
        if not self._take_all():
            for file in self.files:
                Path(file.path).unlink()
            con.execute("DELETE FROM rejected; DELETE FROM seen")
            self._take_all()
        self._unreadable = self._read_unreadable()
        for one in self._unreadable:
            self._counts[one.batch]["quarantined"] += 1
            counted = self._reasons[one.batch][0]
            counted[one.reasons[0]] = counted.get(one.reasons[0], 0) + 1

    def _take_all(self) -> bool:
        """Take every group; False if a row contradicts one of an earlier group, which is written by then."""
        self._counts = {b: {"good": 0, "duplicate": 0, "quarantined": 0} for b in self.batches}
        self._reasons: dict[str, tuple[dict[str, int], dict[str, int]]] = {b: ({}, {}) for b in self.batches}
        self.files: list[Written] = []
        self._late = 0
        groups = _groups(self.inputs)
        for number, group in enumerate(groups):
            later = {one.batch for rest in groups[number + 1 :] for one in rest}
            self._take(group, f"{self._stem}-{number}", later)
        return not self._late

    def _take(self, group: Sequence[Input], stem: str, later: set[str]) -> None:
        """Stage one group of files, count it, keep its rejected lines, and write its good rows."""
        con = self.con
        con.execute("CREATE OR REPLACE TABLE staged AS " + _stage_sql(self.refinement, group, self.batches))
        if self._only is not None:
            con.execute("DELETE FROM staged WHERE (_b, _seq) NOT IN (SELECT (_b, _seq) FROM wanted)")
        repeated = self._repeated()
        for b, rejected, n in con.execute("SELECT _b, _reasons <> '', count(*) FROM staged GROUP BY ALL").fetchall():
            self._counts[self.batches[b]]["quarantined" if rejected else "good"] += n
        for b, n in con.execute("SELECT _b, count(*) FROM repeated GROUP BY ALL").fetchall():
            self._counts[self.batches[b]]["duplicate"] += n
            self._counts[self.batches[b]]["good"] -= n
        for kind, column in enumerate(("_reasons", "_warnings")):
            found = con.execute(f"""
                SELECT _b, r, count(*) FROM (
                  SELECT _b, unnest(string_split({column}, ';')) AS r FROM staged WHERE {column} <> '')
                GROUP BY ALL ORDER BY ALL""").fetchall()
            for b, reason, n in found:
                counted = self._reasons[self.batches[b]][kind]
                counted[reason] = counted.get(reason, 0) + n
        con.execute("INSERT INTO rejected SELECT _b, _seq, _reasons, _raw FROM staged WHERE _reasons <> ''")
        names = ", ".join(text(b) for b in self.batches)
        columns = ", ".join(ident(c) for c in self.refinement.values)
        self.files += tables.write(
            con,
            self.table,
            f"""SELECT {columns}, known_at, captured_at, 'upsert' AS _op, _hash,
            list_extract([{names}], _b + 1) AS _batch, _seq FROM staged {"ANTI JOIN repeated USING (_b, _seq)" if repeated else ""} WHERE _reasons = ''""",
            stem,
        )
        if going_on := [str(self.batches.index(b)) for b in {one.batch for one in group} & later]:
            con.execute(
                f"INSERT INTO seen SELECT _b, _seq, {self._key[0]}, _hash FROM staged WHERE _reasons = '' AND _b IN ({', '.join(going_on)})"
            )

    @property
    def _key(self) -> tuple[str, str]:
        """What identifies a row, as two numbers that no two keys share: of its values, and of its text."""
        columns = ", ".join(map(ident, self.refinement.identity))
        return f"hash({columns})", f"hash(concat_ws(chr(31), '', {columns}))"

    def _repeated(self) -> int:
        """Reject rows of a batch that contradict each other, and find those that equal an earlier one; how many those are."""
        con, (key, whole) = self.con, self._key
        con.execute(f"""
            CREATE OR REPLACE TABLE again AS
            SELECT _b, _seq, _hash, {key} AS _key, {whole} AS _text FROM staged SEMI JOIN (
              SELECT hash(_b, {key}) AS h FROM staged WHERE _reasons = '' GROUP BY h HAVING count(*) > 1) d
            ON hash(_b, {key}) = d.h WHERE _reasons = ''""")
        con.execute("""
            INSERT INTO contradicting
            SELECT _b, _key, _text FROM again GROUP BY ALL HAVING count(DISTINCT _hash) > 1""")
        self._late += self._contradicts_earlier()
        con.execute(f"""
            UPDATE staged SET _reasons = {text(CONFLICT)}
            WHERE _reasons = '' AND (_b, {key}, {whole}) IN (SELECT (_b, _key, _text) FROM contradicting)""")
        con.execute("DELETE FROM again WHERE (_b, _key, _text) IN (SELECT (_b, _key, _text) FROM contradicting)")
        con.execute("""
            CREATE OR REPLACE TABLE repeated AS
            SELECT _b, _seq FROM (
              SELECT _b, _seq, row_number() OVER (PARTITION BY _b, _hash ORDER BY _seq) AS n FROM again)
            WHERE n > 1
            UNION
            SELECT _b, _seq FROM staged SEMI JOIN seen USING (_b, _hash) WHERE _reasons = ''""")
        found: int = self.con.execute("SELECT count(*) FROM repeated").fetchall()[0][0]
        return found

    def _contradicts_earlier(self) -> int:
        """Note keys whose row of an earlier group says something else; how many there are."""
        key, whole = self._key
        columns = ", ".join(map(ident, self.refinement.identity))
        self.con.execute(f"""
            CREATE OR REPLACE TABLE suspected AS
            SELECT s._b, e._seq AS _earlier, {columns} FROM staged s
            JOIN seen e ON s._b = e._b AND {key} = e._key AND s._hash <> e._hash WHERE s._reasons = ''""")
        if not self.con.execute("SELECT count(*) FROM suspected").fetchall()[0][0]:
            return 0
        # Short hashes may lie; the earlier rows are written already, so their keys are looked up there.
        names, files = ", ".join(map(text, self.batches)), ", ".join(text(one.path) for one in self.files)
        same = " AND ".join(f"s.{ident(c)} = f.{ident(c)}" for c in self.refinement.identity)
        noted = self.con.execute(f"""
            INSERT INTO contradicting SELECT DISTINCT _b, {key}, {whole} FROM (
              SELECT s.* FROM suspected s JOIN read_parquet([{files}]) f
              ON f._batch = list_extract([{names}], s._b + 1) AND f._seq = s._earlier AND {same})""")
        found: int = noted.fetchall()[0][0]
        return found

    def counts(self) -> dict[str, dict[str, int]]:
        return self._counts

    def reasons(self) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
        return self._reasons

    def rejected(self) -> Iterator[Rejected]:
        yield from sorted(self._unreadable, key=lambda one: (one.batch, one.seq))
        cursor = self.con.cursor()
        cursor.execute("SELECT _b, _seq, _reasons, _raw FROM rejected ORDER BY _b, _seq")
        while rows := cursor.fetchmany(10_000):
            for b, seq, reasons, raw in rows:
                # The reader's delimiter may have cut a line that is no JSON, and a row that contradicts was read
                # as a good one; bronze has both whole.
                whole = raw is None or reasons.startswith("line:")
                line = self._line(self.batches[b], seq) if whole else raw.encode()
                yield Rejected(self.batches[b], seq, tuple(reasons.split(";")), line)

    def written(self, batches: Sequence[str]) -> tuple[list[Written], dict[str, int]]:
        if set(self.batches) - set(batches):
            self._write_again([one for one in self.inputs if one.batch in batches])
        counted = dict.fromkeys(batches, 0)
        if self.files:
            files = ", ".join(text(one.path) for one in self.files)
            found = self.con.execute(f"SELECT _batch, count(*) FROM read_parquet([{files}]) GROUP BY ALL").fetchall()
            counted |= dict(found)
        return self.files, counted

    def _write_again(self, inputs: list[Input]) -> None:
        """A batch is held, so what was written may hold its rows: write the others' alone. Rare, so simple."""
        for one in self.files:
            Path(one.path).unlink()
        had = "SELECT current_setting('memory_limit'), current_setting('threads'), current_setting('temp_directory')"
        memory, threads, scratch = self.con.execute(had).fetchall()[0]
        own = connect(memory, threads, Path(scratch))
        try:
            self.files = DuckDBStaged(own, self.refinement, inputs, self.table, f"{self._stem}-again", self._only).files
        finally:
            own.close()

    def _read_unreadable(self) -> list[Rejected]:
        """Lines DuckDB could not read as text: bytes that are no UTF-8, or a line over its limit."""
        if not self.inputs:
            return []
        found = self.con.execute("""
            SELECT DISTINCT s.file_path, e.line, e.error_type::VARCHAR
            FROM reject_errors e JOIN reject_scans s ON e.scan_id = s.scan_id AND e.file_id = s.file_id""").fetchall()
        by_path = {one.path: one for one in self.inputs}
        out = {}
        for path, number, error in found:
            source = by_path[path]
            seq = source.first_seq + number - 1
            if self._only is not None and seq not in self._only.get(source.batch, ()):
                continue
            reason = _UNREADABLE.get(error, "line:unreadable")
            out[source.batch, seq] = Rejected(source.batch, seq, (reason,), self._line(source.batch, seq))
        return list(out.values())

    def _line(self, batch: str, seq: int) -> bytes:
        source = next(o for o in self.inputs if o.batch == batch and o.first_seq <= seq < o.first_seq + o.rows)
        if source.path not in self._lines:
            self._lines = {source.path: _inflated(source.path).split(b"\n")}
        return self._lines[source.path][seq - source.first_seq]


def bind(refinement: Refinement, kinds: Mapping[str, str]) -> None:
    """Compute every rule over no rows; ContractError names the rule whose types do not fit."""
    con = connect()
    empty = ", ".join(f"CAST(NULL AS {kind}) AS {ident(name)}" for name, kind in kinds.items())
    try:
        for name, tree in (*refinement.rules, *refinement.warnings):
            try:
                con.execute(f"SELECT {_sql(tree)} FROM (SELECT {empty}) LIMIT 0").fetchall()
            except duckdb.Error as error:
                said = str(error).splitlines()[0]
                raise ContractError(f"rule {name} cannot be computed: {said}") from error
    finally:
        con.close()


def _inflated(path: str) -> bytes:
    data: bytes = igzip.decompress(Path(path).read_bytes())
    return data


def _groups(inputs: Sequence[Input]) -> list[list[Input]]:
    """The files in order, in groups of at most GROUP_BYTES of text."""
    out: list[list[Input]] = []
    size = 0
    for one in inputs:
        if not out or size + one.bytes > GROUP_BYTES:
            out.append([])
            size = 0
        out[-1].append(one)
        size += one.bytes
    return out


def _stage_sql(refinement: Refinement, inputs: Sequence[Input], batches: Sequence[str], given: str = "") -> str:
    """The one SELECT that reads lines, those of `given` (_file, _raw) or the files': raw text, JSON, tokens, values, reasons."""
    paths = ", ".join(text(one.path) for one in inputs)
    owners = ", ".join(str(batches.index(one.batch)) for one in inputs)
    shape = {"_seq": "BIGINT", "_at": "TIMESTAMPTZ", "_record": {f.origin: "JSON" for f in refinement.fields}}
    raw = given or (
        f"read_csv([{paths}], columns = {{'_raw': 'VARCHAR'}}, delim = '\x01', quote = '', escape = '', comment = '', header = false, "
        "auto_detect = false, strict_mode = false, null_padding = false, nullstr = '\x02', store_rejects = true, filename = '_file', "
        "compression = 'gzip')"
    )
    tokens = ", ".join(f"_v._record.{ident(f.origin)} AS {ident('_t_' + f.name)}" for f in refinement.fields)
    values = ", ".join(f"{_sql(tree)} AS {ident(name)}" for name, tree in refinement.values.items())
    rules = [f"CASE WHEN NOT ({_sql(tree)}) THEN {text(name)} END" for name, tree in refinement.rules]
    warned = [f"CASE WHEN NOT ({_sql(tree)}) THEN {text(name)} END" for name, tree in refinement.warnings]
    reasons = ", ".join([*(_sql(tree) for tree in refinement.reasons), *rules])
    names = ", ".join(ident(name) for name in refinement.values)
    all_null = " AND ".join(f"{ident('_t_' + f.name)} IS NULL" for f in refinement.fields)
    return f"""
SELECT _b, _seq, captured_at, {names}, known_at, _hash, _reasons, _warnings, CASE WHEN _reasons <> '' THEN _raw END AS _raw
FROM (
  SELECT list_extract([{owners}]::USMALLINT[], list_position([{paths}], _file)) AS _b, _raw, captured_at, {names},
    coalesce(_seq, TRY_CAST(regexp_extract(_raw, '^\\{{"_seq":([0-9]{{1,18}}),', 1) AS BIGINT)) AS _seq,
    {_sql(refinement.known_at)} AS known_at, {_sql(refinement.hash)} AS _hash,
    CASE WHEN _j IS NULL THEN 'line:malformed'
      WHEN _seq IS NULL THEN 'line:envelope'
      WHEN {all_null} AND json_type(_j, '$._record') IS DISTINCT FROM 'OBJECT' THEN 'record:type'
      ELSE concat_ws(';', {reasons}) END AS _reasons,
    {f"concat_ws(';', {', '.join(warned)})" if warned else "''"} AS _warnings
  FROM (
    SELECT *, {values}
    FROM (
      SELECT _file, _raw, _j, _v._seq AS _seq, _v._at AS captured_at, {tokens}
      FROM (
        SELECT _file, _raw, _j, json_transform(_j, {text(json.dumps(shape))}) AS _v
        FROM (SELECT _file, _raw, TRY_CAST(_raw AS JSON) AS _j FROM {raw})))))"""


def _sql(tree: exp.Expr) -> str:
    return tree.sql(dialect="duckdb")


def _meaning(error: duckdb.Error, scratch: Path) -> AssayError:
    """What an engine error asks of whom, without quoting any value of the data."""
    said = str(error).lower()
    if "no space left" in said or "file too large" in said:
        return SettingsError(
            f"no room left below {scratch}: free some and run it again; nothing of this refine is visible"
        )
    if isinstance(error, duckdb.BinderException | duckdb.ConversionException | duckdb.OutOfRangeException):
        return ContractError(
            f"a rule of the contract cannot be computed ({type(error).__name__}); `assay check` names it"
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return SettingsError(
            "the refine needs more than [lake] memory of assay.toml allows; raise it, or refine fewer batches at once"
        )
    return LakeDamaged(f"a bronze object cannot be read ({type(error).__name__}); `assay verify bronze` names it")
