"""A build releases what changed and nothing else, and follows its models when their columns change."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import assay
from assay import run
from assay.errors import UsageError
from assay.lake import release
from assay.run import Lake
from tests.conftest import ROOT


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    root = tmp_path / "mine"
    shutil.copytree(ROOT / "lakes/csv", root)
    found = assay.open(root)
    assert not run.apply(found, run.plan(found)).errors
    yield found
    found.close()


def test_a_build_of_the_same_rows_keeps_snapshot_and_file(lake: Lake) -> None:
    first = run.current(lake)
    second = run.build(lake)
    assert (second.number, second.parent) == (2, 1)
    assert second.gold == first.gold
    assert len(list(lake.target.files.names("serving", ".duckdb"))) == 2  # one table, and the seeds


def test_columns_come_go_and_change_their_type(lake: Lake) -> None:
    folder = lake.project / "models"
    before = lake.read("gold.mart_position").to_pylist()
    sql = next(folder.rglob("mart_position.sql"))
    yml = next(p for p in folder.rglob("*.yml") if "mart_position" in p.read_text())
    text = sql.read_text()
    sql.write_text(f"with was as (\n{text}\n)\nselect *, 1 as added from was\n")
    yml.write_text(
        yml.read_text().replace(
            "    columns:\n",
            "    columns:\n      - name: added\n        data_type: integer\n        description: one\n"
            "        config: {meta: {assay: {unit: count, classification: public}}}\n",
            1,
        )
    )
    made = run.build(lake)
    assert "added" in [c.name for c in made.table("mart_position").columns]
    assert [r | {"added": 1} for r in before] == lake.read("gold.mart_position").to_pylist()
    scanned = lake.target.catalog.load_table("gold.mart_position").scan().to_arrow().to_pylist()
    assert sorted(scanned, key=lambda r: r["symbol"]) == lake.read("gold.mart_position").to_pylist()
    sql.write_text(f"with was as (\n{text}\n)\nselect *, cast('x' as varchar) as added from was\n")
    yml.write_text(yml.read_text().replace("data_type: integer", "data_type: varchar", 1))
    run.build(lake)
    scanned = lake.target.catalog.load_table("gold.mart_position").scan().to_arrow().to_pylist()
    assert {r["added"] for r in scanned} == {"x"}
    # An earlier release reads as it was, from its own file.
    old = release.read(lake.target.files, 1)
    con = release.connect(lake.target.files, lake.target.catalog, old)
    assert con.sql("select * from gold.mart_position").to_arrow_table().to_pylist() == before
    con.close()


def test_before_the_first_release_there_is_nothing_to_read(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "lakes/csv", tmp_path / "mine")
    lake = assay.open(tmp_path / "mine")
    with pytest.raises(UsageError, match="`assay apply` makes the first release"):
        lake.read("gold.mart_position")
    lake.close()


def test_checking_a_lake_makes_no_data(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    shutil.copytree(ROOT / "lakes/csv", root)
    assert run.check(root) == {"datasets": ["trades"], "gold": ["mart_position"]}
    assert not (root / "data").exists()
