"""One machine: files on a disk, SQLite ledger, secrets from the environment or a file only its owner reads, DuckDB."""

import fcntl
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes, token_hex
from tempfile import gettempdir
from typing import TYPE_CHECKING, BinaryIO

from ulid import ULID

from assay.crash import effect
from assay.errors import LakeBusy, SettingsError
from assay.lake.files import SCRATCH, checked, clear_errors, lost
from assay.ports import Engine, Ledger, Limits
from assay.settings import Settings
from assay.targets import Target
from assay.targets.sqlite import SqliteLedger

if TYPE_CHECKING:  # the catalog brings pyiceberg and sqlalchemy along, 0.6 s of CPU that not every command needs
    from pyiceberg.catalog import Catalog

PIECE = 1 << 20


@dataclass(frozen=True)
class DiskFiles:
    """See `assay.ports.Files`: the objects below one directory. Nothing is made there before something is written."""

    root: Path
    _settled: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

    def put_new(self, name: str, data: bytes | Path, as_effect: str) -> bool:
        target = self._path(name)
        temporary = data if isinstance(data, Path) else self.scratch()
        try:
            with clear_errors(self.root):
                if isinstance(data, bytes):
                    temporary.write_bytes(data)
                _sync(temporary)
                missing = _make(target.parent)
                try:
                    with effect(as_effect):
                        # link, not rename: rename would overwrite what a faster process wrote.
                        os.link(temporary, target)
                    ours = True
                except FileExistsError:
                    ours = _same(temporary, target)
                # Also where another was first: whoever goes on from here may name the object that is there.
                self._settle(target.parent, missing)
                return ours
        finally:
            with clear_errors(self.root), suppress(FileNotFoundError):
                temporary.unlink()

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        with self._reading(name), self._path(name).open("rb") as file:
            file.seek(start)
            return file.read() if end is None else file.read(max(0, end - start))

    def local(self, name: str, sha256: str) -> Path:  # noqa: ARG002 - it is the object itself, not a copy to check
        if not self.exists(name):
            raise lost(name)
        return self._path(name)

    def url(self, name: str) -> str:
        return str(self.local(name, ""))

    def exists(self, name: str) -> bool:
        with clear_errors(self.root, "read"):
            return self._path(name).is_file()

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        directory, _, _ = prefix.rpartition("/")
        with clear_errors(self.root, "read"):
            yield from self._below(f"{directory}/" if directory else "", prefix, after)

    def _below(self, where: str, prefix: str, after: str) -> Iterator[str]:
        """The names that begin with `where`, which is "" or ends in a slash: a directory is walked only when it is its turn."""
        try:
            with os.scandir(self.root / where) as found:
                # A directory counts with its slash: "a-b" comes before "a/b", though "a" comes before "a-b".
                entries = sorted(
                    f"{where}{one.name}/" if one.is_dir(follow_symlinks=False) else f"{where}{one.name}"
                    for one in found
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        for one in entries:
            if not one.endswith("/"):
                if one.startswith(prefix) and one > after:
                    yield one
            elif one == f"{SCRATCH}/":
                continue
            elif (one.startswith(prefix) or prefix.startswith(one)) and (one > after or after.startswith(one)):
                yield from self._below(one, prefix, after)

    def delete(self, name: str) -> None:
        path = self._path(name)
        with clear_errors(self.root), suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            _sync(path.parent)

    def scratch(self) -> Path:
        where = self.root / SCRATCH
        if where.is_dir():
            if not os.access(where, os.W_OK):  # who may only read the lake computes elsewhere
                where = Path(gettempdir())
        else:
            with clear_errors(self.root):
                where.mkdir(parents=True, exist_ok=True)
        return where / str(ULID())

    def _path(self, name: str) -> Path:
        return self.root / checked(name)

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            with clear_errors(self.root, "read"):
                yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise lost(name) from error

    def _settle(self, directory: Path, made: set[Path]) -> None:
        """Sync the directory, and those above it which this process has not seen synced since they were made.

        Another process may have made one just now, and be stopped before it synced what names it.
        """
        above = [one for one in (directory, *directory.parents) if one.is_relative_to(self.root)]
        new = made | {one for one in above if one not in self._settled}
        for one in {directory} | {one.parent for one in new}:
            try:
                _sync(one)
            except PermissionError:
                if one.is_relative_to(self.root):  # what lies above the lake may be another's
                    raise
        self._settled.update(above)


def _make(directory: Path) -> set[Path]:
    """Make a directory and what is missing above it; which ones were missing."""
    made = []
    above = directory
    while not above.is_dir():
        made.append(above)
        above = above.parent
    for one in reversed(made):
        one.mkdir(exist_ok=True)
    return set(made)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _same(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""

    def piece(file: BinaryIO) -> bytes:
        return file.read(PIECE)

    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while (bytes_ := piece(first)) == piece(second):
            if not bytes_:
                return True
    return False


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
            try:
                return path.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(
                    f"secret {name}: {path} cannot be read ({type(error).__name__}); mend its owner or text"
                ) from None
        raise SettingsError(
            f"secret {name} is missing: set it in the environment, or put it into {path} with mode 0600"
        )

    def ensure(self, name: str) -> bytes:
        path = self._root / "secrets" / name
        if not path.is_file():
            made = path.with_name(f"{name}.{token_hex(8)}")
            try:
                path.parent.mkdir(mode=0o700, exist_ok=True)
                handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except OSError:
                return token_bytes(32)  # a lake that is only read: good as long as this process lives
            try:
                os.write(handle, token_bytes(32))
                os.fsync(handle)
                # link: of two that start at once, one makes it and both read it
                os.link(made, path)
            except FileExistsError:
                pass
            finally:
                os.close(handle)
                made.unlink()
        return path.read_bytes()


class DiskUse:
    """See `assay.targets.Use`: a shared lock on the data's directory, which a process keeps until it ends or closes the lake.

    It is of this machine alone: NFS tells nobody else of a lock on a directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self.close = weakref.finalize(self, os.close, self._handle)
        self._shared()

    def _shared(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise LakeBusy(f"rows are being erased below {self._root}: it can be opened when that has ended") from None
        except OSError:  # a file system that knows no such locks: nothing can be erased there
            pass

    @contextmanager
    def alone(self) -> Iterator[None]:
        if not self.close.alive:
            raise LakeBusy(f"{self._root} was closed; open the lake again")
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._shared()  # which was lost with the attempt
            raise LakeBusy(
                f"another process has {self._root} open: stop what serves it, lands into it or works for Prefect, and run it again"
            ) from None
        except OSError as error:
            raise SettingsError(
                f"{self._root} cannot be locked ({error.strerror}): rows are erased on a disk of this machine alone"
            ) from error
        try:
            yield
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_SH)

    def forget(self) -> None:
        with clear_errors(self._root):
            for name in DERIVED:
                for path in sorted(self._root.glob(name)):
                    with effect("erase.forget"):
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
            _sync(self._root)


DERIVED = ("evidence", "quarantine", "warehouse", "serving", "releases", "catalog.db*", "ledger.db*", SCRATCH)
"""What follows from bronze and contracts."""


def open_target(settings: Settings) -> Target:
    """Open or create the lake's data below its directory, which only its owner may enter.

    One that cannot be written is opened to be read.
    """
    try:
        if not settings.data.is_dir():
            for one in _make(settings.data):
                _sync(one.parent)
        with suppress(PermissionError) if not os.access(settings.data, os.W_OK) else nullcontext():
            settings.data.chmod(0o700)
        use = DiskUse(settings.data)
    except OSError as error:
        raise SettingsError(f"{settings.data} cannot be made or opened: {error.strerror}") from error
    files = DiskFiles(settings.data)
    limits = Limits(settings.memory, settings.threads, settings.data / SCRATCH)

    def catalog() -> "Catalog":
        from assay.targets.catalog import open_catalog

        return open_catalog(settings.data, files)

    def ledger() -> Ledger:
        return SqliteLedger(settings.data / "ledger.db")

    def engine() -> Engine:
        from assay.engines.duckdb import DuckDBEngine

        return DuckDBEngine(limits)

    def upgrade_ledger() -> None:
        if (path := settings.data / "ledger.db").exists():
            SqliteLedger(path, upgrade=True).close()

    return Target(
        "local", settings, files, LocalSecrets(settings.root), limits, catalog, ledger, engine, use, upgrade_ledger
    )


__all__ = ["DiskFiles", "LocalSecrets", "SqliteLedger", "open_target"]
