"""Silver to gold by dbt in a process of its own; what passes its tests becomes a release."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb
import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from ulid import ULID

from assay import windows
from assay.build import compute, judge, publish
from assay.build.compute import SilverView, project_hash
from assay.contract.model import Contract
from assay.crash import effect
from assay.errors import BuildFailed
from assay.lake import duck, evidence, release, silver
from assay.lake.duck import Limits
from assay.lake.files import Files, clear_errors
from assay.lake.release import Release, Silver
from assay.lake.tables import ident
from assay.ports import Fact, Ledger


def build(
    project: Path,
    contracts: Mapping[str, Contract],
    *,
    files: Files,
    catalog: Catalog,
    ledger: Ledger,
    run: str,
    limits: Limits,
    kept: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Release:
    """Compute gold from silver as it stands now, test it, and release it as one.

    BuildFailed if a model or test fails, or a table holds what cannot be served or explained: nothing of gold changed
    then. LakeBusy if another run released meanwhile. A table whose rows are those of the parent release keeps its
    snapshot, and its serving file as long as that is what was written. `say` hears what dbt's tests warn of; `kept` is
    a directory for dbt's reading of the project.
    """
    parent = release.current(files)
    views, read = _silver(contracts, catalog, files, ledger)
    with _work(files, limits) as work:
        built = compute.compute(project, work, views, limits, served=parent.number if parent else None, kept=kept)
        for warning in built.warnings:
            say(f"warning: {warning}")
        judged = judge.judge(built, limits)
        number, release_id = parent.number + 1 if parent else 1, str(ULID())
        intent = msgspec.json.encode({"number": number, "run": run})
        files.put_new(f"releases/_intents/{release_id}.json", intent, "release.intent")
        gold, seeds = publish.publish(built, judged, parent, release_id, files=files, catalog=catalog, limits=limits)
    made = Release(
        number=number, id=release_id, parent=parent.number if parent else None, at=windows.now(), run=run, dbt_hash=built.dbt_hash,
        gold=gold, seeds=seeds[0], seeds_sha256=seeds[1], tests=built.tests, models=built.models, silver=read,
    )  # fmt: skip
    release.publish(files, made)
    with effect("release.ledger"):
        ledger.record([Fact("release", f"{made.number:08}", "", made.at, {"id": made.id, "run": run})])
    return made


def _silver(
    contracts: Mapping[str, Contract], catalog: Catalog, files: Files, ledger: Ledger
) -> tuple[list[SilverView], tuple[Silver, ...]]:
    """The views dbt reads, and what a release says of the datasets behind them; LakeDamaged names one that is lost."""
    views, read = [], []
    for dataset, contract in contracts.items():
        with release.readable(silver.name(dataset)):
            table = silver.load(catalog, dataset)
            snapshot = silver.snapshot_id(table)
            read.append(_as_read(dataset, contract, table, snapshot, files, ledger))
            table = silver.ensure(catalog, contract)  # so that a column added since the last refine is there, as null
            selects = silver.views(contract, silver.observed(table, snapshot))
        for name, select in selects.items():
            views.append(SilverView(name, select, silver.descriptions(contract, versions=name != dataset)))
    return views, tuple(read)


def _as_read(
    dataset: str, contract: Contract, table: Table | None, snapshot: int | None, files: Files, ledger: Ledger
) -> Silver:
    rows = 0
    if table and snapshot and (found := table.snapshot_by_id(snapshot)) and found.summary:
        rows = int(found.summary.additional_properties.get("total-records", "0"))
    facts = list(ledger.facts("manifest", dataset))
    return Silver(
        dataset=dataset, snapshot=snapshot, contract_sha256=evidence.pin(files, contract), rows=rows,
        origins=tuple(sorted({f.body["origin"] for f in facts})), captured_at=max((f.at for f in facts), default=None),
    )  # fmt: skip


@contextmanager
def _work(files: Files, limits: Limits) -> Iterator[Path]:
    """A directory to compute in, gone afterwards; what DuckDB or the disk say there is told by who must act."""
    work = files.scratch()
    keep = False
    try:
        with clear_errors(work.parent):
            work.mkdir()
            yield work
    except duckdb.Error as error:
        if told := duck.meaning(error, limits, "this release"):
            raise told from error
        raise
    except BuildFailed as error:
        # What dbt left stays where its message says; the next step is a person's.
        keep = str(work) in str(error)
        raise
    finally:
        if not keep:
            shutil.rmtree(work, ignore_errors=True)


def check(project: Path, contracts: Mapping[str, Contract], *, limits: Limits, kept: Path | None = None) -> list[str]:
    """The gold tables the project declares, without running it; BuildFailed or ContractError says what is wrong.

    dbt is not started for what is in `kept` of the same project, contracts and limits.
    """
    views = []
    for contract in contracts.values():
        for versions in (False, True):
            name = f"{contract.dataset}_versions" if versions else contract.dataset
            kinds = silver.view_columns(contract, versions=versions)
            empty = ", ".join(f"CAST(NULL AS {kind}) AS {ident(column)}" for column, (kind, _) in kinds.items())
            views.append(SilverView(name, f"SELECT {empty} LIMIT 0", silver.descriptions(contract, versions=versions)))
    return [gold.name for gold in compute.describe(project, views, limits, kept=kept)]


__all__ = ["build", "check", "project_hash"]
