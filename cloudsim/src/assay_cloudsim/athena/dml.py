"""Statements that write rows: CTAS, INSERT, UNLOAD, and MERGE, UPDATE and DELETE of Iceberg tables."""

import io
import itertools
import json
import re
import uuid
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    YearTransform,
)
from pyiceberg.types import NestedField
from sqlglot import exp

from assay_cloudsim.athena import macros, translate, values
from assay_cloudsim.athena.catalog import names_iceberg
from assay_cloudsim.athena.dialect import Kind, data_type
from assay_cloudsim.athena.errors import Failed, position
from assay_cloudsim.athena.mount import Mounts, parsed_name
from assay_cloudsim.athena.session import Outcome, Session

PARQUET = {
    "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"},
}
_REFUSED = (
    Kind.TINYINT,
    Kind.SMALLINT,
    Kind.CHAR,
)  # https://docs.aws.amazon.com/athena/latest/ug/querying-iceberg-supported-data-types.html


def create_table_as(session: Session, sql: str) -> Outcome:
    """CREATE TABLE … AS: of Iceberg, or of Hive in Parquet."""
    tree = translate.parsed(sql)
    if not isinstance(tree, exp.Create) or not isinstance(tree.this, exp.Table):
        raise Failed("NOT_SUPPORTED", "this double of Athena does not know this form of CREATE TABLE AS")
    if tree.args.get("replace"):
        raise Failed("SYNTAX_ERROR", "mismatched input 'OR'", (1, 8))
    target, given = tree.this, _properties(tree)
    database, name = (target.db or session.database).lower(), target.name.lower()
    mounts = session.mounts()
    iceberg = str(given.pop("table_type", "HIVE")).upper() == "ICEBERG"
    select = tree.expression
    select.pop()
    if session.catalog.table(database, name) is not None:
        if tree.args.get("exists"):
            return Outcome("DDL", "CREATE_TABLE_AS_SELECT", suffix="", folder="tables/")
        raise Failed(
            "TABLE_ALREADY_EXISTS", f"Destination table 'awsdatacatalog.{database}.{name}' already exists", (1, 1)
        )
    if not session.catalog.has_database(database):
        raise Failed("SCHEMA_NOT_FOUND", f"Schema '{database}' does not exist", position(target))
    _named(select)
    if iceberg:
        _six_digits(select)
    tail = tree.args.get("no_data") or re.search(r"(?is)\bwith\s+no\s+data\s*;?\s*\Z", sql)
    text, _ = session.prepared(sql, select, mounts)
    session.ready(mounts)
    rows, columns = session.arrow(f"SELECT * FROM ({text}) AS q LIMIT 0" if tail else text)
    outcome = Outcome(
        "DDL", "CREATE_TABLE_AS_SELECT", updated=rows.num_rows, suffix="", folder="tables/", scanned=mounts.scanned
    )
    if iceberg:
        made = make_iceberg(session, database, name, [(n, data_type(t)) for n, t in columns], given)
        append(made, rows)
        return outcome
    outcome.written = _hive_table(session, database, name, columns, rows, given)
    return outcome


def _properties(tree: exp.Create) -> dict[str, Any]:
    """WITH (…): names in lower case, values as Python's."""
    found: dict[str, Any] = {}
    properties = tree.args.get("properties")
    for each in properties.expressions if properties else []:
        match each:
            case exp.LocationProperty():
                found["location"] = each.this.name
            case exp.FileFormatProperty():
                found["format"] = each.this.name
            case exp.PartitionedByProperty():
                found["partitioned_by"] = [e.name for e in each.this.expressions]
            case exp.Property():
                key = each.this if isinstance(each.this, str) else each.this.name
                found[key.lower()] = _plain(each.args["value"])
            case _:
                raise Failed("NOT_SUPPORTED", f"this double of Athena does not know {each.sql('trino')}")
    return found


def _plain(value: exp.Expr) -> Any:
    if isinstance(value, exp.Array):
        return [e.name for e in value.expressions]
    return value.name


def _named(select: exp.Expr) -> None:
    seen: set[str] = set()
    for at, each in enumerate(select.selects if isinstance(select, exp.Query) else [], 1):
        if not isinstance(each, exp.Alias | exp.Column | exp.Star | exp.Dot):
            raise Failed("MISSING_COLUMN_NAME", f"Column name not specified at position {at}", position(each))
        if each.output_name and each.output_name.lower() in seen:
            raise Failed(
                "DUPLICATE_COLUMN_NAME", f"Column name '{each.output_name}' specified more than once", position(each)
            )
        seen.add(each.output_name.lower())


def _six_digits(select: exp.Expr) -> None:
    """Athena refuses timestamp(3) in Iceberg, which a cast without digits and the current time are."""
    for each in select.selects if isinstance(select, exp.Query) else []:
        value = each.unalias()
        cast = (
            isinstance(value, exp.Cast)
            and value.to.this in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ)
            and not value.to.expressions
        )
        if (cast and not (isinstance(value.this, exp.Literal))) or isinstance(value, exp.CurrentTimestamp):
            raise Failed(
                "NOT_SUPPORTED",
                'Timestamp precision (3) not supported for Iceberg. Use "timestamp(6)" instead.',
                position(value),
            )


def make_iceberg(
    session: Session, database: str, name: str, columns: list[tuple[str, exp.DataType]], given: dict[str, Any]
) -> Table:
    """A new Iceberg table of format version 2."""
    location = given.pop("location", None)
    if location is None:
        raise Failed(
            "INVALID_TABLE_PROPERTY", "Table location is required for Iceberg tables: give the property 'location'"
        )
    location = str(location).rstrip("/")
    if next(session.catalog.objects(location), None) is not None:
        raise Failed("ICEBERG_FILESYSTEM_ERROR", f"Cannot create a table on a non-empty location: {location}, set 'iceberg.unique-table-location=true' in your Iceberg catalog properties to use unique table locations for every table.")  # fmt: skip
    fields = []
    numbers = itertools.count(len(columns) + 1)
    for at, (column, kind) in enumerate(columns, 1):
        if kind.this in _REFUSED or (kind.this in (Kind.TIMESTAMPTZ, Kind.JSON, Kind.INTERVAL, Kind.TIME)):
            raise Failed(
                "NOT_SUPPORTED", f"Type not supported for Iceberg: {kind.sql('trino').lower()} (column '{column}')"
            )
        try:
            fields.append(NestedField(at, column, values.to_iceberg(kind, numbers), required=False))
        except KeyError as error:
            raise Failed(
                "NOT_SUPPORTED", f"Type not supported for Iceberg: {kind.sql('trino').lower()} (column '{column}')"
            ) from error
    schema = Schema(*fields)
    spec = _spec(schema, given.pop("partitioning", []))
    if str(given.pop("format", "parquet")).upper() != "PARQUET":
        raise Failed("NOT_SUPPORTED", "this double of Athena writes Iceberg in Parquet only")
    if str(given.pop("is_external", "false")).lower() == "true":
        raise Failed("INVALID_TABLE_PROPERTY", "is_external must be false for Iceberg tables")
    codec = given.pop("write_compression", "zstd")
    properties = {"format-version": "2", "write.parquet.compression-codec": str(codec).lower()} | {
        k: str(v) for k, v in given.items()
    }
    return session.catalog.iceberg.create_table(
        (database, name), schema, location=location, partition_spec=spec, properties=properties
    )


_TRANSFORMS = {"year": YearTransform, "month": MonthTransform, "day": DayTransform, "hour": HourTransform}


def _spec(schema: Schema, given: list[str]) -> PartitionSpec:
    """`partitioning`: https://docs.aws.amazon.com/athena/latest/ug/querying-iceberg-creating-tables.html."""
    fields = []
    for at, text in enumerate(given):
        called = re.fullmatch(r"\s*(\w+)\s*\(\s*([^,)]+?)\s*(?:,\s*([^)]+?)\s*)?\)\s*", text)
        transform: Transform[Any, Any]
        if called is None:
            column, transform, suffix = text.strip(' "`').lower(), IdentityTransform(), ""
        else:
            kind, a, b = (
                called[1].lower().removesuffix("s") if called[1].lower() != "years" else "year",
                called[2],
                called[3],
            )
            number, column = (a, b) if a.isdigit() else (b, a)
            column = (column or "").strip(' "`').lower()
            if kind in _TRANSFORMS and number is None:
                transform = _TRANSFORMS[kind]()
            elif kind == "bucket" and number:
                transform = BucketTransform(int(number))
            elif kind == "truncate" and number:
                transform = TruncateTransform(int(number))
            else:
                raise Failed("INVALID_TABLE_PROPERTY", f"Unable to parse partitioning value: {text}")
            suffix = f"_{kind}"
        try:
            source = schema.find_field(column).field_id
        except ValueError as error:
            raise Failed("INVALID_TABLE_PROPERTY", f"Unable to parse partitioning value: no column {column}") from error
        fields.append(PartitionField(source, 1000 + at, transform, f"{column}{suffix}"))
    return PartitionSpec(*fields)


def conformed(table: Table, rows: pa.Table) -> pa.Table:
    """Rows in the order and the types of a table's columns."""
    wanted = table.schema().as_arrow()
    given = [rows[f.name.lower()] for f in wanted]
    nulls = len(rows)
    exact = [
        pa.nulls(nulls, f.type) if c.null_count == nulls else c.cast(f.type) for f, c in zip(wanted, given, strict=True)
    ]
    return pa.table(exact, schema=wanted)


def append(table: Table, rows: pa.Table) -> None:
    if rows.num_rows:
        table.append(conformed(table, rows))


def _hive_table(
    session: Session, database: str, name: str, columns: list[tuple[str, str]], rows: pa.Table, given: dict[str, Any]
) -> list[str]:
    if (form := str(given.pop("format", "PARQUET")).upper()) != "PARQUET":
        raise Failed("NOT_SUPPORTED", f"this double of Athena writes Hive tables in Parquet, not in {form}")
    location = str(given.pop("external_location", None) or f"{session.results}tables/{session.id}")
    keys = given.pop("partitioned_by", [])
    given.pop("is_external", None)
    codec = str(given.pop("write_compression", given.pop("parquet_compression", "gzip"))).lower()
    if given:
        raise Failed("NOT_SUPPORTED", f"this double of Athena does not know the table property '{next(iter(given))}'")
    if keys != [n for n, _ in columns][len(columns) - len(keys) :]:
        raise Failed("HIVE_COLUMN_ORDER_MISMATCH", "Partition keys must be the last columns in the table and in the same order as the table properties: " + str(keys))  # fmt: skip
    if next(session.catalog.objects(location), None) is not None:
        raise Failed("HIVE_PATH_ALREADY_EXISTS", f"Target directory for table '{database}.{name}' already exists: {location}. You may need to manually clean the data at location '{location}' before retrying. Athena will not delete data in your account.")  # fmt: skip
    shown = [{"Name": n, "Type": values.to_hive(data_type(t))} for n, t in columns]
    plain = shown[: len(shown) - len(keys)]
    session.catalog.glue.create_table(DatabaseName=database, TableInput={
        "Name": name, "TableType": "EXTERNAL_TABLE", "Parameters": {"EXTERNAL": "TRUE", "classification": "parquet"},
        "PartitionKeys": shown[len(plain) :], "StorageDescriptor": {"Columns": plain, "Location": location, **PARQUET},
    })  # fmt: skip
    return write_hive(session, database, name, rows, location, keys, codec)


def write_hive(
    session: Session, database: str, name: str, rows: pa.Table, location: str, keys: list[str], codec: str = "gzip"
) -> list[str]:
    """Rows as Parquet files of a Hive table, one a partition, each partition known to Glue. The files' addresses."""
    written = []
    location = location.rstrip("/")
    combinations = rows.select(keys).group_by(keys).aggregate([]).to_pylist() if keys else [{}]
    for values_ in combinations:
        part = rows
        for key, value in values_.items():
            column = part[key]
            part = part.filter(pa.compute.is_null(column) if value is None else pa.compute.equal(column, value))
        texts = ["__HIVE_DEFAULT_PARTITION__" if v is None else str(values.text(v)) for v in values_.values()]
        folder = "".join(f"/{k}={t}" for k, t in zip(keys, texts, strict=True))
        if part.num_rows == 0:
            continue
        buffer = io.BytesIO()
        pq.write_table(part.drop_columns(keys) if keys else part, buffer, compression=codec, coerce_timestamps="us")
        address = f"{location}{folder}/{session.id.replace('-', '')}_{uuid.uuid4()}"
        session.catalog.put(address, buffer.getvalue())
        written.append(address)
        if keys:
            with suppress(session.catalog.glue.exceptions.AlreadyExistsException):
                session.catalog.glue.create_partition(DatabaseName=database, TableName=name, PartitionInput={
                    "Values": texts, "StorageDescriptor": {"Columns": [], "Location": f"{location}{folder}", **PARQUET}})  # fmt: skip
    return written


def insert(session: Session, sql: str) -> Outcome:
    """INSERT INTO: an append to an Iceberg table, or files of a Hive table."""
    tree = translate.parsed(sql)
    if not isinstance(tree, exp.Insert):
        raise Failed("NOT_SUPPORTED", "this double of Athena does not know this form of INSERT")
    named = tree.this.expressions if isinstance(tree.this, exp.Schema) else []
    target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
    mounts = session.mounts()
    database, name = (target.db or session.database).lower(), target.name.lower()
    glue = mounts.entry(database, name, target)
    columns = mounts.columns(database, glue)
    wanted = [n.name.lower() for n in named] or [n for n, _ in columns]
    kinds = {n.lower(): t for n, t in columns}
    for each in wanted:
        if each not in kinds:
            raise Failed("COLUMN_NOT_FOUND", f"Insert column name does not exist in target table: {each}", (1, 1))
    select = tree.expression
    select.pop()
    text, _ = session.prepared(sql, select, mounts, name)
    session.ready(mounts)
    rows, given = session.arrow(_numbered(text, session))
    if [values_ok(t, kinds[w]) for (_, t), w in zip(given, wanted, strict=False)] != [True] * len(wanted) or len(
        given
    ) != len(wanted):
        table_types, query_types = ", ".join(kinds[w] for w in wanted), ", ".join(t for _, t in given)
        raise Failed(
            "TYPE_MISMATCH",
            f"Insert query has mismatched column types: Table: [{table_types}], Query: [{query_types}]",
            (1, 1),
        )
    rows = rows.rename_columns(wanted)
    full = pa.table(
        {n.lower(): rows[n.lower()] if n.lower() in wanted else pa.nulls(rows.num_rows) for n, _ in columns}
    )
    outcome = Outcome("DML", "INSERT", updated=rows.num_rows, suffix="", scanned=mounts.scanned)
    if names_iceberg(glue):
        append(session.catalog.iceberg_table(database, name), full)
        return outcome
    if glue.get("TableType") == "VIRTUAL_VIEW":
        raise Failed("NOT_SUPPORTED", f"Inserting into views is not supported: {database}.{name}")
    storage = glue["StorageDescriptor"]
    if "parquet" not in storage.get("SerdeInfo", {}).get("SerializationLibrary", "").lower():
        raise Failed("NOT_SUPPORTED", "this double of Athena inserts into Hive tables in Parquet only")
    exact = _cast(full, {n.lower(): t for n, t in columns})
    keys = [k["Name"].lower() for k in glue.get("PartitionKeys", [])]
    outcome.written = write_hive(session, database, name, exact, storage["Location"], keys)
    return outcome


def _cast(rows: pa.Table, kinds: dict[str, str]) -> pa.Table:
    arrows = {"bigint": pa.int64(), "integer": pa.int32(), "double": pa.float64(), "varchar": pa.string(), "date": pa.date32(),
              "boolean": pa.bool_(), "real": pa.float32(), "smallint": pa.int16(), "tinyint": pa.int8(), "timestamp(3)": pa.timestamp("us")}  # fmt: skip
    out = {}
    for n in rows.column_names:
        kind = kinds[n]
        if kind.startswith("decimal"):
            p, s = (int(x) for x in kind[8:-1].split(","))
            out[n] = rows[n].cast(pa.decimal128(p, s))
        else:
            out[n] = rows[n].cast(arrows[kind]) if kind in arrows else rows[n]
    return pa.table(out)


def _numbered(text: str, session: Session) -> str:
    """A query whose columns have names of their own, since in INSERT only their order counts."""
    described = session.con.execute(f"SELECT * FROM ({text}) AS q LIMIT 0")
    count = len(described.description)
    described.fetchall()
    return f"SELECT * FROM ({text}) AS q({', '.join(f'c{at}' for at in range(count))})"


_WIDER = ("tinyint", "smallint", "integer", "bigint", "decimal", "real", "double")


def values_ok(given: str, wanted: str) -> bool:
    """Whether Trino coerces one type into the other: https://trino.io/docs/current/sql/insert.html."""
    a, b = given.split("(", maxsplit=1)[0].strip(), wanted.split("(", maxsplit=1)[0].strip()
    if a in _WIDER and b in _WIDER:
        return _WIDER.index(a) <= _WIDER.index(b)
    if a == "unknown" or (a == "date" and b == "timestamp"):
        return True
    return a == b and given.endswith("with time zone") == wanted.endswith("with time zone")


def change(session: Session, sql: str) -> Outcome:
    """MERGE, UPDATE, DELETE: DuckDB's own on a copy of the table, whose rows then replace the table's in one snapshot."""
    tree = translate.parsed(sql)
    target = tree.this
    if not isinstance(tree, exp.Merge | exp.Update | exp.Delete) or not isinstance(target, exp.Table):
        raise Failed("NOT_SUPPORTED", "this double of Athena does not know this form of the statement")
    translate.check_functions(sql, tree)
    mounts = session.mounts()
    database, name = (target.db or session.database).lower(), target.name.lower()
    glue = mounts.entry(database, name, target)
    if not names_iceberg(glue):
        raise Failed(
            "NOT_SUPPORTED", "Modifying Hive table rows is only supported for transactional tables", position(target)
        )
    mounts.bind(tree)
    table = mounts.iceberg[database, name]
    quoted = f'"{database}"."{name}"'
    if _is_view(session, database, name):  # over its files; a table already, where it was read by Arrow
        session.con.execute(f'ALTER VIEW {quoted} RENAME TO "{name}$before"').fetchall()
        session.con.execute(f'CREATE TABLE {quoted} AS SELECT * FROM "{database}"."{name}$before"').fetchall()
    session.ready(mounts)
    if isinstance(tree, exp.Merge):
        _one_match(session, tree, mounts)
    text = translate.Translation(tree, mounts.schema).sql()
    macros.install(session.con, text)
    (counted,) = session.con.execute(text).fetchall()
    count = int(counted[0])
    kind = type(tree).__name__.upper()
    if count:
        items = ", ".join(f'"{f.name.lower()}"' for f in table.schema().fields)
        replace(table, session.con.sql(f"SELECT {items} FROM {quoted}").to_arrow_table())
    return Outcome("DML", kind, updated=count, suffix=".csv", scanned=mounts.scanned)


def _is_view(session: Session, database: str, name: str) -> bool:
    return bool(
        session.con.execute(
            "SELECT 1 FROM duckdb_views() WHERE schema_name = ? AND view_name = ?", [database, name]
        ).fetchall()
    )


def _one_match(session: Session, tree: exp.Merge, mounts: Mounts) -> None:
    """Trino's rule: a row of the target is matched by one row of the source."""
    matched = [w for w in tree.args["whens"].expressions if w.args.get("matched")]
    if not matched:
        return
    conditions = [w.args.get("condition") for w in matched]
    where = None if None in conditions else exp.or_(*[c.copy() for c in conditions if c is not None])
    target, source = tree.this.copy(), tree.args["using"].copy()
    row = exp.column("rowid", table=target.alias)
    probe = exp.select(exp.Literal.number(1)).from_(target).join(source, on=tree.args["on"].copy()).group_by(row)
    probe = probe.having(exp.GT(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(1))).limit(1)
    if where is not None:
        probe = probe.where(where)
    text = translate.Translation(probe, mounts.schema).sql()
    macros.install(session.con, text)
    if session.con.execute(text).fetchall():
        raise Failed("MERGE_TARGET_ROW_MULTIPLE_MATCHES", "One MERGE target table row matched more than one source row")


def replace(table: Table, rows: pa.Table) -> None:
    """All rows of a table by others, in one snapshot; ICEBERG_COMMIT_ERROR if the table has changed since it was read."""
    old = [t.file for t in table.scan().plan_files()]
    transaction = table.transaction()
    with transaction.update_snapshot().overwrite() as files:
        for each in old:
            files.delete_data_file(each)
        if rows.num_rows:
            for made in _dataframe_to_data_files(transaction.table_metadata, conformed(table, rows), table.io):
                files.append_data_file(made)
    try:
        table._do_commit(updates=transaction._updates, requirements=transaction._requirements)  # noqa: SLF001 - once: PyIceberg would try again on what was not read
    except CommitFailedException as error:
        raise Failed(
            "ICEBERG_COMMIT_ERROR", f"Failed to commit Iceberg update to table: {'.'.join(table.name())}: {error}"
        ) from error


def unload(session: Session, sql: str) -> Outcome:
    """UNLOAD (query) TO 's3://…' WITH (format = 'PARQUET' | 'JSON')."""
    found = re.fullmatch(r"(?is)\s*unload\s*\((.*)\)\s*to\s*'([^']+)'\s*with\s*\((.*)\)\s*;?\s*", sql)
    if not found:
        raise Failed(
            "SYNTAX_ERROR", "mismatched input in UNLOAD: it is UNLOAD (query) TO 's3://…' WITH (format = '…')", (1, 1)
        )
    given = {k.lower(): v for k, v in re.findall(r"(\w+)\s*=\s*'([^']*)'", found[3])}
    form, codec = given.pop("format", "").upper(), given.pop("compression", "gzip").lower()
    if form not in ("PARQUET", "JSON") or given or "partitioned_by" in found[3].lower():
        raise Failed("NOT_SUPPORTED", "this double of Athena unloads to PARQUET and JSON, without partitions")
    location = found[2].rstrip("/")
    if next(session.catalog.objects(location), None) is not None:
        raise Failed("HIVE_PATH_ALREADY_EXISTS", f"Target directory for table already exists: {location}")
    mounts = session.mounts()
    text, _ = session.prepared(found[1], translate.parsed(found[1]), mounts)
    session.ready(mounts)
    rows, _ = session.arrow(text)
    buffer = io.BytesIO()
    if form == "PARQUET":
        pq.write_table(rows, buffer, compression=codec)
    else:
        import gzip

        buffer.write(gzip.compress("".join(json.dumps(r, default=str) + "\n" for r in rows.to_pylist()).encode()))
    address = f"{location}/{session.id.replace('-', '')}_{uuid.uuid4()}" + (".gz" if form == "JSON" else "")
    if rows.num_rows:
        session.catalog.put(address, buffer.getvalue())
    return Outcome(
        "DML",
        "UNLOAD",
        updated=rows.num_rows,
        suffix="",
        written=[address] if rows.num_rows else [],
        scanned=mounts.scanned,
    )


def optimize(session: Session, sql: str) -> Outcome:
    """OPTIMIZE t REWRITE DATA USING BIN_PACK: all rows in new files; with WHERE it is refused."""
    found = re.fullmatch(
        r"(?is)\s*optimize\s+([\w.`\"$]+)\s+rewrite\s+data\s+using\s+bin_pack\s*(where\b.*)?;?\s*", sql
    )
    if not found:
        raise Failed("SYNTAX_ERROR", "mismatched input in OPTIMIZE", (1, 1))
    if found[2]:
        raise Failed("NOT_SUPPORTED", "OPTIMIZE with WHERE is not emulated by this double of Athena")
    database, name = parsed_name(found[1], session.database)
    table = session.catalog.iceberg_table(database, name)
    if len(list(table.scan().plan_files())) > 1:
        replace(table, table.scan().to_arrow())
    return Outcome("DML", "OPTIMIZE", suffix=".csv")


def vacuum(session: Session, sql: str) -> Outcome:
    """VACUUM is refused: nothing here expires snapshots and removes orphans."""
    del session
    found = re.fullmatch(r"(?is)\s*vacuum\s+([\w.`\"$]+)\s*;?\s*", sql)
    if not found:
        raise Failed("SYNTAX_ERROR", "mismatched input in VACUUM", (1, 1))
    raise Failed("NOT_SUPPORTED", "VACUUM is not emulated by this double of Athena: expire snapshots by PyIceberg")
