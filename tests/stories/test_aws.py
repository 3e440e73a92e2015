"""The demo's flow in the doubles of AWS, as a user runs it: the first number, the proofs, a ledger that is lost."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import assay_sandbox
from assay import settings, targets
from assay.lake import release
from assay.settings import CLOUDSIM
from tests import clouds
from tests.kept import begun

pytestmark = pytest.mark.slow
FIRST = "select return_1d from gold.fct_daily_price where symbol = 'AAPL' and date = '2005-02-28'"
Ran = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Ran]]:
    """The markets lake, landed, refined and released in the doubles; and what runs a command on it."""
    cloud, root = clouds.shared(), tmp_path_factory.mktemp("aws") / "markets"
    begun(root, "markets")
    with assay_sandbox.Sandbox().running() as url:
        path = root / "assay.toml"
        path.write_text(
            path.read_text().replace("http://127.0.0.1:8321/stable", url).replace("[aws]", '[aws]\nprefix = "story"')
        )
        environment = os.environ | {CLOUDSIM: str(cloud.directory / "endpoints.json")}

        def ran(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "assay.cli", "--lake", str(root), "--target", "aws", *words]
            return subprocess.run(
                command, env=environment | more, capture_output=True, text=True, check=False, timeout=300
            )

        make = "import sys; from pathlib import Path; from assay.run import emulated; emulated.prepare(Path(sys.argv[1]), 'dev', {'FMP_API_KEY': 'sandbox-key'})"
        subprocess.run([sys.executable, "-c", make, str(root)], env=environment, check=True, timeout=60)
        done = ran("apply", ASSAY_SECRET_FMP_API_KEY="")
        assert done.returncode == 0, done.stderr
        yield root, ran


def test_the_first_number_is_that_of_the_laptop(lake: tuple[Path, Ran]) -> None:
    _, ran = lake
    done = ran("--json", "sql", FIRST)
    assert json.loads(done.stdout) == [{"return_1d": "0.008203168895"}]
    assert ran("plan").stdout.splitlines()[-1].startswith("nothing is missing")


def test_the_proofs_hold_there(lake: tuple[Path, Ran]) -> None:
    _, ran = lake
    for what in ("counts", "bronze", "silver", "serving", "rebuild"):
        done = ran("verify", what)
        assert done.returncode == 0, done.stderr


def test_gold_of_athena_is_that_of_duckdb_to_the_last_digit(
    lake: tuple[Path, Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release of `apply` is Athena's. One of DuckDB keeps each table's snapshot: that is done for equal rows only."""
    root, ran = lake
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


def test_a_table_of_the_ledger_that_is_lost_is_made_anew_from_the_lake(lake: tuple[Path, Ran]) -> None:
    root, ran = lake
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
