"""DDL: databases, tables, views, and what SHOW and DESCRIBE tell of them."""

import base64
import json
import re
from typing import Any

from sqlglot import exp, parse_one
from sqlglot.errors import ParseError

from assay_cloudsim.athena import dml, translate, values
from assay_cloudsim.athena.catalog import ICEBERG_PROPERTIES, names_iceberg
from assay_cloudsim.athena.dialect import Kind, data_type
from assay_cloudsim.athena.errors import Failed
from assay_cloudsim.athena.mount import parsed_name
from assay_cloudsim.athena.session import Outcome, Session

_NAME = r"((?:[`\"][^`\"]+[`\"]|[\w$]+)(?:\.(?:[`\"][^`\"]+[`\"]|[\w$]+)){0,2})"
_TEXT = {
    "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
}
_LAZY = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"


def _matched(pattern: str, sql: str) -> re.Match[str]:
    plain = re.sub(r"(?s)/\*.*?\*/|--[^\n]*", " ", sql).strip().rstrip(";").strip()
    found = re.fullmatch(pattern.replace("NAME", _NAME), plain, re.IGNORECASE | re.DOTALL)
    if found is None:
        raise Failed("", f"FAILED: ParseException line 1:0 cannot recognize input near '{plain[:40]}'")
    return found


def create_database(session: Session, sql: str) -> Outcome:
    found = _matched(
        r"create\s+(?:database|schema)\s+(if\s+not\s+exists\s+)?NAME(?:\s+comment\s+'[^']*')?(?:\s+location\s+'([^']*)')?",
        sql,
    )
    name = found[2].strip('`"').lower()
    given = {"Name": name} | ({"LocationUri": found[3]} if found[3] else {})
    try:
        session.catalog.glue.create_database(DatabaseInput=given)
    except session.catalog.glue.exceptions.AlreadyExistsException as error:
        if not found[1]:
            raise Failed("", f"FAILED: Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask. AlreadyExistsException(message:Database {name} already exists.)") from error  # fmt: skip
    return Outcome("DDL", "CREATE_DATABASE")


def drop_database(session: Session, sql: str) -> Outcome:
    found = _matched(r"drop\s+(?:database|schema)\s+(if\s+exists\s+)?NAME(?:\s+(cascade|restrict))?", sql)
    name = found[2].strip('`"').lower()
    if not session.catalog.has_database(name):
        if found[1]:
            return Outcome("DDL", "DROP_DATABASE")
        raise Failed("", f"FAILED: SemanticException [Error 10072]: Database does not exist: {name}")
    tables = session.catalog.tables(name)
    if tables and (found[3] or "").lower() != "cascade":
        raise Failed("", f"FAILED: Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask. InvalidOperationException(message:Database {name} is not empty. One or more tables exist.)")  # fmt: skip
    for each in tables:
        _drop(session, name, each)
    session.catalog.glue.delete_database(Name=name)
    return Outcome("DDL", "DROP_DATABASE")


def _drop(session: Session, database: str, table: dict[str, Any]) -> None:
    """Glue's entry; of an Iceberg table the data too, as Athena's DROP TABLE does."""
    location = session.catalog.iceberg_table(database, table["Name"]).location() if names_iceberg(table) else None
    session.catalog.glue.delete_table(DatabaseName=database, Name=table["Name"])
    if location:
        session.catalog.delete_below(location)


def drop_table(session: Session, sql: str) -> Outcome:
    found = _matched(r"drop\s+table\s+(if\s+exists\s+)?NAME(?:\s+purge)?", sql)
    database, name = parsed_name(found[2], session.database)
    table = session.catalog.table(database, name)
    if table is None:
        if found[1]:
            return Outcome("DDL", "DROP_TABLE")
        raise Failed("", f"FAILED: SemanticException [Error 10001]: Table not found {database}.{name}")
    if table.get("TableType") == "VIRTUAL_VIEW":
        raise Failed("", "FAILED: SemanticException Cannot drop a view with DROP TABLE")
    _drop(session, database, table)
    return Outcome("DDL", "DROP_TABLE")


def drop_view(session: Session, sql: str) -> Outcome:
    found = _matched(r"drop\s+view\s+(if\s+exists\s+)?NAME", sql)
    database, name = parsed_name(found[2], session.database)
    table = session.catalog.table(database, name)
    if table is None:
        if found[1]:
            return Outcome("DDL", "DROP_VIEW")
        raise Failed("VIEW_NOT_FOUND", f"View 'awsdatacatalog.{database}.{name}' does not exist", (1, 1))
    if table.get("TableType") != "VIRTUAL_VIEW":
        raise Failed("NOT_SUPPORTED", f"'awsdatacatalog.{database}.{name}' is a table, not a view", (1, 1))
    session.catalog.glue.delete_table(DatabaseName=database, Name=name)
    return Outcome("DDL", "DROP_VIEW")


def create_view(session: Session, sql: str) -> Outcome:
    """A view as Athena keeps it: Presto's JSON in Base64, its columns as DuckDB finds them."""
    found = re.search(r"(?is)create\s+(or\s+replace\s+)?view\s+" + _NAME + r"\s+as\s+(.*?);?\s*\Z", sql)
    if not found:
        raise Failed("SYNTAX_ERROR", "mismatched input in CREATE VIEW", (1, 1))
    database, name = parsed_name(found[2], session.database)
    if not session.catalog.has_database(database):
        raise Failed("SCHEMA_NOT_FOUND", f"Schema '{database}' does not exist", (1, 1))
    old = session.catalog.table(database, name)
    if old is not None and (not found[1] or old.get("TableType") != "VIRTUAL_VIEW"):
        raise Failed("TABLE_ALREADY_EXISTS", f"View already exists: '{database}.{name}'", (1, 1))
    mounts = session.mounts()
    tree = translate.parsed(found[3])
    dml._named(tree)  # noqa: SLF001 - the same rule
    text, _ = session.prepared(found[3], tree, mounts)
    described = session.con.execute(f"SELECT * FROM ({text}) AS q LIMIT 0")
    columns = [(d[0].lower(), values.of_duckdb(d[1])) for d in described.description]
    described.fetchall()
    body = {
        "originalSql": found[3],
        "catalog": "awsdatacatalog",
        "schema": session.database,
        "columns": [{"name": n, "type": t} for n, t in columns],
    }
    kept = f"/* Presto View: {base64.b64encode(json.dumps(body).encode()).decode()} */"
    entry = {
        "Name": name, "TableType": "VIRTUAL_VIEW", "ViewOriginalText": kept, "ViewExpandedText": "/* Presto View */",
        "Parameters": {"presto_view": "true", "comment": "Presto View"}, "PartitionKeys": [],
        "StorageDescriptor": {"Columns": [{"Name": n, "Type": values.to_hive(data_type(t))} for n, t in columns], "Location": "",
                              "SerdeInfo": {}},
    }  # fmt: skip
    if old is None:
        session.catalog.glue.create_table(DatabaseName=database, TableInput=entry)
    else:
        session.catalog.glue.update_table(DatabaseName=database, TableInput=entry)
    return Outcome("DDL", "CREATE_VIEW")


def create_table(session: Session, sql: str) -> Outcome:
    """CREATE [EXTERNAL] TABLE in Hive's words: an Iceberg table if its properties say so, else Glue's entry of files in S3."""
    try:
        tree = parse_one(re.sub(r"(?s)/\*.*?\*/", " ", sql), read="hive")
    except ParseError as error:
        raise Failed("", f"FAILED: ParseException line 1:0 {str(error).splitlines()[0]}") from error
    if not isinstance(tree, exp.Create) or not isinstance(tree.this, exp.Schema):
        raise Failed("", "FAILED: ParseException line 1:0 cannot recognize input")
    database, name = (tree.this.this.db or session.database).lower(), tree.this.this.name.lower()
    if not session.catalog.has_database(database):
        raise Failed("", f"FAILED: SemanticException [Error 10072]: Database does not exist: {database}")
    if session.catalog.table(database, name) is not None:
        if tree.args.get("exists"):
            return Outcome("DDL", "CREATE_TABLE")
        raise Failed("", f"FAILED: Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask. AlreadyExistsException(message:Table {name} already exists.)")  # fmt: skip
    columns = [(c.name.lower(), c.args["kind"]) for c in tree.this.expressions if isinstance(c, exp.ColumnDef)]
    properties = tree.args["properties"].expressions if tree.args.get("properties") else []
    given = {
        str(p.this.name if not isinstance(p.this, str) else p.this): p.args["value"].name
        for p in properties
        if type(p) is exp.Property
    }
    location = next((p.this.name for p in properties if isinstance(p, exp.LocationProperty)), None)
    parts = next((p for p in properties if isinstance(p, exp.PartitionedByProperty)), None)
    if next((v for k, v in given.items() if k.lower() == "table_type"), "").upper() == "ICEBERG":
        if "external" in sql.lower().split("table")[0]:
            raise Failed(
                "", "FAILED: SemanticException Iceberg tables are created with CREATE TABLE, not CREATE EXTERNAL TABLE"
            )
        partitioning = [_transform(e) for e in parts.this.expressions] if parts is not None else []
        rest = {k: v for k, v in given.items() if k.lower() not in ("table_type", "format")}
        form = {"format": given["format"]} if "format" in given else {}
        dml.make_iceberg(
            session,
            database,
            name,
            columns,
            {**rest, **form, "partitioning": partitioning, **({"location": location} if location else {})},
        )
        return Outcome("DDL", "CREATE_TABLE")
    if location is None:
        raise Failed("", "FAILED: SemanticException CREATE EXTERNAL TABLE needs a LOCATION")
    serde = next((p.this.name for p in properties if isinstance(p, exp.RowFormatSerdeProperty)), None)
    stored = next(
        (
            p.this.name.upper()
            for p in properties
            if isinstance(p, exp.FileFormatProperty) and isinstance(p.this, exp.Var | exp.Literal | exp.Identifier)
        ),
        "TEXTFILE",
    )
    options = re.search(r"(?is)with\s+serdeproperties\s*\((.*?)\)", sql)
    parameters = dict(re.findall(r"'([^']+)'\s*=\s*'([^']*)'", options[1])) if options else {}
    if delimited := re.search(r"(?is)fields\s+terminated\s+by\s+'([^']+)'", sql):
        parameters["field.delim"] = delimited[1].encode().decode("unicode_escape")
    storage = {"Columns": _hive_columns(columns), "Location": location}
    if (serde is None and stored == "PARQUET") or (serde and "parquet" in serde.lower()):
        storage |= dml.PARQUET
    elif stored != "TEXTFILE" and serde is None:
        raise Failed("NOT_SUPPORTED", f"this double of Athena does not read files stored as {stored}")
    else:
        storage |= {**_TEXT, "SerdeInfo": {"SerializationLibrary": serde or _LAZY, "Parameters": parameters}}
    keys = (
        [(c.name.lower(), c.args["kind"]) for c in parts.this.expressions if isinstance(c, exp.ColumnDef)]
        if parts is not None
        else []
    )
    session.catalog.glue.create_table(DatabaseName=database, TableInput={
        "Name": name, "TableType": "EXTERNAL_TABLE", "Parameters": {"EXTERNAL": "TRUE", **given},
        "PartitionKeys": _hive_columns(keys), "StorageDescriptor": storage,
    })  # fmt: skip
    return Outcome("DDL", "CREATE_TABLE")


def _transform(node: exp.Expr) -> str:
    if isinstance(node, exp.ColumnDef | exp.Identifier | exp.Column):
        return node.name
    return node.sql("hive").replace("`", "").lower()


def _hive_columns(columns: list[tuple[str, exp.DataType]]) -> list[dict[str, str]]:
    return [{"Name": n, "Type": k.sql("hive").lower()} for n, k in columns]


def alter_table(session: Session, sql: str) -> Outcome:
    found = _matched(r"alter\s+table\s+NAME\s+(.*)", sql)
    database, name = parsed_name(found[1], session.database)
    table = session.catalog.table(database, name)
    if table is None:
        raise Failed("", f"FAILED: SemanticException [Error 10001]: Table not found {database}.{name}")
    for pattern, change, word in (
        (r"rename\s+to\s+" + _NAME, _rename, "ALTER_TABLE_RENAME"),
        (r"add\s+columns\s*\((.*)\)", _add_columns, "ALTER_TABLE_ADD_COLUMNS"),
        (r"drop\s+column\s+([\w`\"]+)", _drop_column, "ALTER_TABLE_DROP_COLUMN"),
        (
            r"change\s+(?:column\s+)?([\w`\"]+)\s+([\w`\"]+)\s+(\w+(?:\s*\([^)]*\))?)",
            _change_column,
            "ALTER_TABLE_CHANGE_COLUMN",
        ),
        (r"set\s+tblproperties\s*\((.*)\)", _set_properties, "ALTER_TABLE_SET_TBLPROPERTIES"),
        (r"add\s+(if\s+not\s+exists\s+)?(partition\s*\(.*)", _add_partitions, "ALTER_TABLE_ADD_PARTITION"),
        (r"drop\s+(if\s+exists\s+)?partition\s*\((.*)\)", _drop_partition, "ALTER_TABLE_DROP_PARTITION"),
    ):
        if match := re.fullmatch(pattern, found[2].strip(), re.IGNORECASE | re.DOTALL):
            change(session, database, name, table, match)
            return Outcome("DDL", word)
    raise Failed("NOT_SUPPORTED", f"this double of Athena does not know ALTER TABLE … {found[2][:40]}")


def _rename(session: Session, database: str, name: str, table: dict[str, Any], match: re.Match[str]) -> None:
    """Of an Iceberg table only: Glue renames no table of Hive's, and says so."""
    if not names_iceberg(table):
        raise Failed(
            "",
            "FAILED: Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask. Unable to alter table. Table cannot be renamed",
        )
    to_database, to_name = parsed_name(match[1], database)
    if session.catalog.table(to_database, to_name) is not None:
        raise Failed(
            "TABLE_ALREADY_EXISTS", f"Target table 'awsdatacatalog.{to_database}.{to_name}' already exists", (1, 1)
        )
    if not session.catalog.has_database(to_database):
        raise Failed("SCHEMA_NOT_FOUND", f"Schema '{to_database}' does not exist", (1, 1))
    session.catalog.iceberg.rename_table((database, name), (to_database, to_name))


def _columns_of(text: str) -> list[tuple[str, exp.DataType]]:
    try:
        tree = parse_one(f"create table t ({text})", read="hive")
    except ParseError as error:
        raise Failed("", f"FAILED: ParseException line 1:0 cannot recognize input near '{text[:40]}'") from error
    return [(c.name.lower(), c.args["kind"]) for c in tree.this.expressions]


def _add_columns(session: Session, database: str, name: str, table: dict[str, Any], match: re.Match[str]) -> None:
    added = _columns_of(match[1])
    there = {c["Name"].lower() for c in table["StorageDescriptor"].get("Columns", [])}
    for column, _ in added:
        if column in there:
            raise Failed(
                "",
                f"FAILED: Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask. Duplicate column name: {column}",
            )
    if names_iceberg(table):
        with session.catalog.iceberg_table(database, name).update_schema() as update:
            for column, kind in added:
                update.add_column(column, _iceberg_type(column, kind))
        return
    table["StorageDescriptor"]["Columns"] += _hive_columns(added)
    _update(session, database, table)


def _iceberg_type(column: str, kind: exp.DataType) -> Any:
    if kind.this in (Kind.TINYINT, Kind.SMALLINT, Kind.CHAR):
        raise Failed("NOT_SUPPORTED", f"Type not supported for Iceberg: {kind.sql('hive').lower()} (column '{column}')")
    return values.to_iceberg(kind, iter(range(10_000, 20_000)))


def _drop_column(session: Session, database: str, name: str, table: dict[str, Any], match: re.Match[str]) -> None:
    if not names_iceberg(table):
        raise Failed("", "FAILED: SemanticException DROP COLUMN is for Iceberg tables only")
    column = match[1].strip('`"').lower()
    found = session.catalog.iceberg_table(database, name)
    if any(found.schema().find_column_name(f.source_id) == column for f in found.spec().fields):
        raise Failed("NOT_SUPPORTED", f"Cannot drop partition field: {column}")
    try:
        with found.update_schema() as update:
            update.delete_column(column)
    except ValueError as error:
        raise Failed("COLUMN_NOT_FOUND", f"Column '{column}' does not exist") from error


def _change_column(session: Session, database: str, name: str, table: dict[str, Any], match: re.Match[str]) -> None:
    if not names_iceberg(table):
        raise Failed("NOT_SUPPORTED", "CHANGE COLUMN of Hive tables is not emulated by this double of Athena")
    old, new = (match[at].strip('`"').lower() for at in (1, 2))
    (_, kind), *_ = _columns_of(f"c {match[3]}")
    try:
        with session.catalog.iceberg_table(database, name).update_schema() as update:
            update.update_column(old, field_type=_iceberg_type(old, kind))
            if old != new:
                update.rename_column(old, new)
    except Exception as error:
        raise Failed("NOT_SUPPORTED", f"Cannot change column '{old}': {error}") from error


def _set_properties(session: Session, database: str, name: str, table: dict[str, Any], match: re.Match[str]) -> None:
    given = dict(re.findall(r"'([^']+)'\s*=\s*'([^']*)'", match[1]))
    if names_iceberg(table):
        with session.catalog.iceberg_table(database, name).transaction() as change:
            change.set_properties(given)
        return
    table["Parameters"] = table.get("Parameters", {}) | given
    _update(session, database, table)


def _update(session: Session, database: str, table: dict[str, Any]) -> None:
    kept = (
        "Name",
        "Description",
        "Owner",
        "Retention",
        "StorageDescriptor",
        "PartitionKeys",
        "ViewOriginalText",
        "ViewExpandedText",
        "TableType",
        "Parameters",
    )
    session.catalog.glue.update_table(DatabaseName=database, TableInput={k: table[k] for k in kept if k in table})


def _partition_values(text: str, table: dict[str, Any]) -> list[str]:
    given = {k.lower(): v for k, v in re.findall(r"[`\"]?(\w+)[`\"]?\s*=\s*'?([^',)]*)'?", text)}
    keys = [k["Name"].lower() for k in table.get("PartitionKeys", [])]
    if set(given) != set(keys):
        raise Failed("", f"FAILED: SemanticException partition spec {given} does not match the partition keys {keys}")
    return [given[k] for k in keys]


def _add_partitions(session: Session, database: str, name: str, table: dict[str, Any], match: re.Match[str]) -> None:
    for spec, location in re.findall(r"(?is)partition\s*\((.*?)\)(?:\s*location\s*'([^']*)')?", match[2]):
        texts = _partition_values(spec, table)
        keys = [k["Name"] for k in table["PartitionKeys"]]
        default = (
            table["StorageDescriptor"]["Location"].rstrip("/")
            + "".join(f"/{k}={v}" for k, v in zip(keys, texts, strict=True))
            + "/"
        )
        storage = {**table["StorageDescriptor"], "Location": location or default}
        try:
            session.catalog.glue.create_partition(
                DatabaseName=database, TableName=name, PartitionInput={"Values": texts, "StorageDescriptor": storage}
            )
        except session.catalog.glue.exceptions.AlreadyExistsException as error:
            if not match[1]:
                raise Failed("", "FAILED: Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask. AlreadyExistsException(message:Partition already exists.)") from error  # fmt: skip


def _drop_partition(session: Session, database: str, name: str, table: dict[str, Any], match: re.Match[str]) -> None:
    try:
        session.catalog.glue.delete_partition(
            DatabaseName=database, TableName=name, PartitionValues=_partition_values(match[2], table)
        )
    except session.catalog.glue.exceptions.EntityNotFoundException as error:
        if not match[1]:
            raise Failed("", "FAILED: SemanticException [Error 10006]: Partition not found") from error


def repair(session: Session, sql: str) -> Outcome:
    """MSCK REPAIR TABLE: partitions that lie in S3 as `key=value/` become known to Glue."""
    found = _matched(r"msck\s+repair\s+table\s+NAME", sql)
    database, name = parsed_name(found[1], session.database)
    table = session.mounts().entry(database, name)
    keys = [k["Name"].lower() for k in table.get("PartitionKeys", [])]
    if not keys:
        raise Failed("", f"FAILED: SemanticException table {database}.{name} has no partitions to repair")
    known = {tuple(p["Values"]) for p in session.catalog.partitions(database, name)}
    location = table["StorageDescriptor"]["Location"].rstrip("/")
    added = []
    for each in session.catalog.objects(location):
        texts = session.catalog.values_of_path(each["Key"], keys)
        if None in texts or tuple(texts) in known:
            continue
        known.add(tuple(texts))
        folder = "/".join(f"{k}={v}" for k, v in zip(keys, texts, strict=True))
        session.catalog.glue.create_partition(DatabaseName=database, TableName=name, PartitionInput={
            "Values": texts, "StorageDescriptor": {**table["StorageDescriptor"], "Location": f"{location}/{folder}"}})  # fmt: skip
        added.append(f"Repair: Added partition to metastore {name}:{folder}")
    return Outcome("DDL", "MSCK_REPAIR_TABLE", [("result", "string")] if added else [], [[line] for line in added])


def _like(pattern: str | None, name: str) -> bool:
    return pattern is None or re.fullmatch(pattern.replace("*", ".*"), name, re.IGNORECASE) is not None


def show(session: Session, sql: str) -> Outcome:
    found = _matched(r"show\s+(\w+)\s*(.*)", sql)
    what, rest = found[1].lower(), found[2].strip()
    if what in ("databases", "schemas"):
        like = re.fullmatch(r"(?:in\s+\w+\s*)?(?:like\s*)?(?:'([^']*)')?", rest, re.IGNORECASE)
        names = [d["Name"] for d in session.catalog.databases() if _like(like[1] if like else None, d["Name"])]
        return _listed("SHOW_DATABASES", "database_name", names)
    if what in ("tables", "views"):
        like = re.fullmatch(r"(?:(?:in|from)\s+" + _NAME + r"\s*)?(?:like\s*)?(?:'([^']*)')?", rest, re.IGNORECASE)
        if like is None:
            raise Failed("", f"FAILED: ParseException line 1:0 cannot recognize input near '{rest[:40]}'")
        database = (like[1] or session.database).strip('`"').lower()
        if not session.catalog.has_database(database):
            raise Failed("", f"FAILED: SemanticException [Error 10072]: Database does not exist: {database}")
        tables = session.catalog.tables(database)
        names = [
            t["Name"]
            for t in tables
            if _like(like[2], t["Name"]) and (what == "tables" or t.get("TableType") == "VIRTUAL_VIEW")
        ]
        return _listed(f"SHOW_{what.upper()}", "tab_name" if what == "tables" else "views", sorted(names))
    if what == "columns":
        name = re.fullmatch(r"(?:in|from)\s+" + _NAME + r"(?:\s+(?:in|from)\s+" + _NAME + ")?", rest, re.IGNORECASE)
        database, table = _entry(session, name[1] if name else "", name[2] if name else None)
        return _listed("SHOW_COLUMNS", "field", [n for n, _ in session.mounts().columns(database, table)])
    if what == "partitions":
        database, table = _entry(session, rest, None)
        keys = [k["Name"] for k in table.get("PartitionKeys", [])]
        names = [
            "/".join(f"{k}={v}" for k, v in zip(keys, p["Values"], strict=True))
            for p in session.catalog.partitions(database, table["Name"])
        ]
        return _listed("SHOW_PARTITIONS", "partition", names)
    if what == "tblproperties":
        name = re.fullmatch(_NAME + r"(?:\s*\('([^']*)'\))?", rest)
        database, table = _entry(session, name[1] if name else "", None)
        shown = _shown_properties(session, database, table)
        if name and name[2]:
            return _listed("SHOW_TBLPROPERTIES", "prpt_name", [shown[name[2]]] if name[2] in shown else [])
        return Outcome(
            "DDL",
            "SHOW_TBLPROPERTIES",
            [("prpt_name", "string"), ("prpt_value", "string")],
            [[k, v] for k, v in shown.items()],
        )
    if what == "create" and (name := re.fullmatch(r"(table|view)\s+" + _NAME, rest, re.IGNORECASE)):
        database, table = _entry(session, name[2], None)
        if name[1].lower() == "view" or table.get("TableType") == "VIRTUAL_VIEW":
            return _listed(
                "SHOW_CREATE_VIEW",
                "Create View",
                [f"CREATE VIEW {database}.{table['Name']} AS", *session.catalog.view(table)[0].splitlines()],
                "UTILITY",
            )
        return _listed("SHOW_CREATE_TABLE", "createtab_stmt", _ddl_of(session, database, table), "UTILITY")
    raise Failed("NOT_SUPPORTED", f"this double of Athena does not know SHOW {what.upper()}")


def _entry(session: Session, text: str, database: str | None) -> tuple[str, dict[str, Any]]:
    if not re.fullmatch(_NAME, text):
        raise Failed("", f"FAILED: ParseException line 1:0 cannot recognize input near '{text[:40]}'")
    of, name = parsed_name(text, (database or session.database).strip('`"'))
    return of, session.mounts().entry(of, name)


def _listed(word: str, column: str, lines: list[str], kind: str = "DDL") -> Outcome:
    return Outcome(kind, word, [(column, "string")], [[line] for line in lines])


def _shown_properties(session: Session, database: str, table: dict[str, Any]) -> dict[str, str]:
    if not names_iceberg(table):
        return dict(table.get("Parameters", {}))
    own = session.catalog.iceberg_table(database, table["Name"]).properties
    return {k: v for k, v in table["Parameters"].items() if k in ICEBERG_PROPERTIES} | own


def _ddl_of(session: Session, database: str, table: dict[str, Any]) -> list[str]:
    storage = table["StorageDescriptor"]
    name = f"`{database}.{table['Name']}`"
    if names_iceberg(table):
        found = session.catalog.iceberg_table(database, table["Name"])
        columns = [f"  {f.name} {_hive_of(values.of_iceberg(f.field_type))}" for f in found.schema().fields]
        parts = [
            _spec_text(str(f.transform), found.schema().find_column_name(f.source_id) or "")
            for f in found.spec().fields
        ]
        lines = [f"CREATE TABLE {database}.{table['Name']} (", *_commas(columns, ")")]
        lines += ["PARTITIONED BY (" + ", ".join(f"`{p}`" if "(" not in p else p for p in parts) + ")"] if parts else []
        properties = {"table_type": "iceberg", **found.properties}
        return [
            *lines,
            f"LOCATION '{found.location()}'",
            "TBLPROPERTIES (",
            *_commas([f"  '{k}'='{v}'" for k, v in properties.items()], ""),
        ]
    columns = [f"  `{c['Name']}` {c['Type']}" for c in storage["Columns"]]
    keys = [f"  `{c['Name']}` {c['Type']}" for c in table.get("PartitionKeys", [])]
    lines = [f"CREATE EXTERNAL TABLE {name}(", *_commas(columns, "")]
    lines += ["PARTITIONED BY ( ", *_commas(keys, "")] if keys else []
    serde = storage.get("SerdeInfo", {}).get("SerializationLibrary", "")
    lines += ["ROW FORMAT SERDE ", f"  '{serde}' ", "STORED AS INPUTFORMAT ", f"  '{storage.get('InputFormat', '')}' "]
    lines += ["OUTPUTFORMAT ", f"  '{storage.get('OutputFormat', '')}'", "LOCATION", f"  '{storage['Location']}'"]
    return [*lines, "TBLPROPERTIES (", *_commas([f"  '{k}'='{v}'" for k, v in table.get("Parameters", {}).items()], "")]


def _hive_of(trino: str) -> str:
    return values.to_hive(data_type(trino))


def _spec_text(transform: str, column: str) -> str:
    if transform == "identity":
        return column
    sized = re.fullmatch(r"(\w+)\[(\d+)\]", transform)
    return f"{sized[1]}({sized[2]}, {column})" if sized else f"{transform}({column})"


def _commas(lines: list[str], last: str) -> list[str]:
    return [*(f"{line}, " for line in lines[:-1]), f"{lines[-1]}){last if last != ')' else ''}"] if lines else [")"]


def describe(session: Session, sql: str) -> Outcome:
    """DESCRIBE: a line a column, its name, type and comment with tabs between them."""
    found = _matched(r"desc(?:ribe)?\s+(?:(?:extended|formatted)\s+)?NAME", sql)
    database, table = _entry(session, found[1], None)
    columns = session.mounts().columns(database, table)
    lines = [f"{n:<20}\t{_hive_of(t):<20}\t{'':<20}" for n, t in columns]
    if keys := {k["Name"] for k in table.get("PartitionKeys", [])}:
        shown = [f"{n:<20}\t{_hive_of(t):<20}\t{'':<20}" for n, t in columns if n in keys]
        lines += [
            f"{'':<20}\t \t ",
            "# Partition Information\t \t ",
            "# col_name            \tdata_type           \tcomment             ",
            f"{'':<20}\t \t ",
            *shown,
        ]
    return _listed("DESCRIBE_TABLE", "col_name", lines, "UTILITY")
