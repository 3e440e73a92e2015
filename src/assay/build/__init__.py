"""Silver to gold by dbt in a process of its own; what passes its tests becomes a release."""

import hashlib
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from ulid import ULID

from assay import clock
from assay.build import dbt
from assay.build.dbt import project_hash
from assay.contract.model import Contract
from assay.crash import effect
from assay.errors import BuildFailed, LakeDamaged
from assay.lake import evidence, recompute, release, silver, tables
from assay.lake.files import Files
from assay.lake.release import Column, Gold, Input, Model, Release, Silver
from assay.lake.tables import ident, text
from assay.ports import Fact, Ledger

ROW_GROUP = 32_768
SAMPLED = 200_000
# What Python, Iceberg and JSON can all say; beyond it, readers get an error, or another value.
_FIRST, _LAST = "0001-01-01", "9999-12-31"


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

    BuildFailed if a model or test fails, or a table holds what cannot be served or explained: nothing of gold changed
    then. LakeBusy if another run released meanwhile. A table whose rows are those of the parent release keeps its
    snapshot, and its serving file as long as that is what was written.
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
        built = dbt.compute(
            project, work, views, threads=threads, memory=memory, served=parent.number if parent else None
        )
        models = tuple(Model(m.relation, m.kind, m.compiled) for m in built.models)
        with _opened(built, threads, memory, read_only=True) as con:
            tables_of = [_checked(con, m) for m in built.models if m.released]
            for gold, _ in tables_of:
                _explained(con, built.database, models, gold, memory)
        number = parent.number + 1 if parent else 1
        release_id = str(ULID())
        files.put_new(
            f"releases/_intents/{release_id}.json",
            msgspec.json.encode({"number": number, "run": run}),
            "release.intent",
        )
        with _opened(built, threads, memory) as con:
            published = [_publish(con, g, content, catalog, files, parent, release_id) for g, content in tables_of]
            seeds = _keep_seeds(con, built, files, parent, release_id)
    except BaseException as error:
        # What dbt left stays where its message says; the next step is a person's.
        if not (isinstance(error, BuildFailed) and str(work) in str(error)):
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    made = Release(
        number=number, id=release_id, parent=parent.number if parent else None, at=clock.now(), run=run, dbt_hash=built.dbt_hash,
        gold=tuple(published), seeds=seeds[0], seeds_sha256=seeds[1], tests=built.tests, models=models,
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


@contextmanager
def _opened(
    built: dbt.Built, threads: int, memory: str, *, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    con = duckdb.connect(str(built.database), read_only=read_only)
    try:
        con.execute(f"SET timezone = 'UTC'; SET enable_progress_bar = false; SET threads = {threads}")
        con.execute(f"SET memory_limit = {text(memory)}; SET python_enable_replacements = false")
        yield con
    finally:
        con.close()


def _checked(con: duckdb.DuckDBPyConnection, model: dbt.Model) -> tuple[Gold, str]:
    """A table as its release will describe it, not yet published, and a hash of its columns and of all its rows.

    BuildFailed, with a row for example, if it has a key that is null or there twice, or a value that readers cannot
    get: NaN, infinity, a year beyond 9999.
    """
    relation = f"{ident(model.schema)}.{ident(model.name)}"
    kinds = {n: k for n, k, *_ in con.execute(f"DESCRIBE {relation}").fetchall()}
    # The model's contract is enforced, so its yml names every column of the relation.
    columns = tuple(Column(c.name, kinds[c.name], c.description, c.unit, c.classification) for c in model.columns)
    keys = ", ".join(ident(k) for k in model.key)
    spoken = ", ".join(f"CAST({ident(k)} AS VARCHAR)" for k in model.key)

    def refuse(condition: str, what: str, remedy: str) -> None:
        if found := con.execute(f"SELECT {spoken} FROM {relation} WHERE {condition} LIMIT 1").fetchall():
            example = ", ".join(f"{k}={'NULL' if v is None else v}" for k, v in zip(model.key, found[0], strict=True))
            raise BuildFailed(f"gold.{model.name}: {what}, for example where {example}; {remedy}; no release was made")

    for column in columns:
        try:
            tables.iceberg_type(column.type)
        except LakeDamaged:
            raise BuildFailed(
                f"gold.{model.name}: {column.name} is a {column.type}, which no table of a lake holds; cast it, a FLOAT to "
                f"DOUBLE for example; no release was made"
            ) from None
        if odd := _odd(column):
            refuse(
                odd[0],
                f"{column.name} is {odd[1]}, which no reader can get",
                f"turn it into null (nullif, case when isfinite({column.name}) …), or let a test refuse it",
            )
    for key in model.key:
        refuse(
            f"{ident(key)} IS NULL",
            f"{key} is null and part of its key",
            "a page ends there: leave the row out, or name it",
        )
    refuse(
        f"true GROUP BY {keys} HAVING count(*) > 1",
        f"its key ({keys}) is there twice",
        "group by it, or name a longer key in meta.assay.key",
    )
    texts = " || chr(31) || ".join(f"coalesce(CAST({ident(c.name)} AS VARCHAR), chr(30))" for c in columns)
    found = con.execute(
        f"SELECT count(*), bit_xor(md5_number_lower(t)), bit_xor(md5_number_upper(t)) FROM (SELECT {texts} AS t FROM {relation})"
    ).fetchall()[0]
    shape = ",".join(f"{c.name} {c.type}" for c in columns)
    gold = Gold(
        name=model.name, snapshot=0, rows=found[0], serving="", columns=columns, key=model.key, clocks=dict(model.clocks),
        inputs=tuple(Input(i.table, i.where) for i in model.inputs), description=model.description,
    )  # fmt: skip
    return gold, hashlib.sha256(f"{shape}|{found}".encode()).hexdigest()


def _odd(column: Column) -> tuple[str, str] | None:
    """A condition for the values of a column that no reader can get, and what they are."""
    name = ident(column.name)
    if column.type == "DOUBLE":
        return f"NOT isfinite({name})", "NaN or infinite"
    if column.type in ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"):
        last = f"DATE '{_LAST}'" if column.type == "DATE" else f"{column.type} '{_LAST} 23:59:59.999999'"
        return f"{name} < {column.type} '{_FIRST}' OR {name} > {last}", f"infinite or beyond {_FIRST} to {_LAST}"
    return None


def _explained(
    con: duckdb.DuckDBPyConnection,
    seeds: Path,
    models: Sequence[Model],
    gold: Gold,
    memory: str,
    sampled: int = SAMPLED,
) -> None:
    """Recompute one row, the last by its key, from the inputs it declares; BuildFailed if it comes out otherwise.

    A row of `sampled` input rows or more is taken at its word: it would cost what the model cost.
    """
    order = ", ".join(f"{ident(k)} DESC" for k in gold.key)
    names = [c.name for c in gold.columns]
    rows = con.execute(
        f"SELECT {', '.join(map(ident, names))} FROM gold.{ident(gold.name)} ORDER BY {order} LIMIT 1"
    ).fetchall()
    if not rows:
        return
    row = dict(zip(names, rows[0], strict=True))
    key = ", ".join(f"{k}={row[k]}" for k in gold.key)
    remedy = "mend meta.assay.inputs, or no number of this table can be explained; no release was made"
    try:
        inputs = recompute.given(con, models, gold, row, sampled)
        if any(one.num_rows >= sampled for one in inputs.values()):
            return
        again = recompute.recompute(seeds, models, gold, row, inputs, memory)
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
        raise BuildFailed(
            f"gold.{gold.name}: {key} cannot be computed from its declared inputs ({said}); {remedy}"
        ) from error
    if again is None:
        raise BuildFailed(f"gold.{gold.name}: {key} does not come from its declared inputs at all; {remedy}")
    for name in names:
        if not _same(row[name], again[name]):
            raise BuildFailed(
                f"gold.{gold.name}: {key} has {name} {row[name]}, its declared inputs alone give {again[name]}; {remedy}"
            )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)  # sums of fewer rows are added up in another order
    return bool(one == other)


def _publish(
    con: duckdb.DuckDBPyConnection,
    gold: Gold,
    content: str,
    catalog: Catalog,
    files: Files,
    parent: Release | None,
    release_id: str,
) -> Gold:
    """Commit a table's rows as one snapshot and lay down its serving file, each unless the parent has it already."""
    before = next((g for g in parent.gold if g.name == gold.name), None) if parent else None
    select = f"SELECT * FROM gold.{ident(gold.name)} ORDER BY {', '.join(ident(k) for k in gold.key)}"
    table = _table(catalog, gold)
    snapshot = before.snapshot if before and _holds(table, before.snapshot, content) else None
    if snapshot is None:
        written = tables.write(con, table, select, f"{release_id}-{gold.name}", row_group=ROW_GROUP)
        with effect("release.commit"):
            snapshot = tables.replace(
                table, written, {"assay.release": release_id, "assay.content": content}
            ).snapshot_id
    elif before and before.serving_sha256 and not release.wrong(files, before.serving, before.serving_sha256):
        return msgspec.structs.replace(
            gold, snapshot=snapshot, serving=before.serving, serving_sha256=before.serving_sha256
        )
    # Named by the release: of one snapshot there may be a file that was altered, and nothing is written over.
    serving = f"serving/{gold.name}-{release_id}.duckdb"
    sha256 = _serve(con, {f"main.{ident(gold.name)}": select}, files, serving)
    return msgspec.structs.replace(gold, snapshot=snapshot, serving=serving, serving_sha256=sha256)


def _holds(table: Table, snapshot: int, content: str) -> bool:
    """Whether the table's newest snapshot is this one, has these rows, and lost none of its files."""
    if silver.snapshot_id(table) != snapshot or _content_of(table, snapshot) != content:
        return False
    try:
        tables.relation(table, snapshot)
    except LakeDamaged:
        return False
    return True


def _content_of(table: Table, snapshot: int) -> str | None:
    found = table.snapshot_by_id(snapshot)
    return found.summary.additional_properties.get("assay.content") if found and found.summary else None


def _table(catalog: Catalog, gold: Gold) -> Table:
    """The Iceberg table with gold's columns; a column whose type changed is dropped and added anew."""
    name = f"gold.{gold.name}"
    wanted = {c.name: (c.type, c.description) for c in gold.columns}
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


def _serve(con: duckdb.DuckDBPyConnection, selects: Mapping[str, str], files: Files, name: str) -> str:
    """Lay down a DuckDB file of these relations; its sha256."""
    scratch = files.scratch()
    # An older storage version, so that DuckDB clients of the last two years can open the file too.
    con.execute(f"ATTACH {text(str(scratch))} AS serving (STORAGE_VERSION 'v1.0.0')")
    for relation, select in selects.items():
        con.execute(f"CREATE SCHEMA IF NOT EXISTS serving.{relation.partition('.')[0]}")
        con.execute(f"CREATE TABLE serving.{relation} AS {select}")
    con.execute("DETACH serving")
    sha256 = release.file_sha256(scratch)
    files.adopt(scratch, name, "release.serving")
    return sha256


def _keep_seeds(
    con: duckdb.DuckDBPyConnection, built: dbt.Built, files: Files, parent: Release | None, release_id: str
) -> tuple[str, str]:
    """The project's seeds in one DuckDB file, so that an explanation can run the models again: its name and sha256."""
    kept = parent.seeds_sha256 if parent and parent.dbt_hash == built.dbt_hash else ""
    if parent and kept and not release.wrong(files, parent.seeds, kept):
        return parent.seeds, kept
    name = f"serving/seeds-{release_id}.duckdb"
    relations = [f"{ident(m.schema)}.{ident(m.name)}" for m in built.models if m.kind == "seed"]
    return name, _serve(con, {one: f"SELECT * FROM {one}" for one in relations}, files, name)


def sweep(files: Files, older: timedelta = timedelta(days=1)) -> int:
    """Remove what failed or killed processes left in `_tmp`, unless any of it was touched within `older`; how many.

    Age is the only guard for what another process has in the making: choose more than any step takes.
    """
    before = clock.now().timestamp() - older.total_seconds()
    removed = 0
    for one in files.path("_tmp").glob("*"):
        # What queries spill is DuckDB's: it knows whose process has died.
        if one.name.startswith("duckdb_temp_"):
            continue
        try:
            if _touched(one) >= before:
                continue
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink()
            removed += 1
        except FileNotFoundError:
            continue  # its owner took it away meanwhile
    return removed


def _touched(path: Path) -> float:
    """When anything at or below a path was changed last, without following links."""
    inside = (Path(where) / name for where, folders, names in os.walk(path) for name in (*folders, *names))
    return max(one.lstat().st_mtime for one in (path, *inside))


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


__all__ = ["build", "check", "project_hash", "sweep"]
