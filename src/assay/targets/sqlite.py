"""The ledger of one machine: a SQLite file."""

import os
import shutil
import sqlite3
import tempfile
import threading
import time
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from assay import clock
from assay.crash import effect
from assay.errors import AssayError, LakeBusy, LakeDamaged, SettingsError, WrongFormat
from assay.ports import Fact, bodies

FORMAT, FORMER = 2, 1
PAGE = 100
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS facts (kind TEXT, dataset TEXT, id TEXT, at TEXT, version INTEGER, body TEXT, "
    "crc32 INTEGER, PRIMARY KEY (kind, dataset, id)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS leases (name TEXT PRIMARY KEY, owner TEXT, until INTEGER) WITHOUT ROWID",
)
_RECORD = (
    "INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, dataset, id) DO UPDATE SET at = excluded.at, "
    "version = excluded.version, body = excluded.body, crc32 = excluded.crc32 WHERE excluded.version > facts.version"
)
_COLUMNS = "kind, dataset, id, at, version, body, crc32"
_FORMER = "kind, dataset, id, at, version, body FROM facts"  # in format 1 no row told its crc32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SqliteLedger:
    """See `assay.ports.Ledger`. One file; many processes and threads may use it at once.

    Where the file cannot be written it is read, and `record`, `claim` and `claims` are SettingsError. LakeBusy if another
    process holds it for longer than `wait` seconds. WrongFormat for a file of a former format, unless it is to `upgrade` it.
    """

    def __init__(self, path: Path, *, wait: float = 60, upgrade: bool = False) -> None:
        self._path = path
        self._wait = wait
        self._lock = threading.RLock()
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        writable = self._writable()
        with self._errors():
            self._con = self._open(path, "mode=rwc") if writable else self._read_only()
        try:
            with self._errors():
                if writable:
                    self._prepare()
                if upgrade:
                    self._upgrade()
                self._check()
        except AssayError:
            self.close()
            raise

    def record(self, facts: Iterable[Fact]) -> list[Fact]:
        told = [(f.kind, f.dataset, f.id, f.at.isoformat(), f.version, body) for f, body in bodies(facts)]
        if not told:
            return []
        with self._transaction() as con:
            older = [row[:3] for row in told if not con.execute(_RECORD, [*row, _crc32(row)]).rowcount]
            return [one for key in older for one in self._read("kind = ? AND dataset = ? AND id = ?", *key)]

    def newest(self, kind: str, dataset: str, id: str | None = None) -> Fact | None:  # noqa: A002 - the field's name
        if id is None:
            rows = self._read("kind = ? AND dataset = ? ORDER BY id DESC LIMIT 1", kind, dataset)
        else:
            rows = self._read("kind = ? AND dataset = ? AND id = ?", kind, dataset, id)
        return rows[0] if rows else None

    def since(self, kind: str, dataset: str, after: str = "") -> Iterator[Fact]:
        while True:
            rows = self._read(f"kind = ? AND dataset = ? AND id > ? ORDER BY id LIMIT {PAGE}", kind, dataset, after)
            yield from rows
            if len(rows) < PAGE:
                return
            after = rows[-1].id

    def claim(self, name: str, owner: str, until: datetime) -> bool:
        return bool(self.claims([name], owner, until))

    def claims(self, names: Collection[str], owner: str, until: datetime) -> set[str]:
        now, end = _micros(clock.now()), _micros(until)
        claim = (
            "INSERT INTO leases VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
            "SET owner = excluded.owner, until = excluded.until WHERE leases.owner = excluded.owner OR leases.until <= ?"
        )
        with self._transaction() as con:
            mine = {name for name in names if con.execute(claim, [name, owner, end, now]).rowcount}
            if end <= now:
                con.executemany("DELETE FROM leases WHERE name = ?", [[name] for name in mine])
        return mine

    def close(self) -> None:
        self._con.close()
        if self._copy:
            self._copy.cleanup()

    def _writable(self) -> bool:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"{self._path} cannot be made: {error.strerror}") from error
        return os.access(self._path if self._path.exists() else self._path.parent, os.W_OK) and os.access(
            self._path.parent, os.W_OK
        )

    def _open(self, path: Path, how: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?{how}", uri=True, timeout=self._wait, isolation_level=None, check_same_thread=False
        )  # fmt: skip

    def _prepare(self) -> None:
        # An index: what a power cut takes from it, the next start puts in from the objects.
        self._con.execute("PRAGMA synchronous = NORMAL")
        self._write_ahead()
        if self._con.execute("PRAGMA user_version").fetchone() == (0,):
            with self._transaction() as con:
                if not con.execute("SELECT 1 FROM sqlite_master").fetchone():
                    for statement in (*_SCHEMA, f"PRAGMA user_version = {FORMAT}"):
                        con.execute(statement)

    def _upgrade(self) -> None:
        """Make a file of format 1 one of today's, all or nothing: what nothing else knows stays, the rest is adopted anew."""
        with effect("upgrade.ledger"), self._transaction() as con:
            if con.execute("PRAGMA user_version").fetchone() == (FORMER,):
                kept = con.execute(f"SELECT {_FORMER} WHERE kind IN ('step', 'failed', 'release', 'upkeep')").fetchall()
                con.execute("DROP TABLE facts")
                for statement in (*_SCHEMA, f"PRAGMA user_version = {FORMAT}"):
                    con.execute(statement)
                con.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?)", [(*row, _crc32(row)) for row in kept])

    def _write_ahead(self) -> None:
        """Turn the write-ahead log on; of several that open a new file at once SQLite refuses some without waiting."""
        ends = time.monotonic() + self._wait
        done = self._con.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        while not done:
            try:
                done = bool(self._con.execute("PRAGMA journal_mode = WAL").fetchone())
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                    raise
                time.sleep(0.01)

    def _check(self) -> None:
        found = self._con.execute("PRAGMA user_version").fetchone()[0]
        if found == FORMER:
            raise WrongFormat(
                f"{self._path} is a ledger of format {found}: `assay upgrade` makes it one of format {FORMAT}. Where that finds "
                "nothing to do, move it away: it is an index and is rebuilt from the lake"
            )
        if found != FORMAT:
            raise LakeDamaged(
                f"{self._path} is a ledger of format {found}, not {FORMAT}; move it away: it is an index and is "
                "rebuilt from the lake"
            )

    def _read_only(self) -> sqlite3.Connection:
        if not self._path.exists():
            raise SettingsError(f"{self._path} is missing and {self._path.parent} cannot be written")
        con = self._open(self._path, "mode=ro")
        try:
            con.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.OperationalError:
            con.close()
        else:
            return con
        # SQLite wants to write beside the file; without a write-ahead log nothing is lost by reading it as it lies.
        wal = self._path.with_name(f"{self._path.name}-wal")
        if not (wal.exists() and wal.stat().st_size):
            return self._open(self._path, "immutable=1")
        self._copy = tempfile.TemporaryDirectory()
        for one in (self._path, wal):
            shutil.copyfile(one, Path(self._copy.name) / one.name)
        con = self._open(Path(self._copy.name) / self._path.name, "mode=rw")
        con.execute("PRAGMA query_only = 1")
        return con

    def _read(self, where: str, *values: str) -> list[Fact]:
        with self._errors(), self._lock:
            rows = self._con.execute(f"SELECT {_COLUMNS} FROM facts WHERE {where}", values).fetchall()
        try:
            return list(map(_fact, rows))
        except (ValueError, TypeError, msgspec.DecodeError) as error:
            raise self._damaged(f"a row of it cannot be read: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors(), self._lock:
            self._con.execute("BEGIN IMMEDIATE")
            try:
                yield self._con
                self._con.execute("COMMIT")
            except BaseException:
                if self._con.in_transaction:
                    self._con.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:  # the caller's fault, such as a ledger that was closed
            raise
        except sqlite3.DatabaseError as error:
            raise self._meaning(error) from error
        except UnicodeDecodeError as error:  # SQLite's own words are no text any more
            raise self._damaged(str(error)) from error

    def _meaning(self, error: sqlite3.DatabaseError) -> AssayError:
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return LakeBusy(
                    f"{self._path}: another process has held it for {self._wait:g} s; if none works on this lake, one "
                    "may be stopped (`fuser` names it); run it again when it is done"
                )
            case sqlite3.SQLITE_FULL:
                return SettingsError(
                    f"{self._path} cannot be written: the disk is full; free some and run it again. It is an index and heals itself"
                )
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_IOERR:
                return SettingsError(f"{self._path} cannot be used: {error}")
            case _:
                return self._damaged(str(error))

    def _damaged(self, why: str) -> LakeDamaged:
        return LakeDamaged(
            f"{self._path} is not a ledger ({why}); move it away: it is an index and is rebuilt from the lake"
        )


def _crc32(row: tuple[str | int, ...]) -> int:
    return zlib.crc32("\x1f".join(map(str, row)).encode())


def _fact(row: tuple[Any, ...]) -> Fact:
    *told, crc32 = row
    if _crc32(tuple(told)) != crc32:
        raise ValueError("its bytes changed")
    kind, dataset, name, at, version, body = told
    return Fact(kind, dataset, name, datetime.fromisoformat(at), msgspec.json.decode(body), version)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
