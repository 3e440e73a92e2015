"""What differs between one machine and AWS: protocols of a few verbs over plain values."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from assay.contract.model import Contract
from assay.errors import AssayError


@dataclass(frozen=True)
class Limits:
    """What one DuckDB may use: sizes as DuckDB writes them, and the directory it spills to.

    Without `scratch` it never spills: what needs more than `memory` fails. Without `spill` it may take nine tenths of
    what is free on that disk.
    """

    memory: str = "1GB"
    threads: int = 2
    scratch: Path | None = None
    spill: str | None = None


class Files(Protocol):
    """The lake's objects: named by relative paths with forward slashes, each written once and whole."""

    def put_new(self, name: str, data: bytes | Path, as_effect: str) -> bool:
        """Write an object unless there is another of that name; it is durable before this returns.

        True: the object holds exactly these bytes now, even if an earlier try was answered by silence. False: it
        holds others. A Path is a finished file of `scratch`, gone afterwards. `as_effect` is a name of `assay.crash`.
        """
        ...

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """An object's bytes, or those from `start` up to `end`; LakeDamaged if it is gone."""
        ...

    def local(self, name: str, sha256: str) -> Path:
        """A file of this machine with the object's bytes: a disk's own file, else a kept copy checked by `sha256`."""
        ...

    def url(self, name: str) -> str:
        """What DuckDB opens the object by."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        ...

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        """The objects whose names begin with `prefix` and come after `after`, in order."""
        ...

    def delete(self, name: str) -> None:
        """Take an object away: upkeep alone does. One that is gone already is no error."""
        ...

    def scratch(self) -> Path:
        """A path for a file in the making, always on this machine; nothing reads it."""
        ...


@dataclass(frozen=True)
class Pinned:
    """A dataset of silver as a build reads it.

    Attributes:
        current, past: the two tables' metadata as Iceberg writes it, in which the snapshots that are read are the newest.
        columns: SQL types of the versions' columns by name, in their order; `ends` are those that past alone has.
    """

    dataset: str
    current: bytes
    past: bytes
    columns: Mapping[str, str]
    ends: Collection[str]


class Platform(Protocol):
    """Where dbt runs a build's models if that is not DuckDB: schemas of that build alone, beside silver as it is pinned."""

    @property
    def prefix(self) -> str:
        """What stands before the names of all schemas there."""
        ...

    @property
    def profile(self) -> Mapping[str, Any]:
        """The output of dbt's profile."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that dbt's process needs."""
        ...

    def meaning(self, said: str) -> AssayError | None:
        """Who must act on what dbt printed, where that is not the project's author."""
        ...

    def rows(self, schema: str, name: str) -> Any:
        """A relation's rows, an Arrow RecordBatchReader; instants may come as timestamps of UTC."""
        ...

    def some(self, sql: str, most: int) -> tuple[list[str], list[list[str | None]]]:
        """The names and first rows of a query, as texts."""
        ...


class Platforms(Protocol):
    """Makes the platform of a build."""

    def begin(self, build: str, silver: Sequence[Pinned]) -> AbstractContextManager[Platform]:
        """The platform of the build of that id, with silver in it; gone afterwards."""
        ...


class Secrets(Protocol):
    """Gives a source its credentials; nothing else of the lake reads it."""

    def get(self, name: str) -> str:
        """The secret's text; SettingsError names the missing one and where to put it."""
        ...

    def ensure(self, name: str) -> bytes:
        """A secret of the lake's own, 32 random bytes: made on first use, the same for everybody afterwards."""
        ...


@dataclass(frozen=True)
class Job:
    """A command of assay that is to run elsewhere: its words, and the run and step that it is for."""

    command: tuple[str, ...]
    run: str
    step: str = ""


class Launcher(Protocol):
    """Runs commands of assay elsewhere, each by itself."""

    def run(self, jobs: Sequence[Job]) -> list[AssayError | None]:
        """Run all of them, as many at once as there is room for, and wait: of each why it failed, None if it did its work."""
        ...


@dataclass(frozen=True)
class Fact:
    """One thing that is so: `kind`, `dataset` and `id` name it, `body` is JSON; of several versions the greatest counts.

    A fact without a dataset (a release, a run) has an empty one.
    """

    kind: str
    dataset: str
    id: str
    at: datetime
    body: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True)
class Measured:
    """What one step (`land`, `refine`, `build`) of a run came to, for whoever watches; figures by name, all of them counts.

    `dataset` is empty for a build. `failed` counts its windows that failed, or is 1 for a step that failed as a whole.
    """

    step: str
    dataset: str
    run: str
    seconds: float
    failed: int
    figures: Mapping[str, int] = field(default_factory=dict)


FACTS = 100
"""How many facts one `Ledger.record` takes."""
BODY = 350_000
"""How many bytes a fact's body may have as JSON."""
RECORD = 3_500_000
"""How many bytes the bodies of one `Ledger.record` may have together."""


def bodies(facts: Iterable[Fact]) -> list[tuple[Fact, str]]:
    """What a ledger writes: of each (kind, dataset, id) the fact that counts, and its body as JSON.

    ValueError if they are more or larger than every ledger takes: whoever wrote the code must act.
    """
    given = list(facts)
    if len(given) > FACTS:
        raise ValueError(f"{len(given)} facts are recorded at once; a ledger takes {FACTS}: see ports.in_hundreds")
    counts: dict[tuple[str, str, str], Fact] = {}
    for fact in given:
        name = (fact.kind, fact.dataset, fact.id)
        if not fact.kind or not fact.id or len(fact.id.encode()) > 1000:
            raise ValueError(f"a fact has a kind and an id of 1 to 1,000 bytes: {name}")
        if name not in counts or fact.version > counts[name].version:
            counts[name] = fact
    out = [(fact, msgspec.json.encode(fact.body).decode()) for fact in counts.values()]
    sizes = [len(text.encode()) for _, text in out]
    if max(sizes, default=0) > BODY or sum(sizes) > RECORD:
        large = max(zip(sizes, counts, strict=True))
        raise ValueError(f"{sum(sizes)} bytes are recorded at once, {large[0]} of them in {large[1]}: too many")
    return out


def in_hundreds(facts: Iterable[Fact]) -> Iterator[list[Fact]]:
    """Facts in lists that `Ledger.record` takes, for where not all or none of them is needed."""
    out: list[Fact] = []
    size = 0
    for fact in facts:
        more = len(msgspec.json.encode(fact.body))
        if out and (len(out) == FACTS or size + more > RECORD):
            yield out
            out, size = [], 0
        out.append(fact)
        size += more
    if out:
        yield out


class Ledger(Protocol):
    """An index over log, tables and releases with bounded reads; it can be lost and made anew from them.

    Every ledger has the limits of the narrowest: `FACTS`, `BODY` and `RECORD`.
    """

    def record(self, facts: Iterable[Fact]) -> list[Fact]:
        """Keep facts, all of them or none: of one (kind, dataset, id) the greatest version, of equal ones the first.

        Given are the facts that were there already and stand, each where one of this call was no newer: after an answer
        that was lost it may be that one itself.

        ValueError if they are more than `FACTS` or larger than `BODY` and `RECORD`; `in_hundreds` cuts them.
        """
        ...

    def newest(self, kind: str, dataset: str, id: str | None = None) -> Fact | None:  # noqa: A002 - the field's name
        """The fact of that id as last recorded, or without one that of the greatest id, which may be late."""
        ...

    def since(self, kind: str, dataset: str, after: str = "") -> Iterator[Fact]:
        """The facts whose ids come after `after`, in the order of their ids; read in pages, as they are taken.

        It may lack for a while what was recorded just now, or give a version before it.
        """
        ...

    def claim(self, name: str, owner: str, until: datetime) -> bool:
        """Whether the lease `name` is the owner's up to `until`: it was free, over, or the owner's already.

        A lease saves work and decides nothing. One that ends now, or earlier, is let go of.
        """
        ...

    def claims(self, names: Collection[str], owner: str, until: datetime) -> set[str]:
        """Of many leases those that are the owner's, as `claim` says it of one."""
        ...

    def close(self) -> None:
        """Let go of the file or connection."""
        ...


CONFLICT = "key:conflict"
N = 1_000_000
"""Places as numbers: position * N + n, so that they sort as the log does."""


@dataclass(frozen=True)
class Lines:
    """A part of bronze lines as an engine reads it.

    `batches` says which of its batches are wanted, and the place each acts at: the line's `_n` to position * N + n.
    Lines of other batches are nobody's here. Its own place is that of the entry, except where a decision lets a
    batch in later.
    """

    url: str
    rows: int
    bytes: int
    batches: Mapping[int, int]


@dataclass(frozen=True)
class Counted:
    """What an engine found in one batch, each term counted from the rows themselves.

    `keyless` of the quarantined rows have no readable key. `reasons` and `warnings` count rows.
    """

    rows: int = 0
    good: int = 0
    duplicate: int = 0
    quarantined: int = 0
    keyless: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejected:
    """A line that did not become a row: the place of its batch, its number, why, and its bytes as they lie in bronze."""

    place: int
    seq: int
    reasons: tuple[str, ...]
    line: bytes


Scope = Mapping[str, tuple[Any, Any]]
"""What a complete answer is complete about: key column to its lowest and highest value, both included; {} is all."""


@dataclass(frozen=True)
class Act:
    """One batch that went in, or one act of a decision, as the fold takes it.

    Attributes:
        place: where it acts: position * N + n. Acts are folded in this order.
        captured_at: its entry's time, never before that of an act in front of it.
        origin: the place its rows were first said at; the act's own but for decisions.
        scope: set if it withdraws what it lacks.
        limit: percent of the scope that it may withdraw; above it, the withdrawals are held.
        least: how many withdrawals it takes before the limit counts.
        blocked: it has a row without a readable key, so it withdraws nothing.
        absent: its rows are only looked at for their keys, to withdraw what it lacks (a decision `withdraw`).
    """

    place: int
    captured_at: datetime
    origin: int
    scope: Scope | None = None
    limit: float = 100
    least: int = 1
    blocked: bool = False
    absent: bool = False


@dataclass(frozen=True)
class Folded:
    """What one act did, by `accepted`, `unchanged`, `superseded` and `withdrawn`; `pending`: its withdrawals are held.

    `changed` counts those of the accepted rows that took the place of another version; the rest is new, or back again.
    """

    counts: Mapping[str, int]
    pending: bool = False


@dataclass(frozen=True)
class Relation:
    """Rows of an Iceberg table as an engine reads them: parquet files by URL, columns by field id.

    `columns` are (field id, name, type as DuckDB spells it), in order. Without files it is empty, with those types.
    """

    columns: tuple[tuple[int, str, str], ...]
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How a table's parquet is written: columns as in `Relation`, and perhaps the column it is cut by (year, month, value)."""

    columns: tuple[tuple[int, str, str], ...]
    partition: tuple[str, str] | None = None


@dataclass(frozen=True)
class Parquet:
    """A parquet file in scratch: its rows, bytes, and the value of the partition it belongs to."""

    path: Path
    rows: int
    bytes: int
    partition: tuple[Any, ...] = ()


class Group(Protocol):
    """The lines of some entries: read once, typed and judged; then folded onto silver; then written, held ones left out.

    The order is judged, rejected, then perhaps boxes, fold, write.
    """

    def judged(self) -> Mapping[int, Counted]:
        """Per place: what its lines are."""
        ...

    def rejected(self, places: Collection[int]) -> Iterator[Rejected]:
        """The quarantined lines of these batches, in order of place and number."""
        ...

    def bounds(self, places: Collection[int]) -> Mapping[int, Scope]:
        """Per place, the lowest and highest value of each key column among the rows with a readable key."""
        ...

    def boxes(self, places: Collection[int], partition: tuple[str, str] | None) -> Sequence[Scope]:
        """Bounds of the keys of these batches' rows, one box a partition: what of silver they can touch."""
        ...

    def fold(
        self, acts: Sequence[Act], current: Relation, past: Relation, observed: "Observed"
    ) -> Mapping[int, Folded]:
        """Fold the acts, in order, onto what silver holds of the keys they touch; what came of each, by place."""
        ...

    def seen(self, keys: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], int]:
        """Of these keys, the greatest place at which a row with it was read; keys that no row has are left out."""
        ...

    def leaving(self) -> Sequence[str]:
        """The files of `current`, by URL, that hold rows which go to past."""
        ...

    def write(self, what: str, layout: Layout, leaving: Relation | None, scratch: Path) -> Sequence[Parquet]:
        """The rows new in `current` or `past` (`what`), as parquet files in the directory `scratch`.

        `leaving` are the files that `leaving()` named, whole: of their rows those that stay are written to `current`
        again, those that go to `past`.
        """
        ...


class Observed(Protocol):
    """What was said of keys before the acts of a fold: asked only where a decision is among them."""

    def newest(self, keys: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], int]:
        """Per key the greatest origin at which it was seen or found absent; keys never seen are left out."""
        ...


class Engine(Protocol):
    """Types, judges and folds bronze lines by one contract."""

    def group(
        self, contract: Contract, lines: Sequence[Lines], only: Mapping[int, Collection[int]] | None = None
    ) -> AbstractContextManager[Group]:
        """Read every line once. `only` limits batches, by place, to some of their rows after the whole was judged."""
        ...

    def rows(self, contract: Contract, lines: Sequence[bytes]) -> Sequence[Mapping[str, Any] | None]:
        """The row of each bronze line by itself, its values, known_at and _hash; None where it is rejected."""
        ...
