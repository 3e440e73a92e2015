"""Flows on a real Prefect server: chunks are task runs, the ledger says what is done, whatever Prefect knows of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from ulid import ULID

import assay_sandbox
from assay import run
from assay.contract import odcs
from assay.errors import UsageError
from assay.flows import chunks
from assay.flows.chunks import FEWEST, MOST, Chunk
from assay.lake import runs
from assay.plan import Land
from assay.run import Lake, loop
from assay.run import lake as lakes
from assay.windows import Duration, Window
from assay_sandbox import Fault
from tests.kept import begun
from tests.prefects import PYTHON, Prefect, prefect

__all__ = ["prefect"]

ROOT = Path(__file__).parents[2]
TOO_LATE = "900"  # seconds that a clock is ahead, when every lease of who was killed is over


# ------------------------------------------------------------------ chunks


def landings(shards: int, span: str, step: str, dataset: str = "prices") -> list[Land]:
    whole = Window.parse(span)
    cells = [cell.overlap(whole) for cell in whole.grid(Duration.parse(step))]
    return [Land(dataset, "0", f"S{n:03}", cell, cell) for n in range(shards) for cell in cells]


@pytest.mark.parametrize(
    ("shards", "step", "days", "sizes"),
    [
        (1, "P1D", 30, [60] * 6),  # fewer than FEWEST in 30 days: two of them together
        (4, "P1D", 30, [120] * 12),
        (10, "P1D", 30, [150] * 24),  # 300 in 30 days: cut in two
        (4, "P1D", 5, [60] * 24),
        (3, "P1Y", 30, [3]),
        (450, "P1Y", 30, [150] * 3),
        (0, "P1D", 30, []),
    ],
)
def test_chunks_hold_the_windows_of_some_days_and_neither_too_few_nor_too_many(shards, step, days, sizes):
    steps = landings(shards, "2023-01-02..2023-12-28", step)
    found = chunks.cut(steps, date(2023, 1, 2), days)
    assert [len(one.steps) for one in found] == sizes
    assert Counter(step.id for one in found for step in one.steps) == Counter(step.id for step in steps)
    assert all(len(one.steps) <= MOST for one in found)
    assert all(len(one.steps) >= FEWEST for one in found[:-1])


def test_a_chunk_is_of_one_dataset_and_in_the_order_of_days():
    steps = [*landings(2, "2024-01-01..2024-04-01", "P1D"), *landings(1, "2024-01-01..2024-04-01", "P1M", "news")]
    found = chunks.cut(steps, date(2024, 1, 1), 30)
    assert [str(one) for one in found] == [
        "prices 2024-01-01..2024-01-31",
        "prices 2024-01-31..2024-03-01",
        "prices 2024-03-01..2024-03-31",
        "prices 2024-03-31..2024-04-01",
        "news 2024-01-01..2024-04-01",
    ]


def test_what_is_still_missing_of_a_chunk_is_what_shares_shard_and_days_with_it():
    mine = landings(2, "2024-01-01..2024-01-11", "P1D")
    longer = Land("prices", "0", "S001", Window.parse("2023-12-30..2024-01-03"))
    others = [
        Land("prices", "0", "S002", Window.parse("2024-01-01..2024-01-02")),
        Land("prices", "0", "S000", Window.parse("2024-01-11..2024-01-12")),
        Land("news", "0", "S000", Window.parse("2024-01-01..2024-01-02")),
    ]
    assert Chunk("prices", tuple(mine)).still([*mine[3:5], longer, *others]) == [*mine[3:5], longer]


NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        ("2024-01-01", "2024-02-01", "2024-01-01..2024-02-01"),
        ("2024-01-01T12:00", "2024-01-01T13:00", "2024-01-01..2024-01-02"),
        ("2024-01-01", "2024-06-01T12:00", "2024-01-01..2024-06-02"),
        ("2024-01-01T00:00-05:00", "2024-01-02T20:00-05:00", "2024-01-01..2024-01-04"),
    ],
)
def test_days_are_those_of_utc_and_the_end_is_not_part_of_them(start, end, found):
    assert str(chunks.days(datetime.fromisoformat(start), datetime.fromisoformat(end), NOW)) == found


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2024-02-01", "2024-01-01", "holds no day"),
        ("2024-02-01", "2024-02-01", "holds no day"),
        ("2024-02-01", "2024-06-01T12:01", "in the future"),
    ],
)
def test_days_that_there_are_not_are_refused(start, end, said):
    with pytest.raises(UsageError, match=said):
        chunks.days(datetime.fromisoformat(start), datetime.fromisoformat(end), NOW)


def test_a_source_is_a_dataset_or_all_that_comes_from_one():
    contracts = odcs.read_all(ROOT / "lakes/markets/contracts")
    assert chunks.named(contracts, "splits") == ["splits"]
    assert chunks.named(contracts, "fmp") == chunks.named(contracts, "source:fmp") == list(contracts)
    with pytest.raises(UsageError, match=r"no dataset and no source 'fpm'; this lake has dividends, .*, of fmp"):
        chunks.named(contracts, "fpm")


# ------------------------------------------------------------------ on a server


@dataclass
class Vendor:
    """A copy of the demo lake whose prices are landed month by month, and its vendor."""

    root: Path
    sandbox: assay_sandbox.Sandbox

    def asked(self) -> Counter[tuple[str, str]]:
        """The windows of prices that were asked for, each with how often."""
        return Counter(
            (one.query["symbol"], one.query["from"]) for one in self.sandbox.log if "non-split" in one.path
        )  # fmt: skip

    def opened(self) -> Lake:
        return lakes.open(self.root)


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[Vendor]:
    root = begun(tmp_path / "markets", "markets")
    sandbox = assay_sandbox.Sandbox(limit=(100_000, 60.0))
    contract = root / "contracts/price_eod.yaml"
    contract.write_text(contract.read_text().replace("value: P10Y", "value: P1M"))
    with sandbox.running() as url:
        path = root / "assay.toml"
        path.write_text(path.read_text().replace("http://127.0.0.1:8321/stable", url).replace("3000", "60000"))
        yield Vendor(root, sandbox)


def backfill(source: str = "fmp", start: str = "2006-01-01", end: str = "2010-01-01", days: int = 30) -> str:
    """The call of the flow."""
    moments = ", ".join(f"datetime.fromisoformat('{one}')" for one in (start, end))
    return f"backfill_historical_data({source!r}, {moments}, {days})"


def releases(lake: Lake) -> int:
    """The newest release's number, which is how many there were."""
    return loop.released(lake.target.ledger)


@pytest.mark.slow
def test_a_backfill_lands_refines_and_releases_once_and_then_has_nothing_to_do(vendor: Vendor, prefect: Prefect):
    said, flow_run = prefect.ran(vendor.root, backfill())
    assert flow_run["state_type"] == "COMPLETED", said
    tasks = prefect.tasks(flow_run)
    prices = [task for task in tasks if task["name"].startswith("price_eod ")]
    # Of 192 windows four chunks, four datasets that are landed whole, five refines, a build.
    assert len(tasks) == 4 + 4 + 5 + 1
    assert sorted(task["name"] for task in prices) == [
        "price_eod 2006-01-01..2007-02-01", "price_eod 2007-02-01..2008-03-01", "price_eod 2008-03-01..2009-04-01",
        "price_eod 2009-04-01..2010-01-01",
    ]  # fmt: skip
    assert set(vendor.asked().values()) == {1}
    assert len(vendor.asked()) == 192
    assert len(list((vendor.root / "data/dev/bronze/price_eod/log").iterdir())) == 1 + len(prices)  # and the contract

    with vendor.opened() as lake:
        assert lake.plan(["source:fmp"], span=Window(date(2006, 1, 1), date(2010, 1, 1))) == []
        assert releases(lake) == 1
        status = lake.status()["datasets"]["price_eod"]
        assert (status["unjudged"], status["failing"], status["batches"]) == (0, [], 192)
        (began,) = lake.target.ledger.since("step", "price_eod", "land")
        name = began.body["run"]

    # The run's id is the flow run's own, and stands with dataset, window and attempt in tags and lines.
    assert str(ULID.from_str(name).to_uuid()) == flow_run["id"]
    assert {f"run:{name}", "source:fmp"} <= set(flow_run["tags"])
    assert {f"run:{name}", "dataset:price_eod", "window:2006-01-01..2007-02-01"} <= set(
        next(task for task in prices if task["name"].endswith("..2007-02-01"))["tags"]
    )
    line = f"run {name} dataset price_eod window 2006-01-01..2007-02-01 attempt 1: 52 of 52 windows landed"
    assert line in said
    logs = prefect.ask("logs/filter", logs={"flow_run_id": {"any_": [flow_run["id"]]}}, limit=200)
    assert any(line in one["message"] for one in logs)
    assert "sandbox-key" not in said + json.dumps([logs, tasks, flow_run])
    assert prefect.reported(flow_run) == (100.0, [{"what": "208 windows in 8 chunks", "error": ""}])

    before = len(vendor.sandbox.log)
    said, flow_run = prefect.ran(vendor.root, backfill())
    assert flow_run["state_type"] == "COMPLETED", said
    assert prefect.tasks(flow_run) == []
    assert len(vendor.sandbox.log) == before
    with vendor.opened() as lake:
        assert releases(lake) == 1


@pytest.mark.slow
def test_a_chunk_that_fails_stops_no_other_and_is_told_with_its_cause(vendor: Vendor, prefect: Prefect):
    vendor.sandbox.faults.add(
        Fault("plain", "historical-price-eod/non-split-adjusted", "IBM", nth=7, params={"status": 402})
    )
    settings = vendor.root / "assay.toml"
    settings.write_text(settings.read_text().replace("requests = 60000", "requests = 60000\noptions = {attempts = 1}"))
    said, flow_run = prefect.ran(vendor.root, backfill())
    assert flow_run["state_type"] == "FAILED", said
    (failed,) = [task for task in prefect.tasks(flow_run) if task["state_type"] == "FAILED"]
    told = f"{failed['name']}: 1 of "
    assert told in flow_run["state"]["message"]
    assert "windows are not landed: IBM: SourceRefused: " in flow_run["state"]["message"]
    assert failed["run_count"] == 1  # a refusal will not pass
    progress, rows = prefect.reported(flow_run)
    assert progress == 100.0
    assert [(row["what"].startswith(told), row["error"]) for row in rows] == [(True, "SourceRefused")]
    with vendor.opened() as lake:
        assert releases(lake) == 1
        left = lake.plan(["price_eod"], span=Window(date(2006, 1, 1), date(2010, 1, 1)))
        assert [(one.shard, one.why) for one in left if isinstance(one, Land)] == [
            ("IBM", "new days, or days asked again")
        ]
        assert lake.status()["datasets"]["price_eod"]["batches"] == 191

    shutil.rmtree(vendor.root / "dbt")  # one build is enough
    vendor.sandbox.faults.add(Fault("html", "historical-price-eod/non-split-adjusted", "IBM"))
    said, flow_run = prefect.ran(vendor.root, backfill("price_eod"))
    assert flow_run["state_type"] == "COMPLETED", said
    assert "attempt 1: 0 of 1 windows landed" in said  # a busy vendor may pass
    assert "attempt 2: 1 of 1 windows landed" in said
    assert Counter(vendor.asked().values()) == {1: 191, 3: 1}


@pytest.mark.slow
def test_a_flow_that_is_killed_costs_what_was_on_its_way_and_nothing_that_is_landed(vendor: Vendor, prefect: Prefect):
    settings = vendor.root / "assay.toml"
    settings.write_text(settings.read_text().replace("requests = 60000", "requests = 2400"))
    shutil.rmtree(vendor.root / "dbt")  # a build has its own tests
    span = Window(date(2001, 1, 1), date(2012, 1, 1))
    call = backfill("price_eod", str(span.start), str(span.end))
    process = prefect.flow(vendor.root, call)
    log = vendor.root / "data/dev/bronze/price_eod/log"
    deadline = time.monotonic() + 120
    while not log.is_dir() or len(list(log.iterdir())) < 2:  # the contract, and a landing
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = vendor.asked()
    with vendor.opened() as lake:
        missing = {(s.shard, str(s.days.start)) for s in lake.plan(["price_eod"], span=span) if isinstance(s, Land)}
    assert 0 < len(missing) < len(missing | set(before))

    said, flow_run = prefect.ran(vendor.root, call, ASSAY_CLOCK_OFFSET=TOO_LATE)
    assert flow_run["state_type"] == "COMPLETED", said
    assert vendor.asked() - before == Counter(missing)
    with vendor.opened() as lake:
        assert lake.plan(["price_eod"], span=span) == []


@pytest.mark.slow
def test_a_flow_that_is_interrupted_puts_what_it_asked_before_it_closes_the_lake(vendor: Vendor, prefect: Prefect):
    settings = vendor.root / "assay.toml"
    settings.write_text(settings.read_text().replace("requests = 60000", "requests = 2400"))
    shutil.rmtree(vendor.root / "dbt")
    span = Window(date(2001, 1, 1), date(2012, 1, 1))
    call = backfill("price_eod", str(span.start), str(span.end))
    process = prefect.flow(vendor.root, call)
    deadline = time.monotonic() + 120
    while len(vendor.asked()) < 20:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=200)
    asked = set(vendor.asked())
    with vendor.opened() as lake:
        missing = {(s.shard, str(s.days.start)) for s in lake.plan(["price_eod"], span=span) if isinstance(s, Land)}
    assert asked
    assert missing, "it was stopped"
    assert not asked & missing, said
    said, flow_run = prefect.ran(vendor.root, call)
    assert flow_run["state_type"] == "COMPLETED", said
    assert set(vendor.asked() - Counter(asked)) == missing


WRONG = {
    "backfill_historical_data('prices', datetime(2006, 1, 1), datetime(2007, 1, 1))": "no dataset and no source 'prices'",
    "backfill_historical_data('fmp', datetime(2007, 1, 1), datetime(2006, 1, 1))": "holds no day",
    "backfill_historical_data('fmp', datetime(2006, 1, 1), datetime(2006, 1, 1))": "holds no day",
    "backfill_historical_data('fmp', datetime(2006, 1, 1), datetime(9000, 1, 1))": "is in the future",
    "backfill_historical_data('fmp', datetime(1950, 1, 1), datetime(1960, 1, 1))": "is in its history",
    "backfill_historical_data('fmp', datetime(2006, 1, 1), datetime(2007, 1, 1), 0)": "1 or more",
}


@pytest.mark.slow
def test_what_cannot_be_backfilled_is_refused_before_anything_is_asked(vendor: Vendor, prefect: Prefect):
    lines = [f"try: {call}\nexcept Exception as e: print('REFUSED', type(e).__name__, e)" for call in WRONG]
    said, flow_run = prefect.ran(vendor.root, "\n".join(lines))
    refused = [line for line in said.splitlines() if line.startswith("REFUSED")]
    assert len(refused) == len(WRONG), said
    for line, why in zip(refused, WRONG.values(), strict=True):
        assert line.startswith("REFUSED UsageError "), line
        assert why in line
    assert "UsageError" in flow_run["state"]["message"]
    assert vendor.sandbox.log == []
    said, flow_run = prefect.ran(vendor.root, "land()", ASSAY_ENV="no/env")
    assert "no/env" in flow_run["state"]["message"], said


@pytest.mark.slow
def test_each_step_is_a_flow_and_all_of_them_are_what_apply_does(tmp_path: Path, prefect: Prefect):
    root = begun(tmp_path / "csv", "csv")
    calls = ["land(['trades'])", "refine()", "build()", "upkeep(dry=True)", "land()", "refine()", "build()", "upkeep()"]
    said, _ = prefect.ran(root, "\n".join(calls))
    found = prefect.ask("flow_runs/filter", sort="START_TIME_DESC", limit=len(calls))[::-1]
    assert [one["state_type"] for one in found] == ["COMPLETED"] * len(calls), said
    names = [[task["name"].split(" 20")[0] for task in prefect.tasks(one)] for one in found]
    assert names == [["trades"], ["refine trades"], ["build"], [], [], [], [], []]
    for one in found:
        progress, rows = prefect.reported(one)
        assert progress == 100.0
        assert rows
    with run.open(root) as lake:
        assert lake.plan() == []
        assert releases(lake) == 1


@pytest.mark.slow
def test_tasks_do_their_work_without_a_server(tmp_path: Path):
    assert PYTHON.exists(), "scripts/extras makes the environment .venvs/prefect"
    root = begun(tmp_path / "csv", "csv")
    code = """
from datetime import datetime
from assay.flows import backfill, steps
from assay.flows.here import opened
with opened("by hand") as here:
    (chunk,) = backfill.generate_date_chunks("files", datetime(2024, 1, 1), datetime(2024, 2, 1), 30)
    print(steps.ingest_data.fn(chunk), steps.ingest_data.fn(chunk))
    for step in here.lake.plan(land=False)[:1]:
        print(steps.refine_dataset.fn(step).told)
    print(steps.build_gold.fn(here.lake.plan(land=False)[0]), here.lake.plan())
"""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT_")}
    told = environment | {
        "ASSAY_LAKE": str(root), "PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "DO_NOT_TRACK": "1",
    }  # fmt: skip
    done = subprocess.run(
        [PYTHON, "-c", code], env=told, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "1 0"
    assert "10 captured" in done.stdout.splitlines()[1]
    assert done.stdout.splitlines()[2] == "1 []"
    elsewhere = subprocess.run(
        [PYTHON, "-c", code], env=told | {"ASSAY_TARGET": "moon"}, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )  # fmt: skip
    assert "SettingsError: there is no target 'moon'" in elsewhere.stderr


def test_nothing_but_the_flows_needs_prefect():
    code = "import sys, assay, assay.cli, assay.run.loop, assay.flows.chunks\nassert 'prefect' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_run_that_is_cancelled_ends_as_that_and_one_marked_dead_by_mistake_does_no_harm(
    vendor: Vendor, prefect: Prefect
):
    settings = vendor.root / "assay.toml"
    settings.write_text(settings.read_text().replace("requests = 60000", "requests = 1200"))
    process = prefect.flow(vendor.root, backfill("price_eod", "2006-01-01", "2008-01-01"))
    with vendor.opened() as lake:
        deadline = time.monotonic() + 60
        while len(vendor.sandbox.log) < 10:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        one = runs.named(lake.target.ledger, None)
        (flow_run,) = prefect.ask("flow_runs/filter", sort="START_TIME_DESC", limit=1)
        assert str(ULID.from_str(one["run"]).to_uuid()) == flow_run["id"]
        # By mistake: Prefect calls it crashed. It lives, and goes on.
        prefect.ask(f"flow_runs/{flow_run['id']}/set_state", state={"type": "CRASHED"}, force=True)
        before = len(vendor.sandbox.log)
        while len(vendor.sandbox.log) < before + 10:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        runs.wish(lake.target.ledger, one, "cancel", "ada")
        said, _ = process.communicate(timeout=120)
        (flow_run,) = prefect.ask("flow_runs/filter", sort="START_TIME_DESC", limit=1)
        assert flow_run["state_type"] in ("CANCELLED", "CRASHED"), said
        assert runs.named(lake.target.ledger, one["run"])["state"] == "cancelled"
        landed = lake.status()["datasets"]["price_eod"]["batches"]
        assert landed == len(vendor.sandbox.log) < 96
        assert releases(lake) == 0
    said, flow_run = prefect.ran(vendor.root, backfill("price_eod", "2006-01-01", "2008-01-01"))
    assert flow_run["state_type"] == "COMPLETED", said
    assert set(vendor.asked().values()) == {1}
    assert len(vendor.asked()) == 96
