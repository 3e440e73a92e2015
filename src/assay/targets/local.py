"""One machine: SQLite ledger, secrets from the environment or a file only its owner reads, DuckDB, local files."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyiceberg.catalog import Catalog

from assay.engines.duckdb import DuckDBEngine
from assay.errors import AssayError, LakeBusy, SettingsError
from assay.lake.files import Files
from assay.lake.tables import open_catalog
from assay.ports import Engine, Ledger, Secrets
from assay.settings import Settings
from assay.targets.sqlite import SqliteLedger


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
