"""Law 6: silver is what bronze, pinned contracts and decisions give; one altered cell, row or clock is named by key."""

from contextlib import closing
from pathlib import Path

import pytest

from assay import refine as refining
from assay import run
from assay.errors import LakeDamaged, UsageError
from assay.run import verify
from tests.laws.test_conservation import alter_silver, small_lake
from tests.making import record


def test_rebuilding_gives_the_same_versions(tmp_path: Path) -> None:
    lake, made = small_lake(tmp_path)
    assert verify.rebuild(lake, ["things"]) == {"things": 4}
    made.land(lake.contract("things"), [record(whole="8"), record(id='"b"', whole="9")], day=5)
    run.refine(lake, "things")
    assert verify.rebuild(lake, ["things"]) == {"things": 6}
    lake.close()


def test_a_rebuild_is_rebuilt_too(tmp_path: Path) -> None:
    lake, _ = small_lake(tmp_path)
    path = tmp_path / "contracts/things.yaml"
    lake.close()
    path.write_text(path.read_text().replace("logicalType: integer, required: true", "logicalType: integer"))
    lake = run.open(tmp_path)
    assert [str(s) for s in run.plan(lake)][-1] == "refine things rebuild"
    run.refine(lake, "things", how="rebuild")
    # The batch that was held passes now: six equal rows are one version more.
    assert verify.rebuild(lake, ["things"]) == {"things": 6}
    assert verify.counts(lake)["captured"] == 13
    lake.close()


@pytest.mark.parametrize(
    ("where", "columns", "named"),
    [
        ("true", {"whole": "CASE WHEN id = 'b' THEN whole + 1 ELSE whole END"}, r"id=b: .*whole is 8, bronze gives 7"),
        ("id <> 'd'", {}, r"id=d: a version is missing"),
        ("true", {"captured_at": "CASE WHEN id = 'e' THEN captured_at + INTERVAL 1 SECOND ELSE captured_at END"}, r"id=e: captured_at is"),
        ("true", {"known_at": "CASE WHEN id = 'e' THEN known_at - INTERVAL 1 DAY ELSE known_at END"}, r"id=e: known_at is .*known_from is"),
        ("true", {"id": "CASE WHEN id = 'b' THEN 'x' ELSE id END"}, r"id=x: a version that bronze does not give"),
    ],
)  # fmt: skip
def test_what_differs_is_named_by_key(tmp_path: Path, where: str, columns: dict[str, str], named: str) -> None:
    lake, _ = small_lake(tmp_path)
    alter_silver(lake, "things", where, **columns)
    with pytest.raises(LakeDamaged, match=named):
        verify.rebuild(lake, ["things"])
    lake.close()


def test_a_lost_ledger_is_rebuilt_from_the_lake(tmp_path: Path) -> None:
    lake, made = small_lake(tmp_path)
    before, versions = run.status(lake), made.versions(lake.contract("things"))
    lake.close()
    for one in lake.target.settings.data.glob("ledger.db*"):
        one.unlink()
    lake = run.open(tmp_path)
    assert run.status(lake) == before
    assert run.refine(lake, "things").evidence is None
    assert verify.rebuild(lake, ["things"]) == {"things": len(versions)}
    lake.close()


def test_a_ruined_ledger_is_named_with_the_remedy(tmp_path: Path) -> None:
    lake, _ = small_lake(tmp_path)
    lake.close()
    for one in lake.target.settings.data.glob("ledger.db*"):
        one.unlink()
    (lake.target.settings.data / "ledger.db").write_bytes(b"x" * 5000)
    with pytest.raises(LakeDamaged, match="move it away: it is an index"):
        run.open(tmp_path)


def test_a_lost_catalog_is_not_taken_for_an_empty_lake(tmp_path: Path) -> None:
    lake, made = small_lake(tmp_path)
    before = made.versions(lake.contract("things"))
    lake.close()
    (lake.target.settings.data / "catalog.db").unlink()
    lake = run.open(tmp_path)
    assert verify.counts(lake)["unjudged"] == 3
    assert [str(s) for s in run.plan(lake) if s.kind == "refine"] == ["refine things"]
    run.refine(lake, "things")
    assert made_again(lake) == before
    assert verify.counts(lake) == {"batches": 3, "captured": 13, "unjudged": 0}
    lake.close()


def made_again(lake) -> list[tuple]:
    from assay.lake import silver
    from tests.making import Made

    t = lake.target
    found = Made(t.settings.data, t.files, t.catalog, t.ledger, t.engine)
    assert silver.load(t.catalog, "things") is not None
    return found.versions(lake.contract("things"))


def test_a_rebuild_leaves_out_no_batch_that_came_meanwhile(tmp_path: Path) -> None:
    lake, made = small_lake(tmp_path)
    contract = lake.contract("things")
    t = lake.target
    before = run.batches(lake, "things")
    late: list = []

    def listed() -> list:
        if not late:  # another process lands and refines between the table's reading and the commit
            late.append(made.land(contract, [record(id='"late"')], day=20))
            run.refine(lake, "things")
            return before
        return run.batches(lake, "things")

    refining.rebuild(contract, listed, files=t.files, catalog=t.catalog, ledger=t.ledger, engine=t.engine, run="r")
    assert verify.counts(lake)["captured"] == 14
    assert verify.rebuild(lake, ["things"])["things"] == 5
    lake.close()


def test_a_replay_waits_for_a_rebuild_and_never_closes_a_gate(tmp_path: Path) -> None:
    lake, made = small_lake(tmp_path)
    contract = lake.contract("things")
    many = [record(id=f'"m{i}"') for i in range(300)] + [record(id=f'"x{i}"', whole="null") for i in range(30)]
    made.land(contract, many, day=21)
    run.refine(lake, "things")
    lake.close()
    path = tmp_path / "contracts/things.yaml"
    path.write_text(path.read_text().replace("whole < 1000000", "whole < 2000000"))
    lake = run.open(tmp_path)
    run.refine(lake, "things", how="replay")
    found = run.status(lake)["datasets"]["things"]
    assert (found["held"], found["quarantined"]) == (6, 32)
    listed = run.quarantined(lake, "things", 100)
    assert len([one for one in listed if not one["held"]]) == 32
    assert len([one for one in listed if one["held"]]) == 6
    assert verify.rebuild(lake, ["things"])["things"] == found["accepted"]
    lake.close()
    path.write_text(path.read_text().replace("{column: at}", "{column: day}"))
    lake = run.open(tmp_path)
    with pytest.raises(UsageError, match="assay refine things --rebuild"):
        run.refine(lake, "things", how="replay")
    assert [str(s) for s in run.plan(lake) if s.kind == "refine"] == ["refine things rebuild"]
    lake.close()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: [p.unlink() for p in (data / "warehouse").rglob("*.parquet")], "lost .*parquet; restore it"),
        (lambda data: (data / "catalog.db").write_bytes(b"broken" * 999), "catalog.db is not a catalog any more"),
    ],
)
def test_damaged_storage_is_named(tmp_path: Path, damage, says: str) -> None:
    lake, _ = small_lake(tmp_path)
    lake.close()
    damage(lake.target.settings.data)
    with pytest.raises(LakeDamaged, match=says), closing(run.open(tmp_path)) as lake:
        verify.rebuild(lake, ["things"])
