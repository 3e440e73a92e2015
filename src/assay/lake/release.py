"""Gold as releases: which snapshots and files belong together. A plain record: whoever serves it needs no catalog."""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from assay.errors import LakeBusy, LakeDamaged, UsageError
from assay.lake.evidence import DataFile
from assay.lake.files import read_or_none, sha256_of
from assay.lake.formats import UNREADABLE, refuse_newer
from assay.ports import Files, Relation

FORMAT = 1


class Column(msgspec.Struct, frozen=True):
    """A column as readers see it; `type` is DuckDB's name of it."""

    name: str
    type: str
    description: str = ""
    unit: str = ""
    classification: str = "internal"


class Input(msgspec.Struct, frozen=True):
    """The silver rows a gold row is computed from: a predicate over `table` and `row` (that gold row)."""

    table: str
    where: str


class Gold(msgspec.Struct, frozen=True):
    """One gold table of a release: its snapshot with the parquet in it, and the DuckDB file that serves it (table `main.<name>`)."""

    name: str
    snapshot: int
    rows: int
    serving: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    clocks: dict[str, str]
    inputs: tuple[Input, ...]
    description: str = ""
    serving_sha256: str = ""
    content: str = ""
    files: tuple[DataFile, ...] = ()

    def column(self, name: str) -> Column:
        """The column of that name; UsageError lists those there are."""
        for one in self.columns:
            if one.name == name:
                return one
        raise UsageError(f"{self.name} has no column {name!r}; it has {', '.join(c.name for c in self.columns)}")


class Rows(msgspec.Struct, frozen=True):
    """One silver table at its snapshot: its parquet, and its columns as (field id, name, type)."""

    snapshot: int | None
    columns: tuple[tuple[int, str, str], ...]
    files: tuple[DataFile, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(file.rows for file in self.files)

    def relation(self, files: Files) -> Relation:
        """What an engine reads."""
        return Relation(self.columns, tuple(files.url(one.name) for one in self.files))


class Silver(msgspec.Struct, frozen=True):
    """One dataset as this release read it: its two tables, the evidence and the position they stand at.

    `columns` are those of the contract, then the clocks; `origins` whose records they are (vendor, sandbox, synthetic).
    """

    dataset: str
    contract_sha256: str
    evidence: int
    evidence_sha256: str | None
    position: int
    current: Rows
    past: Rows
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    origins: tuple[str, ...] = ()
    captured_at: datetime | None = None
    title: str = ""
    description: str = ""
    day: str | None = None

    @property
    def rows(self) -> int:
        """How many rows are current."""
        return self.current.rows


class Model(msgspec.Struct, frozen=True):
    """A step of the computation, in order: SQL that runs in a plain DuckDB, or a seed kept in the seeds file."""

    relation: str
    kind: str
    sql: str


class Release(msgspec.Struct, frozen=True):
    """What readers see as one: atomic for readers of a release, per table for readers of the catalog.

    `parent_sha256` is the hash of the release before it, as stored; `docs` what dbt's documentation page is made of, empty
    in releases of before it was kept.
    """

    number: int
    id: str
    parent: int | None
    at: datetime
    run: str
    dbt_hash: str
    gold: tuple[Gold, ...]
    silver: tuple[Silver, ...]
    models: tuple[Model, ...]
    seeds: str
    tests: int = 0
    seeds_sha256: str = ""
    parent_sha256: str | None = None
    docs: str = ""
    docs_sha256: str = ""
    format: int = FORMAT

    @property
    def objects(self) -> dict[str, str]:
        """The files that serve it, each with its sha256."""
        beside = {self.seeds: self.seeds_sha256, self.docs: self.docs_sha256}
        return {g.serving: g.serving_sha256 for g in self.gold} | {name: its for name, its in beside.items() if name}

    @property
    def parquet(self) -> dict[str, str]:
        """The files of the tables it names, each with its sha256."""
        silver = (file for s in self.silver for file in (*s.current.files, *s.past.files))
        return {f.name: f.sha256 for f in (*silver, *(f for g in self.gold for f in g.files))}

    @property
    def name(self) -> str:
        """Where it lies: the number follows the parent's, so only one child of a parent can be written."""
        return name_of(self.number)

    def table(self, name: str) -> Gold:
        """A gold table by `fct_daily_price` or `gold.fct_daily_price`; UsageError lists those there are."""
        wanted = name.removeprefix("gold.")
        for one in self.gold:
            if one.name == wanted:
                return one
        raise UsageError(f"no gold table {name!r}; this release has {', '.join(g.name for g in self.gold) or 'none'}")

    def dataset(self, name: str) -> Silver:
        """A dataset's silver; UsageError lists those there are."""
        for one in self.silver:
            if one.dataset == name:
                return one
        raise UsageError(
            f"no silver table {name!r}; this release has {', '.join(s.dataset for s in self.silver) or 'none'}"
        )

    @property
    def origins(self) -> tuple[str, ...]:
        """Where all data of the release comes from."""
        return tuple(sorted({origin for one in self.silver for origin in one.origins}))


def name_of(number: int) -> str:
    """The object name of a release."""
    return f"releases/{number:08}.json"


def read(files: Files, number: int) -> Release:
    """A release by number; UsageError if there is none, LakeDamaged if it does not read as one."""
    return stored(files, number)[0]


def stored(files: Files, number: int) -> tuple[Release, str]:
    """A release with the sha256 that the next one names it by."""
    data = read_or_none(files, name_of(number))
    if data is None:
        if 0 < number < max(numbers(files), default=0):
            raise UsageError(
                f"release {number} is gone: upkeep keeps what [upkeep] of assay.toml says; ask for a newer one"
            )
        raise UsageError(f"there is no release {number}")
    refuse_newer(name_of(number), data, FORMAT)
    try:
        found = msgspec.json.decode(data, type=Release)
    except UNREADABLE as error:
        raise LakeDamaged(f"{name_of(number)} is not a release any more ({error}); restore it from a copy") from error
    return found, hashlib.sha256(data).hexdigest()


def numbers(files: Files) -> list[int]:
    """All release numbers, oldest first."""
    found = (re.fullmatch(r"releases/(\d{8})\.json", name) for name in files.names("releases/"))
    return [int(one[1]) for one in found if one]


def newest(files: Files, known: int = 0) -> int:
    """The number of the newest release, 0 before the first; from one that is known, only what follows is looked for."""
    if not known or not files.exists(name_of(known)):
        known = (numbers(files) or [0])[-1]
    return next(n for n in count(known + 1) if not files.exists(name_of(n))) - 1


def current(files: Files, known: int = 0) -> Release | None:
    """The newest release, or None before the first."""
    number = newest(files, known)
    return read(files, number) if number else None


def publish(files: Files, release: Release) -> None:
    """Write the release object; LakeBusy if another run released on the same parent first."""
    data = msgspec.json.format(msgspec.json.encode(release), indent=1)
    # A number that upkeep made free again is no number to be had: the one after it is somebody's.
    if not files.put_new(release.name, data, "release.object") or max(numbers(files), default=0) > release.number:
        raise LakeBusy(f"release {release.number} was made by another run meanwhile; build again on top of it")


def file_sha256(path: Path) -> str:
    """The sha256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wrong(files: Files, name: str, sha256: str) -> str | None:
    """What is wrong with a stored file as it lies there now; None if it is what was written."""
    if not files.exists(name):
        return f"{name} is lost"
    if sha256_of(files, name) != sha256:
        return f"{name} is not what was written"
    return None


def told(release: Release) -> str:
    """What a release holds, in a line for the one who made it."""
    rows = ", ".join(f"{g.name} {g.rows} rows" for g in release.gold)
    if not release.gold:
        rows = "no gold table: the dbt project has no model in schema gold"
    read = {i.table.partition(".")[2].removesuffix("_versions") for g in release.gold for i in g.inputs}
    counted = {s.dataset: s.rows for s in release.silver}
    if read and release.parent is None and not any(counted.get(d) for d in read):
        rows += f" (nothing of {', '.join(sorted(read))} is in silver yet, `assay status` says why)"
    tests = f"{release.tests} tests passed" if release.tests else "NOT TESTED: the dbt project has no test"
    return f"released {release.number}: {rows}, {tests}"


def describe(release: Release) -> Mapping[str, Any]:
    """The release as JSON for people: number, time, origins, tables with rows and columns."""
    return {
        "number": release.number,
        "at": release.at.isoformat(),
        "origins": list(release.origins),
        "gold": {
            g.name: {"rows": g.rows, "snapshot": str(g.snapshot), "key": list(g.key), "clocks": g.clocks}
            for g in release.gold
        },
        "silver": {
            s.dataset: {
                "rows": s.rows, "snapshot": s.current.snapshot and str(s.current.snapshot), "origins": list(s.origins)
            }
            for s in release.silver
        },
    }  # fmt: skip
