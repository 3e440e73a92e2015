"""Iceberg over `Files`, on a disk and on a store at its worst: commits, pruning, and what is proved of the lists."""

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
import sqlalchemy
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pyiceberg.manifest import clear_manifest_cache
from pyiceberg.table import StaticTable, Table

from assay.errors import CommitUnknown, LakeBusy, LakeDamaged, SettingsError
from assay.lake import duck, io, parquet, tables
from assay.lake.evidence import Change, DataFile
from assay.ports import Files, Parquet
from assay.targets.catalog import SqliteCatalog, open_catalog
from assay.targets.local import DiskFiles
from tests.every.stores import StoreFiles, WorstStore

KINDS = ("disk", "store")
EFFECT = "tables.metadata"
COLUMNS = {
    "symbol": ("VARCHAR", ""),
    "date": ("DATE", ""),
    "at": ("TIMESTAMP WITH TIME ZONE", ""),
    "n": ("BIGINT", ""),
    "price": ("DECIMAL(18,4)", "of the close"),
}


@dataclass
class Told:
    """Files that remember what was put, in order; `said` is also told of the catalog's commits."""

    under: Files
    said: list[str]

    def put_new(self, name: str, data: bytes | Path, as_effect: str) -> bool:
        done = self.under.put_new(name, data, as_effect)
        self.said.append(name)
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.under, name)


@dataclass
class Place:
    """One lake's tables somewhere."""

    kind: str
    root: Path
    files: Any
    catalog: SqliteCatalog
    con: duckdb.DuckDBPyConnection

    def table(self, name: str = "silver.bars", partition: tuple[str, str] | None = ("date", "year")) -> Table:
        return tables.ensure(self.catalog, name, COLUMNS, partition)

    def load(self, name: str = "silver.bars") -> Table:
        found = tables.load(self.catalog, name)
        assert found
        return found

    def written(self, table: Table, select: str, row_group: int = 122_880) -> list[Parquet]:
        return parquet.write(self.con, tables.layout(table), select, self.files.scratch(), row_group=row_group)

    def adopted(self, table: Table, select: str, stem: str = "s", row_group: int = 122_880) -> list[DataFile]:
        return tables.adopt(self.files, table, self.written(table, select, row_group), stem)

    def commit(self, table: Table, change: Change, properties: Mapping[str, str] | None = None) -> Any:
        return tables.commit(table, self.files, change, properties or {}, as_effect=EFFECT)

    def add(self, table: Table, select: str, stem: str = "s", number: int = 0) -> list[DataFile]:
        added = self.adopted(table, select, stem)
        self.commit(table, Change(add=tuple(added)), {"assay.evidence": str(number)})
        return added

    def rows(self, table: Table, boxes: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        snapshot = table.current_snapshot()
        found = tables.relation(table, snapshot.snapshot_id if snapshot else None, self.files, boxes)
        return sorted(self.con.execute(duck.relation(found)).fetchall(), key=repr)

    @property
    def objects(self) -> list[str]:
        return [*self.files.names("warehouse/")]

    def damage(self, name: str, data: bytes) -> None:
        if self.kind == "disk":
            (self.root / name).write_bytes(data)
        else:
            self.files.store.objects[name] = data


def place(kind: str, root: Path, timeout: float = 5) -> Place:
    root.mkdir(exist_ok=True)
    files = Told(DiskFiles(root) if kind == "disk" else StoreFiles(WorstStore(root, seed=3)), [])
    base = f"file://{root}/" if kind == "disk" else "lake://"
    catalog = SqliteCatalog(
        "lake",
        uri=f"sqlite:///{root}/catalog.db?timeout={timeout}",
        warehouse=f"{base}warehouse",
        **io.properties(files, base),
    )
    sqlalchemy.event.listen(catalog.engine, "commit", lambda _: files.said.append("COMMIT"))
    con = duckdb.connect()
    con.execute("SET timezone = 'UTC'; SET threads = 2")
    return Place(kind, root, files, catalog, con)


@pytest.fixture(params=KINDS)
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    found = place(request.param, tmp_path / "lake", timeout=0.2)
    yield found
    found.catalog.close()
    found.con.close()


def bars(first: int, last: int, symbol: str = "A", year: int = 2024) -> str:
    return f"""SELECT '{symbol}' AS symbol, DATE '{year}-01-01' + i::INTEGER AS date, TIMESTAMPTZ '{year}-01-01 00:00:00+00' + to_hours(i) AS at,
        i AS n, (i / 8)::DECIMAL(18,4) AS price FROM range({first}, {last}) t(i)"""


def calm(at: Place) -> None:
    if isinstance(at.files.under, StoreFiles):
        at.files.store.calm()


def test_what_is_committed_is_read(at: Place) -> None:
    table = at.table()
    assert at.rows(table) == []
    first = at.add(table, bars(0, 400), "one")
    assert sorted(one.rows for one in first) == [34, 366]
    assert sorted(one.partition for one in first) == [(54,), (55,)]
    assert all(one.name.startswith("warehouse/silver/bars/data/one-") and one.sha256[:16] in one.name for one in first)
    at.add(at.load(), bars(0, 10, "B"), "two")
    found = at.load()
    assert at.rows(found) == sorted(at.con.execute(f"{bars(0, 400)} UNION ALL {bars(0, 10, 'B')}").fetchall(), key=repr)
    assert [one.summary.additional_properties["assay.evidence"] for one in tables.history(found)] == ["0", "0"]
    with pytest.raises(LakeDamaged, match="has no snapshot 1 any more"):
        tables.relation(found, 1, at.files)


def test_symbols_are_partitions_whatever_they_are_called(at: Place) -> None:
    table = at.table(partition=("symbol", "value"))
    names = ["NULL", "__HIVE_DEFAULT_PARTITION__", "", " a/b", "..", "é%2F", "'; --"]
    added = at.adopted(table, " UNION ALL ".join(bars(0, 3, one.replace("'", "''")) for one in names))
    assert sorted(one.partition for one in added) == sorted((one,) for one in names)
    at.commit(table, Change(add=tuple(added)))
    assert {row[0] for row in at.rows(at.load())} == set(names)
    nobody = at.adopted(table, "SELECT * REPLACE (NULL::VARCHAR AS symbol) FROM (" + bars(0, 3) + ")")
    assert [one.partition for one in nobody] == [(None,)]
    at.commit(table, Change(add=tuple(nobody)))
    tables.check(at.load(), at.files, [*added, *nobody])


def test_files_are_removed_by_name_in_the_commit_that_adds(at: Place) -> None:
    table = at.table()
    first = at.add(table, f"{bars(0, 5)} UNION ALL {bars(0, 5, 'A', 2020)}", "one")
    second = at.adopted(table, bars(0, 6, "C"), "two")
    leaving = next(one for one in first if one.partition == (54,))
    snapshots = len(table.metadata.snapshots)
    at.commit(table, Change(add=tuple(second), remove=(leaving.name,)))
    assert len(table.metadata.snapshots) == snapshots + 1
    assert {row[0] for row in at.rows(at.load())} == {"A", "C"}
    tables.check(at.load(), at.files, [*second, *(one for one in first if one is not leaving)])
    with pytest.raises(LakeDamaged, match=r"silver\.bars was to lose .*, which it does not have"):
        at.commit(at.load(), Change(remove=(leaving.name,)))
    third = at.adopted(table, bars(7, 9, "D"), "three")
    at.commit(table, Change(add=tuple(third), everything=True))
    assert {row[0] for row in at.rows(at.load())} == {"D"}
    at.commit(table, Change(everything=True))
    assert at.rows(at.load()) == []
    at.commit(table, Change(), {"assay.evidence": "9"})  # a refine that let nothing in moves the position all the same
    assert at.load().current_snapshot().summary.additional_properties["assay.evidence"] == "9"
    assert at.files.exists(leaving.name)  # older snapshots are made of it


def test_of_two_that_commit_the_slower_one_is_told(at: Place) -> None:
    at.add(at.table(), bars(0, 5), "one")
    quick, late = at.load(), at.load()
    added = at.adopted(late, bars(5, 9), "late")
    won = at.add(quick, bars(9, 12), "quick")
    before = set(at.objects)
    for change in (
        Change(add=tuple(added)),
        Change(add=tuple(added), everything=True),
        Change(add=tuple(added), remove=(won[0].name,)),  # it cannot even see what it is to remove
    ):
        with pytest.raises(
            LakeBusy, match=r"silver\.bars was changed by another process; nothing of this is in"
        ) as told:
            at.commit(late, change)
        assert not isinstance(told.value, CommitUnknown)
    calm(at)
    assert before <= set(at.objects)  # nothing was taken away
    assert all(at.files.exists(one.name) for one in added)
    at.commit(at.load(), Change(add=tuple(added)))
    assert sorted(row[3] for row in at.rows(at.load())) == [*range(12)]


@pytest.mark.parametrize("applied", [False, True])
def test_a_commit_that_failed_half_way_is_unknown(at: Place, applied: bool) -> None:
    at.add(at.table(), bars(0, 5), "one")
    table = at.load()
    added = at.adopted(table, bars(5, 9), "two")
    moment = "after_commit" if applied else "before_commit"

    def fails(_: object) -> None:
        raise sqlalchemy.exc.OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))

    sqlalchemy.event.listen(sqlalchemy.orm.Session, moment, fails)
    try:
        with pytest.raises(CommitUnknown, match=r"while silver\.bars was committed \(disk I/O error\); look whether"):
            at.commit(table, Change(add=tuple(added)), {"assay.evidence": "2"})
    finally:
        sqlalchemy.event.remove(sqlalchemy.orm.Session, moment, fails)
    found = at.load()
    assert (found.current_snapshot().summary.additional_properties["assay.evidence"] == "2") is applied
    assert [row[3] for row in at.rows(found)] == [*range(9 if applied else 5)]
    assert at.files.exists(added[0].name)


def test_what_the_catalog_says_is_told_by_who_must_act(tmp_path: Path) -> None:
    at = place("disk", tmp_path / "lake", timeout=0.05)
    at.add(at.table(), bars(0, 5), "one")
    added = at.adopted(at.load(), bars(5, 9), "two")
    held = sqlite3.connect(at.root / "catalog.db", isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LakeBusy, match="the catalog is held by another process"):
        at.load()
    held.execute("ROLLBACK")
    held.execute("BEGIN IMMEDIATE")
    with pytest.raises(LakeBusy, match=r"held by another process .*; silver\.bars was not changed") as told:
        at.commit(at.load(), Change(add=tuple(added)))
    assert not isinstance(told.value, CommitUnknown)
    held.close()

    for said, error, words in (
        ("database or disk is full", SettingsError, r"no room left .*; silver\.bars was not changed"),
        ("attempt to write a readonly database", SettingsError, "the lake's owner must allow it"),
        ("database disk image is malformed", LakeDamaged, "not a catalog any more"),
    ):

        def fails(_: object, said: str = said) -> None:
            raise sqlalchemy.exc.OperationalError("COMMIT", {}, sqlite3.OperationalError(said))

        sqlalchemy.event.listen(sqlalchemy.orm.Session, "before_commit", fails)
        try:
            with pytest.raises(error, match=words):
                at.commit(at.load(), Change(add=tuple(added)))
        finally:
            sqlalchemy.event.remove(sqlalchemy.orm.Session, "before_commit", fails)
    assert len(at.rows(at.load())) == 5
    at.catalog.close()

    (at.root / "catalog.db").write_bytes(b"no catalog at all" * 100)
    with pytest.raises(LakeDamaged, match=r"catalog\.db is not a catalog any more"):
        open_catalog(at.root, at.files)


def test_a_full_disk_under_a_commit_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = place("disk", tmp_path / "lake")
    at.add(at.table(), bars(0, 5), "one")
    added = at.adopted(at.load(), bars(5, 9), "two")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        with pytest.raises(SettingsError, match="no room left below"):
            at.commit(at.load(), Change(add=tuple(added)))
    assert len(at.rows(at.load())) == 5
    at.commit(at.load(), Change(add=tuple(added)))
    at.catalog.close()


def test_a_moved_lake_is_told(tmp_path: Path) -> None:
    at = place("disk", tmp_path / "lake")
    at.add(at.table(), bars(0, 5))
    at.catalog.close()
    (tmp_path / "lake").rename(tmp_path / "elsewhere")
    with pytest.raises(LakeDamaged, match="this lake was moved: its catalog names file://"):
        open_catalog(tmp_path / "elsewhere", DiskFiles(tmp_path / "elsewhere"))


def reachable(at: Place, table: Table) -> dict[str, list[str]]:
    """Everything that the table's metadata.json leads to, by kind, found by reading the objects."""
    name = at.catalog.load_table("silver.bars").io.name_of
    out: dict[str, list[str]] = {"metadata": [name(table.metadata_location)], "list": [], "manifest": [], "data": []}
    said = json.loads(at.files.read(out["metadata"][0]))
    out["metadata"] += [name(one["metadata-file"]) for one in said["metadata-log"]]
    for snapshot in table.metadata.snapshots:
        out["list"].append(name(snapshot.manifest_list))
        for manifest in snapshot.manifests(table.io):
            out["manifest"].append(name(manifest.manifest_path))
            out["data"] += [name(entry.data_file.file_path) for entry in manifest.fetch_manifest_entry(table.io)]
    return {kind: sorted(set(names)) for kind, names in out.items()}


def test_all_that_a_commit_names_is_there_before_the_catalog_says_so(at: Place) -> None:
    table = at.table()
    first: list[DataFile] = []
    for number in range(5):
        at.files.said.clear()
        added = at.adopted(table, bars(number * 5, number * 5 + 5), f"s{number}")
        at.commit(table, Change(add=tuple(added), remove=tuple(one.name for one in first) if number == 3 else ()))
        first = added
        said = at.files.said
        assert said[-1] == "COMMIT"
        assert said.count("COMMIT") == 1
        found = {one for names in reachable(at, at.load()).values() for one in names}
        assert all(at.files.exists(one) for one in found)
        assert table.metadata_location.endswith(said[-2])  # metadata.json is the last object
        if number == 0:
            assert found - set(said) == {one for one in found if "/00000-" in one}  # the empty table's


@pytest.mark.slow
def test_what_is_put_stays_few(at: Place) -> None:
    table = at.table(partition=None)
    calm(at)
    most = 0
    added: list[DataFile] = []
    for number in range(30):
        new = at.adopted(table, bars(number, number + 1), f"s{number:03}")
        remove = tuple(one.name for one in added[-1:]) if number % 3 == 2 else ()
        added = added[: len(added) - len(remove)] + new
        at.commit(table, Change(add=tuple(new), remove=remove), {"assay.evidence": str(number)})
        manifests = table.current_snapshot().manifests(table.io)
        assert all(one.has_added_files() or one.has_existing_files() or number % 3 == 2 for one in manifests)
        most = max(most, len(manifests))
    assert most <= tables.MERGE
    found = at.load()
    assert len(found.metadata.metadata_log) == 10
    assert len(found.metadata.snapshots) == 30
    tables.check(
        found, at.files, added, columns={n: k for n, (k, _) in COLUMNS.items()}, properties={"assay.evidence": "29"}
    )

    kept = found.metadata.snapshots[7].snapshot_id
    gone = tables.expire(found, {kept}, 10, as_effect=EFFECT)
    assert len(gone) == 19
    assert kept not in gone
    assert {one.snapshot_id for one in at.load().metadata.snapshots}.isdisjoint(gone)
    assert len(at.load().metadata.snapshots) == 11
    assert tables.expire(at.load(), {kept}, 10, as_effect=EFFECT) == []
    tables.check(at.load(), at.files, added)
    assert len(at.rows(at.load())) == len(added)


def test_readers_outside_read_the_disk(tmp_path: Path) -> None:
    at = place("disk", tmp_path / "lake")
    at.add(at.table(), bars(0, 30), "one")
    location = at.load().metadata_location
    assert "py-io-impl" not in Path(location.removeprefix("file://")).read_text()
    outside = StaticTable.from_metadata(location)
    assert outside.scan().to_arrow().num_rows == 30
    at.catalog.close()


def test_an_object_that_is_not_finished_is_not_put(at: Place) -> None:
    table = at.table()
    out = table.io.new_output(f"{table.location()}/metadata/cut.json")
    with pytest.raises(ZeroDivisionError), out.create() as stream:
        stream.write(b"half" * (1 // 0))
    stream = out.create()
    stream.write(b"forgotten")
    del stream
    assert not out.exists()
    with out.create() as stream:
        stream.write(b"whole")
    assert len(out) == 5
    assert out.to_input_file().open().read() == b"whole"
    with pytest.raises(LakeDamaged, match="holds something else already"), out.create(overwrite=True) as stream:
        stream.write(b"other")
    table.io.delete(out.location)
    assert out.exists()
    with pytest.raises(LakeDamaged, match="not of this lake"):
        table.io.new_input("s3://elsewhere/x").open()


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_commit_that_is_cut_off_between_its_objects(point: str, tmp_path: Path) -> None:
    at = place("disk", tmp_path / "lake")
    at.add(at.table(), bars(0, 5), "one")
    added = at.adopted(at.load(), bars(5, 9), "two")
    code = (
        "from pathlib import Path; from assay.lake import tables; from assay.lake.evidence import Change, DataFile\n"
        "from assay.targets.catalog import open_catalog; from assay.targets.local import DiskFiles\n"
        f"root = Path({str(at.root)!r}); files = DiskFiles(root); catalog = open_catalog(root, files)\n"
        f"added = [DataFile(*one) for one in {[tuple(getattr(one, n) for n in one.__struct_fields__) for one in added]!r}]\n"
        "tables.commit(tables.load(catalog, 'silver.bars'), files, Change(add=tuple(added)), {}, as_effect='refine.ledger')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ASSAY_CRASH": f"tables.metadata:{point}"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 137, done.stderr
    assert len(at.rows(at.load())) == 5
    at.commit(at.load(), Change(add=tuple(added)))
    assert len(at.rows(at.load())) == 9
    at.catalog.close()


# Pruning

NAMES = ["", "A", "B", "a" * 15, "a" * 16, "a" * 17, "a" * 16 + "b", "a" * 300, "é", "\x7f", "\ud7ff" * 17, "\U0010ffff" * 18, "\U0010ffff" * 200, "zz"]  # fmt: skip
keys = st.tuples(
    st.sampled_from(NAMES),
    st.dates(date(1960, 1, 1), date(2030, 12, 31)),
    st.datetimes(datetime(1960, 1, 1), datetime(2030, 1, 1)).map(lambda one: one.replace(tzinfo=UTC)),  # noqa: DTZ001
    st.integers(-(2**63), 2**63 - 1),
    st.decimals("-99999999999999", "99999999999999", places=4, allow_nan=False),
)


def lies_in(row: tuple[Any, ...], box: Mapping[str, tuple[Any, Any]]) -> bool:
    has = dict(zip(COLUMNS, row, strict=True))
    return all(low <= has[column] <= high for column, (low, high) in box.items())


@st.composite
def boxes(draw: st.DrawFn) -> dict[str, tuple[Any, Any]]:
    one, other = draw(keys), draw(keys)
    chosen = draw(st.sets(st.sampled_from([*COLUMNS]), max_size=3))
    return {c: tuple(sorted((a, b))) for c, a, b in zip(COLUMNS, one, other, strict=True) if c in chosen}


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(
    files=st.lists(st.lists(keys, min_size=1, max_size=6), min_size=1, max_size=4),
    wanted=st.lists(boxes(), max_size=3),
    partition=st.sampled_from([None, ("date", "year"), ("date", "month"), ("symbol", "value")]),
    as_text=st.booleans(),
)
def test_pruning_loses_no_row(
    tmp_path_factory: pytest.TempPathFactory, files: Any, wanted: Any, partition: Any, as_text: bool
) -> None:
    # DuckDB writes a partition into a directory of its value's name, which a file system bounds.
    assume(partition != ("symbol", "value") or all(len(row[0].encode()) < 80 for rows in files for row in rows))
    at = place("disk", tmp_path_factory.mktemp("prune") / "lake")
    table = at.table(partition=partition)
    for number, rows in enumerate(files):
        at.con.execute("CREATE OR REPLACE TABLE given AS SELECT * FROM (" + bars(0, 0) + ")")
        at.con.executemany("INSERT INTO given VALUES (?, ?, ?, ?, ?)", rows)
        at.commit(table, Change(add=tuple(at.adopted(table, "SELECT * FROM given", f"s{number}"))))
    said = [{c: (str(a), str(b)) for c, (a, b) in box.items()} for box in wanted] if as_text else wanted
    kept = at.rows(table, said)
    everything = at.rows(table)
    assert len(everything) == sum(map(len, files))
    assert not set(kept) - set(everything)
    lost = [row for row in everything if any(lies_in(row, box) for box in wanted) and row not in kept]
    assert not lost
    at.catalog.close()
    at.con.close()


def test_pruning_keeps_few_files(at: Place) -> None:
    table = at.table()
    for number, year in enumerate((2020, 2021, 2022)):
        for symbol in ("A", "B"):
            at.add(table, bars(0, 5, symbol, year), f"{number}{symbol}")
    for box, wanted in (
        ({}, 6),
        ({"symbol": ("A", "A")}, 3),
        ({"symbol": ("A", "B"), "date": (date(2021, 1, 1), date(2021, 12, 31))}, 2),
        ({"date": ("2021-01-05", "2022-01-01")}, 4),
        ({"date": (date(2021, 1, 6), date(2021, 12, 31))}, 0),
        ({"at": (datetime(2020, 1, 1, 5, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC))}, 0),
        ({"at": ("2020-01-01 04:00:00+00", None)}, 6),
        ({"n": (5, 9)}, 0),
        ({"price": (Decimal("0.5"), Decimal(1))}, 6),
        ({"price": (Decimal("0.5001"), Decimal(1))}, 0),
        ({"date": ("no day", "2020")}, 6),
    ):
        assert len(tables.meets(table, [box])) == wanted, box
    assert tables.meets(table, []) == []
    assert len(tables.meets(table, [{"symbol": ("A", "A")}, {"symbol": ("C", "D")}])) == 3


def test_a_row_group_without_bounds_leaves_its_file_without(at: Place) -> None:
    table = at.table(partition=None)
    wide = "\U0010ffff" * 200  # too long for a footer, and nothing is greater
    at.con.execute(f"CREATE TABLE given AS SELECT * FROM ({bars(0, 4096)})")
    at.con.execute("UPDATE given SET symbol = ? WHERE n >= 2048", [wide])
    at.con.execute("SET preserve_insertion_order = true; SET threads = 1")
    added = at.adopted(table, "SELECT * FROM given ORDER BY n", "one", row_group=2048)
    footer = pq.read_metadata(at.files.local(added[0].name, added[0].sha256))
    assert [footer.row_group(i).column(0).statistics.has_min_max for i in range(2)] == [True, False]
    at.commit(table, Change(add=tuple(added)))
    assert len(tables.meets(table, [{"symbol": (wide, wide)}])) == 1


# Proof

FLIPS = 12  # of each object; 150 were seen to hold on a disk


def answer(at: Place, table: Table) -> Any:
    """What readers and the next refine get from the table."""
    snapshot = table.current_snapshot()
    number = snapshot.snapshot_id if snapshot else None
    days = [[{"date": (date(2020 + i, 1, 1), date(2020 + i, 12, 31))}] for i in range(4)]
    return (
        tables.relation(table, number, at.files),
        [tables.relation(table, number, at.files, box) for box in days],
        [tables.relation(table, number, at.files, [{"symbol": (one, one)}]) for one in "ABC"],
        {k: v for k, v in snapshot.summary.additional_properties.items() if k.startswith("assay.")} if snapshot else {},
        tables.partition_of(table),
    )


@pytest.mark.slow
def test_a_bit_flipped_in_iceberg_is_named_or_changes_no_answer(at: Place) -> None:
    calm(at)
    table = at.table(partition=("date", "year") if at.kind == "disk" else ("symbol", "value"))
    added: list[DataFile] = []
    for number, year in enumerate((2020, 2021, 2022)):
        added += at.add(table, f"{bars(0, 3, 'A', year)} UNION ALL {bars(0, 3, 'B', year)}", f"s{number}", number)
    gone = added.pop(0)
    at.commit(table, Change(remove=(gone.name,)), {"assay.evidence": "3"})
    expected, properties = answer(at, at.load()), {"assay.evidence": "3"}
    columns = {name: kind for name, (kind, _) in COLUMNS.items()}

    def proved() -> Any:
        clear_manifest_cache()
        found = tables.load(at.catalog, "silver.bars")
        if found is None:
            raise LakeDamaged("silver.bars")
        tables.check(found, at.files, added, columns=columns, properties=properties)
        return answer(at, found)

    assert proved() == expected
    found = reachable(at, at.load())
    current = at.load().current_snapshot()
    name = at.load().io.name_of
    objects = [
        found["metadata"][-1],
        name(current.manifest_list),
        *(name(m.manifest_path) for m in current.manifests(at.load().io)),
    ]
    assert name(at.load().metadata_location) == objects[0]
    chance = random.Random(11)
    named = 0
    for one in objects:
        whole = at.files.read(one)
        for _ in range(FLIPS):
            flipped = bytearray(whole)
            flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
            at.damage(one, bytes(flipped))
            try:
                assert proved() == expected, one
            except LakeDamaged:
                named += 1
        at.damage(one, whole[: len(whole) // 2])
        with pytest.raises(LakeDamaged):
            proved()
        at.damage(one, b"")
        with pytest.raises(LakeDamaged):
            proved()
        at.damage(one, whole)
    assert named > FLIPS
    assert proved() == expected


def test_what_does_not_agree_is_named(at: Place) -> None:
    calm(at)
    table = at.table()
    added = at.add(table, bars(0, 9), "one", 1)
    other = at.adopted(table, bars(0, 3), "other")
    tables.check(table, at.files, added)
    for expected, words in (
        ([], "lists warehouse/silver/bars/data/one-.*, of which no evidence knows"),
        ([*added, *other], "lacks warehouse/silver/bars/data/other-"),
        ([replace_file(added[0], rows=8)], "one-.* has 9 rows"),
        ([replace_file(added[0], bytes=8)], "one-.* has 9 rows"),
        ([replace_file(added[0], partition=(55,))], "says of .*/one-.* that its partition is"),
    ):
        with pytest.raises(LakeDamaged, match=words):
            tables.check(table, at.files, expected)
    with pytest.raises(LakeDamaged, match=r"assay\.evidence is 1, not 2"):
        tables.check(table, at.files, added, properties={"assay.evidence": "2"})
    with pytest.raises(LakeDamaged, match="has column n as BIGINT, not None"):
        tables.check(table, at.files, added, columns={n: k for n, (k, _) in COLUMNS.items() if n != "n"})
    whole = at.files.read(added[0].name)
    chance = random.Random(5)
    for _ in range(20):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        at.damage(added[0].name, bytes(flipped))
        with pytest.raises(LakeDamaged, match=added[0].name):
            tables.check(table, at.files, added)
    at.files.delete(added[0].name)
    with pytest.raises(LakeDamaged, match=added[0].name):
        tables.check(table, at.files, added)


def replace_file(one: DataFile, **changed: Any) -> DataFile:
    return DataFile(**{name: getattr(one, name) for name in one.__struct_fields__} | changed)
