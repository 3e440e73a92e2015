"""A lake's dbt project: its files, and the hash by which a release names it. It imports nothing of dbt or DuckDB."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from assay.errors import SettingsError

_DEEPEST = 40
_LEFTOVERS = {"target", "logs", "dbt_packages", "__pycache__", ".user.yml"}


def there(project: Path) -> bool:
    """Whether the lake has a dbt project; SettingsError where something else stands in its place."""
    if project.is_dir():
        return True
    if os.path.lexists(project):
        raise SettingsError(f"{project} is no directory; a lake's dbt project is one")
    return False


def files_of(project: Path) -> list[Path]:
    """The project's own files, in order, without what dbt and Python leave behind.

    SettingsError for what is there and cannot be read: it would be missing without a word.
    """
    return sorted(_files(project))


def _files(project: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(project, onerror=_unread, followlinks=True):
        here = Path(where)
        if len(here.parts) - len(project.parts) > _DEEPEST:
            raise SettingsError(f"{here} lies too deep: a link that leads to itself? Take it away")
        folders[:] = [one for one in folders if one not in _LEFTOVERS]
        for name in names:
            if name not in _LEFTOVERS and not name.startswith(".#"):  # an editor's lock is a link to nowhere
                yield _checked(here / name)


def _checked(path: Path) -> Path:
    try:
        kind = path.stat().st_mode
        str(path).encode()
    except UnicodeEncodeError:
        raise SettingsError(f"{path}: a name that is no UTF-8; rename it") from None
    except OSError as error:
        raise SettingsError(f"{path}: a link that leads nowhere ({error.strerror}); mend it or take it away") from None
    if not stat.S_ISREG(kind):
        raise SettingsError(f"{path} is no file that can be read; take it away")
    return path


def _unread(error: OSError) -> NoReturn:
    raise SettingsError(f"{error.filename} cannot be read: {error.strerror}; its owner must allow it") from error


def universes_of(project: Path) -> list[Path]:
    """The universes beside the project that its files speak of: they are seeds of it, by the name of the file."""
    listed = sorted(project.parent.glob("universe_*.csv"))
    told = (
        [path.read_bytes() for path in files_of(project) if path.suffix in (".sql", ".yml", ".yaml")] if listed else []
    )
    return [one for one in listed if any(one.stem.encode() in text for text in told)]


def project_hash(project: Path) -> str:
    """sha256 over the names and bytes of the project's files, its universes among them."""
    out = hashlib.sha256()
    for path in (*files_of(project), *universes_of(project)):
        body = path.read_bytes()
        name = path.relative_to(project if path.is_relative_to(project) else project.parent)
        out.update(f"{name.as_posix()}\0{len(body)}\0".encode() + body)
    return out.hexdigest()
