"""The demo's flow in the doubles of AWS, as a user runs it: the first number, the proofs, a ledger that is lost."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from assay import settings, targets
from assay.lake import release
from assay.settings import CLOUDSIM
from tests import clouds
from tests.stories.conftest import Ran

pytestmark = pytest.mark.slow
FIRST = "select return_1d from gold.fct_daily_price where symbol = 'AAPL' and date = '2005-02-28'"


def test_the_first_number_is_that_of_the_laptop(on_aws: tuple[Path, Ran]) -> None:
    _, ran = on_aws
    done = ran("--json", "sql", FIRST)
    assert json.loads(done.stdout) == [{"return_1d": "0.008203168895"}]
    assert ran("plan").stdout.splitlines()[-1].startswith("nothing is missing")


def test_the_proofs_hold_there(on_aws: tuple[Path, Ran]) -> None:
    _, ran = on_aws
    for what in ("counts", "bronze", "silver", "serving", "rebuild"):
        done = ran("verify", what)
        assert done.returncode == 0, done.stderr


def test_gold_of_athena_is_that_of_duckdb_to_the_last_digit(
    on_aws: tuple[Path, Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release of `apply` is Athena's. One of DuckDB keeps each table's snapshot: that is done for equal rows only."""
    root, ran = on_aws
    before = json.loads(ran("--json", "status").stdout)
    path = root / "assay.toml"
    text = path.read_text()
    assert "\nworkgroup" in text
    path.write_text(text.replace("\nworkgroup", "\n# workgroup"))
    try:
        done = ran("--json", "build")
        assert done.returncode == 0, done.stderr
    finally:
        path.write_text(text)
    monkeypatch.setenv(CLOUDSIM, str(clouds.shared().directory / "endpoints.json"))
    with closing(targets.open("aws", settings.read(root))) as t:
        first, second = (release.stored(t.files, number)[0] for number in (1, 2))
        assert [(g.name, g.content, g.snapshot, g.rows) for g in first.gold] == [
            (g.name, g.content, g.snapshot, g.rows) for g in second.gold
        ]
        assert {g.name: g.rows for g in first.gold} == {
            "dim_security": 10_379,
            "fct_daily_price": 12_154,
            "mart_momentum_asof": 586,
        }
        assert (first.models, first.tests) == (second.models, second.tests)
        assert not list(t.files.names("build/"))
    assert before["release"]["number"] == 1


def test_a_table_of_the_ledger_that_is_lost_is_made_anew_from_the_lake(on_aws: tuple[Path, Ran]) -> None:
    root, ran = on_aws
    before = json.loads(ran("--json", "status").stdout)
    dynamodb = clouds.shared().client("dynamodb")
    dynamodb.delete_table(TableName="story-dev")
    done = ran("status")
    assert done.returncode == 2
    assert "there is no table story-dev" in done.stderr
    clouds.provision.ledger(dynamodb, "story-dev")
    assert ran("apply").returncode == 0
    after = json.loads(ran("--json", "status").stdout)
    assert after["datasets"].keys() == before["datasets"].keys()
    for name, one in before["datasets"].items():
        for term in ("captured", "accepted", "quarantined", "held"):
            assert after["datasets"][name][term] == one[term], (name, term)
    assert json.loads(ran("--json", "sql", FIRST).stdout) == [{"return_1d": "0.008203168895"}]
    assert not (root / "data" / "dev").exists()  # nothing of the lake's data lies on this machine's disk but copies
