"""Silver: one append-only table of observations per dataset, and the views that say what is current and known when."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from assay.contract.model import Contract
from assay.crash import effect
from assay.errors import ContractError, UsageError
from assay.lake import evidence, tables
from assay.lake.evidence import Evidence, Verdict
from assay.lake.files import Files
from assay.lake.tables import Written, ident
from assay.ports import Fact, Ledger
from assay.windows import Duration

OBSERVED = {
    "known_at": (
        "TIMESTAMPTZ",
        "when the source says the public could know the row; null if it does not say",
    ),
    "captured_at": ("TIMESTAMPTZ", "when the lake got it"),
    "_op": ("VARCHAR", "upsert or delete"),
    "_hash": ("VARCHAR", "md5 of the contract columns' canonical texts: detects change, guards nothing"),
    "_batch": ("VARCHAR", "the bronze batch it came in"),
    "_seq": ("BIGINT", "its number in that batch"),
}
CLOCKS = {
    "known_from": ("TIMESTAMPTZ", "when the public could know this version"),
    "known_basis": ("VARCHAR", "vendor: known_from is the source's; captured: it is when the lake got it"),
    "backfilled": (
        "BOOLEAN",
        "captured later than the contract's settle after it was knowable: may hold restated values",
    ),
}
VERSIONS = {
    "known_to": ("TIMESTAMPTZ", "when the next version could be known; null for the newest"),
    "recorded_to": ("TIMESTAMPTZ", "when the lake got the next version; null for the newest"),
}


def columns(contract: Contract) -> dict[str, tuple[str, str]]:
    """The observed table's columns: name to (type, description)."""
    return {c.name: (c.type, c.description) for c in contract.columns} | OBSERVED


def view_columns(contract: Contract, *, versions: bool) -> dict[str, tuple[str, str]]:
    """The columns of `silver.<dataset>` or, with `versions`, of `silver.<dataset>_versions`."""
    out = columns(contract) | CLOCKS
    return out | VERSIONS if versions else {name: kind for name, kind in out.items() if name != "_op"}


def name(dataset: str) -> str:
    """The observed table's name in the catalog."""
    return f"silver.{dataset}_observed"


def load(catalog: Catalog, dataset: str) -> Table | None:
    """The observed table, or None before the first refine."""
    try:
        with tables.catalog_errors(name(dataset)):
            return catalog.load_table(name(dataset))
    except NoSuchTableError:
        return None


def compatible(table: Table, contract: Contract) -> tuple[dict[str, str], dict[str, str]]:
    """The contract's columns and the table's, by name to type; ContractError where readers of the table would break."""
    if tables.partition_of(table) != contract.partition:
        raise ContractError(
            f"{contract.dataset}: its table is partitioned otherwise; keep partitioning, or promise a new id beside it"
        )
    found = {f.name: tables.sql_type(f.field_type) for f in table.schema().fields}
    wanted = {n: tables.sql_type(tables.iceberg_type(kind)) for n, (kind, _) in columns(contract).items()}
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
    return wanted, found


def ensure(catalog: Catalog, contract: Contract) -> Table:
    """The observed table with the contract's columns, created or widened by new ones.

    ContractError where a column changed its type or went away: that is another promise, for a dataset beside it.
    """
    with effect("refine.schema"):
        table = tables.ensure(catalog, name(contract.dataset), columns(contract), contract.partition)
    wanted, found = compatible(table, contract)
    if added := [column for column in wanted if column not in found]:
        with effect("refine.schema"), tables.catalog_errors(name(contract.dataset)), table.update_schema() as change:
            for column in added:
                change.add_column(column, tables.iceberg_type(wanted[column]))
        table = catalog.load_table(name(contract.dataset))
    return table


@dataclass(frozen=True)
class State:
    """Where a batch stands after the newest commit that judged it.

    `accepted` and `duplicate` sum over the refine and the replays since it was last judged as a whole.
    """

    verdict: Verdict
    evidence: str
    refine_fingerprint: str
    gate_fingerprint: str
    contract_sha256: str
    accepted: int
    duplicate: int


def commit(table: Table, written: Sequence[Written], found: Evidence, *, replace: bool = False) -> None:
    """Append the files as one snapshot that names the evidence and its batches; LakeBusy if the table moved."""
    properties = {
        "assay.evidence": found.id,
        "assay.evidence-sha256": hashlib.sha256(evidence.encode(found)).hexdigest(),
        "assay.run": found.run,
        "assay.batches": ",".join(v.batch for v in found.verdicts),
    }
    with effect("refine.commit"):
        (tables.replace if replace else tables.append)(table, written, properties)


def adopt(files: Files, table: Table, ledger: Ledger, dataset: str) -> list[tuple[int, Evidence]]:
    """All evidence whose commit is in the table, oldest first; what the ledger lacks of it is recorded there.

    The table's history decides whether a refine happened, the evidence object says what, the ledger is the index.
    """
    known = sorted(
        (
            (f.body["sequence"], f.body["snapshot"], msgspec.convert(f.body["evidence"], Evidence))
            for f in ledger.facts("evidence", dataset)
            if f.body["table"] == str(table.metadata.table_uuid)
        ),
        key=lambda one: one[0],
    )
    seen = {snapshot for _, snapshot, _ in known}
    fresh = []
    for snapshot in tables.history(table, seen):
        summary = snapshot.summary.additional_properties if snapshot.summary else {}
        if "assay.evidence" in summary:
            got = evidence.read(files, dataset, summary["assay.evidence"], summary["assay.evidence-sha256"])
            fresh.append((snapshot.sequence_number or 0, snapshot.snapshot_id, got))
    fresh.reverse()
    ledger.record(
        Fact(
            "evidence",
            got.id,
            dataset,
            got.at,
            {
                "table": str(table.metadata.table_uuid),
                "sequence": seq,
                "snapshot": snap,
                "evidence": msgspec.to_builtins(got),
            },
        )
        for seq, snap, got in fresh
    )
    return [(snap, got) for _, snap, got in [*known, *fresh]]


def states(adopted: Sequence[tuple[int, Evidence]]) -> dict[str, State]:
    """Each judged batch's state, from the evidence in commit order."""
    out: dict[str, State] = {}
    for _, found in adopted:
        for verdict in found.verdicts:
            before = out.get(verdict.batch) if found.kind == "replay" else None
            whole = before or found  # a replay reads some rows anew; the batch is as it was read as a whole
            out[verdict.batch] = State(
                verdict,
                found.id,
                whole.refine_fingerprint,
                whole.gate_fingerprint,
                found.contract_sha256,
                verdict.accepted + (before.accepted if before else 0),
                verdict.duplicate + (before.duplicate if before else 0),
            )
    return out


def literal(at: datetime) -> str:
    """A moment as a SQL literal in UTC; UsageError if it does not say its time zone."""
    if at.tzinfo is None:
        raise UsageError(
            f"{at} does not say its time zone, so two machines would read it differently; add one, say UTC"
        )
    return f"TIMESTAMPTZ '{at.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f')}+00'"


def versions(contract: Contract, observed: str, recorded_as_of: datetime | None = None) -> str:
    """The SELECT of every version of every key, given the observed rows' SELECT.

    Rows captured by `recorded_as_of` are ordered by (sequence, captured_at, _batch, _seq); equal neighbours are one
    version, the earliest. `known_from` of the first is least(known_at, captured_at); a later one's is its own
    known_at if that is later than its predecessor's, else captured_at; it never runs backwards.
    """
    keys = ", ".join(ident(k) for k in contract.key)
    order = ", ".join([*([ident(contract.sequence)] if contract.sequence else []), "captured_at", "_batch", "_seq"])
    window = f"WINDOW w AS (PARTITION BY {keys} ORDER BY {order})"
    chosen = ", ".join(ident(c) for c in columns(contract))
    until = f"WHERE captured_at <= {literal(recorded_as_of)}" if recorded_as_of else ""
    settle = Duration.parse(contract.settle)
    late = f"INTERVAL {settle.months} MONTH + INTERVAL {int(settle.exact.total_seconds())} SECOND"
    return f"""
SELECT {chosen}, known_from,
  CASE WHEN known_at IS NOT NULL AND known_from = least(known_at, captured_at) THEN 'vendor' ELSE 'captured' END AS known_basis,
  coalesce(captured_at > known_at + {late}, false) AS backfilled,
  lead(known_from) OVER w AS known_to, lead(captured_at) OVER w AS recorded_to
FROM (
  SELECT *, max(_claimed) OVER (PARTITION BY {keys} ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS known_from
  FROM (
    SELECT *, CASE
        WHEN _n = 1 OR known_at > _before THEN least(coalesce(known_at, captured_at), captured_at) ELSE captured_at
      END AS _claimed
    FROM (
      SELECT *, lag(known_at) OVER w AS _before, row_number() OVER w AS _n
      FROM (
        SELECT *, lag(_hash || _op) OVER w IS DISTINCT FROM (_hash || _op) AS _fresh
        FROM ({observed}) {until} {window}
      ) WHERE _fresh {window}
    )
  )
) {window}"""


def current(
    contract: Contract,
    observed: str,
    *,
    as_of: datetime | None = None,
    recorded_as_of: datetime | None = None,
) -> str:
    """The SELECT of the rows as they stand: by default now, else as the public (`as_of`) or the lake
    (`recorded_as_of`) could know them then. Deleted keys are absent.
    """
    out = ", ".join(ident(c) for c in view_columns(contract, versions=False))
    if as_of is None:
        where = "recorded_to IS NULL"
    else:
        moment = literal(as_of)
        where = f"known_from <= {moment} AND (known_to IS NULL OR known_to > {moment})"
    return f"SELECT {out} FROM ({versions(contract, observed, recorded_as_of)}) WHERE {where} AND _op = 'upsert'"


def views(contract: Contract, observed: str) -> dict[str, str]:
    """The two views people and dbt read: name to SELECT."""
    return {
        contract.dataset: current(contract, observed),
        f"{contract.dataset}_versions": versions(contract, observed),
    }


def snapshot_id(table: Table | None) -> int | None:
    """The table's current snapshot, or None."""
    found = table.current_snapshot() if table else None
    return found.snapshot_id if found else None


def observed(table: Table, snapshot: int | None, row_filter: Any = None) -> str:
    """The SELECT of the observed rows at a snapshot."""
    return tables.relation(table, snapshot, row_filter)


def descriptions(contract: Contract, *, versions: bool) -> Mapping[str, str]:
    """A view's columns with their descriptions."""
    return {n: doc for n, (_, doc) in view_columns(contract, versions=versions).items()}
