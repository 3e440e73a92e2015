"""Whether a text stands in any file of a lake: each is inflated and decoded as what it is, whoever wrote it."""

import contextlib
import json
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import msgspec
from isal import igzip, isal_zlib

from assay.errors import AssayError, UsageError
from assay.lake import duck
from assay.lake.duck import ident
from assay.ports import Files, Limits

SHORTEST = 4
_ESCAPED = re.compile(
    rb"\\+(?:u([dD][89abAB][0-9a-fA-F]{2})\\+u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([/\"]))?"
)
"""A character as JSON may spell it, also in a text that holds JSON, where the backslash has one of its own."""


def spelt(value: str) -> re.Pattern[bytes]:
    """What finds a text in bytes that are made `plain`, as words of its own."""
    text = value.strip()
    ways = {text, msgspec.json.encode(text).decode()[1:-1], json.dumps(text)[1:-1]}
    told = b"|".join(re.escape(one) for one in sorted({plain(one.encode()) for one in ways}, reverse=True))
    word = rb"[0-9A-Za-z_\x80-\xff]"
    return re.compile(rb"(?<!" + word + rb")(?<![0-9][.])(?:" + told + rb")(?!" + word + rb"|[.][0-9])")


def plain(data: bytes) -> bytes:
    """Bytes without the escapes by which JSON may spell any character."""

    def character(found: re.Match[bytes]) -> bytes:
        if found[1]:
            high, low = int(found[1], 16) - 0xD800, int(found[2], 16) - 0xDC00
            return chr(0x10000 + (high << 10) + low).encode()
        return chr(int(found[3], 16)).encode("utf-8", "replace") if found[3] else found[4] or b"\\"

    return _ESCAPED.sub(character, data) if b"\\" in data else data


def search(files: Files, value: str) -> list[str]:
    """The names of the objects in which a text stands as words of its own, be it in their names.

    Those that cannot be looked into are named with what is wrong with them. UsageError for a text that is too short to tell.
    What is looked through: bytes as they lie there, gzip inflated, blocks of avro inflated, rows of parquet, of DuckDB and
    of SQLite. A number or a moment is found as it is written in texts of ours.
    """
    if len(value.strip()) < SHORTEST:
        raise UsageError(
            f"a text of less than {SHORTEST} characters is not searched for: it stands in numbers and names of ours"
        )
    wanted = spelt(value)
    found = []
    for name in files.names(""):
        try:
            if _holds(files, name, wanted):
                found.append(name)
        except (AssayError, OSError, sqlite3.Error, duckdb.Error) as error:
            if files.exists(name):  # else it was for a moment only
                found.append(f"{name} cannot be looked into ({type(error).__name__})")
    return found


def _holds(files: Files, name: str, wanted: re.Pattern[bytes]) -> bool:
    data = files.read(name)
    if any(wanted.search(plain(piece)) for piece in (name.encode(), *_pieces(data))):
        return True
    for at, begins, look in _ROWS:
        if data.startswith(begins, at):
            return any(wanted.search(plain(text)) for text in look(files.local(name, "")))
    return False


def _pieces(data: bytes) -> Iterator[bytes]:
    """Bytes as they are, and what they hold: of a gzip file all of it, however often it was zipped, of an avro file each block."""
    yield data
    if data.startswith(b"\x1f\x8b"):
        try:
            inflated = igzip.decompress(data)
        except (isal_zlib.error, EOFError, OSError):  # type: ignore[misc]  # its stub says instance
            return
        yield from _pieces(inflated)
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


def _of_parquet(path: Path) -> Iterator[bytes]:
    with _opened() as con:
        cursor = con.execute(
            "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM read_parquet(?, hive_partitioning = false)", [str(path)]
        )
        yield from _rows(cursor.fetchmany)


def _of_duckdb(path: Path) -> Iterator[bytes]:
    with _opened() as con:
        con.execute(f"ATTACH {duck.text(str(path))} AS looked (READ_ONLY)")
        tables = con.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'looked'"
        ).fetchall()
        for schema, table in tables:
            where = f"looked.{ident(schema)}.{ident(table)}"
            yield from _rows(con.execute(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {where}").fetchmany)


def _of_sqlite(path: Path) -> Iterator[bytes]:
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as con:
        con.text_factory = bytes
        for (table,) in con.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        ).fetchall():
            quoted = table.decode().replace('"', '""')
            yield from _rows(con.execute(f'SELECT * FROM "{quoted}"').fetchmany)


@contextlib.contextmanager
def _opened() -> Iterator[duckdb.DuckDBPyConnection]:
    con = duck.open(Limits())
    try:
        yield con
    finally:
        con.close()


def _rows(more: Callable[[int], list[tuple[object, ...]]]) -> Iterator[bytes]:
    """The rows of a cursor, each as bytes."""
    while rows := more(10_000):
        for row in rows:
            yield b"\n".join(one if isinstance(one, bytes) else str(one).encode("utf-8", "replace") for one in row)


_ROWS: tuple[tuple[int, bytes, Callable[[Path], Iterator[bytes]]], ...] = (
    (0, b"PAR1", _of_parquet),
    (8, b"DUCK", _of_duckdb),
    (0, b"SQLite format 3\0", _of_sqlite),
)
