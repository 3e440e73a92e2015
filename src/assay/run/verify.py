"""Proves that nothing was lost or altered: counts at every place, bronze byte for byte, silver built again."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from ulid import ULID

from assay import refine as refining
from assay.errors import LakeDamaged
from assay.lake import bronze, duck, evidence, release, silver, tables
from assay.lake.duck import Limits
from assay.lake.evidence import Evidence
from assay.lake.files import Files
from assay.lake.tables import ident
from assay.run import Lake, batches
from assay.targets.local import SqliteLedger

SHOWN = 10


def counts(lake: Lake) -> dict[str, int]:
    """Count every batch's rows anew in each place; LakeDamaged names batch and place where one disagrees.

    `unjudged` are batches that wait for a refine: they are in bronze alone.

    Places: request, part, evidence, quarantine, silver, manifest. Nothing is taken from the ledger.
    """
    wrong: list[str] = []
    rows = number = unjudged = 0
    for dataset in lake.contracts:
        found = {m.batch: m for m in bronze.manifests(lake.target.files, dataset)}
        number += len(found)
        rows += sum(m.rows for m in found.values())
        for manifest in found.values():
            wrong += _bronze_counts(lake.target.files, manifest)
        unjudged += len(found.keys() - _silver_counts(lake, dataset, found, wrong))
    if wrong:
        raise LakeDamaged("; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""))
    return {"batches": number, "captured": rows, "unjudged": unjudged}


def _bronze_counts(files: Files, manifest: bronze.Manifest) -> Iterator[str]:
    asked = sum(one.rows for one in manifest.requests)
    if asked != manifest.rows:
        yield f"batch {manifest.batch} request: the answers had {asked} records, the manifest says {manifest.rows}"
    for part in manifest.parts:
        if not files.exists(part.path):
            yield f"batch {manifest.batch} part: {part.path} is gone"
            continue
        try:
            lines = bronze.inflate(files, part.path).count(b"\n")
        except LakeDamaged as error:
            yield f"batch {manifest.batch} part: {error}"
            continue
        if lines != part.rows:
            yield f"batch {manifest.batch} part: {part.path} has {lines} lines, the manifest says {part.rows}"
    if sum(part.rows for part in manifest.parts) != manifest.rows:
        yield f"batch {manifest.batch} part: the parts' rows do not sum to {manifest.rows}"


def _silver_counts(lake: Lake, dataset: str, found: dict[str, bronze.Manifest], wrong: list[str]) -> set[str]:
    """Compare evidence, quarantine and table with the manifests; the batches that were judged."""
    table = silver.load(lake.target.catalog, dataset)
    if table is None:
        return set()
    adopted = []
    for snapshot in tables.history(table):
        summary = snapshot.summary.additional_properties if snapshot.summary else {}
        if "assay.evidence" not in summary:
            continue
        try:
            adopted.append(
                (
                    snapshot.snapshot_id,
                    evidence.read(
                        lake.target.files, dataset, summary["assay.evidence"], summary["assay.evidence-sha256"]
                    ),
                )
            )
        except LakeDamaged as error:
            for batch in summary["assay.batches"].split(","):
                wrong.append(f"batch {batch} evidence: {error}")
    adopted.reverse()
    states = silver.states(adopted)
    for _, one in adopted:
        wrong += _evidence_counts(lake.target.files, one, found)
    con = duck.open(lake.target.limits)
    observed = silver.observed(table, silver.snapshot_id(table))
    stored = dict(con.execute(f"SELECT _batch, count(*) FROM ({observed}) GROUP BY ALL").fetchall())
    con.close()
    for batch, state in states.items():
        if batch not in found:
            wrong.append(f"batch {batch} manifest: silver has it, but no manifest names it")
        if stored.get(batch, 0) != state.accepted:
            wrong.append(
                f"batch {batch} silver: {stored.get(batch, 0)} rows in {silver.name(dataset)}, {state.accepted} were accepted"
            )
    for batch in stored.keys() - states.keys():
        wrong.append(f"batch {batch} silver: {stored[batch]} rows that no evidence speaks of")
    return set(states)


def _evidence_counts(files: Files, one: Evidence, found: dict[str, bronze.Manifest]) -> Iterator[str]:
    for v in one.verdicts:
        if v.accepted + v.duplicate + v.quarantined + v.held != v.captured:
            yield f"batch {v.batch} evidence: {v.captured} captured is not {v.accepted} + {v.duplicate} + {v.quarantined} + {v.held}"
        if one.kind != "replay" and v.batch in found and v.captured != found[v.batch].rows:
            yield f"batch {v.batch} evidence: {v.captured} captured, the manifest says {found[v.batch].rows}"
        try:
            lines = sum(1 for _ in refining.quarantined(files, v))
        except (LakeDamaged, msgspec.DecodeError) as error:
            yield f"batch {v.batch} quarantine: {v.quarantine} cannot be read ({type(error).__name__})"
            continue
        if lines != v.quarantined:
            yield f"batch {v.batch} quarantine: {v.quarantine} has {lines} lines, {v.quarantined} were quarantined"


def bronze_objects(lake: Lake) -> dict[str, int]:
    """Read every object of every batch; LakeDamaged names the first that is not what was written."""
    number = objects = 0
    for dataset in lake.contracts:
        for manifest in bronze.manifests(lake.target.files, dataset):
            bronze.check(lake.target.files, manifest, whole=True)
            number += 1
            objects += len(manifest.parts) + len(manifest.raw)
    return {"batches": number, "objects": objects}


def serving(lake: Lake) -> dict[str, int]:
    """Read every file that serves the current release; LakeDamaged names those that are not what was written.

    Gold's own tables are looked for too. `release` is 0 before the first. Files of a release made before their hashes
    were kept are only opened.
    """
    files, found = lake.target.files, release.current(lake.target.files)
    if found is None:
        return {"release": 0, "files": 0}
    lost = [what for name, sha256 in found.objects.items() if (what := release.wrong(files, name, sha256))]
    if not lost:
        release.connect(files, lake.target.catalog, found, silver_views=False, limits=lake.target.limits).close()
    for gold in found.gold:
        try:
            tables.relation(lake.target.catalog.load_table(f"gold.{gold.name}"), gold.snapshot)
        except (LakeDamaged, *release.UNREADABLE) as error:
            lost.append(f"gold.{gold.name} cannot be read from the catalog ({type(error).__name__})")
    if lost:
        raise LakeDamaged(f"{'; '.join(lost)}; `assay build` makes it anew in the next release")
    return {"release": found.number, "files": len(found.objects)}


def rebuild(lake: Lake, datasets: Sequence[str]) -> dict[str, int]:
    """Refine bronze anew in an empty scratch lake, with the contracts each verdict pinned, and compare all versions.

    LakeDamaged names key and column of what differs: an altered cell, a missing or extra row, a changed clock.
    """
    out = {}
    for dataset in datasets:
        contract = lake.contract(dataset)
        if silver.load(lake.target.catalog, dataset) is None:
            continue
        table = silver.ensure(lake.target.catalog, contract)
        adopted = silver.adopt(lake.target.files, table, lake.target.ledger, dataset)
        with tempfile.TemporaryDirectory(prefix="assay-rebuild-", dir=lake.target.files.scratch().parent) as scratch:
            again = _refine_anew(lake, dataset, [one for _, one in adopted], Path(scratch))
            is_now = silver.versions(contract, silver.observed(table, silver.snapshot_id(table)))
            should_be = silver.versions(contract, silver.observed(again, silver.snapshot_id(again)))
            columns = list(silver.view_columns(contract, versions=True))
            out[dataset] = _compare(dataset, contract.key, columns, is_now, should_be, lake.target.limits)
    return out


def _refine_anew(lake: Lake, dataset: str, history: Sequence[Evidence], root: Path) -> Any:
    files = Files(root)
    root.joinpath("bronze").symlink_to(lake.target.files.path("bronze"))
    with closing(tables.open_catalog(root)) as catalog, closing(SqliteLedger(root / "ledger.db")) as ledger:
        since = max((i for i, one in enumerate(history) if one.kind == "rebuild"), default=0)
        manifests = {m.batch: m for m in batches(lake, dataset)}
        for one in history[since:]:
            contract = evidence.pinned(lake.target.files, one.contract_sha256)
            todo = [manifests[v.batch] for v in one.verdicts if v.batch in manifests]
            if lost := [v.batch for v in one.verdicts if v.batch not in manifests]:
                raise LakeDamaged(f"{dataset}: batch {lost[0]} was refined, but no manifest names it any more")
            act = refining.replay if one.kind == "replay" else refining.refine
            more: dict[str, Any] = {} if one.kind == "replay" else {"regate": True}
            act(
                contract,
                todo,
                files=files,
                catalog=catalog,
                ledger=ledger,
                engine=lake.target.engine,
                run=str(ULID()),
                **more,
            )
        table = silver.load(catalog, dataset)
        return table if table is not None else silver.ensure(catalog, lake.contract(dataset))


def _compare(
    dataset: str, key: Sequence[str], columns: Sequence[str], is_now: str, should_be: str, limits: Limits
) -> int:
    con = duck.open(limits)
    names = ", ".join(ident(c) for c in columns)
    con.execute(f"CREATE TABLE is_now AS SELECT {names} FROM ({is_now})")
    con.execute(f"CREATE TABLE should_be AS SELECT {names} FROM ({should_be})")
    extra = _difference(con, "is_now", "should_be")
    lost = _difference(con, "should_be", "is_now")
    number: int = con.execute("SELECT count(*) FROM is_now").fetchall()[0][0]
    con.close()
    if not extra and not lost:
        return number
    at = [columns.index(k) for k in key] + [columns.index("_batch"), columns.index("_seq")]
    wrong = []
    by_place = {tuple(row[i] for i in at): row for row in extra}
    for row in lost:
        place = tuple(row[i] for i in at)
        spoken = ", ".join(f"{k}={row[columns.index(k)]}" for k in key)
        other = by_place.pop(place, None)
        if other is None:
            wrong.append(f"{dataset} {spoken}: a version is missing")
        else:
            named = [f"{c} is {a}, bronze gives {b}" for c, a, b in zip(columns, other, row, strict=True) if a != b]
            wrong.append(f"{dataset} {spoken}: {', '.join(named)}")
    for row in by_place.values():
        spoken = ", ".join(f"{k}={row[columns.index(k)]}" for k in key)
        wrong.append(f"{dataset} {spoken}: a version that bronze does not give")
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    raise LakeDamaged("; ".join(wrong[:SHOWN]) + more)


def _difference(con: duckdb.DuckDBPyConnection, left: str, right: str) -> list[tuple[Any, ...]]:
    return con.execute(f"SELECT * FROM (SELECT * FROM {left} EXCEPT ALL SELECT * FROM {right}) ORDER BY ALL").fetchall()
