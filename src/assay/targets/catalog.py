"""The catalog of one machine: PyIceberg's over SQLite, its errors told by who must act."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import CommitTableResponse, Table
from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from assay.errors import AssayError, CommitUnknown, LakeBusy, LakeDamaged, SettingsError
from assay.lake import io
from assay.ports import Files

REMEDY = "Take away all of {} but bronze and contracts, then `assay apply` makes the rest from them"


class SqliteCatalog(SqlCatalog):
    """PyIceberg's catalog; what SQLite says comes as LakeBusy, SettingsError, LakeDamaged or CommitUnknown."""

    def load_table(self, identifier: Any) -> Table:
        with _errors():
            return super().load_table(identifier)

    def create_table(self, *args: Any, **named: Any) -> Table:
        with _errors():
            return super().create_table(*args, **named)

    def create_namespace_if_not_exists(self, namespace: Any, properties: Any = None) -> None:
        # IntegrityError: another process made it between the look and our insert.
        with _errors(), suppress(IntegrityError):
            super().create_namespace_if_not_exists(namespace, properties or {})

    def drop_table(self, identifier: Any) -> None:
        with _errors():
            super().drop_table(identifier)

    def list_tables(self, namespace: Any) -> list[Any]:
        with _errors(), _texts():
            return super().list_tables(namespace)

    def list_namespaces(self, namespace: Any = ()) -> list[Any]:
        with _errors(), _texts():
            return super().list_namespaces(namespace)

    def commit_table(self, table: Table, requirements: Any, updates: Any) -> CommitTableResponse:
        with _errors(committing=".".join(table.name())):
            return super().commit_table(table, requirements, updates)


def open_catalog(root: Path, files: Files, base: str | None = None) -> SqliteCatalog:
    """The lake's catalog below a directory; a lake that was moved is LakeDamaged, and told what to do.

    `base` is what its tables' locations begin with: the directory's URL unless the objects lie elsewhere.
    """
    where = URL.create("sqlite", database=str(root / "catalog.db")).render_as_string()
    base = base or f"file://{root}/"
    with _errors(), _texts():
        for _ in range(10):
            try:
                found = _open(where, files, base)
                break
            except OperationalError as error:
                # Two processes open a new lake at once, and the other one made the tables first.
                if "already exists" not in str(error.orig):
                    raise
        else:
            found = _open(where, files, base)
        try:
            with found.engine.connect() as con:
                placed = con.exec_driver_sql("SELECT min(metadata_location) FROM iceberg_tables").scalar()
        except DatabaseError:
            found.close()
            raise
    if placed is not None and not isinstance(placed, str):
        found.close()
        raise LakeDamaged("catalog.db is not a catalog any more (a location is no text); restore it from a copy")
    if placed and not placed.startswith(base):
        found.close()
        raise LakeDamaged(f"this lake was moved: its catalog names {placed}. {REMEDY.format(root)}")
    return found


def _open(uri: str, files: Files, base: str) -> SqliteCatalog:
    return SqliteCatalog("lake", uri=uri, warehouse=f"{base}warehouse", **io.properties(files, base))


_BUSY = ("locked", "busy")
_FORBIDDEN = ("readonly", "read-only", "unable to open", "permission")
_FULL = ("full",)
_BROKEN = ("malformed", "not a database", "no such table", "no such column", "already exists")


@contextmanager
def _errors(committing: str = "") -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise _meaning(str(error.orig), committing) from error


@contextmanager
def _texts() -> Iterator[None]:
    """Where SQLite's own words, or a table's name, are no text any more."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise LakeDamaged(f"catalog.db is not a catalog any more ({error}); restore it from a copy") from error


def _meaning(said: str, committing: str) -> AssayError:
    """Who must act on SQLite's sentence. All but the last roll back, so what was to be committed is not in."""
    what = f"; {committing} was not changed" if committing else ""
    if any(word in said for word in _BUSY):
        return LakeBusy(f"the catalog is held by another process ({said}){what}; run it again when that one is done")
    if any(word in said for word in _FULL):
        return SettingsError(f"no room left for the catalog ({said}){what}; free some and run it again")
    if any(word in said for word in _FORBIDDEN):
        return SettingsError(f"the catalog cannot be opened or written ({said}){what}; the lake's owner must allow it")
    if any(word in said for word in _BROKEN):
        return LakeDamaged(f"catalog.db is not a catalog any more ({said}); restore it from a copy")
    if committing:
        return CommitUnknown(f"the catalog failed while {committing} was committed ({said}); look whether it is in")
    return SettingsError(f"the catalog cannot be used ({said}); look at its disk")
