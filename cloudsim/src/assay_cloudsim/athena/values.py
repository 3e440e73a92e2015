"""Types and values at the borders: Glue's and Iceberg's types in Trino's and DuckDB's words, results as Athena writes them."""

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyiceberg.types as ice
from sqlglot import exp

from assay_cloudsim.athena.dialect import Kind, sql_type
from assay_cloudsim.athena.macros import java_double

_ICEBERG: dict[Any, str] = {
    ice.BooleanType: "boolean", ice.IntegerType: "integer", ice.LongType: "bigint", ice.FloatType: "real",
    ice.DoubleType: "double", ice.DateType: "date", ice.TimeType: "time(6)", ice.TimestampType: "timestamp(6)",
    ice.TimestamptzType: "timestamp(6) with time zone", ice.StringType: "varchar", ice.BinaryType: "varbinary",
    ice.FixedType: "varbinary", ice.UUIDType: "uuid",
}  # fmt: skip
_TO_ICEBERG: dict[str, Any] = {
    "boolean": ice.BooleanType, "int": ice.IntegerType, "integer": ice.IntegerType, "bigint": ice.LongType,
    "float": ice.FloatType, "double": ice.DoubleType, "date": ice.DateType, "timestamp": ice.TimestampType,
    "string": ice.StringType, "binary": ice.BinaryType,
}  # fmt: skip


def of_iceberg(kind: ice.IcebergType) -> str:
    """An Iceberg type as Trino writes it: https://trino.io/docs/current/connector/iceberg.html#type-mapping."""
    match kind:
        case ice.DecimalType():
            return f"decimal({kind.precision},{kind.scale})"
        case ice.ListType():
            return f"array({of_iceberg(kind.element_type)})"
        case ice.MapType():
            return f"map({of_iceberg(kind.key_type)}, {of_iceberg(kind.value_type)})"
        case ice.StructType():
            return "row(" + ", ".join(f'"{f.name}" {of_iceberg(f.field_type)}' for f in kind.fields) + ")"
    return _ICEBERG[type(kind)]


def of_hive(text: str) -> str:
    """A column's type in Glue as Trino writes it."""
    return _trino(exp.DataType.build(text, dialect="hive"))


def _trino(kind: exp.DataType) -> str:
    parts = [p for p in kind.expressions if isinstance(p, exp.DataType)]
    match kind.this:
        case Kind.ARRAY | Kind.LIST:
            return f"array({_trino(parts[0])})"
        case Kind.MAP:
            return f"map({_trino(parts[0])}, {_trino(parts[1])})"
        case Kind.STRUCT:
            return "row(" + ", ".join(f'"{f.name}" {_trino(f.args["kind"])}' for f in kind.expressions) + ")"
        case Kind.TEXT:
            return "varchar"
        case Kind.FLOAT:
            return "real"
        case Kind.INT:
            return "integer"
        case Kind.BINARY | Kind.VARBINARY:
            return "varbinary"
        case Kind.DECIMAL:
            return (
                "decimal(" + ",".join(e.name for e in kind.expressions) + ")" if kind.expressions else "decimal(10,0)"
            )
        case Kind.TIMESTAMP | Kind.TIMESTAMPTZ | Kind.TIMESTAMPNTZ:
            return "timestamp(3)"
        case Kind.VARCHAR | Kind.CHAR:
            return "varchar"
    return str(kind.this.value).lower()


def to_iceberg(kind: exp.DataType, numbers: Iterator[int]) -> ice.IcebergType:
    """A type of Athena's DDL as Iceberg's, with fresh ids for what is nested."""
    parts = [p for p in kind.expressions if isinstance(p, exp.DataType)]
    if kind.this in (Kind.ARRAY, Kind.LIST):
        return ice.ListType(next(numbers), to_iceberg(parts[0], numbers), element_required=False)
    if kind.this == Kind.MAP:
        return ice.MapType(
            next(numbers),
            to_iceberg(parts[0], numbers),
            next(numbers),
            to_iceberg(parts[1], numbers),
            value_required=False,
        )
    if kind.this == Kind.STRUCT:
        return ice.StructType(
            *(
                ice.NestedField(next(numbers), f.name, to_iceberg(f.args["kind"], numbers), required=False)
                for f in kind.expressions
            )
        )
    if kind.this == Kind.DECIMAL:
        p, s = ([int(e.name) for e in kind.expressions] + [0])[:2] if kind.expressions else (10, 0)
        return ice.DecimalType(p, s)
    names = {Kind.INT: "int", Kind.BIGINT: "bigint", Kind.TEXT: "string", Kind.VARCHAR: "string", Kind.BINARY: "binary",
             Kind.VARBINARY: "binary", Kind.FLOAT: "float", Kind.DOUBLE: "double", Kind.DATE: "date", Kind.BOOLEAN: "boolean",
             Kind.TIMESTAMP: "timestamp", Kind.TIMESTAMPNTZ: "timestamp", Kind.TIMESTAMPTZ: "timestamp"}  # fmt: skip
    made: ice.IcebergType = _TO_ICEBERG[names[kind.this]]()
    return made


def to_hive(trino: exp.DataType) -> str:
    """A type of Trino's as Glue keeps it."""
    parts = [p for p in trino.expressions if isinstance(p, exp.DataType)]
    match trino.this:
        case Kind.ARRAY:
            return f"array<{to_hive(parts[0])}>"
        case Kind.MAP:
            return f"map<{to_hive(parts[0])},{to_hive(parts[1])}>"
        case Kind.STRUCT:
            return "struct<" + ",".join(f"{f.name}:{to_hive(f.args['kind'])}" for f in trino.expressions) + ">"
        case Kind.DECIMAL:
            return "decimal(" + ",".join(e.name for e in trino.expressions) + ")"
        case Kind.VARCHAR | Kind.TEXT | Kind.CHAR | Kind.UUID | Kind.JSON:
            return "string"
        case Kind.VARBINARY:
            return "binary"
        case Kind.INT:
            return "int"
        case Kind.FLOAT:
            return "float"
    return "timestamp" if str(trino.this.value).startswith("TIMESTAMP") else str(trino.this.value).lower()


_SIMPLE = {
    "float": "real",
    "blob": "varbinary",
    "hugeint": "bigint",
    "ubigint": "bigint",
    "uinteger": "bigint",
    "sqlnull": "unknown",
    "null": "unknown",
}


def of_duckdb(kind: Any) -> str:
    """A DuckDB type as Trino writes it; HUGEINT is where DuckDB widens what in Trino stays a bigint."""
    match kind.id:
        case "list" | "array":
            return f"array({of_duckdb(kind.children[0][1])})"
        case "map":
            return f"map({of_duckdb(kind.children[0][1])}, {of_duckdb(kind.children[1][1])})"
        case "struct":
            return "row(" + ", ".join(f'"{n}" {of_duckdb(k)}' for n, k in kind.children) + ")"
        case "tuple":
            return "row(" + ", ".join(f'"field{at}" {of_duckdb(k)}' for at, (_, k) in enumerate(kind.children)) + ")"
        case "decimal":
            (_, p), (_, s) = kind.children
            return f"decimal({p},{s})"
        case "timestamp":
            return "timestamp(6)"
        case "timestamp with time zone":
            return "timestamp(6) with time zone"
        case "interval":
            return "interval day to second"
    if str(kind).upper() == "JSON":
        return "json"
    return _SIMPLE.get(kind.id, str(kind.id))


def duckdb_type(trino: str) -> str:
    """The DuckDB type that holds a column's values."""
    from assay_cloudsim.athena.dialect import data_type

    return sql_type(data_type(trino))


def column_info(name: str, trino: str) -> dict[str, Any]:
    """The ColumnInfo of a result's column."""
    short = trino.split("(", maxsplit=1)[0] + (" with time zone" if trino.endswith("with time zone") else "")
    precision, scale = {
        "double": (17, 0), "real": (17, 0), "integer": (10, 0), "bigint": (19, 0), "smallint": (5, 0), "tinyint": (3, 0),
        "varchar": (2147483647, 0), "boolean": (0, 0), "varbinary": (1073741824, 0), "timestamp": (3, 0),
        "timestamp with time zone": (3, 0),
    }.get(short, (0, 0))  # fmt: skip
    if short == "decimal":
        precision, scale = (int(x) for x in trino[8:-1].split(","))
    short = "float" if short == "real" else short
    return {
        "CatalogName": "hive", "SchemaName": "", "TableName": "", "Name": name, "Label": name, "Type": short,
        "Precision": precision, "Scale": scale, "Nullable": "UNKNOWN", "CaseSensitive": short == "varchar",
    }  # fmt: skip


def text(value: Any, trino: str = "", *, nested: bool = False) -> str | None:
    """A value as GetQueryResults and the CSV hold it."""
    match value:
        case None:
            return "null" if nested else None
        case bool():
            return "true" if value else "false"
        case float():
            return java_double(value)
        case dt.datetime():
            digits = 3 if trino.startswith("timestamp(3)") else 6
            shown = value.strftime("%Y-%m-%d %H:%M:%S.%f")[: 20 + digits]
            return f"{shown} UTC" if value.tzinfo else shown
        case dt.time():
            return value.strftime("%H:%M:%S.%f")[:12]
        case dt.timedelta():
            whole = int(value.total_seconds() * 1000)
            sign, whole = ("-", -whole) if whole < 0 else ("", whole)
            days, rest = divmod(whole, 86_400_000)
            return (
                f"{sign}{days} {rest // 3_600_000:02}:{rest // 60_000 % 60:02}:{rest // 1000 % 60:02}.{rest % 1000:03}"
            )
        case Decimal():
            return f"{value:f}"
        case bytes():
            return value.hex(" ")
        case list():
            return "[" + ", ".join(str(text(v, nested=True)) for v in value) + "]"
        case tuple():
            return "{" + ", ".join(f"field{at}={text(v, nested=True)}" for at, v in enumerate(value)) + "}"
        case dict():
            if trino == "json":
                return json.dumps(value)
            entries = sorted(value.items(), key=lambda e: e[0]) if trino.startswith("map") else value.items()
            return "{" + ", ".join(f"{text(k, nested=True)}={text(v, nested=True)}" for k, v in entries) + "}"
    return str(value)
