"""Silver's parquet on Spark: read by field ids, and written by the workers, whose bytes the driver gathers in scratch.

A worker's disk is not the driver's, and where bytes are staged for both would be a setting more; the driver reads every
byte of a new object anyway, for its hash.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType
from ulid import ULID

from assay.engines.spark.session import DISK, files, map_in_arrow, query
from assay.engines.spark.words import ident, type_of
from assay.ports import Layout, Parquet, Relation
from assay.sqltypes import SqlType

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 122_880
_PIECE = 8 << 20
_MADE = "_file string, _rows bigint, _value string, _data binary"


def read(spark: SparkSession, rows: Relation, *, filename: str | None = None) -> DataFrame:
    """An Iceberg table's rows: files by URL, columns by field id; `filename` names a column of their URLs, as Spark spells them."""
    if not rows.files:
        nothing = [f"CAST(NULL AS {type_of(kind)}) AS {ident(name)}" for _, name, kind in rows.columns]
        nothing += [f"CAST(NULL AS STRING) AS {ident(filename)}"] if filename else []
        return spark.sql(f"SELECT {', '.join(nothing)} WHERE false")
    types = spark.sql("SELECT " + ", ".join(f"CAST(NULL AS {type_of(kind)})" for _, _, kind in rows.columns)).schema
    schema = StructType([
        StructField(name, one.dataType, nullable=True, metadata={"parquet.field.id": number})
        for (number, name, _), one in zip(rows.columns, types, strict=True)
    ])  # fmt: skip
    found = files(spark).schema(schema).parquet(*sorted(rows.files))
    names = [ident(name) for _, name, _ in rows.columns]
    return found.selectExpr(*names, *([f"_metadata.file_path AS {ident(filename)}"] if filename else []))


def write(given: DataFrame, layout: Layout, scratch: Path) -> list[Parquet]:
    """Write rows into the directory `scratch`: zstd, field ids, one file per partition and task."""
    scratch.mkdir(parents=True, exist_ok=True)
    names = [ident(name) for _, name, _ in layout.columns]
    value = _partition(*layout.partition) if layout.partition else "CAST(NULL AS STRING)"
    cut = given.selectExpr(*names, f"{value} AS _p")
    cut = query(f"SELECT /*+ REBALANCE{'(_p)' if layout.partition else ''} */ * FROM cut", cut=cut)
    cut = cut.sortWithinPartitions("_p") if layout.partition else cut
    made = map_in_arrow(cut, _writing(layout), _MADE).persist(DISK)
    out: list[Parquet] = []
    try:
        made.select("_rows").count()  # all tasks side by side; what is gathered comes a task at a time
        name, where = "", scratch
        for its, rows, value_, data in made.toLocalIterator():
            if its != name:
                name, where = its, scratch / f"{its}.parquet"
                told = (_value(layout.partition[1], value_),) if layout.partition else ()
                out.append(Parquet(where, rows, 0, told))
            with where.open("ab") as file:
                file.write(data)
    finally:
        made.unpersist()
    sized = [Parquet(one.path, one.rows, one.path.stat().st_size, one.partition) for one in out]
    return sorted(sized, key=lambda one: one.path)


def _writing(layout: Layout) -> "Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]":
    """What a worker does with sorted rows: a file for each value of `_p`, in pieces."""
    columns = layout.columns

    def files_of(batches: "Iterable[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        import pyarrow as pa

        fields = [pa.field(name, arrow(kind), metadata={"PARQUET:field_id": str(i)}) for i, name, kind in columns]
        made, now = None, None
        for batch in batches:
            for value, some in _runs(batch):
                if made is None or value != now:
                    if made is not None:
                        yield from made.end()
                    made, now = _File(pa.schema(fields), value), value
                made.add(some)
        if made is not None:
            yield from made.end()

    return files_of


def _runs(batch: "pa.RecordBatch") -> "Iterator[tuple[str | None, pa.RecordBatch]]":
    """The rows of each partition, without its value; they are sorted by it."""
    values = batch.column(batch.num_columns - 1).to_pylist()
    rows = batch.select(range(batch.num_columns - 1))
    first = 0
    for i in range(1, len(values) + 1):
        if i == len(values) or values[i] != values[first]:
            yield values[first], rows.slice(first, i - first)
            first = i


class _File:
    """A parquet file in the making, in memory, as its worker hands it over."""

    def __init__(self, schema: "pa.Schema", value: str | None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema, self._value, self._out = schema, value, pa.BufferOutputStream()
        # Level 1, as DuckDB writes them: half the CPU for files a tenth larger.
        self._writer = pq.ParquetWriter(self._out, schema, compression="zstd", compression_level=1)
        self._waiting: list[Any] = []
        self._rows = self._group = 0

    def add(self, batch: "pa.RecordBatch") -> None:
        """Take rows in."""
        self._waiting.append(batch)
        self._group += batch.num_rows
        if self._group >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            table = pa.Table.from_batches(self._waiting).cast(self._schema)
            self._writer.write_table(table, row_group_size=ROW_GROUP)
            self._rows += table.num_rows
        self._waiting, self._group = [], 0

    def end(self) -> "Iterator[pa.RecordBatch]":
        """The whole file, in pieces."""
        import pyarrow as pa

        self._flush()
        self._writer.close()
        data, name = self._out.getvalue(), str(ULID())
        for first in range(0, data.size, _PIECE):
            piece = data.slice(first, min(_PIECE, data.size - first)).to_pybytes()
            told = {
                "_file": [name],
                "_rows": [self._rows],
                "_value": pa.array([self._value], pa.string()),
                "_data": [piece],
            }
            yield pa.RecordBatch.from_pydict(told)


def arrow(kind: str) -> "pa.DataType":
    """A contract's type, as arrow has it."""
    import pyarrow as pa

    found = SqlType.parse(kind)
    if found.decimal:
        return pa.decimal128(found.precision, found.scale)
    return {
        "VARCHAR": pa.string(), "BIGINT": pa.int64(), "INTEGER": pa.int32(), "BOOLEAN": pa.bool_(), "DATE": pa.date32(),
        "DOUBLE": pa.float64(), "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    }[found.name]  # fmt: skip


def _partition(column: str, how: str) -> str:
    """What Iceberg calls the partition of a row, as a text: years and months since 1970, or the value itself."""
    name = ident(column)
    if how == "year":
        return f"CAST(year({name}) - 1970 AS STRING)"
    if how == "month":
        return f"CAST((year({name}) - 1970) * 12 + month({name}) - 1 AS STRING)"
    return f"CAST({name} AS STRING)"


def _value(how: str, cut: str | None) -> str | int | None:
    return cut if cut is None or how == "value" else int(cut)


__all__: Sequence[str] = ["read", "write"]
