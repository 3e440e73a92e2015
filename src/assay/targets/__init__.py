"""Where it runs; the file's name is the target's name."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from assay.errors import LakeBusy, SettingsError
from assay.lake import erasures, formats
from assay.ports import Engine, Files, Launcher, Ledger, Limits, Measured, Platforms, Secrets
from assay.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

NAMES = ("local", "aws")


class Use(Protocol):
    """That a lake's data is in use, from when it is opened until it is closed."""

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else has the lake open while the block runs, or can open it; LakeBusy if somebody has."""
        ...

    def forget(self) -> None:
        """Take away all that follows from bronze and contracts, ledger and catalog too: it is made anew."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass(frozen=True)
class Target:
    """Everything of one lake where it runs; steps take its parts, never the whole.

    Catalog, ledger and engine are opened when they are first asked for. `upgrade_ledger` makes a ledger of a former format
    one of today's, where there is one. `measure` hears what each step came to; it may not fail.
    """

    name: str
    settings: Settings
    files: Files
    secrets: Secrets
    limits: Limits
    open_catalog: "Callable[[], Catalog]"
    open_ledger: Callable[[], Ledger]
    open_engine: Callable[[], Engine]
    use: Use | None = None
    upgrade_ledger: Callable[[], None] = lambda: None
    close_clients: Callable[[], None] = lambda: None
    open_launcher: Callable[[], Launcher] | None = None
    open_platforms: Callable[[], Platforms] | None = None
    measure: Callable[[Measured], None] = lambda _: None

    @cached_property
    def catalog(self) -> "Catalog":
        """The Iceberg tables' catalog; its errors say who must act."""
        return self.open_catalog()

    @cached_property
    def ledger(self) -> Ledger:
        """The index of facts."""
        return self.open_ledger()

    @cached_property
    def engine(self) -> Engine:
        """What refines."""
        return self.open_engine()

    def engine_named(self, name: str) -> Engine:
        """What refines, by name: `duckdb` is this target's own, `spark` needs pyspark and Java."""
        if name != "spark":
            return self.engine
        from assay.engines import spark

        return spark.opened()

    @property
    def platforms(self) -> Platforms | None:
        """What computes gold; None where DuckDB does."""
        return self.open_platforms() if self.open_platforms else None

    @property
    def launcher(self) -> Launcher:
        """What runs commands elsewhere; SettingsError for a target that has no elsewhere."""
        if self.open_launcher is None:
            raise SettingsError(
                f"the target {self.name} runs commands where they are given; `--target aws` runs them as tasks of ECS"
            )
        return self.open_launcher()

    def settle(self) -> None:
        """Let go of ledger and catalog; whoever asks for them opens them again."""
        for one in ("catalog", "ledger"):
            if opened := self.__dict__.pop(one, None):
                opened.close()

    def close(self) -> None:
        """Let go of what was opened."""
        self.settle()
        if self.use:
            self.use.close()
        self.close_clients()


def open(name: str, settings: Settings, *, erasing: bool = False) -> Target:  # noqa: A001 - read as targets.open
    """The target of that name, opened for a lake; SettingsError where there is none, WrongFormat if the lake is a newer assay's.

    LakeBusy where an erasure has begun and not ended, but for who goes on with it (`erasing`).
    """
    if name not in NAMES:
        raise SettingsError(f"there is no target {name!r}; there is {', '.join(NAMES)}")
    opened: Target = importlib.import_module(f"assay.targets.{name}").open_target(settings)
    formats.of(opened.files)
    if not erasing and (begun := erasures.begun(opened.files)):
        raise LakeBusy(
            f"an erasure of {begun.dataset} has begun here and did not end: `assay decide erase {begun.dataset} --resume` goes on with it"
        )
    return opened
