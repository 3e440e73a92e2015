"""The engine itself, and a group of lines on it: tokens are cut by Python on Spark's workers, the rest is Spark SQL."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from isal import igzip
from pyspark.sql import DataFrame, SparkSession

from assay.contract.model import Contract
from assay.contract.tree import Tree, tree
from assay.engines.spark import lines as reading
from assay.engines.spark import operators
from assay.engines.spark.fold import Fold, among
from assay.engines.spark.operators import FIRST, LAST, sql
from assay.engines.spark.session import ONE_BY_ONE, files, keep, map_in_arrow, query, session, set_to, table
from assay.engines.spark.words import ident, named, text, told, value
from assay.engines.tokens import ENVELOPE, cutter
from assay.ports import (
    CONFLICT,
    Act,
    Counted,
    Folded,
    Group,
    Layout,
    Lines,
    Observed,
    Parquet,
    Rejected,
    Relation,
    Scope,
)
from assay.windows import Duration

_KEYED = ("u", "q", "d")
_SLICE = 32 << 20  # of a part's bytes: as much as one task cuts and judges


@dataclass(frozen=True)
class SparkEngine:
    """The engine for what is too much for one machine."""

    @contextmanager
    def group(
        self, contract: Contract, lines: Sequence[Lines], only: Mapping[int, Collection[int]] | None = None
    ) -> Iterator[Group]:
        """Read every line once and judge; see `assay.ports.Engine`."""
        with session() as spark:
            yield SparkGroup(spark, contract, lines, only)

    def rows(self, contract: Contract, lines: Sequence[bytes]) -> list[dict[str, Any] | None]:
        """Each line by itself; see `assay.ports.Engine`."""
        plan, out = tree(contract), [None] * len(lines)
        cut = cutter(plan.fields)
        found = (reading.line(cut, 0, _Every(), n, one) for n, one in enumerate(lines))
        rows = [row for row in found if row]
        if not rows:
            return list[dict[str, Any] | None](out)
        schema = ", ".join(f"{ident(name)} {kind}" for name, kind in reading.schema(plan.fields))
        kinds = [
            *((f.name, contract.column(f.name).type) for f in plan.fields),
            ("known_at", "TIMESTAMPTZ"),
            ("_hash", "VARCHAR"),
        ]
        made: list[dict[str, Any] | None] = list(out)
        with session() as spark:
            given = spark.createDataFrame(rows, schema, verifySchema=False)
            # Sorted out here: a condition would be pushed down through all that its reasons are made of.
            found_ = judged(given, plan, contract).selectExpr("_row", "_reasons", *told(kinds)).collect()
            for number, _, *values in (row for row in found_ if not row[1]):
                made[number] = {n: value(kind, v) for (n, kind), v in zip(kinds, values, strict=True)}
        return made


class _Every(dict[int, int]):
    """Every batch is wanted."""

    def __missing__(self, _: int) -> int:
        return 0


class SparkGroup:
    """See `assay.ports.Group`. The frame `_lines` holds each line of the wanted batches, typed and judged.

    Its `_op` is `u` for a good row, `d` for a deletion, `q` for a quarantined one with a readable key, `same` for a duplicate and
    null for the rest.
    """

    def __init__(
        self,
        spark: SparkSession,
        contract: Contract,
        lines: Sequence[Lines],
        only: Mapping[int, Collection[int]] | None,
    ) -> None:
        self._spark, self._contract, self._parts, self._tree = spark, contract, list(lines), tree(contract)
        # A part is a row: two at a time are as much as a worker should hold. Of what is planned later rows go many at a time.
        with set_to(spark, *ONE_BY_ONE):
            self._lines = keep(judged(self._read(), self._tree, contract))
        if self._tree.ordinal:
            self._lines = keep(_numbered(self._lines, self._tree))
        self._compare()
        self._share()
        if only is not None:
            self._limit(only)
        self._judged = self._count()
        columns = {c.name: c.type for c in contract.columns}
        staged = self._lines.where(f"_op IN {_KEYED}").select("_place", "_seq", "_op", *columns, "known_at", "_hash")
        self._fold = Fold(staged, columns, contract.key, contract.sequence, Duration.parse(contract.settle))
        self._whole: tuple[int, dict[tuple[int, int], bytes]] = (-1, {})

    # reading and judging

    def _read(self) -> DataFrame:
        """The lines of the wanted batches, cut into tokens."""
        fields = self._tree.fields
        slices = {one.url: max(1, -(-one.bytes // _SLICE)) for one in self._parts if one.batches}
        parts = {named(o.url): (i, slices[o.url], dict(o.batches)) for i, o in enumerate(self._parts) if o.batches}
        schema = ", ".join(f"{ident(name)} {kind}" for name, kind in reading.schema(fields))
        if not slices:
            return self._spark.createDataFrame([], schema)
        content: DataFrame | None = None
        for nth in range(max(slices.values())):
            some = files(self._spark).format("binaryFile").load([url for url, of in slices.items() if of > nth])
            some = some.selectExpr("path", "content", f"{nth} AS nth")
            content = some if content is None else content.union(some)
        assert content is not None  # noqa: S101 - there is a part
        return map_in_arrow(content, reading.reading(fields, parts), schema)

    def _compare(self) -> None:
        """Reject the rows of a batch that contradict each other, and leave one of those that are equal."""
        columns = ", ".join(map(ident, self._tree.identity))
        twice = query(
            f"SELECT xxhash64(_place, {columns}) AS _h FROM lines WHERE _op = 'u' GROUP BY 1 HAVING count(*) > 1",
            lines=self._lines,
        )
        if not twice.head(1):
            return
        again = query(
            f"""SELECT _row AS _again, _differ, _later FROM (
              SELECT _row, min(_hash) OVER (PARTITION BY _place, {columns}) <> max(_hash) OVER (PARTITION BY _place, {columns}) AS _differ,
                row_number() OVER (PARTITION BY _place, {columns} ORDER BY _seq) > 1 AS _later
              FROM lines LEFT SEMI JOIN twice ON xxhash64(_place, {columns}) = _h WHERE _op = 'u')
            WHERE _differ OR _later""",
            lines=self._lines, twice=twice,
        )  # fmt: skip
        op = "CASE WHEN _again IS NULL THEN _op WHEN _differ THEN 'q' ELSE 'same' END"
        why = f"CASE WHEN coalesce(_differ, false) THEN {text(CONFLICT)} ELSE _reasons END"
        self._change(again, {"_op": op, "_reasons": why})

    def _share(self) -> None:
        """Reject the good rows of a batch that share a value which the contract promises to be in one row only."""
        found: DataFrame | None = None
        for number, one in enumerate(self._tree.unique):
            columns = ", ".join(map(ident, one.columns))
            there = " AND ".join(f"{ident(c)} IS NOT NULL" for c in one.columns)
            some = query(
                f"""SELECT _row, struct({number} AS _nr, {text(one.name)} AS _why) AS _why FROM (
                SELECT _row, count(*) OVER (PARTITION BY _place, {columns}) AS _many FROM lines WHERE _op = 'u' AND {there}) WHERE _many > 1""",
                lines=self._lines,
            )
            found = some if found is None else found.unionByName(some)
        if found is None or not found.head(1):
            return
        shared = query(
            "SELECT _row AS _again, concat_ws(';', transform(array_sort(collect_list(_why)), _one -> _one._why)) AS _told FROM shared GROUP BY _row",
            shared=found,
        )
        said = {"_op": "CASE WHEN _again IS NULL THEN _op ELSE 'q' END", "_reasons": "coalesce(_told, _reasons)"}
        self._change(shared, said)

    def _change(self, by: DataFrame, columns: Mapping[str, str]) -> None:
        """Alter lines by what is said of some of them (`_again`)."""
        from pyspark.sql import functions

        both = self._lines.join(by, functions.expr("_row = _again"), "left")
        names = [f"{columns.get(name, ident(name))} AS {ident(name)}" for name in self._lines.columns]
        self._lines = keep(both.selectExpr(*names))

    def _limit(self, only: Mapping[int, Collection[int]]) -> None:
        wanted = table(
            self._spark, [("_place", "BIGINT"), ("_seq", "BIGINT")], [(p, s) for p, seqs in only.items() for s in seqs]
        )
        some = self._lines.where(among("_place", list(only))).join(wanted, ["_place", "_seq"], "left_semi")
        self._lines = self._lines.where(f"NOT ({among('_place', list(only))})").unionByName(some)

    # what was found

    def _count(self) -> dict[int, Counted]:
        """One pass over the lines, each term counted by itself."""
        named_ = [f"SELECT _place, '{what}', _name, count(*), 0L, 0L, 0L, 0L FROM (SELECT _place, explode(split({column}, ';')) AS _name FROM lines WHERE {column} <> '') GROUP BY _place, _name"
                  for what, column in (("reasons", "_reasons"), *([("warnings", "_warnings")] if self._tree.warnings else []))]  # fmt: skip
        rows = query(
            f"""SELECT _place, '' AS _what, '' AS _name, count(*), count_if(_op IN ('u', 'd')), count_if(_op = 'same'), count_if(_reasons <> ''),
            count_if(_reasons <> '' AND _op IS NULL) FROM lines GROUP BY _place UNION ALL {" UNION ALL ".join(named_)}""",
            lines=self._lines,
        ).collect()
        out = {place: Counted() for place in sorted({p for one in self._parts for p in one.batches.values()})}
        out |= {row[0]: Counted(*row[3:]) for row in rows if not row[1]}
        for what in ("reasons", "warnings"):
            by: dict[int, dict[str, int]] = {}
            for place, _, name, n, *_ in sorted(row for row in rows if row[1] == what):
                by.setdefault(place, {})[name] = n
            told_of: Any = {place: {what: by.get(place, {})} for place in out}
            out = {place: replace(one, **told_of[place]) for place, one in out.items()}
        return out

    def judged(self) -> dict[int, Counted]:
        """See `assay.ports.Group`."""
        return self._judged

    def rejected(self, places: Collection[int]) -> Iterator[Rejected]:
        """See `assay.ports.Group`."""
        if not any(self._judged[place].quarantined for place in places if place in self._judged):
            return
        bad = self._lines.where(f"_reasons <> '' AND {among('_place', places)}")
        for row in (
            bad.select("_place", "_seq", "_reasons", "_raw", "_part", "_n").orderBy("_place", "_seq").toLocalIterator()
        ):
            # A row that contradicts another was read as a good one, without its bytes; bronze has them.
            line = bytes(row[3]) if row[3] is not None else self._line(row[4], row[5], row[1])
            yield Rejected(row[0], row[1], tuple(row[2].split(";")), line)

    def _line(self, part: int, n: int, seq: int) -> bytes:
        """A line as it lies in bronze; those of one part that are asked for are kept until another part is read."""
        if self._whole[0] != part:
            rows = (
                self._lines.where(f"_part = {part} AND _raw IS NULL AND _reasons <> ''").select("_n", "_seq").collect()
            )
            asked = {tuple(row) for row in rows}
            content = (
                files(self._spark).format("binaryFile").load([self._parts[part].url]).select("content").collect()[0][0]
            )
            told = ((ENVELOPE.match(line), line) for line in igzip.decompress(bytes(content)).split(b"\n"))
            by = {(int(found[2]), int(found[1])): line for found, line in told if found}
            self._whole = part, {name: by[name] for name in asked}
        return self._whole[1][n, seq]

    def bounds(self, places: Collection[int]) -> dict[int, Scope]:
        """See `assay.ports.Group`."""
        kinds = [(k, self._contract.column(k).type) for k in self._tree.key]
        ends = [(f"_{end}_{k}", f"{end}({ident(k)})", kind) for k, kind in kinds for end in ("min", "max")]
        found = query(
            f"SELECT _place, {', '.join(f'{of} AS {ident(name)}' for name, of, _ in ends)} FROM lines WHERE _op IS NOT NULL AND {among('_place', places)} GROUP BY _place",
            lines=self._lines,
        )
        rows = found.selectExpr("_place", *told([(name, kind) for name, _, kind in ends])).collect()
        return {
            place: {k: (value(kind, row[2 * i]), value(kind, row[2 * i + 1])) for i, (k, kind) in enumerate(kinds)}
            for place, *row in rows
        }

    def seen(self, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
        """See `assay.ports.Group`."""
        if not keys:
            return {}
        kinds = [(k, self._contract.column(k).type) for k in self._tree.key]
        asked = table(self._spark, kinds, keys)
        found = (
            self._lines.where("_op IS NOT NULL")
            .join(asked, list(self._tree.key), "left_semi")
            .groupBy(*self._tree.key)
            .agg({"_place": "max"})
        )
        rows = found.withColumnRenamed("max(_place)", "_place").selectExpr("_place", *told(kinds)).collect()
        return {tuple(value(kind, v) for (_, kind), v in zip(kinds, row, strict=True)): place for place, *row in rows}

    # the fold

    def boxes(self, places: Collection[int], partition: tuple[str, str] | None) -> Sequence[Scope]:
        """See `assay.ports.Group`."""
        return self._fold.boxes(partition, places)

    def fold(self, acts: Sequence[Act], current: Relation, past: Relation, observed: Observed) -> Mapping[int, Folded]:
        """See `assay.ports.Group`."""
        return self._fold.fold(acts, current, past, observed)

    def leaving(self) -> Sequence[str]:
        """See `assay.ports.Group`."""
        return self._fold.leaving()

    def write(self, what: str, layout: Layout, leaving: Relation | None, scratch: Path) -> list[Parquet]:
        """See `assay.ports.Group`."""
        return self._fold.write(what, layout, leaving, scratch)


def judged(given: DataFrame, plan: Tree, contract: Contract) -> DataFrame:
    """Lines that were cut into tokens, with their values, reasons, clocks and hashes."""
    columns = {c.name: c.type for c in contract.columns}
    names = [ident(f.name) for f in plan.fields]
    ours = operators.respelt(plan)
    tokens = [f"{ours.get(name, ident(name))} AS {ident(name)}" for name in given.columns]
    values = [f"{sql(f.value, f.name)} AS {ident(f.name)}" for f in plan.fields]
    refused = {f.name: sql(f.refused, f.name) for f in plan.fields}
    broken = {
        which: [f"CASE WHEN NOT ({sql(rule, kinds=columns)}) THEN {text(rule.name)} END" for rule in told]
        for which, told in (("rules", plan.rules), ("warnings", plan.warnings))
    }
    of_key = [ident(f"_r_{name}") for name in refused if name in plan.key]
    everything = ", ".join([*(ident(f"_r_{name}") for name in refused), *broken["rules"]])
    known = sql(plan.known_at) if plan.known_at else "CAST(NULL AS TIMESTAMP)"
    delete = "coalesce(_op = 'delete', false)"
    told_ = f"CASE WHEN {delete} THEN concat_ws(';', {', '.join(of_key)}) ELSE concat_ws(';', {everything}) END"
    strange = "WHEN _op IN ('shard', 'window') THEN concat_ws(';', concat('record:', _op), nullif(_told, ''))"
    warned = f"CASE WHEN _bad IS NOT NULL OR {delete} THEN '' ELSE concat_ws(';', {', '.join(broken['warnings'])}) END"
    texts = [f"{of} AS {ident(name)}" for name, of in operators.spellings(plan).items()]
    typed = given.selectExpr("*", *texts).selectExpr(*tokens) if ours else given
    for more in (operators.texts(plan), operators.locals_(plan)):
        typed = typed.selectExpr("*", *(f"{of} AS {ident(name)}" for name, of in more.items())) if more else typed
    typed = typed.selectExpr("*", *values)
    typed = typed.selectExpr("*", *(f"{why} AS {ident('_r_' + name)}" for name, why in refused.items()))
    # What was refused is null to a rule, although a rounded number or a moment out of range stands there.
    clean = {
        name: f"CASE WHEN {ident('_r_' + name)} IS NULL THEN {ident(name)} END AS {ident(name)}" for name in refused
    }
    found = typed.selectExpr(*(clean.get(name, ident(name)) for name in typed.columns))
    found = found.selectExpr("*", f"{told_} AS _told", f"{known} AS _known", f"{sql(plan.hash)} AS _hash")
    found = found.selectExpr(
        "*",
        f"CASE WHEN _bad IS NOT NULL THEN concat('line:', _bad) WHEN NOT _object THEN 'record:type' {strange} ELSE _told END AS _reasons",
    )
    keyless = " OR ".join(f"{one} IS NOT NULL" for one in of_key) or "false"
    nth = [f"CAST(NULL AS BIGINT) AS {ident(plan.ordinal)}"] if plan.ordinal else []
    return found.selectExpr(
        "_row", "_part", "_place", "_n", "_seq", *names, *nth, "_hash", "_reasons",
        f"{warned if broken['warnings'] else text('')} AS _warnings",
        f"CASE WHEN _known < {FIRST} THEN {FIRST} WHEN _known > {LAST} THEN {LAST} ELSE _known END AS known_at",
        f"CASE WHEN _reasons = '' THEN CASE WHEN {delete} THEN 'd' ELSE 'u' END WHEN _bad IS NOT NULL OR NOT _object OR {keyless} THEN NULL ELSE 'q' END AS _op",
        "CASE WHEN _reasons <> '' THEN _raw END AS _raw",
    )  # fmt: skip


def _numbered(lines: DataFrame, plan: Tree) -> DataFrame:
    """The records of a batch that share the rest of the key numbered: equal ones alike, each bad one by itself."""
    rest = ", ".join(["_place", "_op IS NOT NULL", *map(ident, plan.rest)])
    which = "CASE WHEN _op = 'u' THEN _hash ELSE CAST(_seq AS STRING) END"
    first = lines.selectExpr("*", f"min(_seq) OVER (PARTITION BY {rest}, {which}) AS _first")
    nth = f"CASE WHEN _op IS NOT NULL THEN CAST(dense_rank() OVER (PARTITION BY {rest} ORDER BY _first) AS BIGINT) END"
    return first.selectExpr(*(f"{nth} AS {ident(c)}" if c == plan.ordinal else ident(c) for c in lines.columns))
