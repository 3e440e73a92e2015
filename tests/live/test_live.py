"""A lake on a real account of AWS: landed from the sandbox, refined, released, read back, proved, and taken away again.

    ASSAY_LIVE_LAKE=path/to/lake pytest -m live tests/live

docs/aws.md says what the account needs. Nothing is written but where the lake of environment `live` writes, and that must be empty.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import assay_sandbox
from assay import settings
from assay.errors import SettingsError
from tests.conftest import ROOT
from tests.kept import begun
from tests.live.conftest import ENVIRONMENT

pytestmark = [pytest.mark.live, pytest.mark.slow]
LAKE = "ASSAY_LIVE_LAKE"
EMPTY = {"objects": 0, "tables": 0, "items": 0}
QUESTIONS = (
    "select count(*) n, sum(close) closes, max(date) last from silver.price_eod",
    "select return_1d from gold.fct_daily_price where symbol = 'AAPL' and date = '2005-02-28'",
    "select count(*) n, sum(rank) ranks from gold.mart_momentum_asof",
)
Ran = Callable[..., subprocess.CompletedProcess[str]]


def python(*words: object) -> subprocess.CompletedProcess[str]:
    """A process with the environment of whoever runs this: its role and profile are AWS's to find."""
    source = [str(ROOT / "src"), str(ROOT), *filter(None, [ENVIRONMENT.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, *map(str, words)], env=ENVIRONMENT | {"PYTHONPATH": ":".join(source)}, cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip


def looked(root: Path, what: str = "look") -> dict[str, int]:
    said = python("-m", "tests.live.place", what, root, "live")
    assert said.returncode == 0, said.stderr
    return dict(json.loads(said.stdout))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Ran]]:
    """The markets lake with `[aws]` of the lake that is named, in a place that is empty before and after."""
    if not ENVIRONMENT.get(LAKE):
        pytest.fail(
            f"{LAKE} is missing: it names a lake's directory whose [aws] says where these tests may write (docs/aws.md)"
        )
    try:
        said = settings.read(Path(ENVIRONMENT[LAKE]), "live").aws
    except SettingsError as error:
        pytest.fail(f"{LAKE}: {error}")
    if said is None:
        pytest.fail(f"{LAKE}: {ENVIRONMENT[LAKE]}/assay.toml has no [aws]")
    root = begun(tmp_path_factory.mktemp("live") / "markets", "markets")
    with assay_sandbox.Sandbox().running() as url:
        path = root / "assay.toml"
        own, _, _ = path.read_text().replace("http://127.0.0.1:8321/stable", url).partition("[aws]")
        keys = {key: getattr(said, key) for key in ("region", "account", "bucket", "prefix")}
        path.write_text(own + "[aws]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
        if (found := looked(root)) != EMPTY:
            pytest.fail(
                f"{keys['prefix']}/live/ of bucket {keys['bucket']} is in use: {found}; these tests write only where nothing is"
            )

        def ran(*words: str, target: str = "aws") -> subprocess.CompletedProcess[str]:
            return python("-m", "assay.cli", "--lake", root, "--env", "live", "--target", target, *words)

        try:
            yield root, ran
        finally:
            assert looked(root, "clean") == EMPTY


def test_a_lake_is_made_there_and_read_back_and_proved(lake: tuple[Path, Ran]) -> None:
    root, ran = lake
    for words in (("apply",), ("verify", "counts"), ("verify", "bronze"), ("verify", "silver"), ("verify", "serving")):
        said = ran(*words)
        assert said.returncode == 0, (words, said.stderr)
    found = looked(root)
    assert all(found.values()), found
    assert ran("plan").stdout.splitlines()[-1].startswith("nothing is missing")
    there = [json.loads(ran("--json", "sql", one).stdout) for one in QUESTIONS]
    said = python(
        "-c",
        f"import os; os.environ['ASSAY_SECRET_FMP_API_KEY'] = 'sandbox-key'; import sys; from assay.cli import main; sys.argv[1:] = ['--lake', {str(root)!r}, '--quiet', 'apply']; main()",
    )
    assert said.returncode == 0, said.stderr
    here = [json.loads(python("-m", "assay.cli", "--lake", root, "--json", "sql", one).stdout) for one in QUESTIONS]
    assert there == here
