"""The one way to open DuckDB, within the lake's limits, and what its errors ask of whom."""

import re
from pathlib import Path
from typing import Any

import duckdb

from assay.errors import AssayError, LakeBusy, LakeDamaged, SettingsError
from assay.ports import Limits, Relation

# From the first word on: what a query does wrong may be told with any text of its own.
_DAMAGED = re.compile(
    r"Corrupt database file|IO Error: (Cannot open database|Could not read|No files found that match|The file .* exists, but)|"
    r"Invalid Input Error: (No magic bytes|File '.*' too small to be|Failed to read file)|"
    r"Prefetch registered for bytes outside file|don't know what type: |TProtocolException: |invalid TType"
)
_LOCKED = re.compile(r"IO Error: Could not set lock on file")
_FORBIDDEN = re.compile(
    r"IO Error: (?:Cannot open file|Could not write file|Failed to create directory|Cannot create directory) .*"
    r"(Permission denied|Read-only file system|Operation not permitted)"
)
# Only where DuckDB itself speaks: a model's name or a test's rows may hold the bare words.
_FULL = re.compile(
    r"(IO Error: .*|\[Errno (28|27|122)\] )(No space left on device|File too large|Disk quota exceeded)|"
    r"Out of Memory Error: failed to offload data block"
)
_PATH = re.compile(r"['\"](/[^'\"\\]+)\\?['\"]")


def open(  # noqa: A001 - said as `duck.open`
    limits: Limits, path: Path | None = None, *, read_only: bool = False, ordered: bool = True
) -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own, in memory or in a file: in UTC, without extensions, deaf to this program's variables.

    Unless `ordered`, rows come in any order, for less memory. It raises what DuckDB raises; `meaning` says who must act.
    """
    config: dict[str, Any] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        # A name can never stand for a variable of this program.
        "python_enable_replacements": False,
        "preserve_insertion_order": ordered,
        "memory_limit": limits.memory,
        "threads": limits.threads,
        "temp_directory": str(limits.scratch) if limits.scratch else "",
    }
    if limits.scratch and limits.spill:
        config["max_temp_directory_size"] = limits.spill
    con = duckdb.connect(str(path) if path else ":memory:", read_only=read_only, config=config)
    try:
        # GLOBAL: what is set without it does not reach the connection's cursors, and they would take the machine's zone.
        con.execute("SET GLOBAL timezone = 'UTC'; SET enable_progress_bar = false")
    except BaseException:
        con.close()
        raise
    return con


def meaning(error: duckdb.Error, limits: Limits | None = None, what: str = "this") -> AssayError | None:
    """What DuckDB's error asks of whom, if it speaks of room, memory, leave or a stored file; None if of the query.

    `what` is what was asked for. No value of the data is quoted.
    """
    said = str(error)
    first = said.partition("\n")[0]
    named = _PATH.search(first)
    path = named[1] if named else None
    if _FULL.match(said):
        where = Path(path).parent if path else limits.scratch if limits else None
        return SettingsError(
            f"no room left below {where or 'the lake'}: free some and run it again; nothing of {what} is visible"
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return SettingsError(
            f"{what} needs more than [lake] memory of assay.toml allows; the lake's owner can raise it"
        )
    if _LOCKED.match(first):
        return LakeBusy(f"{path} is open for writing in another program; close it there and ask again")
    if forbidden := _FORBIDDEN.search(first):
        return SettingsError(f"{path} cannot be opened: {forbidden[1]}; the lake's owner must allow it")
    if _DAMAGED.match(first):
        return LakeDamaged(
            f"{path or 'a file that serves gold'} is lost or damaged; `assay build` makes gold's files anew, "
            f"`assay refine DATASET --rebuild` silver's; `assay verify bronze` names bronze's, which come from a copy"
        )
    return None


def full(said: str) -> bool:
    """Whether a text that quotes DuckDB or Python says that a disk had no room."""
    return bool(_FULL.search(said))


def ident(name: str) -> str:
    """A name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A string as a quoted SQL literal, for the places where nothing can be bound (views, COPY options)."""
    return "'" + value.replace("'", "''") + "'"


def relation(rows: Relation, *, filename: str | None = None) -> str:
    """The SELECT of an Iceberg table's rows: files by URL, columns by field id; `filename` names a column of their URLs.

    Without files it is empty, with the right types.
    """
    names = [ident(name) for _, name, _ in rows.columns]
    if not rows.files:
        nothing = [f"CAST(NULL AS {kind}) AS {ident(name)}" for _, name, kind in rows.columns]
        nothing += [f"CAST(NULL AS VARCHAR) AS {ident(filename)}"] if filename else []
        return f"SELECT {', '.join(nothing)} WHERE false"
    schema = ", ".join(
        f"{i}: {{name: {text(name)}, type: {text(kind)}, default_value: NULL}}" for i, name, kind in rows.columns
    )
    listed = ", ".join(map(text, sorted(rows.files)))
    said = f", filename = {text(filename)}" if filename else ""
    chosen = ", ".join([*names, *([ident(filename)] if filename else [])])
    return f"SELECT {chosen} FROM read_parquet([{listed}], schema = MAP {{{schema}}}, hive_partitioning = false{said})"
