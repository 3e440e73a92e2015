"""Iceberg tables: parquet objects that PyIceberg commits, pruned by their bounds, and held against the parquet itself."""

import hashlib
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast

import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NoSuchTableError,
    ValidationException,
)
from pyiceberg.io.pyarrow import (
    MetricModeTypes,
    MetricsMode,
    StatisticsCollector,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
)
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    read_manifest_list,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles
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
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
)
from pyiceberg.utils.concurrent import ExecutorFactory

from assay.crash import effect
from assay.errors import AssayError, CommitUnknown, LakeBusy, LakeDamaged
from assay.lake import evidence
from assay.lake.files import sha256_of
from assay.lake.io import LakeIO
from assay.ports import Files, Layout, Parquet, Relation, Scope

MERGE = 20
"""How many manifests a table may have before the next commit makes one of them."""
PROPERTIES = {
    # A blind retry would append files again without looking which batches are in by now.
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": str(MERGE),
    # Names of the last ten stay in the newest; the objects are upkeep's to take away.
    "write.metadata.delete-after-commit.enabled": "false",
    "write.metadata.previous-versions-max": "10",
    "write.parquet.compression-codec": "zstd",
}
_TYPES: dict[str, Callable[[], IcebergType]] = {
    "VARCHAR": StringType, "BIGINT": LongType, "INTEGER": IntegerType, "DOUBLE": DoubleType, "BOOLEAN": BooleanType,
    "DATE": DateType, "TIMESTAMP": TimestampType, "TIMESTAMP WITH TIME ZONE": TimestamptzType, "TIMESTAMPTZ": TimestamptzType,
}  # fmt: skip
_TRANSFORMS = {"value": IdentityTransform, "month": MonthTransform, "year": YearTransform}
_PIECE = 8 << 20


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


def load(catalog: Catalog, name: str) -> Table | None:
    """The table `name` (namespace.table) as it is now, None if there is none; LakeDamaged if it cannot be read."""
    with _readable(f"the metadata that the catalog names for {name}"):
        try:
            return catalog.load_table(name)
        except NoSuchTableError:
            return None


def ensure(
    catalog: Catalog,
    name: str,
    columns: Mapping[str, tuple[str, str]],
    partition: tuple[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
) -> Table:
    """The table `name` (namespace.table), created if need be: column to (DuckDB type, description)."""
    if found := load(catalog, name):
        return found
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
    catalog.create_namespace_if_not_exists(name.split(".", maxsplit=1)[0])
    return catalog.create_table_if_not_exists(
        name, schema, partition_spec=spec, properties={**PROPERTIES, **(properties or {})}
    )


def layout(table: Table) -> Layout:
    """How the table's parquet is written."""
    return Layout(_columns(table), partition_of(table))


def partition_of(table: Table) -> tuple[str, str] | None:
    """The column and how it is cut (year, month, value), as a contract says it; None if the table is not."""
    for field in table.spec().fields:
        how = next(name for name, one in _TRANSFORMS.items() if isinstance(field.transform, one))
        return table.schema().find_field(field.source_id).name, how
    return None


def _columns(table: Table) -> tuple[tuple[int, str, str], ...]:
    return tuple((field.field_id, field.name, sql_type(field.field_type)) for field in table.schema().fields)


# What is read


def history(table: Table, seen: Collection[int] = ()) -> Iterator[Snapshot]:
    """The snapshots of the table's main branch from the newest back to, without, the first of `seen`."""
    snapshot = table.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id not in seen:
        yield snapshot
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None


def relation(table: Table, snapshot: int | None, files: Files, boxes: Sequence[Scope] | None = None) -> Relation:
    """The table's rows at a snapshot; with `boxes` at least those whose key columns lie in one of them.

    Without a snapshot it is empty. LakeDamaged where another engine left delete files, which a plain read would
    ignore, and where a file or the snapshot is gone.
    """
    if snapshot is None:
        return Relation(_columns(table))
    found = data_files(table, snapshot) if boxes is None else meets(table, boxes, snapshot)
    names = sorted(name_of(table, one) for one in found)
    return Relation(_columns(table), tuple(files.url(name) for name in names))


def name_of(table: Table, file: DataFile) -> str:
    """The object that a file of the table is."""
    return _io(table).name_of(file.file_path)


def data_files(table: Table, snapshot: int | None = None) -> list[DataFile]:
    """The table's files at a snapshot, by default the newest, with their bounds."""
    found = _snapshot(table, snapshot)
    if found is None:
        return []
    with _readable(_io(table).name_of(found.manifest_list)):
        manifests = found.manifests(table.io)
    read = ExecutorFactory.get_or_create().map(lambda one: _entries(table, one), manifests)
    return [entry.data_file for entries in read for entry in entries]


def pinned(table: Table, snapshot: int | None) -> bytes:
    """The table's metadata, an Iceberg file's bytes, in which this snapshot is the newest: for readers that know no other way."""
    refs = (
        {}
        if snapshot is None
        else {"main": SnapshotRef.model_validate({"snapshot-id": snapshot, "type": SnapshotRefType.BRANCH})}
    )
    made = table.metadata.model_copy(update={"current_snapshot_id": snapshot, "refs": refs})
    return made.model_dump_json().encode()


def snapshots(table: Table) -> list[Snapshot]:
    """The snapshots that the table's metadata has, oldest first."""
    return sorted(table.metadata.snapshots, key=lambda one: one.sequence_number or 0)


def home(table: Table) -> str:
    """What the names of all objects of the table begin with."""
    return _io(table).name_of(table.location()) + "/"


def named(table: Table, without: Collection[int] = ()) -> set[str]:
    """All objects that the table's metadata leads to, but for those that only the snapshots `without` name.

    The metadata itself and its log, the lists and manifests of every snapshot, and the files in these.
    """
    io = _io(table)
    out = {io.name_of(table.metadata_location), *(io.name_of(one.metadata_file) for one in table.metadata.metadata_log)}
    manifests: dict[str, ManifestFile] = {}
    for snapshot in table.metadata.snapshots:
        if snapshot.snapshot_id not in without:
            name = io.name_of(snapshot.manifest_list)
            with _readable(name):
                manifests |= {one.manifest_path: one for one in snapshot.manifests(table.io)}
            out.add(name)
    for path, manifest in manifests.items():
        out.add(io.name_of(path))
        out.update(name_of(table, entry.data_file) for entry in _entries(table, manifest))
    return out


def _snapshot(table: Table, snapshot: int | None) -> Snapshot | None:
    if snapshot is None:
        return table.current_snapshot()
    found = table.snapshot_by_id(snapshot)
    if found is None:
        raise LakeDamaged(f"{_title(table)} has no snapshot {snapshot} any more: it expired, or another lake is meant")
    return found


def _entries(table: Table, manifest: ManifestFile) -> list[ManifestEntry]:
    """The live entries of a manifest; LakeDamaged if it is of delete files."""
    if manifest.content != ManifestContent.DATA:
        if manifest.has_added_files() or manifest.has_existing_files():
            raise LakeDamaged(f"{_title(table)} holds delete files of another engine; compact it there first")
        return []
    with _readable(_io(table).name_of(manifest.manifest_path)):
        return manifest.fetch_manifest_entry(table.io, discard_deleted=True)


def meets(table: Table, boxes: Sequence[Scope], snapshot: int | None = None) -> list[DataFile]:
    """The files at a snapshot, by default the newest, that may hold rows whose columns lie in one of the boxes."""
    schema = table.schema()
    wanted = []
    for box in boxes:
        bounds = {}
        for column, (low, high) in box.items():
            field = schema.find_field(column)
            bounds[field.field_id] = _comparable(field.field_type, low), _comparable(field.field_type, high)
        wanted.append(bounds)
    kinds = {i: schema.find_field(i).field_type for bounds in wanted for i in bounds}
    out = []
    for file in data_files(table, snapshot) if wanted else ():
        has = {i: (_bound(kind, file.lower_bounds, i), _bound(kind, file.upper_bounds, i)) for i, kind in kinds.items()}
        if any(all(_overlap(has[i], bounds) for i, bounds in box.items()) for box in wanted):
            out.append(file)
    return out


def _overlap(file: tuple[Any, Any], box: tuple[Any, Any]) -> bool:
    """Whether two ranges meet; an end that is not known is nowhere."""
    (least, most), (low, high) = file, box
    return (least is None or high is None or least <= high) and (most is None or low is None or low <= most)


def _bound(kind: IcebergType, bounds: Mapping[int, bytes] | None, field: int) -> Any:
    """A file's bound as `_comparable` has it. Of texts they are cut at 16 characters, the upper ones rounded up."""
    found = (bounds or {}).get(field)
    if found is None or isinstance(kind, DoubleType):
        return None
    try:
        return from_bytes(cast("PrimitiveType", kind), found)
    except (ValueError, ArithmeticError, struct.error):
        return None


def _comparable(kind: IcebergType, value: Any) -> Any:
    """A value as Iceberg orders its type: days, microseconds, numbers, texts; None where that cannot be said."""
    try:
        return _ordered(kind, value)
    except (TypeError, ValueError, ArithmeticError):
        return None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _ordered(kind: IcebergType, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, DateType):
        day = date.fromisoformat(value) if isinstance(value, str) else value
        return ((day.date() if isinstance(day, datetime) else day) - _EPOCH.date()).days
    if isinstance(kind, TimestampType | TimestamptzType):
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            moment = datetime.combine(moment, time())
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (aware - _EPOCH) // timedelta(microseconds=1)
    if isinstance(kind, StringType):
        return str(value)
    if isinstance(kind, DecimalType):
        return Decimal(value)
    if isinstance(kind, IntegerType | LongType):
        return int(value)
    return value if isinstance(kind, BooleanType) and isinstance(value, bool) else None


# What is written


def adopt(files: Files, table: Table, parquet: Sequence[Parquet], stem: str) -> list[evidence.DataFile]:
    """Make finished scratch files objects of the table; nothing is visible until a commit names them."""
    where = _io(table).name_of(table.location())
    out: list[evidence.DataFile] = []
    for number, one in enumerate(parquet):
        with one.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        name = f"{where}/data/{stem}-{sha256[:16]}.parquet"
        if any(name == other.name for other in out):
            name = f"{where}/data/{stem}-{sha256[:16]}-{number}.parquet"
        if not files.put_new(name, one.path, "tables.data"):
            raise LakeDamaged(f"{name} was to be written, and holds something else already")
        out.append(evidence.DataFile(name, sha256, one.bytes, one.rows, one.partition))
    return out


def commit(
    table: Table, files: Files, change: evidence.Change, properties: Mapping[str, str], *, as_effect: str
) -> Snapshot:
    """Give the table what the change adds and take what it removes, in one snapshot on the one `table` was loaded at.

    Reads no row: bounds come from the files' footers. LakeBusy if the table moved since it was loaded, and then
    nothing of this is in; CommitUnknown if it may be; LakeDamaged if the table never had what it is to lose.
    """
    added = [_data_file(table, files, one) for one in change.add]
    removed = _leaving(table, change)
    with _commit_errors(_title(table)), effect(as_effect), _Transaction(table) as transaction:
        update = (
            _Overwrite(Operation.OVERWRITE, transaction, table.io, snapshot_properties=dict(properties))
            if removed
            else transaction.update_snapshot(snapshot_properties=dict(properties)).merge_append()
        )
        with update:
            for file in removed:
                update.delete_data_file(file)
            for file in added:
                update.append_data_file(file)
    snapshot = table.current_snapshot()
    if snapshot is None:
        raise LakeDamaged(f"{_title(table)} has no snapshot after a commit")
    return snapshot


def expire(table: Table, keep: Collection[int], at_least: int, *, as_effect: str) -> list[int]:
    """Forget snapshots but those of `keep` and the newest `at_least`; which ones. Their objects stay, for upkeep."""
    going = expirable(table, keep, at_least)
    if going:
        with _commit_errors(_title(table)), effect(as_effect):
            table.maintenance.expire_snapshots().by_ids(going).commit()
    return going


def expirable(table: Table, keep: Collection[int], at_least: int) -> list[int]:
    """The snapshots that `expire` would forget, oldest first."""
    newest = snapshots(table)
    heads = {ref.snapshot_id for ref in table.metadata.refs.values()}
    spared = {*keep, *heads, *(one.snapshot_id for one in newest[-max(1, at_least) :])}
    return [one.snapshot_id for one in newest if one.snapshot_id not in spared]


class _Transaction(Transaction):
    """PyIceberg's copies the metadata with all its snapshots whenever a part is asked for: fifteen times a commit."""

    _known: tuple[object, object, TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        base, updates = self._table.metadata, self._updates
        if self._known is None or self._known[0] is not base or self._known[1] is not updates:
            self._known = base, updates, super().table_metadata
        return self._known[2]


class _Overwrite(_OverwriteFiles):
    """PyIceberg's overwrite keeps every manifest that once told of a deletion, for ever, and merges none.

    This one drops the dead ones and merges the others, as its append does.
    """

    def _existing_manifests(self) -> list[ManifestFile]:
        return [one for one in super()._existing_manifests() if one.has_added_files() or one.has_existing_files()]

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        merging = _ManifestMergeManager(_PIECE, MERGE, True, self)
        return merging.merge_manifests(manifests)


def _leaving(table: Table, change: evidence.Change) -> list[DataFile]:
    """The files that the change takes from the table."""
    if not change.everything and not change.remove:
        return []
    there = {name_of(table, one): one for one in data_files(table)}
    if change.everything:
        return list(there.values())
    gone = [name for name in change.remove if name not in there]
    if gone:
        now = load(table.catalog, _title(table))
        if now is not None and now.metadata_location != table.metadata_location:
            raise _moved(_title(table))
        raise LakeDamaged(
            f"{_title(table)} was to lose {gone[0]}, which it does not have: something rewrote it without evidence"
        )
    return [there[name] for name in change.remove]


def _moved(title: str) -> LakeBusy:
    return LakeBusy(f"{title} was changed by another process; nothing of this is in, run it again")


@contextmanager
def changing(table: Table) -> Iterator[None]:
    """A change of the table's schema or properties; what stands against it is told as for a commit."""
    with _commit_errors(_title(table)):
        yield


@contextmanager
def _commit_errors(title: str) -> Iterator[None]:
    """What PyIceberg says of a commit; what its catalog's own library says, the target maps."""
    try:
        yield
    except (CommitFailedException, ValidationException) as error:
        raise _moved(title) from error
    except CommitStateUnknownException as error:
        raise CommitUnknown(
            f"the catalog failed while {title} was committed ({error}); look whether it is in"
        ) from error
    except NoSuchTableError as error:
        raise LakeDamaged(f"{title} is not in the catalog any more; restore the catalog from a copy") from error


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """A cut or changed object makes its decoder stumble over anything: all of it means that the bytes are not right."""
    try:
        yield
    except AssayError:
        raise
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]  # a sentence is told, not the page that a validator writes
        raise LakeDamaged(f"{what} cannot be read ({type(error).__name__}: {said}); restore it from a copy") from error


def _title(table: Table) -> str:
    return ".".join(table.name())


def _io(table: Table) -> LakeIO:
    if not isinstance(table.io, LakeIO):
        raise LakeDamaged(f"{_title(table)} was opened by a catalog that does not go through the lake's files")
    return table.io


def _data_file(table: Table, files: Files, one: evidence.DataFile) -> DataFile:
    """An object as Iceberg lists it, its counts and bounds read from the footer."""
    with _readable(one.name):
        path = files.local(one.name, one.sha256)
        footer, size = pq.read_metadata(path), path.stat().st_size
        stats, ids = _statistics(table, footer), _field_ids(footer)
    if wrong := [name for i, name, _ in _columns(table) if ids.get(name, i) != i]:
        raise LakeDamaged(
            f"{one.name} holds {wrong[0]} as field {ids[wrong[0]]}, which is another one in {_title(table)}: the table was "
            "made anew in another order; take the catalog and silver away, keep bronze, and `assay refine` makes them"
        )
    if (footer.num_rows, size) != (one.rows, one.bytes):
        raise LakeDamaged(
            f"{one.name} has {footer.num_rows} rows in {size} bytes, and {one.rows} in {one.bytes} were written; "
            "restore it from a copy"
        )
    return DataFile.from_args(
        content=DataFileContent.DATA, file_path=_io(table).location_of(one.name), file_format=FileFormat.PARQUET,
        partition=Record(*one.partition), file_size_in_bytes=one.bytes, sort_order_id=None,
        spec_id=table.metadata.default_spec_id, equality_ids=None, key_metadata=None, **stats,
    )  # fmt: skip


def _statistics(table: Table, footer: pq.FileMetaData) -> dict[str, Any]:
    """Counts and bounds by field id. A column whose bounds the footer does not know throughout has none."""
    paths = _field_ids(footer)
    plan = compute_statistics_plan(table.schema(), table.metadata.properties)
    nothing = MetricsMode(MetricModeTypes.NONE)
    for path, i in paths.items():  # of a column that the table has lost since
        plan.setdefault(i, StatisticsCollector(i, StringType(), nothing, path))
    try:
        found = data_file_statistics_from_parquet_metadata(footer, plan, paths).to_serialized_dict()
    except UnicodeEncodeError:  # PyIceberg rounds a text up from U+D7FF to half a surrogate pair
        counts = MetricsMode(MetricModeTypes.COUNTS)
        for i, one in plan.items():
            if isinstance(one.iceberg_type, StringType):
                plan[i] = StatisticsCollector(i, one.iceberg_type, counts, one.column_name)
        found = data_file_statistics_from_parquet_metadata(footer, plan, paths).to_serialized_dict()
    for group in range(footer.num_row_groups):
        for at in range(footer.num_columns):
            column = footer.row_group(group).column(at)
            stats = column.statistics
            # PyIceberg takes such a group for one that has no values.
            if stats is None or (not stats.has_min_max and stats.num_values):
                for bounds in ("lower_bounds", "upper_bounds"):
                    found[bounds].pop(paths[column.path_in_schema], None)
    return found


def _field_ids(footer: pq.FileMetaData) -> dict[str, int]:
    arrow = footer.schema.to_arrow_schema()
    return {field.name: int(field.metadata[b"PARQUET:field_id"]) for field in arrow}


# What is proved


def check(
    table: Table,
    files: Files,
    expected: Iterable[evidence.DataFile],
    *,
    snapshot: int | None = None,
    columns: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
) -> None:
    """Hold the table's lists at a snapshot, by default the newest, against the files that evidence says it has.

    Every listed file is read whole: its hash, and the footer's counts and bounds, which Iceberg's must equal.
    `columns` (name to DuckDB type) and `properties` of the snapshot are compared where they are given. LakeDamaged
    names the first object that does not agree.
    """
    where = _io(table).name_of(table.metadata_location)
    wanted = {one.name: one for one in expected}
    _check_metadata(table, where, columns)
    found = _snapshot(table, snapshot)
    if found is None:
        if wanted or properties:
            raise LakeDamaged(f"{where} has no current snapshot, and {len(wanted)} files are in by the evidence")
        return
    says = found.summary.additional_properties if found.summary else {}
    for key, value in (properties or {}).items():
        if says.get(key) != value:
            raise LakeDamaged(f"{where} says that {key} is {says.get(key)}, not {value}")
    listed = _io(table).name_of(found.manifest_list)
    with _readable(listed):
        manifests = [*read_manifest_list(table.io.new_input(found.manifest_list))]
    seen: set[str] = set()
    for manifest in manifests:
        name = _check_manifest(table, files, manifest, listed)
        for entry in _entries(table, manifest):
            one = wanted.get(name_of(table, entry.data_file))
            if one is None:
                raise LakeDamaged(f"{name} lists {name_of(table, entry.data_file)}, of which no evidence knows")
            if one.name in seen:
                raise LakeDamaged(f"{name} lists {one.name} a second time")
            seen.add(one.name)
            _check_file(table, files, one, entry.data_file, name)
    if lacking := sorted(wanted.keys() - seen):
        raise LakeDamaged(f"{listed} lacks {lacking[0]}, which is in by the evidence")


def _check_metadata(table: Table, where: str, columns: Mapping[str, str] | None) -> None:
    metadata = table.metadata
    main = metadata.refs.get("main")
    if (main.snapshot_id if main else None) != metadata.current_snapshot_id:
        raise LakeDamaged(f"{where} names two snapshots as the newest")
    if metadata.last_column_id < table.schema().highest_field_id:
        raise LakeDamaged(f"{where} has columns that it does not count")
    if columns is not None and (has := {name: kind for _, name, kind in _columns(table)}) != columns:
        wrong = next(one for one in [*has, *columns] if has.get(one) != columns.get(one))
        raise LakeDamaged(f"{where} has column {wrong} as {has.get(wrong)}, not {columns.get(wrong)}")


def _check_manifest(table: Table, files: Files, manifest: ManifestFile, listed: str) -> str:
    """Hold what the list says of a manifest against the manifest; its name."""
    name = _io(table).name_of(manifest.manifest_path)
    with _readable(name):
        size = len(files.read(name))
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
    counted = {status: [one for one in entries if one.status == status] for status in ManifestEntryStatus}
    said = {
        ManifestEntryStatus.ADDED: (manifest.added_files_count, manifest.added_rows_count),
        ManifestEntryStatus.EXISTING: (manifest.existing_files_count, manifest.existing_rows_count),
        ManifestEntryStatus.DELETED: (manifest.deleted_files_count, manifest.deleted_rows_count),
    }
    for status, has in counted.items():
        if said[status] != (len(has), sum(one.data_file.record_count for one in has)):
            raise LakeDamaged(f"{listed} and {name} do not agree on its files or rows")
    if manifest.manifest_length != size:
        raise LakeDamaged(f"{listed} says {name} has {manifest.manifest_length} bytes; it has {size}")
    spec = table.metadata.specs().get(manifest.partition_spec_id)
    if spec is None:
        raise LakeDamaged(f"{listed} says {name} is cut by a rule that the table does not have")
    for at, (field, summary) in enumerate(zip(spec.fields, manifest.partitions or (), strict=False)):
        source = table.schema().find_field(field.source_id).field_type
        kind = cast("PrimitiveType", field.transform.result_type(source))
        values = [one.data_file.partition[at] for one in entries]
        present = [one for one in values if one is not None]
        with _readable(listed):
            low = None if summary.lower_bound is None else from_bytes(kind, summary.lower_bound)
            high = None if summary.upper_bound is None else from_bytes(kind, summary.upper_bound)
        if (low, high) != (min(present, default=None), max(present, default=None)) or (
            summary.contains_null != (len(present) < len(values))
        ):
            raise LakeDamaged(f"{listed} and {name} do not agree on its partitions")
    return name


_COMPARED = ("record_count", "file_size_in_bytes", "partition", "file_format", "content", "value_counts", "null_value_counts", "lower_bounds", "upper_bounds")  # fmt: skip


def _check_file(table: Table, files: Files, one: evidence.DataFile, listed: DataFile, manifest: str) -> None:
    """Hold one entry of a manifest against the object."""
    if sha256_of(files, one.name) != one.sha256:
        raise LakeDamaged(f"{one.name} does not have the bytes that were written; restore it from a copy")
    actual = _data_file(table, files, one)
    for field in _COMPARED:
        said, is_ = getattr(listed, field), getattr(actual, field)
        if said != is_:
            raise LakeDamaged(f"{manifest} says of {one.name} that its {field} is {said}; it is {is_}")
    with _readable(one.name):
        ids = _field_ids(pq.read_metadata(files.local(one.name, one.sha256)))
    for field_id, column, _ in _columns(table):
        if ids.get(column, field_id) != field_id:
            raise LakeDamaged(
                f"{_io(table).name_of(table.metadata_location)} says that column {column} is field {field_id}; "
                f"in {one.name} it is {ids[column]}"
            )
