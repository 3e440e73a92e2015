"""Silver's small files made larger, and files of a dataset that restates cut by key: other files, the same rows."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from assay import clock
from assay.contract.model import Contract
from assay.errors import LakeBusy, LakeDamaged
from assay.lake import account, duck, evidence, parquet, silver, tables
from assay.lake.duck import ident
from assay.lake.evidence import Change, DataFile, Evidence
from assay.lake.files import scratch_directory
from assay.lake.silver import Pair
from assay.ports import Files, Layout, Ledger, Limits, Parquet, Relation

SMALL, LARGE = 32 * 2**20, 128 * 2**20
"""Bytes: what is smaller than the first is made into files of about the second."""
CUT = 32_000
"""Rows of a piece, at most, where rows are restated: to change one, its whole file is written again."""
TOGETHER = 2**30
"""Bytes that one evidence rewrites, about."""
ATTEMPTS = 5


@dataclass(frozen=True)
class Work:
    """Files of one partition that are to become others: one, or pieces of at most `CUT` rows in the order of the key."""

    past: bool
    partition: tuple[Any, ...]
    names: tuple[str, ...]
    rows: int
    bytes: int
    cut: bool


@dataclass(frozen=True)
class _File:
    name: str
    rows: int
    bytes: int


def wanted(pair: Pair, compact_files: int) -> list[Work]:
    """What to rewrite of both tables; nothing of a partition that has fewer than so many files too many."""
    current, past = _partitions(pair.current), _partitions(pair.past)
    out: list[Work] = []
    for partition, there in current.items():
        if partition in past:
            rows = sum(one.rows for one in there)
            many = len(there) - _pieces(rows) >= compact_files
            if many or any(one.rows > 2 * CUT for one in there):
                out.append(_work(partition, there, past=False, cut=True))
        else:
            out += _merged(partition, there, compact_files, past=False)
    for partition, there in past.items():
        out += _merged(partition, there, compact_files, past=True)
    return out


def compact(
    contract: Contract, compact_files: int, *, files: Files, catalog: Catalog, ledger: Ledger, limits: Limits, run: str
) -> int:
    """Rewrite what is wanted of a dataset, in evidence of its own; how many files became others.

    No row changes. LakeBusy if others kept being faster; LakeDamaged if a file is not what was written.
    """
    number = lost = 0
    while lost < ATTEMPTS:
        try:
            done = _step(contract, compact_files, files, catalog, ledger, limits, run)
        except LakeBusy:
            lost += 1
            continue
        if not done:
            return number
        number += done
    raise LakeBusy(
        f"{contract.dataset}: {ATTEMPTS} times another process was faster; its files stay as they are for now"
    )


def _step(
    contract: Contract, compact_files: int, files: Files, catalog: Catalog, ledger: Ledger, limits: Limits, run: str
) -> int:
    dataset = contract.dataset
    pair = silver.load(catalog, dataset)
    if pair is None:
        return 0
    pair = silver.forward(files, catalog, dataset, pair)
    head = silver.head(pair.current)
    number = head.number + 1
    add: dict[bool, list[DataFile]] = {False: [], True: []}
    with evidence.awake(files, dataset, head):
        works = _some(wanted(pair, compact_files))
        if not works or not head.number:
            return 0
        account.adopt(files, ledger, dataset, head)
        newest, _ = evidence.read(files, dataset, head.number, head.sha256)
        _check(files, dataset, [name for work in works for name in work.names])
    with evidence.awake(files, dataset, head), scratch_directory(files) as scratch, _opened(limits, dataset) as con:
        for past, table in ((True, pair.past), (False, pair.current)):
            made: list[Parquet] = []
            for work in works:
                if work.past == past:
                    made += _written(con, files, table, work, contract.key, scratch)
            add[past] = tables.adopt(files, table, made, f"{number:09}-{run}")
    changes = {
        past: Change(tuple(add[past]), tuple(name for work in works if work.past == past for name in work.names))
        for past in add
    }
    found = Evidence(
        number=number, parent=head.sha256, dataset=dataset, kind="compacted", run=run, at=clock.now(),
        after=head.position, position=head.position, position_sha256=head.position_sha256 or "", began=newest.began,
        past=changes[True], current=changes[False],
    )  # fmt: skip
    if not files.put_new(evidence.name_of(dataset, number), evidence.encode(found), "upkeep.compact"):
        raise LakeBusy(f"{dataset}: evidence {number} was put by another process first")
    pair = silver.forward(files, catalog, dataset, pair)
    account.adopt(files, ledger, dataset, silver.head(pair.current))
    return sum(len(work.names) for work in works)


def _some(works: Sequence[Work]) -> list[Work]:
    """The first of them, up to TOGETHER bytes."""
    out: list[Work] = []
    size = 0
    for work in works:
        size += work.bytes
        if out and size > TOGETHER:
            break
        out.append(work)
    return out


def _partitions(table: Table) -> dict[tuple[Any, ...], list[_File]]:
    """The table's files by partition, those of older evidence first."""
    out: dict[tuple[Any, ...], list[_File]] = defaultdict(list)
    for one in tables.data_files(table):
        partition = tuple(one.partition[at] for at in range(len(one.partition)))
        out[partition].append(_File(tables.name_of(table, one), one.record_count, one.file_size_in_bytes))
    return {partition: sorted(there, key=lambda one: one.name) for partition, there in out.items()}


def _merged(partition: tuple[Any, ...], there: Sequence[_File], compact_files: int, *, past: bool) -> Iterator[Work]:
    """Small files together, in the order in which they came."""
    small = [one for one in there if one.bytes < SMALL]
    if len(small) < compact_files:
        return
    some: list[_File] = []
    for one in small:
        if some and sum(two.bytes for two in some) + one.bytes > LARGE:
            yield _work(partition, some, past=past, cut=False)
            some = []
        some.append(one)
    if len(some) > 1:
        yield _work(partition, some, past=past, cut=False)


def _work(partition: tuple[Any, ...], there: Sequence[_File], *, past: bool, cut: bool) -> Work:
    rows, size = sum(one.rows for one in there), sum(one.bytes for one in there)
    return Work(past, partition, tuple(one.name for one in there), rows, size, cut)


def _pieces(rows: int) -> int:
    """So many that each has at most CUT rows, and, where there are several, at least half as many."""
    return max(1, -(-rows // CUT))


def _check(files: Files, dataset: str, names: Sequence[str]) -> None:
    """LakeDamaged if one of these files is not what its evidence says: it would get a hash of its own."""
    by_number: dict[int, set[str]] = defaultdict(set)
    for name in names:
        if (number := number_of(name)) is None:
            raise LakeDamaged(f"{name} is in silver.{dataset}, and no name of a file that assay wrote")
        by_number[number].add(name)
    for number, mine in by_number.items():
        found, _ = evidence.read(files, dataset, number)
        said = {one.name: one for one in (*found.current.add, *found.past.add)}
        for name in mine:
            if name not in said:
                raise LakeDamaged(f"{name} is in silver.{dataset}, but evidence {number} does not name it")
            silver.check(files, said[name])


def number_of(name: str) -> int | None:
    """The number of the evidence that a file of silver was written for; None if its name is none of ours."""
    digits = name.rpartition("/")[2].partition("-")[0]
    return int(digits) if digits.isdecimal() else None


def _written(
    con: duckdb.DuckDBPyConnection, files: Files, table: Table, work: Work, key: Sequence[str], scratch: Path
) -> list[Parquet]:
    columns = tables.layout(table).columns
    select = duck.relation(Relation(columns, tuple(files.url(name) for name in work.names)))
    order = ", ".join(map(ident, (*key, "_position", "_n", "_seq")))
    pieces = _pieces(work.rows) if work.cut else 1
    selects = [f"SELECT * FROM ({select}) ORDER BY {order}"]
    if pieces > 1:
        con.execute(f"CREATE OR REPLACE TEMP TABLE whole AS {selects[0]}")
        ends = [work.rows * at // pieces for at in range(pieces + 1)]
        selects = [
            f"SELECT * FROM whole WHERE rowid >= {ends[at]} AND rowid < {ends[at + 1]} ORDER BY rowid"
            for at in range(pieces)
        ]
    made = [one for select in selects for one in parquet.write(con, Layout(columns), select, scratch)]
    con.execute("DROP TABLE IF EXISTS whole")
    if (rows := sum(one.rows for one in made)) != work.rows:
        raise LakeDamaged(f"{work.names[0]} and those beside it hold {rows} rows, their table says {work.rows}")
    return [replace(one, partition=work.partition) for one in made]


@contextmanager
def _opened(limits: Limits, dataset: str) -> Iterator[duckdb.DuckDBPyConnection]:
    con = duck.open(limits)
    try:
        yield con
    except duckdb.Error as error:
        if told := duck.meaning(error, limits, f"the compaction of {dataset}"):
            raise told from error
        raise
    finally:
        con.close()
