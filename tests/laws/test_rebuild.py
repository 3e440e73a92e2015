"""Law 6: silver is what bronze, pinned contracts and decisions give; one altered cell, row or clock is named by key."""

from pathlib import Path

import pytest

from assay import run
from assay.errors import LakeDamaged
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


def test_replays_and_rebuilds_are_rebuilt_too(tmp_path: Path) -> None:
    lake, _ = small_lake(tmp_path)
    path = tmp_path / "contracts/things.yaml"
    lake.close()
    path.write_text(path.read_text().replace("logicalType: integer, required: true", "logicalType: integer"))
    lake = run.open(tmp_path)
    assert [str(s) for s in run.plan(lake)][-1] == "refine things rebuild"
    replayed = run.refine(lake, "things", how="replay")
    assert replayed.evidence
    assert verify.rebuild(lake, ["things"]) == {"things": 5}
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
