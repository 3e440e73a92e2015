"""A lake's dbt project: its files, and the hash by which a release names it. It imports nothing of dbt or DuckDB."""

import hashlib
from pathlib import Path

_LEFTOVERS = {"target", "logs", "dbt_packages", "__pycache__", ".user.yml"}


def files_of(project: Path) -> list[Path]:
    """The project's own files, in order, without what dbt and Python leave behind."""
    found = (path for path in project.rglob("*") if path.is_file())
    return sorted(path for path in found if not _LEFTOVERS & set(path.relative_to(project).parts))


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
