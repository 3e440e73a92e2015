"""Whether a text stands in any file of a lake: each is inflated and decoded as what it is, whoever wrote it."""

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import msgspec
from isal import igzip, isal_zlib

from assay.errors import UsageError
from assay.lake import duck
from assay.lake.duck import ident
from assay.ports import Files, Limits


def spelt(value: str) -> set[str]:
    """A text as it is, and as JSON of ours and of others spells it, without the quotes."""
    plain = value.strip()
    return {plain, msgspec.json.encode(plain).decode()[1:-1], json.dumps(plain)[1:-1]}


def search(files: Files, value: str) -> list[str]:
    """The names of the objects in which a text stands, be it in their names; UsageError for no text.

    What is looked through: bytes as they lie there, gzip inflated, blocks of avro inflated, rows of parquet, of DuckDB and
    of SQLite. A number or a moment is found as it is written in texts of ours.
    """
    if not value.strip():
        raise UsageError("say which text is searched for")
    texts = spelt(value)
    raw = [one.encode() for one in texts]
    return [name for name in files.names("") if _holds(files, name, texts, raw)]


def _holds(files: Files, name: str, texts: set[str], raw: list[bytes]) -> bool:
    if any(one in name for one in texts):
        return True
    data = files.read(name)
    if any(one in piece for piece in (data, *_inflated(data)) for one in raw):
        return True
    for at, begins, look in _ROWS:
        if data.startswith(begins, at):
            return any(one in text for text in look(files.local(name, "")) for one in texts)
    return False


def _inflated(data: bytes) -> Iterator[bytes]:
    """What a gzip file holds, or each block of an avro file."""
    if data.startswith(b"\x1f\x8b"):
        try:
            yield igzip.decompress(data)
        except (isal_zlib.error, EOFError, OSError):  # type: ignore[misc]  # its stub says instance
            return
    elif data.startswith(b"Obj\x01"):
        # https://avro.apache.org/docs/1.12.0/specification/#object-container-files: each block, and the header, ends with
        # the same 16 bytes; a block begins with two numbers of which each byte but the last has its highest bit set.
        for block in data.split(data[-16:])[1:]:
            at = 0
            for _ in range(2):
                while at < len(block) and block[at] & 0x80:
                    at += 1
                at += 1
            with contextlib.suppress(zlib.error):
                yield zlib.decompress(block[at:], -15)


def _of_parquet(path: Path) -> Iterator[str]:
    with _opened() as con:
        cursor = con.execute(
            "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM read_parquet(?, hive_partitioning = false)", [str(path)]
        )
        yield from _texts(cursor.fetchmany)


def _of_duckdb(path: Path) -> Iterator[str]:
    with _opened() as con:
        con.execute(f"ATTACH {duck.text(str(path))} AS looked (READ_ONLY)")
        for schema, table in con.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'looked'"
        ).fetchall():
            yield from _texts(
                con.execute(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM looked.{ident(schema)}.{ident(table)}").fetchmany
            )


def _of_sqlite(path: Path) -> Iterator[str]:
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as con:
        con.text_factory = lambda told: told.decode("utf-8", "replace")
        for (table,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            quoted = table.replace('"', '""')
            # A virtual table's module may not be here; what it holds lies in tables of its own.
            with contextlib.suppress(sqlite3.Error):
                yield from _texts(con.execute(f'SELECT * FROM "{quoted}"').fetchmany)


@contextlib.contextmanager
def _opened() -> Iterator[duckdb.DuckDBPyConnection]:
    con = duck.open(Limits())
    try:
        yield con
    finally:
        con.close()


def _texts(more: Callable[[int], list[tuple[object, ...]]]) -> Iterator[str]:
    """The rows of a cursor, each as a text."""
    while rows := more(10_000):
        for row in rows:
            yield "\n".join(
                one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in row if one is not None
            )


_ROWS: tuple[tuple[int, bytes, Callable[[Path], Iterator[str]]], ...] = (
    (0, b"PAR1", _of_parquet),
    (8, b"DUCK", _of_duckdb),
    (0, b"SQLite format 3\0", _of_sqlite),
)
