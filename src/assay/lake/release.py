"""Gold as releases: which snapshots belong together, which files serve them, and a connection that reads them."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError, ValidationError

from assay.errors import LakeBusy, LakeDamaged, UsageError
from assay.lake import duck, evidence, silver
from assay.lake.duck import Limits
from assay.lake.files import Files
from assay.lake.tables import ident, text

UNREADABLE = (NoSuchTableError, ValidationError, OSError, ValueError, EOFError)
"""What PyIceberg raises where a table's metadata is lost or torn."""
ASKED = Limits(threads=1)
"""What questions may use where the lake's own limits are not given: nothing is spilled."""
# A question that spills more than this is a mistake; the disk is needed for what is landed.
_SPILL = "10GB"
_LOST = "LakeDamaged: "


@contextmanager
def readable(table: str) -> Iterator[None]:
    """LakeDamaged instead of what PyIceberg raises while a table is looked up in a block."""
    try:
        yield
    except UNREADABLE as error:
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise LakeDamaged(f"the metadata of {table} cannot be read ({said}); restore it from a copy") from error


class Column(msgspec.Struct, frozen=True):
    """A gold column as its model describes it; `type` is DuckDB's name of it."""

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
    """One gold table of a release: its snapshot, and the DuckDB file that serves it (table `main.<name>`).

    `serving_sha256` is empty in releases made before it was kept.
    """

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

    def column(self, name: str) -> Column:
        """The column of that name; UsageError lists those there are."""
        for one in self.columns:
            if one.name == name:
                return one
        raise UsageError(f"{self.name} has no column {name!r}; it has {', '.join(c.name for c in self.columns)}")


class Silver(msgspec.Struct, frozen=True):
    """One dataset as this release read it; `origins` of its batches (vendor, sandbox, synthetic)."""

    dataset: str
    snapshot: int | None
    contract_sha256: str
    rows: int
    origins: tuple[str, ...]
    captured_at: datetime | None


class Model(msgspec.Struct, frozen=True):
    """A step of the computation, in order: SQL that runs in a plain DuckDB, or a seed kept in the seeds file."""

    relation: str
    kind: str
    sql: str


class Release(msgspec.Struct, frozen=True):
    """What readers see as one: atomic for readers of a release, per table for readers of the catalog."""

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

    @property
    def objects(self) -> dict[str, str]:
        """The files that serve it, each with its sha256, or nothing where none was kept."""
        seeds = {self.seeds: self.seeds_sha256} if self.seeds else {}
        return {g.serving: g.serving_sha256 for g in self.gold} | seeds

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
        raise UsageError(f"no gold table {name!r}; this release has {', '.join(g.name for g in self.gold)}")

    @property
    def origins(self) -> tuple[str, ...]:
        """Where all data of the release comes from."""
        return tuple(sorted({origin for one in self.silver for origin in one.origins}))


def name_of(number: int) -> str:
    """The object name of a release."""
    return f"releases/{number:08}.json"


def read(files: Files, number: int) -> Release:
    """A release by number; UsageError if there is none, LakeDamaged if it does not read as one."""
    if not files.exists(name_of(number)):
        raise UsageError(f"there is no release {number}")
    try:
        return msgspec.json.decode(files.read(name_of(number)), type=Release)
    except msgspec.DecodeError as error:
        raise LakeDamaged(f"{name_of(number)} is not a release any more ({error}); restore it from a copy") from error


def numbers(files: Files) -> list[int]:
    """All release numbers, oldest first."""
    found = (re.fullmatch(r"releases/(\d{8})\.json", name) for name in files.names("releases"))
    return [int(one[1]) for one in found if one]


def current(files: Files) -> Release | None:
    """The newest release, or None before the first."""
    found = numbers(files)
    return read(files, found[-1]) if found else None


def publish(files: Files, release: Release) -> None:
    """Write the release object; LakeBusy if another run released on the same parent first."""
    data = msgspec.json.format(msgspec.json.encode(release), indent=1)
    if not files.put_new(release.name, data, "release.object"):
        raise LakeBusy(f"release {release.number} was made by another run meanwhile; build again on top of it")


def connect(
    files: Files,
    catalog: Catalog,
    release: Release,
    *,
    silver_views: bool = True,
    limits: Limits = ASKED,
    locked: bool = False,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB with the release's tables as views `gold.<table>`, `silver.<dataset>` and `silver.<dataset>_versions`.

    Gold is read from the serving files (attached read-only), silver from the snapshots the release names. LakeDamaged
    names a serving file that is lost or altered. Silver that is lost takes nothing else with it: its view is there,
    and reading it fails; `damaged` says as what.

    `limits` are what its questions may use together. `locked`, it opens no file but silver's and changes no setting,
    whatever is asked of it.
    """
    con = duck.open(replace(limits, spill=limits.spill or _SPILL))
    try:
        con.execute("CREATE SCHEMA gold; CREATE SCHEMA silver; CREATE SCHEMA stg; CREATE SCHEMA seeds")
        for one in release.gold:
            alias = f"_{one.name}"
            attach(con, files, one.serving, alias)
            con.execute(f"CREATE VIEW gold.{ident(one.name)} AS SELECT * FROM {ident(alias)}.main.{ident(one.name)}")
        if silver_views:
            _silver_views(con, files, catalog, release)
        if locked:
            # What is attached stays so, and spilling needs no leave: silver's files are all that is opened later.
            con.execute(f"SET allowed_directories = [{text(str(files.root / 'warehouse'))}]")
            con.execute("SET enable_external_access = false; SET lock_configuration = true")
    except BaseException:
        con.close()
        raise
    return con


def attach(con: duckdb.DuckDBPyConnection, files: Files, name: str, alias: str) -> None:
    """Attach a serving file or the seeds read-only; LakeDamaged names it if it is lost or altered, LakeBusy if it is held."""
    try:
        con.execute(f"ATTACH {text(str(files.path(name)))} AS {ident(alias)} (READ_ONLY)")
    except duckdb.Error as error:
        told = duck.meaning(error)
        if told and not isinstance(told, LakeDamaged):
            raise told from error
        what = "is damaged" if told else f"cannot be opened ({str(error).splitlines()[0]})"
        what = what if files.exists(name) else "is lost"
        raise LakeDamaged(f"{name} {what}; `assay build` makes it anew") from error


def damaged(error: duckdb.Error) -> LakeDamaged | None:
    """What DuckDB's error says of a stored file that is lost or altered; None if it speaks of something else."""
    said = str(error).splitlines()[0]
    if said.startswith(f"Invalid Input Error: {_LOST}"):
        return LakeDamaged(said.partition(_LOST)[2])
    told = duck.meaning(error)
    return told if isinstance(told, LakeDamaged) else None


def _silver_views(con: duckdb.DuckDBPyConnection, files: Files, catalog: Catalog, release: Release) -> None:
    for one in release.silver:
        names = (one.dataset, f"{one.dataset}_versions")
        try:
            selects = _silver_selects(files, catalog, release, one)
            for name in names:
                con.execute(f"CREATE VIEW silver.{ident(name)} AS {selects[name]}")
        except (LakeDamaged, duckdb.Error) as error:
            lost = damaged(error) if isinstance(error, duckdb.Error) else error
            if lost is None:
                raise
            for name in names:
                con.execute(
                    f"CREATE OR REPLACE VIEW silver.{ident(name)} AS {_lost(files, one, lost, versions=name != one.dataset)}"
                )


def _lost(files: Files, one: Silver, lost: LakeDamaged, *, versions: bool) -> str:
    """A SELECT with the view's columns that fails with these words whatever is asked of it."""
    says = f"error({text(f'{_LOST}{lost}')})"
    try:
        kinds = silver.view_columns(evidence.pinned(files, one.contract_sha256), versions=versions)
    except LakeDamaged:
        kinds = {"lost": ("VARCHAR", "")}  # the contract is what is lost
    # In each column and as a condition: where nothing needs it, DuckDB would leave it out and give no rows.
    columns = ", ".join(f"CAST({says} AS {kind}) AS {ident(name)}" for name, (kind, _) in kinds.items())
    return f"SELECT {columns} WHERE CAST({says} AS BOOLEAN)"


def silver_selects(
    files: Files,
    catalog: Catalog,
    release: Release,
    *,
    as_of: datetime | None = None,
    recorded_as_of: datetime | None = None,
    only: str | None = None,
) -> dict[str, str]:
    """The SELECTs of the silver views at the release's snapshots: `<dataset>` and `<dataset>_versions`.

    With `as_of` or `recorded_as_of`, `<dataset>` is as the public or the lake could know it then. `only` is one
    dataset: LakeDamaged for a lost one then hinders nobody who reads another.
    """
    out: dict[str, str] = {}
    for one in release.silver:
        if only in (None, one.dataset):
            out |= _silver_selects(files, catalog, release, one, as_of, recorded_as_of)
    return out


def _silver_selects(
    files: Files,
    catalog: Catalog,
    release: Release,
    one: Silver,
    as_of: datetime | None = None,
    recorded_as_of: datetime | None = None,
) -> dict[str, str]:
    contract = evidence.pinned(files, one.contract_sha256)
    name = silver.name(one.dataset)
    try:
        observed = silver.observed(catalog.load_table(name), one.snapshot)
    except NoSuchTableError as error:
        raise LakeDamaged(
            f"the catalog lost {name}, which release {release.number} reads; `assay apply` refines it anew and releases it"
        ) from error
    except UNREADABLE as error:
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise LakeDamaged(
            f"{name} as release {release.number} reads it is lost ({said}); restore it from a copy"
        ) from error
    return {
        one.dataset: silver.current(contract, observed, as_of=as_of, recorded_as_of=recorded_as_of),
        f"{one.dataset}_versions": silver.versions(contract, observed, recorded_as_of),
    }


def file_sha256(path: Path) -> str:
    """The sha256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wrong(files: Files, name: str, sha256: str) -> str | None:
    """What is wrong with a file that serves a release; None if it is what was written, as far as a hash was kept."""
    if not files.exists(name):
        return f"{name} is lost"
    if sha256 and file_sha256(files.path(name)) != sha256:
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
    return f"released {release.number}: {rows}, {release.tests} tests passed"


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
            s.dataset: {"rows": s.rows, "snapshot": s.snapshot and str(s.snapshot), "origins": list(s.origins)}
            for s in release.silver
        },
    }
