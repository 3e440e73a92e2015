"""Law 10: landing, planning and refining cost what is new; the past need not even be there to be read."""

import shutil
from pathlib import Path

import pytest

from assay import run
from tests.laws.test_conservation import small_lake
from tests.making import record


@pytest.mark.parametrize("history", [1, 4, 16])
def test_new_batches_are_refined_without_reading_old_bronze(tmp_path: Path, history: int) -> None:
    lake, made = small_lake(tmp_path)
    contract = lake.contract("things")
    for day in range(history):
        made.land(contract, [record(id=f'"h{day}"')], shard="old", day=10 + day)
        run.refine(lake, "things")
    shutil.rmtree(lake.target.files.path("bronze"))
    shutil.rmtree(lake.target.files.path("quarantine"))
    for old in lake.target.files.path("evidence/things").glob("*.json"):
        old.unlink()
    made.land(contract, [record(id='"new"')], shard="new", day=9)
    assert [s.kind for s in run.plan(lake, ["things"]) if s.kind == "refine"] == ["refine"]
    done = run.refine(lake, "things")
    assert done.evidence
    assert [v.captured for v in done.evidence.verdicts] == [1]
    assert made.current(contract, "count(*)") == [(4 + history + 1,)]
    lake.close()
