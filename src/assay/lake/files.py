"""Durable files: written once, whole or not at all, and never over one another."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ulid import ULID

from assay.crash import effect
from assay.errors import LakeDamaged, SettingsError


def safe(text: str) -> str:
    """A symbol, title or other foreign text as one path segment; nothing in it can leave its directory.

    >>> safe("BRK/B"), safe("..")
    ('BRK%2FB', '%2E%2E')
    """
    quoted = quote(text, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


@dataclass(frozen=True)
class Files:
    """The objects below one directory, named by relative paths with forward slashes."""

    root: Path

    def path(self, name: str) -> Path:
        """Where an object lies on this machine."""
        return self.root / name

    def put_new(self, name: str, data: bytes, as_effect: str) -> bool:
        """Write an object unless it exists; False if it does. After True it survives a power cut."""
        temporary = self.scratch()
        with clear_errors(self.root):
            temporary.write_bytes(data)
            return self.adopt(temporary, name, as_effect)

    def scratch(self) -> Path:
        """A path for a file in the making, on the same disk; nothing reads it."""
        where = self.root / "_tmp"
        if not where.is_dir():
            with clear_errors(self.root):
                where.mkdir(parents=True, exist_ok=True)
        return where / str(ULID())

    def adopt(self, temporary: Path, name: str, as_effect: str) -> bool:
        """Make a finished scratch file the object `name`, unless that exists: fsync, link, fsync the directory."""
        target = self.path(name)
        with clear_errors(self.root):
            made = _new_directories(target.parent)
            _sync(temporary)
            try:
                with effect(as_effect):
                    # link, not rename: rename would overwrite what a faster process wrote.
                    os.link(temporary, target)
            except FileExistsError:
                return False
            finally:
                temporary.unlink()
            for directory in (target.parent, *(one.parent for one in made)):
                _sync(directory)
            return True

    def read(self, name: str) -> bytes:
        """An object's bytes; LakeDamaged if it is gone."""
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError as error:
            raise LakeDamaged(f"{name} is named by the lake but is not there; restore it from a copy") from error

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        return self.path(name).exists()

    def names(self, prefix: str, suffix: str = "") -> Iterator[str]:
        """Objects below a directory, sorted, as relative names."""
        start = self.path(prefix)
        for directory, below, files in os.walk(start, onerror=_unless_missing):
            below.sort()
            for one in sorted(files):
                if one.endswith(suffix):
                    yield (Path(directory) / one).relative_to(self.root).as_posix()


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _new_directories(directory: Path) -> list[Path]:
    """Make a directory and what is missing above it; which ones were made, the lowest first."""
    made = []
    above = directory
    while not above.is_dir():
        made.append(above)
        above = above.parent
    for one in reversed(made):
        one.mkdir(exist_ok=True)
    return made


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def clear_errors(root: Path) -> Iterator[None]:
    """Turn a full or forbidden disk into a SettingsError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise SettingsError(
                f"no room left below {root}: free some and run it again; nothing half-written is visible"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise SettingsError(
                f"{root} cannot be written: {error.strerror}; the lake's owner must allow it"
            ) from error
        raise
