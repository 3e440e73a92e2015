"""What a gold project promises is held against what its SQL gives, before a source is asked."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from assay.errors import ContractError, SettingsError, UsageError
from assay.run import lake as lakes

CSV = Path(__file__).parents[2] / "lakes" / "csv"
SOURCE = "from {{ source('silver', 'trades') }}"


def lake(folder: Path, **models: str) -> Path:
    """The csv lake with more gold models."""
    root = lakes.init(folder / "lake", CSV)
    for name, sql in models.items():
        (root / "dbt/models/gold" / f"{name}.sql").write_text(sql)
    return root


def refused(root: Path) -> str:
    with pytest.raises(ContractError) as error:
        lakes.check(root)
    return str(error.value)


def pasted(told: str, marker: str) -> Any:
    """What stands below a marker of a complaint, as YAML."""
    return yaml.safe_load(told.split(f"{marker}\n", 1)[1].split("\n# ", 1)[0])


@pytest.mark.slow
def test_a_model_without_yml_is_given_one_to_fill_in(tmp_path: Path) -> None:
    root = lake(
        tmp_path,
        mart_day=f'select symbol, date as "on", sum(quantity) as moved, cast(count(*) as integer) as "how many" {SOURCE} group by 1, 2',
    )
    told = refused(root)
    assert "models/gold/mart_day.sql: mart_day: no yml describes symbol, on, moved, how many;" in told
    assert told.count("version: 2") == 1, "told once, and not for what has a yml"
    yml = pasted(told, "# models/gold/mart_day.yml: to paste and fill in")
    [model] = yml["models"]
    assert [(c["name"], c["data_type"]) for c in model["columns"]] == [
        ("symbol", "varchar"),
        ("on", "date"),
        ("moved", "decimal(38,6)"),
        ("how many", "integer"),
    ]
    assert {c["config"]["meta"]["assay"]["classification"] for c in model["columns"]} == {"internal"}
    assert [c.get("quote") for c in model["columns"]] == [None, True, None, True]
    (root / "dbt/models/gold/mart_day.yml").write_text(yaml.safe_dump(yml))
    told = refused(root)
    for left in ("name the columns of its key", "describe it", "describe column moved", "'' is no predicate"):
        assert f"models/gold/mart_day.yml: mart_day: {left}" in told.replace("input silver.trades: ", "")
    assert "version: 2" not in told
    meta = model["config"]["meta"]["assay"]
    meta["key"] = ["symbol", "on"]
    meta["inputs"][0]["where"] = 'symbol = row.symbol and date = row."on"'
    for one in (model, *model["columns"]):
        one["description"] = "said"
    (root / "dbt/models/gold/mart_day.yml").write_text(yaml.safe_dump(yml))
    assert lakes.check(root)["gold"] == ["mart_day", "mart_position"]
    with lakes.open(root) as opened:
        done = opened.apply(opened.plan())
        assert not done.errors, str(done.errors[0])
        assert opened.sql('select count(distinct "on") > 1 from gold.mart_day').rows == ((True,),)


@pytest.mark.slow
def test_a_yml_that_says_other_columns_than_the_sql_gives_is_refused_before_a_source_is_asked(tmp_path: Path) -> None:
    path = "models/gold/mart_position"
    asking = "{% if execute %}{% set found = run_query('select 1') %}{% endif %} select kost from nowhere"
    root = lake(tmp_path, mart_typo="select symbol, kost from {{ ref('mart_position') }}", mart_asking=asking)
    sql = root / f"dbt/{path}.sql"
    sql.write_text(sql.read_text().replace("max(date) as last_traded_on", "min(date) as first_traded_on"))
    told = refused(root)
    assert "models/gold/mart_typo.sql: mart_typo: its SQL cannot run: Binder Error" in told
    assert "mart_asking: its SQL" not in told, "what it is over silver without rows says nothing"
    assert f"{path}.yml: mart_position: it describes column last_traded_on, which the SQL does not give" in told
    assert f"{path}.yml: mart_position: no yml describes first_traded_on;" in told
    [column] = pasted(told, f"# {path}.yml: mart_position: add to its columns")
    assert (column["name"], column["data_type"]) == ("first_traded_on", "date")
    with lakes.open(root) as opened:
        with pytest.raises(ContractError, match="last_traded_on"):
            opened.plan()
        assert not (root / "data/dev/bronze").exists(), "nothing was asked"


@pytest.mark.slow
def test_a_build_says_what_the_yml_lacks(tmp_path: Path) -> None:
    root = lake(tmp_path)
    with lakes.open(root) as opened:
        assert not opened.apply(opened.plan(["trades"])).errors
        (root / "dbt/models/gold/mart_new.sql").write_text(f"select distinct symbol {SOURCE}")
        with pytest.raises(ContractError, match=r"# models/gold/mart_new\.yml: to paste and fill in"):
            opened.build()


@pytest.mark.slow
def test_dbt_itself_runs_the_project_that_assay_writes(tmp_path: Path) -> None:
    root, out = lake(tmp_path), tmp_path / "out"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DO_NOT_TRACK": "1"}

    def dbt(*args: str) -> str:
        program = Path(sys.executable).with_name("dbt")
        done = subprocess.run([program, *args], cwd=out, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    (root / "universe_mine.csv").write_text("symbol,valid_from,valid_to\nAAPL,2020-01-01,\n")
    held = "select symbol from {{ ref('universe_mine') }}"
    (root / "dbt/tests/held.sql").write_text(
        f"{held} where symbol not in (select symbol from {{{{ ref('mart_position') }}}})"
    )
    with lakes.open(root) as opened:
        assert not opened.apply(opened.plan(["trades"])).errors
        opened.dbt(out)
        with pytest.raises(SettingsError, match="is not an empty directory"):
            opened.dbt(out)
        with pytest.raises(UsageError, match="part of the lake's dbt project"):
            opened.dbt(root / "dbt" / "out")
        assert not (root / "dbt" / "out").exists()
    dbt("parse", "--profiles-dir", ".")
    assert "ERROR=0" in dbt("build", "--profiles-dir", ".")
    with duckdb.connect(str(out / "lake.duckdb"), read_only=True) as db:
        assert db.execute("select count(*) > 2 from gold.mart_position").fetchall() == [(True,)]
    with lakes.open(root) as opened, pytest.raises(UsageError, match="nothing is released yet"):
        opened.released()
