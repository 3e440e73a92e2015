"""A lake's settings: `assay.toml`, checked key by key."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.errors import SettingsError

_SOURCE_KEYS = {"base_url", "origin", "allow_private", "requests", "per", "options"}
_LAKE_KEYS = {"name", "data", "memory", "threads"}
ORIGINS = ("vendor", "sandbox", "synthetic")


@dataclass(frozen=True)
class Settings:
    """What `assay.toml` says.

    Attributes:
        root: the lake's directory.
        data: where zones, catalog and ledger lie; `<root>/data/<env>` unless [lake] data says otherwise.
        sources: `[source.NAME]` tables as they stand; `land` reads them.
    """

    root: Path
    name: str
    env: str
    data: Path
    memory: str = "1GB"
    threads: int = 2
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read(root: Path, env: str = "dev") -> Settings:
    """The settings of the lake in a directory; SettingsError says which key is wrong and what is expected."""
    path = root / "assay.toml"
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"{root} is no lake: it has no assay.toml; `assay init {root}` makes one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
    if unknown := raw.keys() - {"lake", "source"}:
        raise SettingsError(f"{path}: [{sorted(unknown)[0]}] means nothing; there are [lake] and [source.NAME]")
    lake = raw.get("lake", {})
    if unknown := lake.keys() - _LAKE_KEYS:
        raise SettingsError(
            f"{path}: lake.{sorted(unknown)[0]} means nothing; there are {', '.join(sorted(_LAKE_KEYS))}"
        )
    if not env.replace("-", "").replace("_", "").isalnum():
        raise SettingsError(f"environment {env!r}: letters, digits, - and _ only; it becomes a directory")
    for name, source in raw.get("source", {}).items():
        if unknown := source.keys() - _SOURCE_KEYS:
            raise SettingsError(
                f"{path}: source.{name}.{sorted(unknown)[0]} means nothing; there are {', '.join(sorted(_SOURCE_KEYS))}"
            )
        if source.get("origin") not in ORIGINS:
            raise SettingsError(f"{path}: source.{name}.origin must say whose records these are: {', '.join(ORIGINS)}")
        if str(source.get("base_url", "")).startswith("file:"):
            source["base_url"] = f"file:{(root / source['base_url'].removeprefix('file:')).resolve()}"
        if not isinstance(source.get("base_url"), str):
            raise SettingsError(f"{path}: source.{name}.base_url is missing")
    data = Path(lake.get("data", "data"))
    return Settings(
        root=root,
        name=str(lake.get("name", root.resolve().name)),
        env=env,
        data=(data if data.is_absolute() else root.resolve() / data) / env,
        memory=str(lake.get("memory", "1GB")),
        threads=int(lake.get("threads", 2)),
        sources=raw.get("source", {}),
    )
