"""What a statement names, as relations of one DuckDB connection: that and no more can be read by its SQL."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table
from sqlglot import exp

from assay_cloudsim.athena import values
from assay_cloudsim.athena.catalog import Catalog, bucket_key, names_iceberg
from assay_cloudsim.athena.dialect import Dialect
from assay_cloudsim.athena.errors import Failed, Stopped, position

_SNAPSHOT_TABLES = ("snapshots", "history", "files", "partitions", "manifests", "refs")
_NO_PATH = ', CAST(NULL AS VARCHAR) AS "$path"'
_INFORMATION = {
    "tables": {"table_catalog": "varchar", "table_schema": "varchar", "table_name": "varchar", "table_type": "varchar"},
    "columns": {
        "table_catalog": "varchar", "table_schema": "varchar", "table_name": "varchar", "column_name": "varchar",
        "ordinal_position": "bigint", "column_default": "varchar", "is_nullable": "varchar", "data_type": "varchar",
    },
    "schemata": {"catalog_name": "varchar", "schema_name": "varchar"},
}  # fmt: skip


@dataclass
class Mounts:
    """The relations of one statement."""

    con: duckdb.DuckDBPyConnection
    catalog: Catalog
    database: str
    stopped: threading.Event
    schema: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    iceberg: dict[tuple[str, str], Table] = field(default_factory=dict)
    scanned: int = 0
    _paths: list[str] = field(default_factory=list)
    _columns: set[str] | None = None
    _views: int = 0

    def bind(self, tree: exp.Expr, keep: exp.Table | None = None) -> None:
        """Mounts every table of a statement, and names each as it is mounted. `keep` is a target that is not read."""
        with_path = any(c.name == "$path" for c in tree.find_all(exp.Column))
        self._columns = (
            None if any(True for _ in tree.find_all(exp.Star)) else {c.name.lower() for c in tree.find_all(exp.Column)}
        )
        for table in list(tree.find_all(exp.Table)):
            if table is keep or not isinstance(table.this, exp.Identifier) or _is_cte(table):
                continue
            self._bind_one(table, with_path=with_path)

    def _bind_one(self, table: exp.Table, *, with_path: bool) -> None:
        catalog = table.catalog.lower()
        if catalog and catalog != "awsdatacatalog":
            raise Failed("CATALOG_NOT_FOUND", f"Catalog '{catalog}' does not exist", position(table))
        database, name = (table.db or self.database).lower(), table.name.lower()
        if table.args.get("version") is not None:
            name = self._version(table, database, name)
        alias = table.alias or table.name
        if database == "information_schema":
            database = self._information(name, table)
        else:
            self.mount(database, name, table, with_path=with_path)
        table.set("catalog", None)
        table.set("version", None)
        table.set("db", exp.to_identifier(database, quoted=True))
        table.set("this", exp.to_identifier(name, quoted=True))
        if table.args.get("alias") is None:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(alias.lower(), quoted=True)))

    def _version(self, table: exp.Table, database: str, name: str) -> str:
        """FOR TIMESTAMP AS OF and FOR VERSION AS OF: the snapshot's own relation."""
        version = table.args["version"]
        found = self._iceberg(database, name, table)
        value = self._constant(version.expression)
        if version.name.upper() == "TIMESTAMP":
            if not isinstance(value, datetime):
                raise Failed("TYPE_MISMATCH", "FOR TIMESTAMP AS OF needs a timestamp with time zone", position(table))
            at = value if value.tzinfo else value.replace(tzinfo=UTC)
            snapshot = found.snapshot_as_of_timestamp(int(at.timestamp() * 1000))
            if snapshot is None:
                raise Failed("INVALID_ARGUMENTS", f'No version history table "{database}"."{name}" at or before {at.isoformat()}', position(table))  # fmt: skip
        else:
            snapshot = found.snapshot_by_id(value) if isinstance(value, int) else found.snapshot_by_name(str(value))
            if snapshot is None:
                raise Failed("INVALID_ARGUMENTS", f"Iceberg snapshot ID does not exists: {value}", position(table))
        mounted = f"{name}@{snapshot.snapshot_id}"
        self._table(database, mounted, found, snapshot.snapshot_id)
        return mounted

    def _constant(self, value: exp.Expr) -> Any:
        from assay_cloudsim.athena import macros, translate

        if any(True for _ in value.find_all(exp.Column, exp.Subquery)):
            raise Failed("INVALID_ARGUMENTS", "the version of a table must be a constant", position(value))
        sql = translate.Translation(exp.Select(expressions=[value.copy()]), {}).sql()
        macros.install(self.con, sql)
        (row,) = self.con.execute(sql).fetchall()
        return row[0]

    # -- one relation -------------------------------------------------------------------------------------------------
    def known(self, database: str, name: str) -> dict[str, str] | None:
        return self.schema.get(database, {}).get(name)

    def mount(self, database: str, name: str, at: exp.Table | None = None, *, with_path: bool = False) -> None:
        """Makes `database.name` a relation of the connection."""
        if self.stopped.is_set():
            raise Stopped("Query was cancelled by user")
        if self.known(database, name) is not None:
            return
        base, _, part = name.partition("$")
        if part and base:
            self._snapshot_table(database, base, part, at)
            return
        glue = self.entry(database, name, at)
        if glue.get("TableType") == "VIRTUAL_VIEW":
            self._view(database, name, glue)
        elif names_iceberg(glue):
            self._table(database, name, self._iceberg(database, name, at), None, with_path=with_path)
        else:
            self._hive(database, name, glue, with_path=with_path)

    def entry(self, database: str, name: str, at: exp.Expr | None = None) -> dict[str, Any]:
        """Glue's entry, or TABLE_NOT_FOUND or SCHEMA_NOT_FOUND where the statement names it."""
        found = self.catalog.table(database, name)
        if found is None:
            where = position(at) if at is not None else None
            if not self.catalog.has_database(database):
                raise Failed("SCHEMA_NOT_FOUND", f"Schema '{database}' does not exist", where)
            raise Failed("TABLE_NOT_FOUND", f"Table 'awsdatacatalog.{database}.{name}' does not exist", where)
        return found

    def _iceberg(self, database: str, name: str, at: exp.Expr | None) -> Table:
        if (database, name) not in self.iceberg:
            if not names_iceberg(self.entry(database, name, at)):
                raise Failed(
                    "NOT_SUPPORTED",
                    f"Table {database}.{name} is no Iceberg table: it has no versions",
                    position(at) if at else None,
                )
            self.iceberg[database, name] = self.catalog.iceberg_table(database, name)
        return self.iceberg[database, name]

    def _note(self, database: str, name: str, columns: dict[str, str]) -> None:
        self.schema.setdefault(database, {})[name] = {k.lower(): v for k, v in columns.items()}

    def _create(self, database: str, name: str, body: str, *, kind: str = "VIEW") -> None:
        self.con.execute(f'CREATE SCHEMA IF NOT EXISTS "{database}"').fetchall()
        self.con.execute(f'CREATE {kind} "{database}"."{name}" AS {body}').fetchall()

    def _view(self, database: str, name: str, glue: dict[str, Any]) -> None:
        from assay_cloudsim.athena import macros, translate

        self._views += 1
        if self._views > 32:
            raise Failed("NOT_SUPPORTED", f"View '{database}.{name}' is too deep, or holds itself")
        text, of = self.catalog.view(glue)
        tree = translate.parsed(text)
        outer, columns = self.database, self._columns
        self.database = of
        self.bind(tree)
        self.database, self._columns = outer, columns
        sql = translate.Translation(tree, self.schema).sql()
        macros.install(self.con, sql)
        self._create(database, name, sql)
        described = self.con.execute(f'SELECT * FROM "{database}"."{name}" LIMIT 0')
        kinds = {d[0]: values.of_duckdb(d[1]) for d in described.description}
        described.fetchall()
        self._note(database, name, kinds)

    def _table(self, database: str, name: str, table: Table, snapshot: int | None, *, with_path: bool = False) -> None:
        """An Iceberg table by its Parquet files; by Arrow where files have no field ids, or rows are deleted apart."""
        scan = table.scan(snapshot_id=snapshot)
        fields = (table.schema() if snapshot is None else scan.projection()).fields
        columns = {f.name: values.of_iceberg(f.field_type) for f in fields}
        tasks = list(scan.plan_files()) if table.current_snapshot() is not None else []
        paths = [self._fetched(t.file.file_path) for t in tasks]
        self.scanned += sum(self._bytes(p) for p in paths)
        self._note(database, name, columns | ({"$path": "varchar"} if with_path else {}))
        kinds = {f.name: values.duckdb_type(columns[f.name]) for f in fields}
        if not tasks:
            items = ", ".join(f'CAST(NULL AS {k}) AS "{n.lower()}"' for n, k in kinds.items())
            self._create(database, name, f"SELECT {items}{_NO_PATH if with_path else ''} WHERE FALSE")
            return
        ids = {f.field_id for f in fields}
        whole = not any(t.delete_files for t in tasks) and all(_has_ids(p, ids) for p in paths)
        if whole:
            spec = ", ".join(
                f"{f.field_id}: {{name: '{f.name.lower()}', type: '{kinds[f.name]}', default_value: NULL}}"
                for f in fields
            )
            files = ", ".join(f"'{p}'" for p in paths)
            body = f"SELECT * FROM read_parquet([{files}], schema=MAP {{{spec}}})"
            if with_path:
                origin = ", ".join(f"'{p}': '{t.file.file_path}'" for p, t in zip(paths, tasks, strict=True))
                body = f'SELECT * EXCLUDE (filename), MAP {{{origin}}}[filename] AS "$path" FROM read_parquet([{files}], schema=MAP {{{spec}}}, filename=true)'
            self._paths += [str(p) for p in paths]
            self._create(database, name, body)
            return
        if with_path:
            raise Failed(
                "NOT_SUPPORTED",
                f'this double of Athena has no "$path" of {database}.{name}: its files have deletes, or no field ids',
            )
        self._arrow(database, name, scan.to_arrow(), kinds)

    def _arrow(self, database: str, name: str, rows: pa.Table, kinds: dict[str, str]) -> None:
        self.con.register("_rows", rows)
        items = ", ".join(f'CAST("{n}" AS {k}) AS "{n.lower()}"' for n, k in kinds.items()) or "*"
        self._create(database, name, f"SELECT {items} FROM _rows", kind="TABLE")
        self.con.unregister("_rows")

    def _fetched(self, location: str, etag: str | None = None) -> Path:
        if self.stopped.is_set():
            raise Stopped("Query was cancelled by user")
        return self.catalog.local(*bucket_key(location), etag=etag)

    def _bytes(self, path: Path) -> int:
        """What Athena would read of a Parquet file: the chunks of the columns that the statement names."""
        if self._columns is None:
            return path.stat().st_size
        meta = pq.read_metadata(path)
        groups = (meta.row_group(at) for at in range(meta.num_row_groups))
        chunks = (g.column(at) for g in groups for at in range(g.num_columns))
        return sum(c.total_compressed_size for c in chunks if c.path_in_schema.split(".")[0].lower() in self._columns)

    def _hive(self, database: str, name: str, glue: dict[str, Any], *, with_path: bool) -> None:
        storage = glue.get("StorageDescriptor", {})
        columns = {c["Name"].lower(): values.of_hive(c["Type"]) for c in storage.get("Columns", [])}
        keys = {c["Name"].lower(): values.of_hive(c["Type"]) for c in glue.get("PartitionKeys", [])}
        self._note(database, name, columns | keys | ({"$path": "varchar"} if with_path else {}))
        places = [(storage["Location"], [None] * 0)] if not keys else [
            (p["StorageDescriptor"]["Location"], p["Values"]) for p in self.catalog.partitions(database, name)
        ]  # fmt: skip
        serde = storage.get("SerdeInfo", {})
        library = serde.get("SerializationLibrary", "").lower()
        parts, parquet = [], "parquet" in library
        for location, given in places:
            for each in self.catalog.objects(location):
                path = self._fetched(f"s3://{each['Bucket']}/{each['Key']}", each["ETag"])
                self.scanned += self._bytes(path) if parquet else each["Size"]
                self._paths.append(str(path))
                parts.append((path, given, f"s3://{each['Bucket']}/{each['Key']}"))
        kinds = {n: values.duckdb_type(t) for n, t in columns.items()}
        key_kinds = {n: values.duckdb_type(t) for n, t in keys.items()}
        if not parts:
            items = ", ".join(f'CAST(NULL AS {k}) AS "{n}"' for n, k in (kinds | key_kinds).items())
            self._create(database, name, f"SELECT {items}{_NO_PATH if with_path else ''} WHERE FALSE")
            return
        parameters = glue.get("Parameters", {}) | serde.get("Parameters", {})
        read = _reader(library, kinds, parameters)
        selects = []
        for path, given, origin in parts:
            shown = [read.column(n, k, path) for n, k in kinds.items()]
            shown += [f'CAST({_quoted(v)} AS {k}) AS "{n}"' for (n, k), v in zip(key_kinds.items(), given, strict=True)]
            if with_path:
                shown.append(f"'{origin}' AS \"$path\"")
            selects.append(f"SELECT {', '.join(shown)} FROM {read.source(path)}")
        self._create(database, name, " UNION ALL ".join(selects))

    def _snapshot_table(self, database: str, base: str, part: str, at: exp.Table | None) -> None:
        if part not in _SNAPSHOT_TABLES:
            raise Failed(
                "TABLE_NOT_FOUND",
                f"Table 'awsdatacatalog.{database}.{base}${part}' does not exist",
                position(at) if at else None,
            )
        found = self._iceberg(database, base, at)
        rows = getattr(found.inspect, part)()
        if part == "files":
            rows = rows.select(["content", "file_path", "file_format", "record_count", "file_size_in_bytes"])
        if part == "snapshots":
            shown = rows.to_pylist()
            rows = pa.table({
                "committed_at": pa.array([r["committed_at"] for r in shown], pa.timestamp("us", "UTC")),
                "snapshot_id": pa.array([r["snapshot_id"] for r in shown], pa.int64()),
                "parent_id": pa.array([r["parent_id"] for r in shown], pa.int64()),
                "operation": pa.array([r["operation"] for r in shown], pa.string()),
                "manifest_list": pa.array([r["manifest_list"] for r in shown], pa.string()),
                "summary": pa.array([list(dict(r["summary"] or {}).items()) for r in shown], pa.map_(pa.string(), pa.string())),
            })  # fmt: skip
        if part in ("history", "refs", "partitions"):
            rows = rows.cast(
                pa.schema(
                    [
                        pa.field(f.name, pa.timestamp("us", "UTC") if pa.types.is_timestamp(f.type) else f.type)
                        for f in rows.schema
                    ]
                )
            )
        name = f"{base}${part}"
        self._arrow(database, name, rows, {})
        described = self.con.execute(f'SELECT * FROM "{database}"."{name}" LIMIT 0')
        self._note(database, name, {d[0]: values.of_duckdb(d[1]) for d in described.description})
        described.fetchall()

    def _information(self, name: str, at: exp.Table) -> str:
        """information_schema, which in DuckDB is another: here a schema of its own."""
        database = "$information_schema"
        if name not in _INFORMATION:
            raise Failed(
                "TABLE_NOT_FOUND", f"Table 'awsdatacatalog.information_schema.{name}' does not exist", position(at)
            )
        if self.known(database, name) is None:
            names = list(_INFORMATION[name])
            rows = [dict(zip(names, row, strict=True)) for row in self._rows_of(name)]
            kinds = [pa.int64() if k == "bigint" else pa.string() for k in _INFORMATION[name].values()]
            self._arrow(database, name, pa.Table.from_pylist(rows, pa.schema(list(zip(names, kinds, strict=True)))), {})
            self._note(database, name, _INFORMATION[name])
        return database

    def _rows_of(self, name: str) -> list[tuple[Any, ...]]:
        catalog, databases = "awsdatacatalog", [d["Name"] for d in self.catalog.databases()]
        if name == "schemata":
            return [(catalog, d) for d in databases]
        tables = [(d, t) for d in databases for t in self.catalog.tables(d)]
        if name == "tables":
            return [
                (catalog, d, t["Name"], "VIEW" if t.get("TableType") == "VIRTUAL_VIEW" else "BASE TABLE")
                for d, t in tables
            ]
        return [
            (catalog, d, t["Name"], column, at, None, "YES", kind)
            for d, t in tables
            for at, (column, kind) in enumerate(self.columns(d, t), 1)
        ]  # fmt: skip

    def columns(self, database: str, table: dict[str, Any]) -> list[tuple[str, str]]:
        """A table's columns with Trino's types; of an Iceberg table that cannot be read, as Glue has them."""
        if names_iceberg(table):
            with suppress(Failed, OSError):
                fields = self._iceberg(database, table["Name"], None).schema().fields
                return [(f.name, values.of_iceberg(f.field_type)) for f in fields]
        every = table.get("StorageDescriptor", {}).get("Columns", []) + table.get("PartitionKeys", [])
        return [(c["Name"], values.of_hive(c["Type"])) for c in every]

    def close_the_door(self) -> None:
        """From here on the connection reads its mounted files and nothing else of this machine, and cannot be told otherwise."""
        listed = ", ".join(f"'{p}'" for p in self._paths)
        for setting in (f"allowed_paths=[{listed}]", "enable_external_access=false", "lock_configuration=true"):
            self.con.execute(f"SET {setting}").fetchall()


@dataclass
class _Reader:
    source: Callable[[Path], str]
    column: Callable[[str, str, Path], str]


def _quoted(value: str | None) -> str:
    return "NULL" if value in (None, "__HIVE_DEFAULT_PARTITION__") else "'" + str(value).replace("'", "''") + "'"


def _reader(library: str, kinds: dict[str, str], parameters: dict[str, str]) -> _Reader:
    """How files of a serde are read: https://docs.aws.amazon.com/athena/latest/ug/supported-serdes.html."""
    listed = ", ".join(f"'{n}': '{k}'" for n, k in kinds.items())
    if "parquet" in library:

        def of_file(name: str, kind: str, path: Path) -> str:
            there = {n.lower() for n in pq.read_schema(path).names}
            return (f'CAST("{name}" AS {kind})' if name in there else f"CAST(NULL AS {kind})") + f' AS "{name}"'

        return _Reader(lambda path: f"read_parquet('{path}')", of_file)
    if "json" in library:
        return _Reader(
            lambda path: f"read_json('{path}', format='newline_delimited', columns={{{listed}}})",
            lambda name, kind, _: f'CAST("{name}" AS {kind}) AS "{name}"',
        )
    if "csv" in library or "lazysimple" in library:
        is_csv = "csv" in library
        separator = parameters.get("separatorChar") or parameters.get("field.delim") or ("," if is_csv else "\x01")
        quote = parameters.get("quoteChar", '"') if is_csv else ""
        skip = int(parameters.get("skip.header.line.count", "0"))
        texts = ", ".join(f"'{n}': 'VARCHAR'" for n in kinds)
        null = "" if is_csv else ", nullstr='\\N'"
        # OpenCSVSerde reads an empty field as an empty text; all columns of text are kept as they are.
        return _Reader(
            lambda path: f"read_csv('{path}', header=false, skip={skip}, delim='{separator}', quote='{quote.replace(chr(39), chr(39) * 2)}', "
            f"auto_detect=false, columns={{{texts}}}, null_padding=true, strict_mode=false, force_not_null=[{', '.join(repr(n) for n in kinds) if is_csv else ''}]{null})",
            lambda name, kind, _: f'"{name}"' if kind == "VARCHAR" else f'{"CAST" if is_csv else "TRY_CAST"}(nullif("{name}", \'\') AS {kind}) AS "{name}"',
        )  # fmt: skip
    raise Failed(
        "NOT_SUPPORTED",
        f"this double of Athena does not read files of the serde {library!r}: Parquet, JSON and CSV it does",
    )


def _has_ids(path: Path, wanted: set[int]) -> bool:
    """Whether each column of a file has Iceberg's field id, so that it can be read by it."""
    schema = pq.read_schema(path)
    found = [(f.metadata or {}).get(b"PARQUET:field_id") for f in schema]
    return None not in found and not any(pa.types.is_nested(f.type) for f in schema) and bool(wanted)


def _is_cte(table: exp.Table) -> bool:
    if table.db:
        return False
    scope = table.parent
    while scope is not None:
        ctes = scope.args.get("with_") or scope.args.get("with")
        if ctes is not None and any(c.alias.lower() == table.name.lower() for c in ctes.expressions):
            return True
        scope = scope.parent
    return False


def parsed_name(text: str, database: str) -> tuple[str, str]:
    """`database.table`, of which the database may be left out."""
    table = exp.to_table(text.replace("`", '"'), dialect=Dialect)
    return (table.db or database).lower(), table.name.lower()
