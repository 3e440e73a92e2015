"""Upkeep beside everything else: stopped anywhere, and at any moment of any history, the lake holds what it held."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ulid import ULID

from assay import clock, run
from assay.lake import duck, release, tables
from assay.run.lake import Lake
from tests.making import Made, make, make_on_store, reader, record
from tests.rooms.test_upkeep import CONTRACT, TIGHT, daily, kept_up, lake_of, proved, released

EXAMPLES = int(os.environ.get("UPKEEP_EXAMPLES", "3"))


def rows_of(lake: Lake, number: int) -> list[tuple[Any, ...]]:
    """What a reader of a release sees."""
    found = release.read(lake.target.files, number).silver[0]
    reads = [duck.relation(one.relation(lake.target.files)) for one in (found.current, found.past)]
    return [row for one in reads for row in reader().execute(f"SELECT * FROM ({one}) ORDER BY ALL").fetchall()]


class Beside:
    """A lake with what is done to it, and what its releases said when they were made."""

    def __init__(self, made: Made) -> None:
        self.made = made
        self.lake = lake_of(made, policy=replace(TIGHT, keep_releases=2))
        self.said: dict[int, list[tuple[Any, ...]]] = {}
        self.day = 0

    def land(self, which: int) -> None:
        """Rows that are new, and, of odd numbers, some that restate old ones."""
        self.day += 1
        records = [record(id=f'"{self.day}{x}"') for x in "ab"]
        if which % 2:
            records += [record(id=f'"{1 + which % self.day}a"', whole=str(self.day))] if self.day > 1 else []
        self.made.land(CONTRACT, records, day=1 + self.day % 28)

    def refine(self, which: int) -> None:
        self.made.refine(CONTRACT, everything=which == 7)

    def build(self, _: int) -> None:
        if self.day:
            made = released(self.lake)
            self.said[made.number] = rows_of(self.lake, made.number)

    def leave(self, which: int) -> None:
        """What a process that was killed has put."""
        day = (clock.now() - timedelta(days=3)).date()
        names = (
            f"bronze/things/dt={day}/{ULID()}-0-{'0' * 16}.ndjson.gz",
            "warehouse/silver/things/data/000000001-x-0.parquet",
        )
        self.made.files.put_new(names[which % 2], b"x", "land.part")
        intent = msgspec.json.encode({"number": 1})
        self.made.files.put_new(f"releases/_intents/{ULID()}.json", intent, "release.intent")

    def upkeep(self, which: int) -> None:
        """Dry, it changes nothing; else no row of silver, nor of a release that is kept."""
        if not self.day:
            return
        dry = which % 3 == 0
        self.refine(0)
        names = set(self.made.files.names("")) if dry else set()
        before = self.made.versions(CONTRACT)
        kept_up(self.lake, dry=dry)
        assert self.made.versions(CONTRACT) == before
        if dry:
            assert names <= set(self.made.files.names(""))
        newest = release.newest(self.made.files)
        for number in range(max(1, newest - 1), newest + 1):
            assert rows_of(self.lake, number) == self.said[number]
        proved(self.lake)


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["land", "refine", "build", "leave", "upkeep", "upkeep"]), st.integers(0, 8)), min_size=12, max_size=30))  # fmt: skip
@pytest.mark.parametrize("where", [make, make_on_store])
def test_any_history_with_upkeep_at_any_moment(where: Callable[[Path], Made], history: list[tuple[str, int]]) -> None:
    root = Path(tempfile.mkdtemp())
    made = where(root / "lake")
    try:
        made.promise(CONTRACT)
        beside = Beside(made)
        for what, which in [
            ("land", 1),
            ("refine", 0),
            *history,
            ("land", 3),
            ("refine", 0),
            ("build", 0),
            ("upkeep", 1),
        ]:
            getattr(beside, what)(which)
    finally:
        made.close()
        shutil.rmtree(root)


EFFECTS = (
    "tables.data", "tables.metadata", "refine.past", "refine.current", "refine.ledger", "land.entry", "land.ledger", "upkeep.compact",
    "upkeep.expire", "upkeep.release", "upkeep.move", "upkeep.sweep", "upkeep.delete", "upkeep.ledger",
)  # fmt: skip


@pytest.fixture(scope="module")
def worn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A lake in which upkeep has everything to do: where it lies, and a copy to put there again."""
    root = tmp_path_factory.mktemp("worn") / "lake"
    made = make(root)
    lake = lake_of(made)
    for day in range(1, 7):
        daily(made, CONTRACT, range(day, day + 1))
        made.land(CONTRACT, [record(id='"a1"', whole=str(day))], day=20 + day)
        made.refine(CONTRACT)
        if day % 3 == 0:
            made.files.put_new(f"serving/x-{released(lake).id}.duckdb", b"x", "release.serving")
    Beside(made).leave(0)
    Beside(made).leave(1)
    made.close()
    shutil.copytree(root, root.with_name("copy"))
    return root, root.with_name("copy")


def stopped(root: Path, point: str) -> int:
    """How a process ends that is stopped there while it keeps the lake up."""
    pid = os.fork()
    if pid == 0:
        os.environ["ASSAY_CRASH"] = point
        code = 1
        try:
            kept_up(lake_of(make(root)))
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_upkeep_survives(worn: tuple[Path, Path], effect: str, when: str) -> None:
    root, copy = worn
    shutil.rmtree(root)
    shutil.copytree(copy, root)
    made = make(root)
    rows = made.versions(CONTRACT)
    made.close()
    assert stopped(root, f"{effect}:{when}") == 137
    made = make(root)
    try:
        lake = lake_of(made)
        values = [row[:8] for row in rows]
        assert [row[:8] for row in made.versions(CONTRACT)] == values or effect in (
            "refine.past",
            "refine.current",
            "tables.metadata",
        )
        kept_up(lake)
        made.refine(CONTRACT)
        assert [row[:8] for row in made.versions(CONTRACT)] == values
        proved(lake)
        # A head that was moved lets a snapshot lapse, which was the last to name a file: it comes to an end.
        assert any(not any(kept_up(lake).values()) for _ in range(8))
        proved(lake)
        daily(made, CONTRACT, range(8, 9))
        proved(lake)
    finally:
        made.close()


@pytest.mark.slow
def test_gold_stays_whole_and_unchanged_tables_stay_as_they_are(markets: Path) -> None:
    """Real builds: old releases go with their files, and a head that upkeep moved is no reason to write gold again."""
    (markets / "universe_us.csv").write_text("symbol,valid_from,valid_to\nFB,2012-05-18,2013-03-02\n")
    with (markets / "assay.toml").open("a") as file:
        file.write("\n[upkeep]\nkeep_releases = 1\nkeep_days = 0\n")
    with run.open(markets) as lake:
        assert not lake.apply(lake.plan()).errors
        first = lake.released()
        rows = lake.read("gold.fct_daily_price")
        files = lake.target.files
        table = tables.load(lake.target.catalog, "gold.fct_daily_price")
        left = f"{tables.home(table)}data/{ULID()}-fct_daily_price-0.parquet"
        files.put_new(left, b"x", "tables.data")
        second = lake.build()
        assert kept_up(lake)["releases"] == 1
        assert not files.exists(left)
        assert release.numbers(files) == [second.number]
        moved = tables.load(lake.target.catalog, "gold.fct_daily_price")
        assert moved.current_snapshot().snapshot_id not in {g.snapshot for g in first.gold}
        third = lake.build()
        assert [(g.snapshot, g.serving, g.files) for g in third.gold] == [
            (g.snapshot, g.serving, g.files) for g in first.gold
        ]
        assert lake.read("gold.fct_daily_price").equals(rows)
        assert lake.plan() == []
        proved(lake)
