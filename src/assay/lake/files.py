"""The names of the lake's objects, and what a disk says of them as errors of who must act."""

import errno
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from assay.errors import LakeDamaged, SettingsError
from assay.ports import Files

SCRATCH = "_tmp"
"""Below the lake's data: files in the making, and copies of objects; nothing that the lake names lies there."""
_PIECE = 8 << 20


def safe(text: str) -> str:
    """A symbol, title or other foreign text as one path segment; nothing in it can leave its directory.

    >>> safe("BRK/B"), safe("..")
    ('BRK%2FB', '%2E%2E')
    """
    quoted = quote(text, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def checked(name: str) -> str:
    """The name, if it can be an object's: relative, forward slashes, no segment that leads elsewhere; else LakeDamaged."""
    parts = name.split("/")
    if "\0" in name or parts[0] == SCRATCH or any(part in ("", ".", "..") for part in parts):
        raise LakeDamaged(f"{name!r} is named by the lake, but no object of a lake can have that name")
    return name


def lost(name: str) -> LakeDamaged:
    """What to raise for an object that is named and not there."""
    return LakeDamaged(f"{name} is named by the lake but is not there; restore it from a copy", lost=True)


def read_or_none(files: Files, name: str) -> bytes | None:
    """An object's bytes, None if there is no such object: one call of a store, where a look before would be another."""
    try:
        return files.read(name)
    except LakeDamaged as error:
        if not error.lost:
            raise
        return None


@contextmanager
def scratch_directory(files: Files) -> Iterator[Path]:
    """A directory of this machine for files in the making, gone afterwards."""
    path = files.scratch()
    with clear_errors(path.parent):
        path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def clear_errors(root: Path, doing: str = "written") -> Iterator[None]:
    """Turn a full or forbidden disk into a SettingsError that says what to do, a failing one into LakeDamaged."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise SettingsError(
                f"no room left below {root}: free some and run it again; nothing half-written is visible"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise SettingsError(
                f"{root} cannot be {doing}: {error.strerror}; the lake's owner must allow it"
            ) from error
        if error.errno == errno.EIO:
            raise LakeDamaged(
                f"the disk below {root} fails: {error.strerror}; look after it before anything else"
            ) from error
        raise


def sha256_of(files: Files, name: str) -> str:
    """The hash of an object as it lies there now, read piece by piece and never from a copy."""
    hashed, start = hashlib.sha256(), 0
    while piece := files.read(name, start, start + _PIECE):
        hashed.update(piece)
        start += len(piece)
    return hashed.hexdigest()
