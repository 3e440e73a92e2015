"""Silver: per dataset a table of current rows and one of former versions, given what the evidence says and nothing else."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from assay.contract.model import Contract
from assay.crash import effect
from assay.errors import ContractError, LakeBusy, LakeDamaged
from assay.lake import bronze, evidence, tables
from assay.lake.evidence import Change, DataFile, Evidence, Head
from assay.ports import Files, Ledger

ATTEMPTS = 5
CLOCKS = {
    "known_at": ("TIMESTAMPTZ", "when the source says the public could know the row; null if it does not say"),
    "known_from": ("TIMESTAMPTZ", "when the public could know this version"),
    "known_basis": ("VARCHAR", "vendor: known_from is the source's; captured: it is when the lake got it"),
    "backfilled": (
        "BOOLEAN",
        "captured later than the contract's settle after it was knowable: may hold restated values",
    ),
    "captured_at": ("TIMESTAMPTZ", "when the lake got it: the time of its entry in the log"),
    "_hash": ("VARCHAR", "md5 of the contract columns' canonical texts: detects change, guards nothing"),
    "_position": ("BIGINT", "the entry of the dataset's log that brought it"),
    "_n": ("INTEGER", "the batch in that entry"),
    "_seq": ("BIGINT", "the line in that batch"),
}
ENDS = {
    "known_to": ("TIMESTAMPTZ", "when the next version, or its absence, could be known; null for the current one"),
    "recorded_to": ("TIMESTAMPTZ", "when the lake got the next version, or found it absent; null for the current one"),
}


def columns(contract: Contract, *, versions: bool = False) -> dict[str, tuple[str, str]]:
    """The columns of `silver.<dataset>`, or of its past and versions: name to (type, description)."""
    out = {c.name: (c.type, c.description) for c in contract.columns} | CLOCKS
    return out | ENDS if versions else out


def name(dataset: str, *, past: bool = False) -> str:
    """A table's name in the catalog."""
    return f"silver.{dataset}_past" if past else f"silver.{dataset}"


@dataclass(frozen=True)
class Pair:
    """The two tables of a dataset, as loaded at one moment."""

    current: Table
    past: Table


def load(catalog: Catalog, dataset: str) -> Pair | None:
    """Both tables, or None before the first refine; LakeDamaged if one of them is lost."""
    found = [tables.load(catalog, name(dataset, past=past)) for past in (False, True)]
    if found[0] is None or found[1] is None:
        return None
    return Pair(found[0], found[1])


def compatible(table: Table, contract: Contract, *, past: bool = False) -> list[str]:
    """The columns that the table lacks; ContractError where readers of the table would break."""
    if tables.partition_of(table) != contract.partition:
        raise ContractError(
            f"{contract.dataset}: its table is partitioned otherwise; keep partitioning, or promise a new id beside it"
        )
    found = {f.name: tables.sql_type(f.field_type) for f in table.schema().fields}
    wanted = {
        n: tables.sql_type(tables.iceberg_type(kind)) for n, (kind, _) in columns(contract, versions=past).items()
    }
    for column, kind in wanted.items():
        if found.get(column, kind) != kind:
            raise ContractError(
                f"{contract.dataset}.{column} was {found[column]} and is now {kind}: readers would break; "
                f"promise it under a new id (say {contract.dataset}_v2) beside the old one"
            )
    for column in found.keys() - wanted.keys():
        raise ContractError(
            f"{contract.dataset}.{column} went away: readers would break; keep it, or promise a new id beside this one"
        )
    return [column for column in wanted if column not in found]


def ensure(files: Files, catalog: Catalog, ledger: Ledger, contract: Contract) -> Pair:
    """Both tables with the contract's columns, created or widened by new ones.

    ContractError where a column changed its type or went away: that is another promise, for a dataset beside it.
    """
    out = []
    for past in (True, False):
        label, wanted = name(contract.dataset, past=past), columns(contract, versions=past)
        table = tables.load(catalog, label)
        if table is None:
            ordered = {n: wanted[n] for n in sorted(wanted, key=_promised(files, ledger, contract))}
            with effect("refine.schema"):
                table = tables.ensure(catalog, label, ordered, contract.partition)
        if added := compatible(table, contract, past=past):
            with effect("refine.schema"), tables.changing(table), table.update_schema() as change:
                for column in sorted(added, key=_promised(files, ledger, contract)):
                    change.add_column(column, tables.iceberg_type(wanted[column][0]))
            table = catalog.load_table(label)
        out.append(table)
    return Pair(out[1], out[0])


def _promised(files: Files, ledger: Ledger, contract: Contract) -> Callable[[str], int]:
    """A column's place among all that the log's contracts promised, in the order of the log; the clocks follow the first's.

    A table that is made anew numbers its fields as the lost one did, so that the files it gets back are read by the
    ids they were written with.
    """
    ids = [fact.body["sha256"] for fact in ledger.since("contract", contract.dataset)]
    first, *more = [bronze.pinned(files, sha256) for sha256 in ids] or [contract]
    names = dict.fromkeys([*columns(first, versions=True), *(c.name for one in (*more, contract) for c in one.columns)])
    return list(names).index


def head(table: Table) -> Head:
    """What the table's newest snapshot names; LakeDamaged where somebody else committed to it."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return Head()
    said = _said(snapshot)
    if "assay.evidence" not in said:
        raise LakeDamaged(
            f"{'.'.join(table.name())}: snapshot {snapshot.snapshot_id} was not made by assay (a compaction, or a write by "
            f"another program): roll the table back to snapshot {_ours(table, snapshot)}; `assay upkeep` compacts"
        )
    return Head(
        int(said["assay.evidence"]),
        said["assay.evidence-sha256"],
        int(said["assay.position"]),
        said["assay.position-sha256"],
    )


def _said(snapshot: Snapshot) -> Mapping[str, str]:
    return snapshot.summary.additional_properties if snapshot.summary else {}


def _ours(table: Table, snapshot: Snapshot) -> str:
    at: Snapshot | None = snapshot
    while at is not None and "assay.evidence" not in _said(at):
        at = table.snapshot_by_id(at.parent_snapshot_id) if at.parent_snapshot_id else None
    return (
        str(at.snapshot_id)
        if at
        else "it had before, which is expired: take both tables away and `assay refine` makes them"
    )


def snapshot_id(table: Table | None) -> int | None:
    """The table's current snapshot, or None."""
    found = table.current_snapshot() if table else None
    return found.snapshot_id if found else None


def pinned(current: Table) -> tuple[int | None, int | None]:
    """The snapshots of current and past that belong together: current's newest summary names past's."""
    snapshot = current.current_snapshot()
    if snapshot is None:
        return None, None
    return snapshot.snapshot_id, int(_said(snapshot).get("assay.past-snapshot", "0")) or None


def forward(files: Files, catalog: Catalog, dataset: str, pair: Pair) -> Pair:
    """Give both tables what the evidence has beyond their heads, by metadata alone: past first, then current.

    After a crash, a lost race, a lost or a restored older catalog this is all there is to mend. LakeBusy if other
    processes kept doing the same.
    """
    for _ in range(ATTEMPTS):
        at = head(pair.current)
        if at.number:
            beyond = list(evidence.since(files, dataset, at.number, at.sha256))
        else:
            beyond = evidence.for_new_tables(files, dataset)
        if not beyond:
            return pair
        newest, sha256 = beyond[-1]
        said = {
            "assay.evidence": str(newest.number), "assay.evidence-sha256": sha256, "assay.position": str(newest.position),
            "assay.position-sha256": newest.position_sha256, "assay.run": newest.run,
        }  # fmt: skip
        try:
            done = _had(pair.past)
            if any(_changes(one.past) and one.number > done for one, _ in beyond):
                whole = merged(one.past for one, _ in beyond if one.number > done)
                tables.commit(pair.past, files, whole, said, as_effect="refine.past")
            said["assay.past-snapshot"] = str(snapshot_id(pair.past) or 0)
            whole = merged(one.current for one, _ in beyond)
            tables.commit(pair.current, files, whole, said, as_effect="refine.current")
        except LakeBusy:
            reloaded = load(catalog, dataset)
            if reloaded is None:
                raise
            pair = reloaded
            continue
        return pair
    raise LakeBusy(f"{dataset}: {ATTEMPTS} times another process committed first; run it again")


def _had(past: Table) -> int:
    return head(past).number if past.current_snapshot() else 0


def _changes(change: Change) -> bool:
    return bool(change.add or change.remove or change.everything)


def merged(changes: Iterable[Change]) -> Change:
    """Several changes of a table as one: what is added and taken away again is not in it."""
    add: dict[str, DataFile] = {}
    remove: dict[str, None] = {}
    everything = False
    for one in changes:
        if one.everything:
            add, remove, everything = {}, {}, True
        for gone in one.remove:
            if gone in add:
                del add[gone]
            elif not everything:
                remove[gone] = None
        add |= {file.name: file for file in one.add}
    return Change(tuple(add.values()), tuple(remove), everything)


def live(found: Iterable[Evidence], *, past: bool = False) -> dict[str, DataFile]:
    """The files of a table after these evidence objects, from the first one on, by name."""
    return {f.name: f for f in merged(one.past if past else one.current for one in found).add}


def check(files: Files, file: DataFile) -> None:
    """LakeDamaged if a table's file is not what the refine wrote."""
    if hashlib.sha256(files.read(file.name)).hexdigest() != file.sha256:
        raise LakeDamaged(
            f"{file.name} is not what the refine wrote; restore it from a copy, or `assay refine --rebuild`"
        )
