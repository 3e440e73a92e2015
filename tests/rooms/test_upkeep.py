"""What failed or killed processes left is taken away, and nothing else."""

import os
from datetime import timedelta
from pathlib import Path

from assay import clock
from assay.lake.files import SCRATCH
from assay.lake.upkeep import sweep
from assay.targets.local import DiskFiles


def test_what_is_old_is_swept_and_nothing_that_links_lead_to(tmp_path: Path) -> None:
    scratch = tmp_path / SCRATCH
    assert sweep(scratch) == sweep(None) == 0, "there is none yet"
    assert DiskFiles(tmp_path).scratch().parent == scratch
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
