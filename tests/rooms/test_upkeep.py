"""Upkeep rewrites, expires and takes away what it says, once, and nothing that somebody may still name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ulid import ULID

from assay import build as building
from assay import clock
from assay import settings as lake_settings
from assay.contract.model import Contract
from assay.errors import LakeBusy, LakeDamaged, SettingsError, UsageError
from assay.lake import bronze, compaction, docs, evidence, release, retention, silver, tables, upkeep
from assay.lake.bronze import Asked
from assay.lake.landing import Landing
from assay.lake.release import Release
from assay.lake.upkeep import sweep
from assay.plan import Refine
from assay.run import prove
from assay.run.lake import Lake
from assay.settings import Settings, Upkeep
from assay.targets import Target
from assay.targets.local import LocalSecrets
from assay.windows import Duration, Window
from tests.making import Made, every_type, record

CONTRACT = every_type()
_DAY, _EVERY = "{name: day, logicalType: date, required: true,", "  - {property: every, value: P1D}\n"
MONTHS = every_type(
    (_DAY, f"{_DAY} primaryKey: true, primaryKeyPosition: 2,"),
    (_EVERY, f"{_EVERY}  - {{property: partitioning, value: {{column: day, by: month}}}}\n"),
)
LATER = timedelta(days=3)
TIGHT = Upkeep(keep_releases=1, keep_days=0, compact_files=2)


def lake_of(made: Made, contract: Contract = CONTRACT, policy: Upkeep = TIGHT) -> Lake:
    """The small lake as its commands see it."""
    nobody = {"base_url": "http://127.0.0.1:1", "origin": "synthetic"}
    settings = Settings(made.root, "test", "dev", made.root, sources={"fmp": nobody}, upkeep=policy)
    target = Target(
        "local", settings, made.files, LocalSecrets(made.root), made.limits, lambda: made.catalog, lambda: made.ledger,
        lambda: made.engine,
    )  # fmt: skip
    return Lake(target, {contract.dataset: contract}, {})


def kept_up(lake: Lake, *, dry: bool = False) -> dict[str, int]:
    """What upkeep did, or would do, of what is old enough three days from now."""
    return dict(upkeep.run(lake.target, lake.contracts, dry=dry, at=clock.now() + LATER))


def released(lake: Lake) -> Release:
    """A release of silver alone, made as a build makes it."""
    t = lake.target
    number = release.newest(t.files)
    parent, sha256 = release.stored(t.files, number) if number else (None, None)
    _, read = building._silver(lake.contracts, t.catalog, t.files, t.ledger, parent)
    made = Release(
        number + 1, str(ULID()), parent.number if parent else None, clock.now(), "run", "", (), read, (), "",
        parent_sha256=sha256,
    )  # fmt: skip
    t.files.put_new(f"releases/_intents/{made.id}.json", msgspec.json.encode({"number": made.number}), "release.intent")
    release.publish(t.files, made)
    return made


def proved(lake: Lake) -> None:
    """Everything that can be proved of a lake."""
    prove.counts(lake)
    prove.bronze_objects(lake)
    prove.silver_objects(lake)
    prove.rebuild(lake, list(lake.contracts))
    prove.serving(lake)
    number = release.newest(lake.target.files)
    for name in release.read(lake.target.files, number).parquet if number else ():
        assert lake.target.files.exists(name), name


def files_of(made: Made, *, past: bool = False) -> list[Any]:
    pair = silver.load(made.catalog, "things")
    assert pair
    return tables.data_files(pair.past if past else pair.current)


def daily(made: Made, contract: Contract, days: range, **fields: str) -> None:
    for day in days:
        made.land(contract, [record(id=f'"{x}{day}"', **fields) for x in "abc"], day=day)
        made.refine(contract)


@pytest.mark.slow
def test_small_files_become_one_and_no_row_changes(made: Made) -> None:
    lake = lake_of(made)
    daily(made, CONTRACT, range(1, 6))
    rows, before = made.versions(CONTRACT), made.account(CONTRACT)
    assert len(files_of(made)) == 5
    would = kept_up(lake, dry=True)
    assert (would["compacted"], len(files_of(made)), made.account(CONTRACT)) == (5, 5, before)
    assert kept_up(lake)["compacted"] == 5
    assert len(files_of(made)) == 1
    assert made.versions(CONTRACT) == rows
    found = made.account(CONTRACT)
    assert (found.sums, found.position, found.evidence) == (before.sums, before.position, before.evidence + 1)
    last, _ = evidence.read(made.files, "things", found.evidence)
    assert (last.kind, last.verdicts, last.after, last.position) == ("compacted", (), before.position, before.position)
    proved(lake)
    assert not any(kept_up(lake).values())
    daily(made, CONTRACT, range(6, 8))
    proved(lake)


def test_partitions_are_compacted_each_by_itself(made: Made) -> None:
    for day in (1, 2, 3):
        months = ("01", "02") if day < 3 else ("02",)
        made.land(
            MONTHS,
            [record(id=f'"{day}"', day=f'"2024-{m}-03"', at=f'"2024-{m}-03T10:00:00Z"') for m in months],
            day=day,
        )
        made.refine(MONTHS)
    lake, rows = lake_of(made, MONTHS, replace(TIGHT, compact_files=3)), made.versions(MONTHS)
    assert len(files_of(made)) == 5
    assert kept_up(lake)["compacted"] == 3
    assert (len(files_of(made)), made.versions(MONTHS)) == (3, rows)
    proved(lake)


def test_what_is_restated_is_cut_by_its_key(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "CUT", 32)
    lake = lake_of(made)
    made.land(CONTRACT, [record(id=f'"{n:03}"') for n in range(100)])
    made.refine(CONTRACT)
    assert kept_up(lake)["compacted"] == 0  # nothing was restated yet
    made.land(CONTRACT, [record(id='"050"', whole="8")], day=2)
    made.refine(CONTRACT)
    rows = made.versions(CONTRACT)
    assert kept_up(lake)["compacted"] == 1
    counted = sorted((one.lower_bounds[1], one.upper_bounds[1], one.record_count) for one in files_of(made))
    assert [n for _, _, n in counted] == [25, 25, 25, 25]
    assert all(one[1] < two[0] for one, two in zip(counted, counted[1:], strict=False))
    assert made.versions(CONTRACT) == rows
    proved(lake)
    assert kept_up(lake)["compacted"] == 0


def test_a_file_that_was_altered_gets_no_hash_of_its_own(made: Made) -> None:
    daily(made, CONTRACT, range(1, 4))
    name = tables.name_of(silver.load(made.catalog, "things").current, files_of(made)[0])
    path = made.root / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(LakeDamaged, match="is not what the refine wrote"):
        kept_up(lake_of(made))


def test_a_refine_that_is_faster_is_waited_for(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number that the compaction wanted is taken: it rolls forward, and starts over."""
    daily(made, CONTRACT, range(1, 4))
    check, done = compaction._check, []

    def late(*args: Any) -> None:
        check(*args)
        if not done:
            done.append(True)
            daily(made, CONTRACT, range(4, 5))

    monkeypatch.setattr(compaction, "_check", late)
    lake = lake_of(made)
    assert kept_up(lake)["compacted"] == 4
    assert made.account(CONTRACT).evidence == 5
    proved(lake)


@pytest.mark.slow
def test_a_refine_that_slept_starts_over(made: Made) -> None:
    """Its files were rewritten and deleted meanwhile: that is no damage."""
    from assay import refine as refining

    lake = lake_of(made)
    daily(made, CONTRACT, range(1, 9))
    made.land(CONTRACT, [record(id=f'"a{day}"', whole="9") for day in range(1, 9)], day=9)
    slept = []

    class Sleeper(type(made.engine)):  # type: ignore[misc]
        def group(self, *args: Any, **named: Any) -> Any:
            if not slept:
                slept.append(True)
                for _ in range(6):  # so many heads that the one it read is spared no more
                    daily(made, CONTRACT, range(10, 12))
                    kept_up(lake)
            return super().group(*args, **named)

    done = refining.refine(
        "things", files=made.files, catalog=made.catalog, ledger=made.ledger, engine=Sleeper(made.limits), run="slept"
    )
    assert slept
    assert sum(v.accepted for v in done.verdicts) in (0, 8)
    assert made.account(CONTRACT).sums["accepted"] >= 32
    proved(lake)


@pytest.mark.slow
@pytest.mark.parametrize("at", ["wanted", "_check"])
def test_a_compaction_that_slept_starts_over(made: Made, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Another upkeep rewrote the same files and took them away meanwhile: that is no damage."""
    daily(made, CONTRACT, range(1, 4))
    lake, does, slept = lake_of(made), getattr(compaction, at), []

    def late(*args: Any) -> Any:
        if not slept:
            slept.append(True)
            for day in range(4, 10):  # so many heads that the one it read is spared no more
                kept_up(lake)
                daily(made, CONTRACT, range(day, day + 1))
        return does(*args)

    monkeypatch.setattr(compaction, at, late)
    kept_up(lake)
    assert slept
    assert made.account(CONTRACT).sums["accepted"] == 27
    proved(lake)


@pytest.mark.slow
def test_snapshots_are_spared_that_releases_builds_and_readers_name(made: Made) -> None:
    lake = lake_of(made, policy=replace(TIGHT, keep_releases=2, compact_files=999))
    daily(made, CONTRACT, range(1, 3))
    first = released(lake)
    daily(made, CONTRACT, range(3, 4))
    building = silver.snapshot_id(silver.load(made.catalog, "things").current)
    intent = {"number": 3, "run": "r", "silver": {"things": [building, None]}}
    made.files.put_new(f"releases/_intents/{ULID()}.json", msgspec.json.encode(intent), "release.intent")
    daily(made, CONTRACT, range(4, 14))
    released(lake)
    assert upkeep.run(lake.target, lake.contracts, dry=False)["expired"] == 0  # each was the head within the hour
    assert kept_up(lake)["expired"] == 13 - retention.AT_LEAST - 2
    left = {one.snapshot_id for one in tables.snapshots(silver.load(made.catalog, "things").current)}
    assert {first.silver[0].current.snapshot, building} < left
    proved(lake)
    for name in first.parquet:
        assert made.files.exists(name)


@pytest.mark.slow
def test_the_refine_expires_in_its_rhythm(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay import refine as refining

    monkeypatch.setattr(retention, "GRACE", timedelta(0))
    monkeypatch.setattr(retention, "FEW", 5)
    monkeypatch.setattr(refining, "RHYTHM", 8)
    lake = lake_of(made)
    daily(made, CONTRACT, range(1, 2))
    first = released(lake)
    daily(made, CONTRACT, range(2, 9))
    left = [one.snapshot_id for one in tables.snapshots(silver.load(made.catalog, "things").current)]
    assert len(left) == retention.AT_LEAST + 1
    assert left[0] == first.silver[0].current.snapshot


def test_old_releases_go_and_a_reader_of_one_is_told(made: Made) -> None:
    lake = lake_of(made, policy=replace(TIGHT, keep_releases=2))
    for day in range(1, 6):
        daily(made, CONTRACT, range(day, day + 1))
        made.files.put_new(f"serving/x-{released(lake).id}.duckdb", b"x", "release.serving")
    assert upkeep.run(lake.target, lake.contracts, dry=True)["releases"] == 3
    young = replace(lake, target=replace(lake.target, settings=replace(lake.target.settings, upkeep=Upkeep(2, 30, 99))))
    assert kept_up(young)["releases"] == 0
    assert release.numbers(made.files) == [1, 2, 3, 4, 5]
    assert kept_up(lake)["releases"] == 3
    assert release.numbers(made.files) == [4, 5]
    assert not list(made.files.names("serving/"))  # no release here names any
    assert not list(made.files.names("releases/_intents/"))
    with pytest.raises(UsageError, match="release 2 is gone"):
        release.read(made.files, 2)
    assert (release.newest(made.files, 2), release.newest(made.files, 5)) == (5, 5)
    proved(lake)
    assert released(lake).number == 6
    stale = msgspec.structs.replace(release.read(made.files, 6), number=2)
    with pytest.raises(LakeBusy):
        release.publish(made.files, stale)
    assert release.newest(made.files) == 6
    assert kept_up(lake)["releases"] == 2  # 2, which came too late, and 4
    assert release.numbers(made.files) == [5, 6]


def test_what_a_build_under_way_has_put_is_left_alone(made: Made) -> None:
    lake = lake_of(made)
    daily(made, CONTRACT, range(1, 2))
    released(lake)
    build = str(ULID())
    made.files.put_new(f"releases/_intents/{build}.json", msgspec.json.encode({"number": 2}), "release.intent")
    made.files.put_new(f"serving/x-{build}.duckdb", b"x", "release.serving")
    made.files.put_new(docs.name_of(build), b"x", "release.serving")
    made.files.put_new("serving/of-somebody-else.duckdb", b"x", "release.serving")
    kept_up(lake)
    assert made.files.exists(f"serving/x-{build}.duckdb")
    assert made.files.exists(docs.name_of(build))
    released(lake)  # the number is another's
    kept_up(lake)
    assert list(made.files.names("serving/")) == ["serving/of-somebody-else.duckdb"]


def test_parquet_of_a_lost_race_goes_and_that_of_a_refine_under_way_stays(made: Made) -> None:
    lake = lake_of(made)
    daily(made, CONTRACT, range(1, 2))
    home = tables.home(silver.load(made.catalog, "things").current)
    for number in (1, 2):
        made.files.put_new(f"{home}data/{number:09}-run-0.parquet", b"x", "tables.data")
    assert kept_up(lake, dry=True)["deleted"] == 1
    assert kept_up(lake)["deleted"] == 1
    assert [made.files.exists(f"{home}data/{n:09}-run-0.parquet") for n in (1, 2)] == [False, True]
    proved(lake)
    assert not any(kept_up(lake).values())


def test_a_commit_that_slept_cannot_name_what_was_deleted(made: Made) -> None:
    """Its manifests are written, its snapshot is not in: the head moves before they go."""
    lake = lake_of(made)
    daily(made, CONTRACT, range(1, 2))
    sleeper = silver.load(made.catalog, "things").current
    home = tables.home(sleeper)
    made.files.put_new(f"{home}data/000000001-run-0.parquet", b"x", "tables.data")
    manifest = f"{home}metadata/of-a-sleeper.avro"
    made.files.put_new(manifest, b"x", "tables.metadata")
    kept_up(lake)
    assert not made.files.exists(manifest)
    with pytest.raises(LakeBusy):
        tables.commit(sleeper, made.files, evidence.Change(), {}, as_effect="refine.current")
    proved(lake)


@pytest.mark.slow
def test_metadata_that_nothing_names_goes(made: Made) -> None:
    lake = lake_of(made, policy=replace(TIGHT, compact_files=999))
    daily(made, CONTRACT, range(1, 29))
    pair = silver.load(made.catalog, "things")
    before = len(list(made.files.names(tables.home(pair.current))))
    assert kept_up(lake)["deleted"] > 0
    pair = silver.load(made.catalog, "things")
    left = set(made.files.names(tables.home(pair.current)))
    assert len(left - tables.named(pair.current)) <= 1  # the move let the oldest of the metadata's log go
    assert len(left) < before - 20
    proved(lake)
    assert kept_up(lake)["deleted"] == 0  # what the move left is too little to move it again
    assert not any(kept_up(lake).values())


def test_parts_that_nobody_names_are_swept_once_they_are_old(made: Made) -> None:
    lake = lake_of(made)
    daily(made, CONTRACT, range(1, 2))
    today = clock.now().date()
    names = [f"bronze/things/dt={day}/{ULID()}-0-{'0' * 16}.ndjson.gz" for day in (today - LATER, today)]
    for name in names:
        made.files.put_new(name, b"x", "land.part")
    assert upkeep.run(lake.target, lake.contracts, dry=True)["swept"] == 1
    assert upkeep.run(lake.target, lake.contracts, dry=False)["swept"] == 1
    assert [made.files.exists(name) for name in names] == [False, True]
    tail = bronze.adopt(made.files, made.ledger, "things")
    assert bronze.read(made.files, "things", tail.position).swept == (names[0],)
    assert kept_up(lake)["swept"] == 1
    assert not made.files.exists(names[1])
    why = [s.why for s in lake.plan() if isinstance(s, Refine)]
    assert why == ["after landing"], "there is nothing to take from an entry that only says what went"
    made.refine(CONTRACT)
    proved(lake)


def test_it_is_due_by_time_and_by_refines(made: Made) -> None:
    policy, lake, now = replace(TIGHT, compact_files=3, every="P1D"), lake_of(made), clock.now()
    contracts = lake.contracts
    assert not upkeep.due(made.ledger, contracts, policy, now)  # it begins to count
    assert not upkeep.due(made.ledger, contracts, policy, now + timedelta(hours=23))
    assert upkeep.due(made.ledger, contracts, policy, now + timedelta(hours=24))
    daily(made, CONTRACT, range(1, 3))
    assert not upkeep.due(made.ledger, contracts, policy, now)
    daily(made, CONTRACT, range(3, 4))
    assert upkeep.due(made.ledger, contracts, policy, now)
    upkeep.run(lake.target, contracts, dry=True)
    assert upkeep.due(made.ledger, contracts, policy, now)
    upkeep.run(lake.target, contracts, dry=False)
    assert not upkeep.due(made.ledger, contracts, policy, now)


@contextmanager
def declared(made: Made) -> Iterator[tuple[Lake, Path]]:
    """A lake with two batches in two parts, one of which is lost."""
    lake = lake_of(made)
    daily(made, CONTRACT, range(1, 3))
    entry = bronze.read(made.files, "things", 2)
    path = made.root / entry.parts[0].name
    path.unlink()
    yield lake, path


@pytest.mark.slow
def test_a_part_that_is_lost_for_good_is_declared_lost(made: Made) -> None:
    with declared(made) as (lake, path):
        with pytest.raises(LakeDamaged, match=path.name):
            prove.bronze_objects(lake)
        with pytest.raises(LakeDamaged, match=path.name):
            made.refine(CONTRACT, everything=True)
        lake.decide("things", "lost", ["2.0"], who="a test", why="no copy has it")
        found = made.account(CONTRACT)
        assert (found.lost, found.sums["accepted"], found.sums["void"]) == (1, 3, 1)
        assert len(made.current(CONTRACT)) == 3
        proved(lake)
        assert lake.status()["datasets"]["things"]["lost"] == 1
        made.land(CONTRACT, [record(id='"a1"')], day=1)
        made.refine(CONTRACT)
        assert len(made.current(CONTRACT)) == 4
        proved(lake)
        kept_up(lake)
        proved(lake)


@pytest.mark.slow
def test_a_part_or_a_kept_answer_is_declared_lost_by_its_name(made: Made) -> None:
    lake = lake_of(made)
    made.promise(CONTRACT)
    seen = bronze.adopt(made.files, made.ledger, "things")
    with Landing(
        made.files, made.ledger, "things", seen, run="run", source="fmp", code="0" * 64, origin="synthetic",
        capture=CONTRACT.capture_fingerprint, contract=CONTRACT.sha256,
    ) as landing:  # fmt: skip
        for shard, key in (("a", '"a1"'), ("b", '"b1"')):
            with landing.ask(shard, Window(date(2024, 1, 1), date(2024, 1, 2))) as ask:
                ask.page(Asked({}, clock.now(), 1, "0" * 64, 1), [record(id=key)], b"<as it came/>", "xml")
        assert landing.commit()
    made.refine(CONTRACT)
    entry = bronze.read(made.files, "things", 2)
    [part], [raw, other] = entry.parts, [one for one in bronze.objects(entry) if isinstance(one, bronze.Raw)]
    (made.root / raw.name).unlink()
    with pytest.raises(LakeDamaged, match=raw.name):
        made.refine(CONTRACT, everything=True)
    for name in ("bronze/things/dt=2024-01-01/none.gz", bronze.name_of("things", 2)):
        with pytest.raises(UsageError, match="no entry of things names"):
            lake.decide("things", "lost", [name], who="a test", why="no copy has it")
    lake.decide("things", "lost", [raw.name], who="a test", why="no copy has it")
    assert (made.account(CONTRACT).lost, len(made.current(CONTRACT))) == (0, 2)
    made.refine(CONTRACT, everything=True)
    proved(lake)
    (made.root / part.name).unlink()
    lake.decide("things", "lost", [part.name], who="a test", why="no copy has it")
    assert (made.account(CONTRACT).lost, made.current(CONTRACT)) == (2, [])
    for name in (raw.name, part.name, "2.0"):
        with pytest.raises(UsageError, match="declared lost already"):
            lake.decide("things", "lost", [name], who="a test", why="no copy has it")
    proved(lake)
    assert made.files.exists(other.name)


@pytest.mark.slow
def test_evidence_that_is_lost_is_folded_anew(made: Made) -> None:
    for number in (1, 3):
        lake = lake_of(made)
        daily(made, CONTRACT, range(1, 4))
        rows = made.current(CONTRACT, "id, whole, _position, _n")
        (made.root / evidence.name_of("things", made.account(CONTRACT).evidence - 3 + number)).unlink()
        with pytest.raises(LakeDamaged):
            prove.silver_objects(lake)
        made.refine(CONTRACT, everything=True)
        assert made.current(CONTRACT, "id, whole, _position, _n") == rows
        proved(lake)


def test_the_policy_is_checked_and_every_means_the_same_everywhere(tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text('[upkeep]\nkeep_releases = 3\nkeep_days = 0\nevery = "PT6H"\n')
    assert lake_settings.read(tmp_path).upkeep == Upkeep(3, 0, 8, "PT6H")
    assert Duration.parse("PT6H").exact == timedelta(hours=6)
    for wrong in (
        "keep_releases = 0",
        "keep_days = -1",
        "compact_files = 1",
        'every = "P"',
        'every = "PT"',
        "often = 1",
    ):
        (tmp_path / "assay.toml").write_text(f"[upkeep]\n{wrong}\n")
        with pytest.raises(SettingsError, match=r"upkeep\."):
            lake_settings.read(tmp_path)
    for right in ("P1D", "PT30M", "P1DT6H"):
        (tmp_path / "assay.toml").write_text(f'[upkeep]\nevery = "{right}"\n')
        assert Duration.parse(lake_settings.read(tmp_path).upkeep.every).exact > timedelta(0)


def test_what_is_old_is_swept_and_nothing_that_links_lead_to(tmp_path: Path) -> None:
    scratch = tmp_path / "_tmp"
    assert sweep(scratch) == 0
    old = clock.now().timestamp() - 90_000

    def age(path: Path) -> None:
        os.utime(path, (old, old), follow_symlinks=False)

    outside = tmp_path / "bronze"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    for name in ("old", "busy", "duckdb_temp_1_0_storage", "young"):
        folder = scratch / name
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "file").write_text("x")
        (folder / "bronze").symlink_to(outside)
    (scratch / "part").write_text("half of one")
    (scratch / "link").symlink_to(outside)
    for path in [p for p in scratch.rglob("*") if not p.is_relative_to(scratch / "young")]:
        age(path)
    os.utime(scratch / "busy/inner/file")
    for path in (outside, outside / "kept"):
        age(path)
    assert sweep(scratch) == 3  # old, part, link
    assert {p.name for p in scratch.iterdir()} == {"busy", "duckdb_temp_1_0_storage", "young"}
    assert (outside / "kept").read_text() == "kept"
    assert sweep(scratch, timedelta(0)) == 2
    assert (outside / "kept").exists()
