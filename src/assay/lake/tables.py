"""Iceberg tables: parquet written by DuckDB, committed by PyIceberg, read back as DuckDB relations."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import IdentityTransform, MonthTransform, YearTransform
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)
from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from assay.errors import LakeBusy, LakeDamaged, SettingsError

REMEDY = "Take away all of {} but bronze and contracts, then `assay apply` makes the rest from them"
PROPERTIES = {
    # A blind retry would append files again without looking which batches are in by now.
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
    "write.parquet.compression-codec": "zstd",
}
_TYPES: dict[str, Callable[[], IcebergType]] = {
    "VARCHAR": StringType, "BIGINT": LongType, "INTEGER": IntegerType, "DOUBLE": DoubleType, "BOOLEAN": BooleanType,
    "DATE": DateType, "TIMESTAMP": TimestampType, "TIMESTAMP WITH TIME ZONE": TimestamptzType, "TIMESTAMPTZ": TimestamptzType,
}  # fmt: skip
_TRANSFORMS = {"value": IdentityTransform, "month": MonthTransform, "year": YearTransform}


def ident(name: str) -> str:
    """A name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A string as a quoted SQL literal, for the places where nothing can be bound (views, COPY options)."""
    return "'" + value.replace("'", "''") + "'"


def open_catalog(root: Path) -> Catalog:
    """The lake's local catalog: SQLite beside the warehouse."""
    root.mkdir(parents=True, exist_ok=True)
    where = URL.create("sqlite", database=str(root / "catalog.db")).render_as_string()
    with catalog_errors("the catalog"):
        for _ in range(10):
            try:
                found = SqlCatalog("lake", uri=where, warehouse=f"file://{root / 'warehouse'}")
                break
            except OperationalError as error:
                # Two processes open a new lake at once, and the other one made the tables first.
                if "already exists" not in str(error.orig):
                    raise
        else:
            found = SqlCatalog("lake", uri=where, warehouse=f"file://{root / 'warehouse'}")
        with found.engine.connect() as con:
            placed = con.exec_driver_sql("SELECT min(metadata_location) FROM iceberg_tables").scalar()
    if placed and not placed.startswith(f"file://{root}/"):
        found.close()
        raise LakeDamaged(f"this lake was moved: its catalog names {placed}. {REMEDY.format(root)}")
    return found


def iceberg_type(sql: str) -> IcebergType:
    """The Iceberg type of a DuckDB type's name."""
    if sql.upper().startswith("DECIMAL("):
        precision, scale = (int(part) for part in sql[8:-1].split(","))
        return DecimalType(precision, scale)
    try:
        return _TYPES[sql.upper()]()
    except KeyError:
        raise LakeDamaged(f"type {sql} has no place in a table of this lake") from None


def sql_type(kind: IcebergType) -> str:
    """The DuckDB type of an Iceberg type."""
    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision},{kind.scale})"
    for name, one in _TYPES.items():
        if isinstance(kind, one):  # type: ignore[arg-type]
            return name
    raise LakeDamaged(f"Iceberg type {kind} is not one this lake writes")


def ensure(
    catalog: Catalog,
    name: str,
    columns: Mapping[str, tuple[str, str]],
    partition: tuple[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
) -> Table:
    """The table `name` (namespace.table), created if need be: column to (DuckDB type, description)."""
    try:
        return catalog.load_table(name)
    except NoSuchTableError:
        pass
    fields = [
        NestedField(i, column, iceberg_type(kind), required=False, doc=doc or None)
        for i, (column, (kind, doc)) in enumerate(columns.items(), 1)
    ]
    schema = Schema(*fields)
    spec = UNPARTITIONED_PARTITION_SPEC
    if partition:
        source = schema.find_field(partition[0])
        label = partition[0] if partition[1] == "value" else f"{partition[0]}_{partition[1]}"
        spec = PartitionSpec(PartitionField(source.field_id, 1000, _TRANSFORMS[partition[1]](), label))
    with catalog_errors(table=name):
        with suppress(IntegrityError):  # another process made it between the catalog's look and its own insert
            catalog.create_namespace_if_not_exists(name.split(".", maxsplit=1)[0])
        return catalog.create_table_if_not_exists(
            name, schema, partition_spec=spec, properties={**PROPERTIES, **(properties or {})}
        )


@contextmanager
def catalog_errors(table: str) -> Iterator[None]:
    """Turn what catalog or disk say into who must act: LakeBusy, SettingsError for no room, LakeDamaged."""
    try:
        yield
    except CommitFailedException as error:
        raise LakeBusy(f"{table} was changed by another process; nothing of this is in, run it again") from error
    except DatabaseError as error:
        said = str(error.orig)
        if "locked" in said:
            raise LakeBusy(
                f"the catalog is in use by another process; {table} was not changed, run it again"
            ) from error
        if isinstance(error, OperationalError):
            raise SettingsError(
                f"the catalog cannot be written ({said}); {table} was not changed, is the disk full?"
            ) from error
        raise LakeDamaged(f"catalog.db is not a catalog any more ({said}); restore it from a copy") from error
    except FileNotFoundError as error:
        raise LakeDamaged(f"{table} lost a file ({error}); restore it from a copy") from error
    except PermissionError as error:
        raise SettingsError(f"{table} cannot be written ({error}); the lake's owner must allow it") from error
    except OSError as error:
        raise SettingsError(f"{table} was not changed ({error}); is the disk full?") from error


@dataclass(frozen=True)
class Written:
    """One parquet file DuckDB wrote for a table."""

    path: str
    bytes: int
    rows: int
    partition: tuple[Any, ...]


def write(
    con: duckdb.DuckDBPyConnection, table: Table, select: str, stem: str, *, row_group: int = 122_880
) -> list[Written]:
    """Write a SELECT's rows as parquet of `table`: zstd, field ids, one file per partition and thread.

    Nothing is visible until `append` or `replace` commits the files; `stem` begins their names.
    """
    schema, spec = table.schema(), table.spec()
    where = Path(table.location().removeprefix("file://")) / "data"
    where.mkdir(parents=True, exist_ok=True)
    columns = ", ".join(ident(field.name) for field in schema.fields)
    parts = [(f"__p{i}", _partition_sql(field, schema)) for i, field in enumerate(spec.fields)]
    chosen = ", ".join([columns, *(f"{sql} AS {alias}" for alias, sql in parts)])
    ids = ", ".join(f"{ident(field.name)}: {field.field_id}" for field in schema.fields)
    options = [
        "FORMAT parquet",
        "COMPRESSION zstd",
        # Level 1: half the CPU of the default for files a tenth larger.
        "COMPRESSION_LEVEL 1",
        f"FIELD_IDS {{{ids}}}",
        "RETURN_STATS true",
        f"ROW_GROUP_SIZE {row_group}",
    ]
    if parts:
        options += [
            f"PARTITION_BY ({', '.join(a for a, _ in parts)})",
            "OVERWRITE_OR_IGNORE true",
            f"FILENAME_PATTERN {text(stem + '-{i}')}",
        ]
        target = where
    else:
        target = where / f"{stem}.parquet"
    cursor = con.execute(f"COPY (SELECT {chosen} FROM ({select})) TO {text(str(target))} ({', '.join(options)})")
    names = [one[0] for one in cursor.description or ()]
    out = []
    for row in cursor.fetchall():
        got = dict(zip(names, row, strict=True))
        keys = tuple(
            _partition_value(field, got["partition_keys"].get(f"__p{i}")) for i, field in enumerate(spec.fields)
        )
        if got["count"]:
            out.append(Written(got["filename"], got["file_size_bytes"], got["count"], keys))
    return out


def _partition_sql(field: PartitionField, schema: Schema) -> str:
    column = ident(schema.find_field(field.source_id).name)
    if isinstance(field.transform, YearTransform):
        return f"(year({column}) - 1970)"
    if isinstance(field.transform, MonthTransform):
        return f"((year({column}) - 1970) * 12 + month({column}) - 1)"
    return column


def _partition_value(field: PartitionField, found: str | None) -> Any:
    if found is None or found == "NULL":
        return None
    return found if isinstance(field.transform, IdentityTransform) else int(found)


def _data_files(table: Table, written: Sequence[Written]) -> list[DataFile]:
    schema = table.schema()
    plan = compute_statistics_plan(schema, table.metadata.properties)
    mapping = parquet_path_to_id_mapping(schema)
    out = []
    for one in written:
        stats = data_file_statistics_from_parquet_metadata(pq.read_metadata(one.path), plan, mapping)
        out.append(
            DataFile.from_args(
                content=DataFileContent.DATA, file_path=f"file://{one.path}", file_format=FileFormat.PARQUET,
                partition=Record(*one.partition), file_size_in_bytes=one.bytes, sort_order_id=None,
                spec_id=table.metadata.default_spec_id, equality_ids=None, key_metadata=None, **stats.to_serialized_dict(),
            )
        )  # fmt: skip
    return out


def append(table: Table, written: Sequence[Written], properties: Mapping[str, str]) -> Snapshot:
    """Add files to the table in one commit on the snapshot `table` was loaded at; LakeBusy if it moved since."""
    return _commit(table, _data_files(table, written), properties, replace=False)


def replace(table: Table, written: Sequence[Written], properties: Mapping[str, str]) -> Snapshot:
    """Make the files the table's whole content, in one snapshot; LakeBusy if the table moved since it was loaded."""
    return _commit(table, _data_files(table, written), properties, replace=True)


def _commit(table: Table, files: Sequence[DataFile], properties: Mapping[str, str], *, replace: bool) -> Snapshot:
    with catalog_errors(".".join(table.name())), table.transaction() as change:
        update = change.update_snapshot(snapshot_properties=dict(properties))
        if replace:
            with update.overwrite() as overwrite:
                for task in table.scan().plan_files():
                    overwrite.delete_data_file(task.file)
                for file in files:
                    overwrite.append_data_file(file)
        else:
            with update.fast_append() as add:
                for file in files:
                    add.append_data_file(file)
    snapshot = table.current_snapshot()
    if snapshot is None:
        raise LakeDamaged(f"{'.'.join(table.name())} has no snapshot after a commit")
    return snapshot


def partition_of(table: Table) -> tuple[str, str] | None:
    """The column and how it is cut (year, month, value), as a contract says it; None if the table is not."""
    for field in table.spec().fields:
        how = next(name for name, one in _TRANSFORMS.items() if isinstance(field.transform, one))
        return table.schema().find_field(field.source_id).name, how
    return None


def history(table: Table, seen: Collection[int] = ()) -> Iterator[Snapshot]:
    """The snapshots of the table's main branch from the newest back to, without, the first of `seen`."""
    snapshot = table.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id not in seen:
        yield snapshot
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None


def relation(table: Table, snapshot: int | None, row_filter: Any = None) -> str:
    """A SELECT of the table's rows at a snapshot, for DuckDB: files by name, columns by field id.

    Without a snapshot, or without files, it is an empty relation of the right types. LakeDamaged where another
    engine left delete files, which a plain read would ignore.
    """
    columns = {field.field_id: (field.name, sql_type(field.field_type)) for field in table.schema().fields}
    paths = []
    if snapshot is not None:
        scan = table.scan(snapshot_id=snapshot) if row_filter is None else table.scan(row_filter, snapshot_id=snapshot)
        for task in scan.plan_files():
            if task.delete_files:
                raise LakeDamaged(
                    f"{'.'.join(table.name())} holds delete files of another engine; compact it there first"
                )
            paths.append(task.file.file_path.removeprefix("file://"))
    if lost := [one for one in paths if not Path(one).exists()]:
        raise LakeDamaged(
            f"{'.'.join(table.name())} lost {lost[0]}; restore it from a copy, or refine it again (--rebuild)"
        )
    if not paths:
        return (
            "SELECT "
            + ", ".join(f"CAST(NULL AS {kind}) AS {ident(name)}" for name, kind in columns.values())
            + " LIMIT 0"
        )
    schema = ", ".join(
        f"{i}: {{name: {text(name)}, type: {text(kind)}, default_value: NULL}}" for i, (name, kind) in columns.items()
    )
    listed = ", ".join(text(one) for one in sorted(paths))
    return f"SELECT {', '.join(ident(n) for n, _ in columns.values())} FROM read_parquet([{listed}], schema = MAP {{{schema}}})"
