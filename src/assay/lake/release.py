"""Gold as releases: which snapshots belong together, which files serve them, and a connection that reads them."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import duckdb
import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from assay.errors import LakeBusy, LakeDamaged, UsageError
from assay.lake import evidence, silver
from assay.lake.files import Files
from assay.lake.tables import ident, text


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
    """One gold table of a release: its snapshot, and the DuckDB file that serves it (table `main.<name>`)."""

    name: str
    snapshot: int
    rows: int
    serving: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    clocks: dict[str, str]
    inputs: tuple[Input, ...]
    description: str = ""

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
    files: Files, catalog: Catalog, release: Release, *, silver_views: bool = True, threads: int = 1
) -> duckdb.DuckDBPyConnection:
    """A DuckDB with the release's tables as views `gold.<table>`, `silver.<dataset>` and `silver.<dataset>_versions`.

    Gold is read from the serving files (attached read-only), silver from the snapshots the release names.
    """
    con = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    con.execute(f"SET timezone = 'UTC'; SET enable_progress_bar = false; SET threads = {threads}")
    con.execute(f"SET temp_directory = {text(str(files.root / '_tmp'))}")
    con.execute("CREATE SCHEMA gold; CREATE SCHEMA silver; CREATE SCHEMA stg; CREATE SCHEMA seeds")
    for one in release.gold:
        alias = ident(f"_{one.name}")
        con.execute(f"ATTACH {text(str(files.path(one.serving)))} AS {alias} (READ_ONLY)")
        con.execute(f"CREATE VIEW gold.{ident(one.name)} AS SELECT * FROM {alias}.main.{ident(one.name)}")
    if silver_views:
        for name, select in silver_selects(files, catalog, release).items():
            con.execute(f"CREATE VIEW silver.{ident(name)} AS {select}")
    return con


def silver_selects(
    files: Files,
    catalog: Catalog,
    release: Release,
    *,
    as_of: datetime | None = None,
    recorded_as_of: datetime | None = None,
) -> dict[str, str]:
    """The SELECTs of the silver views at the release's snapshots: `<dataset>` and `<dataset>_versions`.

    With `as_of` or `recorded_as_of`, `<dataset>` is as the public or the lake could know it then.
    """
    out: dict[str, str] = {}
    for one in release.silver:
        contract = evidence.pinned(files, one.contract_sha256)
        try:
            table = catalog.load_table(silver.name(one.dataset))
        except NoSuchTableError as error:
            raise LakeDamaged(
                f"the catalog lost {silver.name(one.dataset)}, which release {release.number} reads"
            ) from error
        observed = silver.observed(table, one.snapshot)
        out[one.dataset] = silver.current(contract, observed, as_of=as_of, recorded_as_of=recorded_as_of)
        out[f"{one.dataset}_versions"] = silver.versions(contract, observed, recorded_as_of)
    return out


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
