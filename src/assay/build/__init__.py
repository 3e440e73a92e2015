"""Silver to gold by dbt in a process of its own; what passes its tests becomes a release."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from ulid import ULID

from assay import windows
from assay.build import dbt
from assay.build.dbt import project_hash
from assay.contract.model import Contract
from assay.crash import effect
from assay.errors import BuildFailed
from assay.lake import evidence, release, silver, tables
from assay.lake.files import Files
from assay.lake.release import Column, Gold, Input, Model, Release, Silver
from assay.lake.tables import ident, text
from assay.ports import Fact, Ledger

ROW_GROUP = 32_768


def build(
    project: Path,
    contracts: Mapping[str, Contract],
    *,
    files: Files,
    catalog: Catalog,
    ledger: Ledger,
    run: str,
    threads: int = 2,
    memory: str = "1GB",
) -> Release:
    """Compute gold from silver as it stands now, test it, and release it as one.

    BuildFailed if a model or test fails: nothing of gold changed then. LakeBusy if another run released meanwhile.
    A table whose rows are those of the parent release keeps its snapshot and its serving file.
    """
    parent = release.current(files)
    snapshots = {d: silver.load(catalog, d) for d in contracts}
    read = {d: silver.snapshot_id(t) for d, t in snapshots.items()}
    views = []
    for dataset, contract in contracts.items():
        table = silver.ensure(catalog, contract)  # so that a column added since the last refine is there, as null
        for name, select in silver.views(contract, silver.observed(table, read[dataset])).items():
            views.append(dbt.SilverView(name, select, silver.descriptions(contract, versions=name != dataset)))
    work = files.scratch()
    work.mkdir()
    try:
        built = dbt.compute(project, work, views, threads=threads, memory=memory)
        number = parent.number + 1 if parent else 1
        release_id = str(ULID())
        files.put_new(
            f"releases/_intents/{release_id}.json",
            msgspec.json.encode({"number": number, "run": run}),
            "release.intent",
        )
        gold = [_publish(m, built.database, catalog, files, parent, release_id) for m in built.models if m.released]
        seeds = _keep_seeds(built, files)
    except BuildFailed:
        raise  # what dbt left is where its message says; the next step is a person's
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    made = Release(
        number=number, id=release_id, parent=parent.number if parent else None, at=windows.now(), run=run, dbt_hash=built.dbt_hash,
        gold=tuple(gold), seeds=seeds, tests=built.tests,
        models=tuple(Model(f"{m.schema}.{m.name}", m.kind, m.compiled) for m in built.models),
        silver=tuple(_silver(d, c, snapshots[d], read[d], files, ledger) for d, c in contracts.items()),
    )  # fmt: skip
    release.publish(files, made)
    with effect("release.ledger"):
        ledger.record([Fact("release", f"{made.number:08}", "", made.at, {"id": made.id, "run": run})])
    return made


def _silver(
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


def _publish(
    model: dbt.Model, database: Path, catalog: Catalog, files: Files, parent: Release | None, release_id: str
) -> Gold:
    """Commit one table's rows as one snapshot and lay down its serving file, unless the parent has the same rows."""
    con = duckdb.connect(str(database))
    con.execute("SET timezone = 'UTC'; SET enable_progress_bar = false; SET threads = 2")
    try:
        relation = f"{ident(model.schema)}.{ident(model.name)}"
        kinds = {n: k for n, k, *_ in con.execute(f"DESCRIBE {relation}").fetchall()}
        # The model's contract is enforced, so its yml names every column of the relation.
        columns = tuple(Column(c.name, kinds[c.name], c.description, c.unit, c.classification) for c in model.columns)
        rows, content = _content(con, relation, columns, model)
        before = next((g for g in parent.gold if g.name == model.name), None) if parent else None
        described: dict[str, Any] = {
            "name": model.name, "rows": rows, "columns": columns, "key": model.key, "clocks": dict(model.clocks),
            "inputs": tuple(Input(i.table, i.where) for i in model.inputs), "description": model.description,
        }  # fmt: skip
        order = ", ".join(ident(k) for k in model.key)
        select = f"SELECT * FROM {relation} ORDER BY {order}"
        table = _table(catalog, model, columns)
        same = before is not None and silver.snapshot_id(table) == before.snapshot
        if before and same and _content_of(table, before.snapshot) == content and files.exists(before.serving):
            return Gold(**described, snapshot=before.snapshot, serving=before.serving)
        written = tables.write(con, table, select, f"{release_id}-{model.name}", row_group=ROW_GROUP)
        with effect("release.commit"):
            snapshot = tables.replace(table, written, {"assay.release": release_id, "assay.content": content})
        serving = f"serving/{model.name}-{snapshot.snapshot_id}.duckdb"
        _serve(con, select, model.name, files, serving)
        return Gold(**described, snapshot=snapshot.snapshot_id, serving=serving)
    finally:
        con.close()


def _content(
    con: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[Column], model: dbt.Model
) -> tuple[int, str]:
    """How many rows, and a hash of them all and of the columns, whatever their order."""
    texts = " || chr(31) || ".join(f"coalesce(CAST({ident(c.name)} AS VARCHAR), chr(30))" for c in columns)
    if not model.key:
        raise BuildFailed(f"{model.name}: meta.assay.key is missing")
    keys = ", ".join(ident(k) for k in model.key)
    if twice := con.execute(f"SELECT {keys} FROM {relation} GROUP BY ALL HAVING count(*) > 1 LIMIT 1").fetchall():
        raise BuildFailed(f"{model.name}: its key ({keys}) is there twice, for example {twice[0]}; no release was made")
    found = con.execute(
        f"SELECT count(*), bit_xor(md5_number_lower(t)), bit_xor(md5_number_upper(t)) FROM (SELECT {texts} AS t FROM {relation})"
    ).fetchall()[0]
    shape = ",".join(f"{c.name} {c.type}" for c in columns)
    return found[0], hashlib.sha256(f"{shape}|{found}".encode()).hexdigest()


def _content_of(table: Table, snapshot: int) -> str | None:
    found = table.snapshot_by_id(snapshot)
    return found.summary.additional_properties.get("assay.content") if found and found.summary else None


def _table(catalog: Catalog, model: dbt.Model, columns: Sequence[Column]) -> Table:
    """The model's Iceberg table with these columns; a column whose type changed is dropped and added anew."""
    name = f"gold.{model.name}"
    wanted = {c.name: (c.type, c.description) for c in columns}
    table = tables.ensure(catalog, name, wanted)
    found = {f.name: tables.sql_type(f.field_type) for f in table.schema().fields}
    same = {n: tables.sql_type(tables.iceberg_type(kind)) for n, (kind, _) in wanted.items()}
    if found != same:
        with tables.catalog_errors(name), table.update_schema(allow_incompatible_changes=True) as change:
            for column, kind in found.items():
                if same.get(column) != kind:
                    change.delete_column(column)
        table = catalog.load_table(name)
        with tables.catalog_errors(name), table.update_schema(allow_incompatible_changes=True) as change:
            for column, (kind, doc) in wanted.items():
                if found.get(column) != same[column]:
                    change.add_column(column, tables.iceberg_type(kind), doc or None)
        table = catalog.load_table(name)
    return table


def _serve(con: duckdb.DuckDBPyConnection, select: str, name: str, files: Files, serving: str) -> None:
    scratch = files.scratch()
    # An older storage version, so that DuckDB clients of the last two years can open the file too.
    con.execute(f"ATTACH {text(str(scratch))} AS serving (STORAGE_VERSION 'v1.0.0')")
    con.execute(f"CREATE TABLE serving.{ident(name)} AS {select}")
    con.execute("DETACH serving")
    files.adopt(scratch, serving, "release.serving")


def _keep_seeds(built: dbt.Built, files: Files) -> str:
    """The project's seeds in one DuckDB file, so that an explanation can run the models again."""
    name = f"serving/seeds-{built.dbt_hash[:16]}.duckdb"
    seeds = [m for m in built.models if m.kind == "seed"]
    if not files.exists(name):
        scratch = files.scratch()
        con = duckdb.connect(str(built.database))
        con.execute(f"ATTACH {text(str(scratch))} AS serving (STORAGE_VERSION 'v1.0.0')")
        for one in seeds:
            con.execute(f"CREATE SCHEMA IF NOT EXISTS serving.{ident(one.schema)}")
            con.execute(
                f"CREATE TABLE serving.{ident(one.schema)}.{ident(one.name)} AS SELECT * FROM {ident(one.schema)}.{ident(one.name)}"
            )
        con.close()
        files.adopt(scratch, name, "release.serving")
    return name


def check(project: Path, contracts: Mapping[str, Contract]) -> list[str]:
    """The gold tables the project declares, without running it; BuildFailed or ContractError says what is wrong."""
    views = []
    for contract in contracts.values():
        for versions in (False, True):
            name = f"{contract.dataset}_versions" if versions else contract.dataset
            kinds = silver.view_columns(contract, versions=versions)
            empty = ", ".join(f"CAST(NULL AS {kind}) AS {ident(column)}" for column, (kind, _) in kinds.items())
            views.append(
                dbt.SilverView(name, f"SELECT {empty} LIMIT 0", silver.descriptions(contract, versions=versions))
            )
    return [m.name for m in dbt.describe(project, views) if m.released]


__all__ = ["build", "check", "project_hash"]
