"""A copy that is made while a process lands is a lake: the script of docs/recover.md, stopped between its two halves."""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.errors import LakeDamaged
from tests import forked
from tests.forked import Said
from tests.kept import begun
from tests.test_docs import ROOT, blocks

[BACKUP] = [one.text for one in blocks(ROOT / "docs/recover.md") if one.file == "backup.sh"]
FIRST, SECOND, THIRD = "# 1. ", "# 2. ", "# 3. "


def turned(script: str) -> str:
    """The script that copies what is named before what names it."""
    head, logs, named, rest = (script.index(one) for one in ("#!", FIRST, SECOND, THIRD))
    return script[head:logs] + script[named:rest] + script[logs:named] + script[rest:]


def pausing(directory: Path, program: str, go: Path, until: Path) -> str:
    """A PATH where a program first lets the writer go on, and waits for what that puts."""
    directory.mkdir()
    path = directory / program
    path.write_text(
        f'#!/bin/sh\ntouch "{go}"\nwhile [ ! -e "{until}" ]; do sleep 0.02; done\nPATH={os.environ["PATH"]} exec {program} "$@"\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.slow
@pytest.mark.parametrize(("order", "second"), [("as documented", "find"), ("turned", "ls")])
def test_a_copy_beside_a_landing_is_a_lake_if_what_names_is_copied_first(
    tmp_path: Path, assay: Callable[..., Said], order: str, second: str
) -> None:
    root, copy = begun(tmp_path / "lake", "csv"), tmp_path / "copy"
    assert assay("--lake", root, "--quiet", "land", "trades").code == 0
    log = root / "data/dev/bronze/trades/log"
    there = sorted(one.name for one in log.iterdir())
    with (root / "files/trades.csv").open("a") as file:
        file.write("T-9001,2024-02-01,AAPL,10,190.00\n")
    go, script = tmp_path / "go", tmp_path / "backup.sh"
    script.write_text(BACKUP if order == "as documented" else turned(BACKUP))
    path = pausing(tmp_path / "bin", second, go, log / f"{len(there) + 1:09}.json.gz")
    # Before its first part: all that this landing puts lies between the halves of the copy.
    with forked.assay(root, "--quiet", "land", "trades", "--again", ASSAY_PAUSE=f"land.part:{go}") as landing:
        while not list(tmp_path.glob("go.*.waiting")):
            assert landing.poll() is None, landing.said()
        subprocess.run(["sh", script, root, copy], check=True, env={**os.environ, "PATH": path}, timeout=120)
        assert landing.said().code == 0
    copied = sorted(one.name for one in (copy / "data/dev/bronze/trades/log").iterdir())
    said = assay("--lake", copy, "verify", "bronze")
    if order == "turned":
        assert said.code == LakeDamaged.exit_code
        assert "is named by the lake but is not there; restore it from a copy" in said.err
        return
    assert copied == there
    assert said.code == 0, said.err
    assert assay("--lake", copy, "refine", "trades").code == 0
    assert assay("--lake", copy, "build").code == 0
    (root / "contracts/trades.yaml").rename(root / "contracts/of_trades.yaml")
    # once more, beside nobody: what was put since is added, and the copy that was used as a lake goes on
    subprocess.run(["sh", script, root, copy], check=True, timeout=120)
    assert [one.name for one in (copy / "contracts").iterdir()] == ["of_trades.yaml"], "as the lake is now"
    assert subprocess.run(["sh", script, root, root / "copy"], check=False, timeout=120).returncode == 2
    assert not (root / "copy").exists()
    assert assay("--lake", copy, "--quiet", "refine", "trades").out.startswith("11 captured = 1 new")
    assert assay("--lake", copy, "--quiet", "build").code == 0
    for proof in ("counts", "bronze", "silver", "serving", "rebuild"):
        found = assay("--lake", copy, "verify", proof)
        assert found.code == 0, found.err


@pytest.mark.slow
def test_lost_lists_of_iceberg_are_made_anew_once_the_catalog_is_taken_away(
    tmp_path: Path, assay: Callable[..., Said]
) -> None:
    root = begun(tmp_path / "lake", "csv")
    assert assay("--lake", root, "--quiet", "apply").code == 0
    for one in (root / "data/dev/warehouse").glob("*/*/metadata/*"):
        one.unlink()
    said = assay("--lake", root, "refine", "trades", "--rebuild")
    assert (said.code, "metadata.json is named by the lake but is not there" in said.err) == (5, True)
    (root / "data/dev/catalog.db").unlink()
    assert assay("--lake", root, "--quiet", "apply").code == 0
    assert assay("--lake", root, "--quiet", "build").code == 0
    for proof in ("counts", "silver", "serving", "rebuild"):
        found = assay("--lake", root, "verify", proof)
        assert found.code == 0, found.err
