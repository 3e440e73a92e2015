"""What failed or killed processes left is taken away, and nothing else."""

import os
from datetime import timedelta
from pathlib import Path

from assay import windows
from assay.lake.files import Files
from assay.lake.upkeep import sweep


def test_what_is_old_is_swept_and_nothing_that_links_lead_to(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert sweep(files) == 0
    old = windows.now().timestamp() - 90_000

    def age(path: Path) -> None:
        os.utime(path, (old, old), follow_symlinks=False)

    outside = tmp_path / "bronze"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    for name in ("old", "busy", "duckdb_temp_1_0_storage", "young"):
        folder = files.path(f"_tmp/{name}")
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "file").write_text("x")
        (folder / "bronze").symlink_to(outside)
    files.path("_tmp/part").write_text("half of one")
    files.path("_tmp/link").symlink_to(outside)
    for path in [p for p in files.path("_tmp").rglob("*") if not p.is_relative_to(files.path("_tmp/young"))]:
        age(path)
    os.utime(files.path("_tmp/busy/inner/file"))
    for path in (outside, outside / "kept"):
        age(path)
    assert sweep(files) == 3  # old, part, link
    assert {p.name for p in files.path("_tmp").iterdir()} == {"busy", "duckdb_temp_1_0_storage", "young"}
    assert (outside / "kept").read_text() == "kept"
    assert sweep(files, timedelta(0)) == 2
    assert (outside / "kept").exists()
