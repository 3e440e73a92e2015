"""What differs between one machine and AWS: protocols of a few methods, and the facts they carry."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pyiceberg.table import Table
from sqlglot import exp


class Secrets(Protocol):
    """Gives a source its credentials; nothing else of the lake reads it."""

    def get(self, name: str) -> str:
        """The secret's text; SettingsError names the missing one and where to put it."""
        ...


@dataclass(frozen=True)
class Fact:
    """One thing that happened: `kind` and `id` name it, `dataset` and `at` find it, `body` is JSON."""

    kind: str
    id: str
    dataset: str
    at: datetime
    body: Mapping[str, Any]


class Ledger(Protocol):
    """An index of facts, each of which is also an object of the lake; so it can be lost and rebuilt."""

    def record(self, facts: Iterable[Fact]) -> None:
        """Keep facts; the same (kind, id) twice keeps the first."""
        ...

    def facts(self, kind: str, dataset: str | None = None) -> Iterator[Fact]:
        """All facts of a kind in the order of their ids, of one dataset if named."""
        ...

    def fact(self, kind: str, id: str) -> Fact | None:  # noqa: A002 - the field's name
        """One fact, or None."""
        ...

    def close(self) -> None:
        """Let go of the file or connection."""
        ...


CONFLICT = "key:conflict"


@dataclass(frozen=True)
class Field:
    """A contract column `name` and the paths of a record's fields it is read from: the first that is there, and not null."""

    name: str
    origins: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Refinement:
    """One contract as expression trees (canonical sqlglot), for any engine.

    The engine gives each field as `_t_<name>`: its JSON token as text, null where it is missing or null; a number that
    is no integer is spelt with as few digits as tell its double apart. `values` are over the tokens; `reasons` over
    tokens and values, each a text or null; `rules` and `warnings` are (name, boolean) over the values, as are
    `known_at` and `hash`. Good rows of one batch with equal `identity` and another `hash` contradict each other:
    all of them are rejected as CONFLICT.
    """

    fields: tuple[Field, ...]
    identity: tuple[str, ...]
    values: Mapping[str, exp.Expr]
    reasons: tuple[exp.Expr, ...]
    rules: tuple[tuple[str, exp.Expr], ...]
    warnings: tuple[tuple[str, exp.Expr], ...]
    known_at: exp.Expr
    hash: exp.Expr


@dataclass(frozen=True)
class Input:
    """A file of bronze lines that belongs to a batch; its lines are numbered from `first_seq`."""

    batch: str
    path: str
    first_seq: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Rejected:
    """A line that did not become a row: its reasons, and its bytes as they lie in bronze."""

    batch: str
    seq: int
    reasons: tuple[str, ...]
    line: bytes


class Staged(Protocol):
    """Bronze lines typed, judged, hashed and written, waiting for the gate's verdict."""

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Per batch: rows that are good, duplicate, quarantined."""
        ...

    def reasons(self) -> Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]]:
        """Per batch: how many rows each reason, and each warning, applies to."""
        ...

    def rejected(self) -> Iterator[Rejected]:
        """The lines for quarantine, by batch and number."""
        ...

    def written(self, batches: Sequence[str]) -> tuple[Sequence[Any], Mapping[str, int]]:
        """The parquet files with the good rows of exactly these batches, and rows per batch counted in them."""
        ...


class Engine(Protocol):
    """Runs a refinement over bronze files."""

    def stage(
        self,
        refinement: Refinement,
        inputs: Sequence[Input],
        table: Table,
        stem: str,
        only: Mapping[str, Sequence[int]] | None = None,
    ) -> AbstractContextManager[Staged]:
        """Read every line once and write the good rows as files of `table` whose names begin with `stem`.

        Nobody sees the files before a commit names them. `only` limits batches to some of their numbers.
        """
        ...

    def rows(self, refinement: Refinement, lines: Sequence[bytes]) -> Sequence[Mapping[str, Any] | None]:
        """The row of each bronze line by itself, its values and known_at; None where it is rejected. Nothing is written."""
        ...
