"""One machine: SQLite ledger, secrets from the environment or a file only its owner reads, DuckDB, local files."""

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pyiceberg.catalog import Catalog

from assay.engines.duckdb import DuckDBEngine
from assay.errors import AssayError, LakeBusy, LakeDamaged, SettingsError
from assay.lake.duck import Limits
from assay.lake.files import Files
from assay.lake.tables import open_catalog
from assay.ports import Engine, Fact, Ledger, Secrets
from assay.settings import Settings


class SqliteLedger:
    """See `assay.ports.Ledger`. One file; many processes may use it at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._con = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                self._con.execute("PRAGMA journal_mode = WAL")
                # An index: what a power cut takes from it, the next start puts in from the objects.
                self._con.execute("PRAGMA synchronous = NORMAL")
                self._con.execute(
                    "CREATE TABLE IF NOT EXISTS facts (kind TEXT, id TEXT, dataset TEXT, at TEXT, body TEXT, PRIMARY KEY (kind, id)) WITHOUT ROWID"
                )
                self._con.execute("CREATE INDEX IF NOT EXISTS by_dataset ON facts (kind, dataset, id)")
        except AssayError:
            self._con.close()
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise SettingsError(
                f"{self._path} cannot be used ({error}); is the disk full? It is an index and heals itself"
            ) from error
        except sqlite3.DatabaseError as error:
            raise LakeDamaged(
                f"{self._path} is not a ledger ({error}); move it away: it is an index and is rebuilt from the lake"
            ) from error

    def record(self, facts: Iterable[Fact]) -> None:
        rows = [(f.kind, f.id, f.dataset, f.at.isoformat(), json.dumps(f.body, default=str)) for f in facts]
        if rows:
            with self._errors():
                self._con.execute("BEGIN IMMEDIATE")
                try:
                    self._con.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?, ?, ?, ?)", rows)
                    self._con.execute("COMMIT")
                except sqlite3.Error:
                    if self._con.in_transaction:
                        self._con.execute("ROLLBACK")
                    raise

    def facts(self, kind: str, dataset: str | None = None) -> Iterator[Fact]:
        where = "kind = ?" if dataset is None else "kind = ? AND dataset = ?"
        sql = f"SELECT kind, id, dataset, at, body FROM facts WHERE {where} ORDER BY id"
        with self._errors():
            rows = self._con.execute(sql, [kind] if dataset is None else [kind, dataset]).fetchall()
        yield from map(_fact, rows)

    def fact(self, kind: str, id: str) -> Fact | None:  # noqa: A002 - the field's name
        sql = "SELECT kind, id, dataset, at, body FROM facts WHERE kind = ? AND id = ?"
        with self._errors():
            row = self._con.execute(sql, [kind, id]).fetchone()
        return _fact(row) if row else None

    def close(self) -> None:
        self._con.close()


def _fact(row: tuple[str, str, str, str, str]) -> Fact:
    return Fact(row[0], row[1], row[2], datetime.fromisoformat(row[3]), json.loads(row[4]))


class LocalSecrets:
    """See `assay.ports.Secrets`: `ASSAY_SECRET_<NAME>` or `<NAME>` in the environment, else a file `secrets/<name>`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, name: str) -> str:
        path = self._root / "secrets" / name
        for found in (os.environ.get(f"ASSAY_SECRET_{name}"), os.environ.get(name)):
            if found:
                return found
        if path.is_file():
            if path.stat().st_mode & 0o077:
                raise SettingsError(f"secret {name}: {path} can be read by others; run chmod 600 on it")
            return path.read_text().strip()
        raise SettingsError(
            f"secret {name} is missing: set it in the environment, or put it into {path} with mode 0600"
        )


@dataclass(frozen=True)
class Local:
    """Everything of one lake on this machine; steps take its parts, never the whole."""

    settings: Settings
    files: Files
    catalog: Catalog
    ledger: Ledger
    engine: Engine
    secrets: Secrets

    @property
    def limits(self) -> Limits:
        """What one DuckDB of this lake may use."""
        return Limits(self.settings.memory, self.settings.threads, self.settings.data / "_tmp")

    @contextmanager
    def landing(self) -> Iterator[None]:
        """Nobody else lands in this environment meanwhile; LakeBusy if somebody does. A process that dies lets go."""
        with (self.settings.data / "landing.lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LakeBusy(
                    "another process is landing: nothing was asked twice; run it again when that is done"
                ) from None
            yield


def open_lake(settings: Settings) -> Local:
    """Open or create the lake's data below its directory, which only its owner may enter."""
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings.data.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"{settings.data} cannot be made: {error.strerror}") from error
    catalog = open_catalog(settings.data)
    try:
        ledger = SqliteLedger(settings.data / "ledger.db")
    except AssayError:
        catalog.close()
        raise
    return Local(
        settings=settings,
        files=Files(settings.data),
        catalog=catalog,
        ledger=ledger,
        engine=DuckDBEngine(settings.data / "_tmp", settings.memory, settings.threads),
        secrets=LocalSecrets(settings.root),
    )


__all__ = ["Local", "LocalSecrets", "SqliteLedger", "open_lake"]
