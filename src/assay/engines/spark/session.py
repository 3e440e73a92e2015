"""Spark as the engine wants it: a session of its own whose answers no runner's settings change, and what its errors ask of whom."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.udf import UserDefinedFunction
from pyspark.storagelevel import StorageLevel

from assay.engines.spark.words import ident, spelt, type_of
from assay.errors import AssayError, ContractError, LakeDamaged, SettingsError

if TYPE_CHECKING:
    import pyarrow as pa

PINNED = {
    # What a value is.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
    # How our text is read.
    "spark.sql.caseSensitive": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    # How silver's files are: days of long ago are days of today's calendar, columns are known by field ids.
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.fieldId.read.enabled": "true",
    "spark.sql.parquet.fieldId.read.ignoreMissing": "false",
    "spark.sql.adaptive.enabled": "true",
    # What Java's compiler leaves alone is interpreted for every row: past this size a step is made of several methods instead.
    "spark.sql.codegen.hugeMethodLimit": "8000",
}
"""What is set in each session of ours, so that Glue, EMR and one machine differ in nothing that a row could show."""
ONE_BY_ONE = ("spark.sql.execution.arrow.maxRecordsPerBatch", "1")
"""A setting with which each row goes to Python by itself: a row is a whole file."""
DISK = StorageLevel.DISK_ONLY
_MAP_IN_ARROW = 207
_RULE = re.compile(
    r"\[(DIVIDE_BY_ZERO|REMAINDER_BY_ZERO|ARITHMETIC_OVERFLOW|CAST_OVERFLOW|CAST_INVALID_INPUT|BINARY_ARITHMETIC_OVERFLOW|"
    r"NUMERIC_VALUE_OUT_OF_RANGE[A-Z_.]*|DATATYPE_MISMATCH[A-Z_.]*|UNRESOLVED_COLUMN[A-Z_.]*|INVALID_ARRAY_INDEX)\]"
)
_ROOM = re.compile(r"No space left on device|OutOfMemoryError|maxResultSize|Disk quota exceeded")
_GONE = re.compile(
    r"PATH_NOT_FOUND|FileNotFoundException|FAILED_READ_FILE|is not a Parquet file|Not a gzip|igzip|IsalError|EOFError"
)


@contextmanager
def session() -> Iterator[SparkSession]:
    """A session of the Spark that runs here, or of one that is started now; its errors say who must act."""
    builder = SparkSession.builder.appName("assay")
    if SparkSession.getActiveSession() is None and not _submitted():
        builder = _alone(builder)
    spark = builder.getOrCreate().newSession()
    for name, value in PINNED.items():
        spark.conf.set(name, value)
    try:
        yield spark
    except Exception as error:
        if told := meaning(error):
            raise told from error
        raise


def _submitted() -> bool:
    """Whether a runner (Glue, EMR, spark-submit) has said where Spark is."""
    from pyspark import SparkConf

    return bool(SparkConf().get("spark.master", ""))


def _alone(builder: Any) -> Any:
    """Spark within this process alone: on loopback, without a page of its own."""
    said = {
        "spark.master": "local[2]",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "3g",
        # Of a heap that kept lines fill, the usual collector marks the living again and again beside the work.
        "spark.driver.extraJavaOptions": "-XX:+UseParallelGC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "4",
        "spark.log.level": "ERROR",
    }
    for name, value in said.items():
        builder = builder.config(name, value)
    return builder


def meaning(error: Exception) -> AssayError | None:
    """What an error of Spark's asks of whom, without quoting any value of the data; None if it is not one."""
    if isinstance(error, AssayError) or not (isinstance(error, PySparkException) or "py4j" in type(error).__module__):
        return None
    said = f"{getattr(error, 'getErrorClass', lambda: '')()} {error}"
    found = _RULE.search(f"[{said.split(' ', 1)[0]}] {said}")
    if found:
        return ContractError(f"a rule of the contract cannot be computed ({found[1]}); `assay check` names it")
    if _ROOM.search(said):
        return SettingsError(
            "this refine needs more memory or room than Spark has; its owner can raise spark.driver.memory"
        )
    if _GONE.search(said):
        return LakeDamaged("an object of the lake cannot be read; `assay verify bronze` names it")
    return None


def map_in_arrow(
    given: DataFrame, function: "Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]", schema: str
) -> DataFrame:
    """`DataFrame.mapInArrow`, which asks for pandas although nothing of it is used."""
    udf = UserDefinedFunction(function, schema, evalType=_MAP_IN_ARROW)
    called = udf(*[given[name] for name in given.columns])
    return DataFrame(given._jdf.pythonMapInArrow(called._jc.expr(), False), given.sparkSession)  # noqa: SLF001 - as mapInArrow does


@contextmanager
def set_to(spark: SparkSession, name: str, value: str) -> Iterator[None]:
    """What is planned within has a setting so; what is planned after it as before."""
    before = spark.conf.get(name)
    spark.conf.set(name, value)
    try:
        yield
    finally:
        spark.conf.set(name, before)


def keep(frame: DataFrame) -> DataFrame:
    """A frame that is computed once, and whose plan begins anew: what is asked of it is planned in no time.

    If a worker that holds some of it is lost, the refine fails as a whole and is run again.
    """
    return frame.localCheckpoint(eager=False)


_views = count()


def query(said: str, **frames: DataFrame) -> DataFrame:
    """What a query says over frames by the names that it gives them, at least one.

    A view's name is never used again: to replace one, Spark looks through all that it keeps.
    """
    for name, frame in frames.items():
        view = f"_v{next(_views)}"
        frame.createTempView(view)
        said = re.sub(rf"\b(FROM|JOIN) {name}\b", rf"\1 {view}", said)
    return next(iter(frames.values())).sparkSession.sql(said)


def table(spark: SparkSession, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> DataFrame:
    """A small table of Python values, by (name, type as a contract spells it)."""
    if not rows:
        nothing = ", ".join(f"CAST(NULL AS {type_of(kind)}) AS {ident(name)}" for name, kind in columns)
        return spark.sql(f"SELECT {nothing} WHERE false")
    schema = ", ".join(f"{ident(name)} string" for name, _ in columns)
    texts = [tuple(None if v is None else spelt(v) for v in row) for row in rows]
    typed = [f"CAST({ident(name)} AS {type_of(kind)}) AS {ident(name)}" for name, kind in columns]
    return spark.createDataFrame(texts, schema, verifySchema=False).selectExpr(*typed)


def files(spark: SparkSession) -> Any:
    """A reader that takes names of files as they are."""
    return spark.read.option("__globPaths__", "false")
