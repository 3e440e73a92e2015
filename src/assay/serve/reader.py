"""The one maker of what anybody reads: release, clocks, limits and what was granted meet here and nowhere else."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import Any

import duckdb

from assay.errors import LakeBusy, LakeDamaged, UsageError
from assay.lake import duck
from assay.lake.duck import ident, text
from assay.lake.moment import literal, moment
from assay.lake.release import Gold, Release, Silver
from assay.ports import Files, Limits
from assay.serve.granted import Grant, Sources, narrowed, sources
from assay.serve.query import Table

# A question that spills more than this is a mistake; the disk is needed for what is landed.
SPILL = "10GB"
CLOCKS, ENDS = ("known_from", "captured_at"), ("known_to", "recorded_to")
_LOST = "LakeDamaged: "


class Reader:
    """A release as readers see it: `tables` by (zone, name), and connections in which they are views.

    Silver is read from the files that the release names, gold from its serving files. `silver.<dataset>_past` is no
    table of its own here: `silver.<dataset>_versions` holds its rows and the current ones.

    Who was granted some datasets alone gets the reader that `granted` gives: its release, tables, relations and views
    hold nothing else, and what is made of its release (lists, descriptions, explanations) can show nothing else. Columns
    and rows that a caller may not see are what nobody can say yet.

    Without `silver`, gold alone is read: no file of silver is looked for, or copied where the lake lies elsewhere.
    """

    def __init__(self, files: Files, release: Release, limits: Limits, *, silver: bool = True) -> None:
        self.files, self.release, self.limits, self.silver = files, release, limits, silver
        self.tables: dict[tuple[str, str], Table] = {}
        for gold in release.gold:
            self.tables["gold", gold.name] = self._gold(gold)
        for one in release.silver if silver else ():
            self.tables["silver", one.dataset] = self._silver(one, versions=False)
            self.tables["silver", f"{one.dataset}_versions"] = self._silver(one, versions=True)

    def granted(self, grant: Grant) -> "Reader":
        """What a caller reads who was granted these datasets: them, and gold that is computed from nothing else."""
        return Reader(self.files, narrowed(self.release, grant, self.sources), self.limits, silver=self.silver)

    @cached_property
    def sources(self) -> Sources:
        """The datasets that each relation of the release is computed from."""
        return sources(self.release)

    @property
    def names(self) -> list[str]:
        """Every table by its full name."""
        return [f"{zone}.{name}" for zone, name in self.tables]

    def relation(
        self, zone: str, name: str, *, as_of: datetime | None = None, recorded_as_of: datetime | None = None
    ) -> str:
        """The SELECT of a table's rows, as they stand in the release or stood at a moment.

        `as_of` is by what the public could know, `recorded_as_of` by what the lake had. UsageError lists the tables
        there are, and those that have such a clock.
        """
        if (zone, name) not in self.tables:
            raise UsageError(f"no table {f'{zone}.{name}'!r}; there are {', '.join(self.names)}")
        if zone == "silver":
            return self._rows(name, as_of, recorded_as_of)
        gold = self.release.table(name)
        select = f"SELECT * FROM gold.{ident(name)}"
        if as_of is None and recorded_as_of is None:
            return select
        asked = {"known_from": ("as_of", as_of), "captured_at": ("recorded_as_of", recorded_as_of)}
        conditions = []
        for clock, (what, at) in asked.items():
            if at is None:
                continue
            if clock not in gold.clocks:
                having = [g.name for g in self.release.gold if clock in g.clocks]
                raise UsageError(
                    f"{name} has no clock for that; {what} is answered by {', '.join(having) or 'no gold table'}"
                )
            conditions.append(f"{ident(gold.clocks[clock])} <= {literal(at)}")
        return f"{select} WHERE {' AND '.join(conditions)}"

    def connect(
        self, *, silver: bool = True, locked: bool = False, limits: Limits | None = None
    ) -> duckdb.DuckDBPyConnection:
        """A DuckDB with the tables as views `gold.<table>`, `silver.<dataset>` and `silver.<dataset>_versions`.

        LakeDamaged names a serving file that is lost or altered. Silver that is lost takes nothing else with it: its
        view is there, and reading it fails; `damaged` says as what. `locked`, it opens no file but silver's and
        changes no setting, whatever is asked of it.
        """
        con = duck.open(limits or self.limits)
        try:
            con.execute("CREATE SCHEMA gold; CREATE SCHEMA silver; CREATE SCHEMA stg; CREATE SCHEMA seeds")
            for one in self.release.gold:
                attach(con, self.files, one.serving, one.serving_sha256, f"_{one.name}")
                con.execute(f"CREATE VIEW gold.{ident(one.name)} AS SELECT * FROM {self._served(one)}")
            for zone, name in self.tables if silver else ():
                if zone == "silver":
                    self._view(con, name)
            if locked:
                # What is attached stays so, and spilling needs no leave: silver's files are all that is opened later.
                urls = sorted(set(self._urls()))
                con.execute(f"SET allowed_paths = [{', '.join(map(text, urls))}]")
                con.execute("SET enable_external_access = false; SET lock_configuration = true")
        except BaseException:
            con.close()
            raise
        return con

    def _urls(self) -> Iterator[str]:
        """What silver's views open; a file that is lost is told by its view."""
        for one in self.release.silver if self.silver else ():
            for file in (*one.current.files, *one.past.files):
                with suppress(LakeDamaged):
                    yield self.files.url(file.name)

    def _view(self, con: duckdb.DuckDBPyConnection, name: str) -> None:
        try:
            con.execute(f"CREATE VIEW silver.{ident(name)} AS {self._rows(name)}")
        except (LakeDamaged, duckdb.Error) as error:
            lost = damaged(error) if isinstance(error, duckdb.Error) else error
            if lost is None:
                raise
            says = f"error({text(f'{_LOST}{lost}')})"
            # In each column and as a condition: where nothing needs it, DuckDB would leave it out and give no rows.
            columns = [
                f"CAST({says} AS {c.type}) AS {ident(c.name)}" for c in self.tables["silver", name].columns.values()
            ]
            con.execute(
                f"CREATE OR REPLACE VIEW silver.{ident(name)} AS SELECT {', '.join(columns)} WHERE CAST({says} AS BOOLEAN)"
            )

    def _rows(self, name: str, as_of: datetime | None = None, recorded_as_of: datetime | None = None) -> str:
        versions = name.endswith("_versions") and ("silver", name.removesuffix("_versions")) in self.tables
        one = self.release.dataset(name.removesuffix("_versions") if versions else name)
        if versions and as_of:
            raise UsageError(_every_version(one))
        columns = ", ".join(map(ident, self.tables["silver", name].columns))
        current = duck.relation(one.current.relation(self.files))
        if not versions and as_of is None and recorded_as_of is None:
            return current
        whole = (
            f"SELECT *, NULL::TIMESTAMPTZ AS known_to, NULL::TIMESTAMPTZ AS recorded_to FROM ({current}) "
            f"UNION ALL BY NAME {duck.relation(one.past.relation(self.files))}"
        )
        if versions:
            until = f" WHERE captured_at <= {literal(recorded_as_of)}" if recorded_as_of else ""
            return f"SELECT {columns} FROM ({whole}){until}"
        return f"SELECT {columns} FROM ({whole}) WHERE {moment(as_of, recorded_as_of)}"

    def _gold(self, gold: Gold) -> Table:
        # what the view gold.<name> reads: without the view a query costs a tenth less
        return Table(
            zone="gold", name=gold.name, relation=self._served(gold), columns={c.name: c for c in gold.columns}, key=gold.key,
            origins=self.release.origins, clocks=gold.clocks, description=gold.description, rows=gold.rows,
        )  # fmt: skip

    def _silver(self, one: Silver, *, versions: bool) -> Table:
        name = f"{one.dataset}_versions" if versions else one.dataset
        columns = {c.name: c for c in one.columns if versions or c.name not in ENDS}
        key = (*one.key, "_position", "_n", "_seq") if versions else one.key
        clocks = (*CLOCKS, *ENDS) if versions else CLOCKS
        return Table(
            zone="silver", name=name, relation=f"silver.{ident(name)}", columns=columns, key=key, origins=one.origins,
            moved=lambda as_of, recorded: self._rows(name, as_of, recorded), clocks={c: c for c in clocks},
            title=one.title, description=one.description, whole=_every_version(one) if versions else "",
            rows=one.current.rows + one.past.rows if versions else one.current.rows,
        )  # fmt: skip

    def _served(self, gold: Gold) -> str:
        return f"{ident(f'_{gold.name}')}.main.{ident(gold.name)}"


def _every_version(one: Silver) -> str:
    return f"silver.{one.dataset}_versions holds every version; read silver.{one.dataset} with as_of"


def attach(con: duckdb.DuckDBPyConnection, files: Files, name: str, sha256: str, alias: str) -> None:
    """Attach a serving file or the seeds read-only; LakeDamaged names it if it is lost or altered, LakeBusy if it is held."""
    if not files.exists(name):
        raise LakeDamaged(f"{name} is lost; `assay build` makes it anew")
    try:
        con.execute(f"ATTACH {text(str(files.local(name, sha256)))} AS {ident(alias)} (READ_ONLY)")
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
        told = duck.meaning(error)
        if isinstance(told, LakeBusy):
            raise LakeBusy(f"{name} is open for writing in another program; close it there and ask again") from error
        what = "is damaged" if isinstance(told, LakeDamaged) else f"cannot be opened ({said})"
        raise LakeDamaged(f"{name} {what}; `assay build` makes it anew") from error


def damaged(error: duckdb.Error) -> LakeDamaged | None:
    """What DuckDB's error says of a stored file that is lost or altered; None if it speaks of something else."""
    said = str(error).splitlines()[0]
    if said.startswith(f"Invalid Input Error: {_LOST}"):
        return LakeDamaged(said.partition(_LOST)[2])
    told = duck.meaning(error)
    return told if isinstance(told, LakeDamaged) else None


def read(
    reader: Reader, name: str, columns: Sequence[str] | None, as_of: datetime | None, recorded_as_of: datetime | None
) -> Any:
    """A table of the release as Arrow; UsageError for what is not there, LakeDamaged for what is lost."""
    zone, _, table = name.partition(".") if "." in name else ("gold", "", name)
    source = reader.relation(zone, table, as_of=as_of, recorded_as_of=recorded_as_of)
    there = list(reader.tables[zone, table].columns)
    if unknown := [c for c in columns or () if c not in there]:
        raise UsageError(f"{name} has no column {unknown[0]!r}; it has {', '.join(there)}")
    con = reader.connect(silver=zone == "silver")
    try:
        chosen = ", ".join(map(ident, columns)) if columns else "*"
        return con.sql(f"SELECT {chosen} FROM ({source})").to_arrow_table()
    except duckdb.Error as error:
        if lost := damaged(error):
            raise lost from error
        raise
    finally:
        con.close()


__all__ = ["Reader", "attach", "damaged", "read"]
