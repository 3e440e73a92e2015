"""A backfill on AWS: a thousand windows by twelve tasks at once into one log, and one commit of silver. Emulated by cloudsim."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from assay.lake import bronze, tables
from assay.ports import Job
from assay.run import lake as lakes
from assay.settings import CLOUDSIM
from assay.targets.aws import ecs, provision
from tests.conftest import ROOT
from tests.forked import Said
from tests.rooms.test_ecs import fleets

pytestmark = pytest.mark.slow
TASKS, DAYS = 12, 84
FIGURES = "FIGURES"
"""The variable that names a file for what was sent to AWS."""
END = date(2024, 3, 25)
SYMBOLS = [f"SYM{number:03d}" for number in range(TASKS)]


@pytest.fixture(scope="module")
def vendor() -> Iterator[str]:
    """The land bench's, which gives a record a day."""
    words = [sys.executable, ROOT / "bench/land_server.py", "--symbols", TASKS, "--rows", DAYS, "--end", END]
    with subprocess.Popen([*map(str, words)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield json.loads(process.stdout.readline())["base"]
        process.terminate()


def markets(root: Path, vendor: str, start: date) -> Path:
    """The markets lake, whose prices are asked day by day, without gold."""
    shutil.copytree(ROOT / "lakes/markets", root)
    for one in (root / "contracts").glob("*.yaml"):
        if one.name != "price_eod.yaml":
            one.unlink()
    shutil.rmtree(root / "dbt")
    contract = root / "contracts/price_eod.yaml"
    contract.write_text(contract.read_text().replace("value: P10Y", "value: P1D"))
    rows = "".join(f"{one},{start},{END + timedelta(days=1)}\n" for one in SYMBOLS)
    (root / "universe_us.csv").write_text("symbol,valid_from,valid_to\n" + rows)
    settings = root / "assay.toml"
    text = re.sub(r"http://127\.0\.0\.1:\d+", vendor, settings.read_text())
    settings.write_text(text.replace("requests = 3000\nper = 60.0", "requests = 1000000\nper = 1.0"))
    return root


def test_twelve_tasks_at_once_land_a_thousand_windows_and_silver_has_one_commit(
    tmp_path: Path, vendor: str, assay: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ecs, "LONGEST", 1.0)
    start = END - timedelta(days=DAYS - 1)
    root = markets(tmp_path / "markets", vendor, start)
    with fleets(tmp_path, capacity=TASKS) as fleet:
        definition = fleet.register(root)
        provision.make(fleet.settings(root, definition), {"FMP_API_KEY": "sandbox-key"})
        monkeypatch.setenv(CLOUDSIM, str(fleet.cloud.directory / "endpoints.json"))
        span = f"{start}..{END + timedelta(days=1)}"
        jobs = [Job(("land", "price_eod", "--shard", one, "--span", span), "many", one) for one in SYMBOLS]
        launcher = fleet.launcher(root, definition)
        assert launcher.run(jobs) == [None] * TASKS
        assert launcher.run([Job(("refine", "price_eod"), "one")]) == [None]
        tasks = fleet.tasks("many")
        assert len(tasks) == TASKS
        assert max(one["startedAt"] for one in tasks) < min(one["stoppedAt"] for one in tasks)  # all at once
        landed = [line for _, line in fleet.metrics(*fleet.lines("many"))]
        assert [one["windows"] for one in landed] == [DAYS] * TASKS
        ((_, refined),) = fleet.metrics(*fleet.lines("one"))
        sent = sum((Counter(one["calls_by"]) for one in landed), Counter())
        if FIGURES in os.environ:
            told = {"land": sent, "land seconds": [one["seconds"] for one in landed], "refine": refined["calls_by"]}
            Path(os.environ[FIGURES]).write_text(json.dumps(told, indent=1))
        with lakes.open(root, target="aws") as lake:
            t = lake.target
            log = [entry for entry, _ in bronze.whole(t.files, "price_eod")]
            batches = [len(one.batches) for one in log]
            assert sorted(batches) == [0, *[DAYS] * TASKS]  # an entry a task, and that of the contract
            for name, commits in (("silver.price_eod", 1), ("silver.price_eod_past", 0)):
                found = tables.load(t.catalog, name)
                assert found
                assert len(tables.snapshots(found)) == commits, name
            counts = lake.status()["datasets"]["price_eod"]
            assert counts["captured"] == counts["accepted"] == TASKS * DAYS >= 1000
        assert assay("--lake", root, "--target", "aws", "verify", "counts").code == 0
