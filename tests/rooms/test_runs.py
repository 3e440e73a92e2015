"""Runs: how far one is, seen from another process; paused, resumed, cancelled and tried again at will; loads that go first."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

import assay_sandbox
from assay.clock import now
from assay.errors import UsageError
from assay.lake import heat, runs
from assay.lake.runs import Run, tracked
from assay.plan import Land
from assay.ports import Ledger
from assay.run import Lake
from assay.run import lake as lakes
from assay.windows import Window
from assay_sandbox import Fault
from tests.forked import Said
from tests.kept import begun

SPAN = Window.parse("2006-01-01..2006-07-01")
CALLS = 24  # four symbols, six months


@pytest.fixture
def ledger(markets: Path) -> Iterator[Ledger]:
    with lakes.open(markets) as lake:
        yield lake.target.ledger


def a(ledger: Ledger, name: str = "01A", **more: Any) -> Run:
    return Run(ledger, name, {"command": "backfill", "select": ["price_eod"], "datasets": ["price_eod"]}, **more)


def test_a_run_is_listed_while_it_goes_on_and_as_what_became_of_it(ledger: Ledger):
    with tracked(a(ledger, of=3)) as run:
        (one,) = runs.listed(ledger)
        assert (one["state"], one["of"], one["done"]) == ("running", 3, 0)
        for window in (1, 2, 2):
            run.through(window, failed=True)
            run.through(window)
        run.through(3)
    (one,) = runs.listed(ledger)
    assert (one["state"], one["done"], one["failed"]) == ("done", 3, 0)
    with tracked(a(ledger, "01B", of=1)) as run:
        run.through(1, failed=True)
    with pytest.raises(ZeroDivisionError), tracked(a(ledger, "01C")):
        raise ZeroDivisionError
    assert [(one["run"], one["state"]) for one in runs.listed(ledger)] == [
        ("01C", "failed"), ("01B", "failed"), ("01A", "done"),
    ]  # fmt: skip


def test_a_run_whose_process_was_killed_is_dead_after_a_while(ledger: Ledger):
    run = a(ledger, began=now() - timedelta(hours=1))
    run.keep()
    (fact,) = ledger.since("run", "")
    old = (now() - runs.DEAD - timedelta(seconds=1)).isoformat()
    ledger.record([replace(fact, body={**fact.body, "beat": old}, version=fact.version + 1)])
    (one,) = runs.listed(ledger)
    assert one["state"] == "dead"
    with pytest.raises(UsageError, match="run 01A is dead: `assay runs retry 01A` asks for what it left"):
        runs.wish(ledger, one, "pause", "ada")


def test_runs_are_named_by_their_beginning(ledger: Ledger):
    with pytest.raises(UsageError, match="no run is known"):
        runs.named(ledger, None)
    with tracked(a(ledger, "01AB")):
        assert runs.named(ledger, None)["run"] == "01AB"
    with tracked(a(ledger, "01AC")):
        pass
    assert runs.named(ledger, None)["run"] == "01AC"
    assert runs.named(ledger, "01ab")["run"] == "01AB"
    with pytest.raises(UsageError, match="2 runs begin with '01A'"):
        runs.named(ledger, "01A")
    with pytest.raises(UsageError, match="no runs begin with 'X'"):
        runs.named(ledger, "X")


def test_a_wish_is_heard_until_the_run_has_ended_also_by_who_goes_on_with_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "LOOK", 0.0)
    with pytest.raises(KeyboardInterrupt), tracked(a(ledger)) as run:  # noqa: PT012 - stopped while it is paused
        assert run.wish() == ""
        for said in ("pause", "resume", "pause"):
            runs.wish(ledger, runs.named(ledger, None), said, "ada")
            assert run.wish() == ("" if said == "resume" else said)
        raise KeyboardInterrupt
    with tracked(a(ledger)) as run:  # started again as the same run
        assert run.wish() == "pause"
        runs.wish(ledger, runs.named(ledger, None), "cancel", "ada")
    assert run.wish() == "cancel"
    assert runs.named(ledger, None)["state"] == "cancelled"
    with tracked(a(ledger)) as run:  # and once more, by a retry of it
        assert run.wish() == ""


def test_a_backfill_lets_loads_go_first_that_ask_the_same_source_and_not_for_ever(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "LOOK", 0.0)
    with tracked(a(ledger, sources={"fmp"}, live=False)) as backfill:
        with tracked(a(ledger, "01B", sources={"other"})):
            assert backfill.wish() == ""
        with tracked(a(ledger, "01C", sources={"fmp"})) as load:
            assert backfill.wish() == "yield"
            assert load.wish() == ""
        assert backfill.wish() == ""
        with tracked(a(ledger, "01D", sources={"fmp"}, began=now() - runs.YIELDS)):
            assert backfill.wish() == ""
        with tracked(a(ledger, "01E", sources={"fmp"}, began=now() + timedelta(days=1))):  # before a clock was put back
            assert backfill.wish() == ""
        with tracked(a(ledger, "01F", sources={"fmp"})):
            assert backfill.wish() == "yield"


# ------------------------------------------------------------------ against a vendor


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[tuple[Path, assay_sandbox.Sandbox]]:
    """The markets lake, prices month by month, at ten asks a second."""
    root = begun(tmp_path / "markets", "markets")
    sandbox = assay_sandbox.Sandbox(limit=(100_000, 60.0))
    contract = root / "contracts/price_eod.yaml"
    contract.write_text(contract.read_text().replace("value: P10Y", "value: P1M"))
    with sandbox.running() as url:
        path = root / "assay.toml"
        path.write_text(path.read_text().replace("http://127.0.0.1:8321/stable", url).replace("3000", "600"))
        yield root, sandbox


def backfill(lake: Lake) -> threading.Thread:
    def run() -> None:
        steps, _ = lake.backfill("price_eod", SPAN)
        what = {"command": "backfill", "select": ["price_eod"], "span": str(SPAN)}
        lake.apply([step for step in steps if isinstance(step, Land)], what=what, live=False)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (answer := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


@pytest.mark.slow
def test_a_paused_run_asks_nothing_and_has_put_what_it_has_and_goes_on_when_resumed(
    vendor: tuple[Path, Any], assay: Callable[..., Said]
):
    root, sandbox = vendor
    with lakes.open(root) as lake:
        thread = backfill(lake)
        until(lambda: len(sandbox.log) >= 5)
        assert "asks nothing more until" in assay("--lake", root, "runs", "pause").out
        until(lambda: runs.named(lake.target.ledger, None)["state"] == "paused")
        before = len(sandbox.log)
        time.sleep(1.5)
        assert len(sandbox.log) == before < CALLS
        said = json.loads(assay("--lake", root, "--json", "status").out)["datasets"]["price_eod"]
        assert said["batches"] == before  # put, not kept in memory
        watched = assay("--lake", root, "runs", "watch", "--once").out
        assert f"{before} of {CALLS} windows, 0 failed" in watched
        assert watched.rstrip().endswith("paused")
        assay("--lake", root, "runs", "resume")
        thread.join(30)
        assert len(sandbox.log) == CALLS
        (one,) = runs.listed(lake.target.ledger)
        assert (one["state"], one["done"], one["of"]) == ("done", CALLS, CALLS)


@pytest.mark.slow
def test_a_cancelled_run_keeps_what_it_has_and_a_retry_asks_for_the_rest(
    vendor: tuple[Path, Any], assay: Callable[..., Said]
):
    root, sandbox = vendor
    with lakes.open(root) as lake:
        thread = backfill(lake)
        until(lambda: len(sandbox.log) >= 5)
        assay("--lake", root, "runs", "cancel")
        thread.join(30)
        assert runs.named(lake.target.ledger, None)["state"] == "cancelled"
        before = len(sandbox.log)
        assert 5 <= before < CALLS
        assert lake.status()["datasets"]["price_eod"]["batches"] == before
        done = json.loads(assay("--lake", root, "--json", "runs", "retry").out)
        assert done["landed"] == CALLS - before
        assert len(sandbox.log) == CALLS
        assert [one["state"] for one in runs.listed(lake.target.ledger)] == ["done", "cancelled"]
        said = assay("--lake", root, "runs").out.splitlines()
        assert f"done       {CALLS - before} of {CALLS - before} windows  backfill price_eod {SPAN}" in said[0]


@pytest.mark.slow
def test_what_failed_is_shown_with_its_cause(vendor: tuple[Path, Any], assay: Callable[..., Said]):
    root, sandbox = vendor
    sandbox.faults.add(Fault("plain", "historical-price-eod/non-split-adjusted", "IBM", nth=2, params={"status": 402}))
    with lakes.open(root) as lake:
        backfill(lake).join(60)
        one = runs.named(lake.target.ledger, None)
        assert (one["state"], one["failed"]) == ("failed", 1)
        said = assay("--lake", root, "runs", "watch").out
        assert "land price_eod IBM: 1 window: SourceRefused: " in said
        drawn = heat.of(lake.target.files, lake.target.ledger, lake.contract("price_eod"), SPAN)
        assert drawn
        rows = dict(drawn.rows)
        assert set(rows) == {"AAPL", "GOOG", "IBM", "MSFT"}
        assert all(set(cells) == {100} for shard, cells in rows.items() if shard != "IBM")
        assert set(rows["IBM"]) == {100, -1}
        for column, cell in zip(drawn.columns, rows["IBM"], strict=True):
            assert (cell == -1) == (column.start < date(2006, 3, 1) and column.end > date(2006, 2, 1)), column
        with lake.serving("127.0.0.1", 0) as console, urllib.request.urlopen(f"{console}/runs/{one['run']}") as answer:
            page = answer.read().decode()
        assert 'class="failed" title="IBM, 2006-02' in page
        assert "SourceRefused" in page
        assert 'http-equiv="refresh"' not in page


def test_a_page_of_runs_is_there_without_any_and_one_that_is_not_known_is_refused(markets: Path):
    with lakes.open(markets) as lake, lake.serving("127.0.0.1", 0) as console:
        with urllib.request.urlopen(f"{console}/runs") as answer:
            assert "Nothing was asked yet" in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError, match="404") as raised:
            urllib.request.urlopen(f"{console}/runs/01X")
        raised.value.close()
        with tracked(a(lake.target.ledger, "01Y", of=3)), urllib.request.urlopen(f"{console}/runs") as answer:
            assert 'http-equiv="refresh"' in answer.read().decode()


def test_a_key_reads_of_runs_what_was_landed_of_its_datasets_and_no_name_of_another(markets: Path):
    with lakes.open(markets) as lake:
        ledger = lake.target.ledger
        for name, select, datasets in (
            ("01A", ["price_eod", "splits"], ["splits"]),
            ("01B", ["price_eod"], ["price_eod"]),
        ):
            with tracked(Run(ledger, name, {"command": "apply", "select": select, "datasets": datasets})):
                pass
        _, key = lake.create_key("ci", who="ada", datasets=["splits"], expires=None)
        with lake.serving("127.0.0.1", 0, keyed=True) as console:

            def page(path: str) -> str:
                asked = urllib.request.Request(console + path, headers={"Authorization": f"Bearer {key}"})
                with urllib.request.urlopen(asked) as answer:
                    return answer.read().decode()

            for path in ("/runs", "/runs/01A"):
                assert "splits" in page(path)
                assert "price_eod" not in page(path)
            with pytest.raises(urllib.error.HTTPError, match="404") as raised:
                page("/runs/01B")
            raised.value.close()
