"""Gold to readers: a snapshot and a serving file per table, each unless the last release has it already."""

import hashlib
from collections.abc import Mapping, Sequence

import duckdb
from msgspec import structs
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from assay.build import manifest
from assay.build.compute import Built
from assay.build.judge import Judged
from assay.lake import docs, duck, parquet, release, silver, tables
from assay.lake.duck import ident, text
from assay.lake.evidence import Change
from assay.lake.files import scratch_directory
from assay.lake.release import Gold, Release
from assay.ports import Files, Limits

ROW_GROUP = 32_768


def publish(
    built: Built,
    judged: Sequence[Judged],
    parent: Release | None,
    release_id: str,
    *,
    files: Files,
    catalog: Catalog,
    limits: Limits,
) -> tuple[tuple[Gold, ...], tuple[str, str], tuple[str, str]]:
    """The tables with the snapshots and files that hold them now, and the files of the seeds and of what documents the
    project, each with its sha256.

    Readers of a release see none of it before the release is written; LakeDamaged if a table of gold cannot be read.
    """
    with duck.open(limits, built.database) as con:
        gold = tuple(_publish(con, one, catalog, files, parent, release_id) for one in judged)
        return (
            gold,
            _keep_seeds(con, built, files, parent, release_id),
            _keep_docs(con, built, files, parent, release_id),
        )


def _publish(
    con: duckdb.DuckDBPyConnection,
    judged: Judged,
    catalog: Catalog,
    files: Files,
    parent: Release | None,
    release_id: str,
) -> Gold:
    """Commit a table's rows as one snapshot and lay down its serving file, each unless the parent has it already."""
    gold, content = judged.gold, judged.content
    before = next((g for g in parent.gold if g.name == gold.name), None) if parent else None
    select = f"SELECT * FROM gold.{ident(gold.name)} ORDER BY {', '.join(ident(k) for k in gold.key)}"
    table = _table(catalog, gold)
    if before and _holds(files, table, before, content):
        gold = structs.replace(gold, snapshot=before.snapshot, files=before.files, content=content)
        if before.serving_sha256 and not release.wrong(files, before.serving, before.serving_sha256):
            return structs.replace(gold, serving=before.serving, serving_sha256=before.serving_sha256)
    else:
        with scratch_directory(files) as where:
            made = parquet.write(con, tables.layout(table), select, where, row_group=ROW_GROUP)
            added = tuple(tables.adopt(files, table, made, f"{release_id}-{gold.name}"))
        said = {"assay.release": release_id, "assay.content": content}
        snapshot = tables.commit(table, files, Change(added, (), everything=True), said, as_effect="release.commit")
        gold = structs.replace(gold, snapshot=snapshot.snapshot_id, files=added, content=content)
    # Named by the release: of one snapshot there may be a file that was altered, and nothing is written over.
    serving = f"serving/{gold.name}-{release_id}.duckdb"
    sha256 = _serve(con, {f"main.{ident(gold.name)}": select}, files, serving)
    return structs.replace(gold, serving=serving, serving_sha256=sha256)


def _holds(files: Files, table: Table, before: Gold, content: str) -> bool:
    """Whether the table's newest snapshot is the last release's, has these rows, and its files are what was written."""
    head = silver.snapshot_id(table)
    if head is None or _content_of(table, before.snapshot) != content or _content_of(table, head) != content:
        return False
    if head != before.snapshot:  # upkeep moves a head without changing a row
        there = {tables.name_of(table, one) for one in tables.data_files(table)}
        if there != {one.name for one in before.files}:
            return False
    return not any(release.wrong(files, one.name, one.sha256) for one in before.files)


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
        with tables.changing(table), table.update_schema(allow_incompatible_changes=True) as change:
            for column, kind in found.items():
                if same.get(column) != kind:
                    change.delete_column(column)
        table = catalog.load_table(name)
        with tables.changing(table), table.update_schema(allow_incompatible_changes=True) as change:
            for column, (kind, doc) in wanted.items():
                if found.get(column) != same[column]:
                    change.add_column(column, tables.iceberg_type(kind), doc or None)
        table = catalog.load_table(name)
    return table


def _serve(con: duckdb.DuckDBPyConnection, selects: Mapping[str, str], files: Files, name: str) -> str:
    """Lay down a DuckDB file of these relations; its sha256."""
    made = files.scratch()
    # An older storage version, so that DuckDB clients of the last two years can open the file too.
    con.execute(f"ATTACH {text(str(made))} AS serving (STORAGE_VERSION 'v1.0.0')")
    for relation, select in selects.items():
        con.execute(f"CREATE SCHEMA IF NOT EXISTS serving.{relation.partition('.')[0]}")
        con.execute(f"CREATE TABLE serving.{relation} AS {select}")
    con.execute("DETACH serving")
    sha256 = release.file_sha256(made)
    files.put_new(name, made, "release.serving")
    return sha256


def _keep_seeds(
    con: duckdb.DuckDBPyConnection, built: Built, files: Files, parent: Release | None, release_id: str
) -> tuple[str, str]:
    """The project's seeds in one DuckDB file, so that an explanation can run the models again: its name and sha256."""
    kept = parent.seeds_sha256 if parent and parent.dbt_hash == built.dbt_hash else ""
    if parent and kept and not release.wrong(files, parent.seeds, kept):
        return parent.seeds, kept
    name = f"serving/seeds-{release_id}.duckdb"
    relations = [".".join(map(ident, m.relation.split(".", 1))) for m in built.models if m.kind == "seed"]
    return name, _serve(con, {one: f"SELECT * FROM {one}" for one in relations}, files, name)


def _keep_docs(
    con: duckdb.DuckDBPyConnection, built: Built, files: Files, parent: Release | None, release_id: str
) -> tuple[str, str]:
    """What dbt's documentation page is made of, unless the parent has the same: its name and sha256."""
    data = docs.encode(manifest.docs(built.manifest, con))
    name, sha256 = docs.name_of(release_id), hashlib.sha256(data).hexdigest()
    if parent and parent.docs_sha256 == sha256 and not release.wrong(files, parent.docs, sha256):
        return parent.docs, sha256
    files.put_new(name, data, "release.serving")
    return name, sha256
