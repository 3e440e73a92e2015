"""A day of the lake: from source to served number, changed prices, failing tests, vendors that lie, changed contracts."""

import gzip
import json
import resource
import signal
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import assay_sandbox
from assay import clock
from assay.errors import (
    BuildFailed,
    ContractError,
    GateClosed,
    SettingsError,
    SourceError,
    SourceRefused,
    SourceSuspect,
    UsageError,
)
from assay.lake import release
from assay.plan import Build
from assay.run import Lake, prove
from assay.run import lake as lakes
from assay.windows import Window
from tests.kept import Kept, begun
from tests.making import Made
from tests.stories.proxy import Proxy

ONE = "symbol,valid_from,valid_to\nFB,2012-05-18,2013-03-02\n"


def small(root: Path) -> Lake:
    """The markets lake with one symbol, opened."""
    (root / "universe_us.csv").write_text(ONE)
    return lakes.open(root)


def asks(root: Path, url: str, more: str = "") -> None:
    """The lake's source is there from now on."""
    path = root / "assay.toml"
    lines = [f'base_url = "{url}"' if x.startswith("base_url") else x for x in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + f"\n{more}")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """The markets lake with one symbol and its first release; its sandbox runs as long as there are tests."""
    one = Kept(tmp_path_factory.mktemp("kept") / "markets")
    begun(one.root, "markets")
    with assay_sandbox.Sandbox().running() as url:
        asks(one.root, url)
        with small(one.root) as lake:
            assert not lake.apply(lake.plan()).errors
        one.keep("released")
        yield one


@pytest.fixture
def released(kept: Kept) -> Path:
    """That lake as it was after its first release."""
    return kept.begin("released")


def get(url: str):
    with urllib.request.urlopen(url, timeout=120) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_what_is_served_is_what_the_release_holds(built: tuple[Lake, Proxy]) -> None:
    lake, _ = built
    table = lake.read("gold.fct_daily_price").to_pylist()
    apple = next(r for r in table if r["symbol"] == "AAPL" and str(r["date"]) == "2005-02-28")
    with lake.serving("127.0.0.1", 0) as address:
        got = get(f"{address}/v1/gold/fct_daily_price?security_id={apple['security_id']}&date=2005-02-28")
    assert got["origin"] == ["sandbox"]
    assert got["data"][0]["close"] == float(apple["close"]) == 44.86
    assert got["data"][0]["return_1d"] == pytest.approx(float(apple["return_1d"]), abs=0)


@pytest.mark.slow
def test_as_of_reads_what_could_be_known(built: tuple[Lake, Proxy]) -> None:
    lake, _ = built
    moment = datetime(2005, 2, 28, 20, 59, tzinfo=UTC)  # a minute before the close in New York
    days = lake.read("silver.price_eod", columns=["date"], as_of=moment)["date"].to_pylist()
    assert str(max(days)) == "2005-02-25"
    later = lake.read("silver.price_eod", columns=["date"], as_of=moment + timedelta(minutes=1))["date"].to_pylist()
    assert str(max(later)) == "2005-02-28"
    assert lake.read("silver.price_eod", recorded_as_of=moment).num_rows == 0
    known = lake.read("gold.mart_momentum_asof", columns=["known_from"], as_of=moment)["known_from"].to_pylist()
    assert known
    assert max(known) <= moment
    with pytest.raises(UsageError, match="has no clock for that; as_of is answered by mart_momentum_asof"):
        lake.read("gold.fct_daily_price", as_of=moment)
    assert lake.read("silver.price_eod_adjusted", as_of=moment).num_rows == 0


@pytest.mark.slow
def test_a_changed_price_changes_the_number_and_the_old_version_stays(released: Path) -> None:
    overrides = {("FB", "2012-06-01"): {"close": "27.80", "adjClose": "27.80"}}
    with lakes.open(released) as lake:
        before = lake.read("gold.fct_daily_price").to_pylist()
        accounts = lake.status()["datasets"]
    with assay_sandbox.Sandbox(overrides=overrides).running() as url:
        asks(released, url)
        with lakes.open(released) as lake:
            for dataset in ("price_eod", "price_eod_adjusted"):
                assert not lake.apply(lake.landings(dataset, again=True)).errors
            steps = lake.plan()
            assert [s.id for s in steps] == ["refine price_eod", "refine price_eod_adjusted", "build"]
            assert not lake.apply(steps).errors
    with lakes.open(released) as lake:
        after = {r["date"]: r for r in lake.read("gold.fct_daily_price").to_pylist()}
        changed = [r for r in before if r["close"] != after[r["date"]]["close"]]
        assert [str(r["date"]) for r in changed] == ["2012-06-01"]
        assert changed[0]["return_1d"] != after[changed[0]["date"]]["return_1d"]
        versions = [v for v in lake.read("silver.price_eod_versions").to_pylist() if str(v["date"]) == "2012-06-01"]
        assert [str(v["close"]) for v in sorted(versions, key=lambda v: v["captured_at"])] == ["27.720000", "27.800000"]
        assert [v["recorded_to"] is None for v in sorted(versions, key=lambda v: v["captured_at"])] == [False, True]
        assert lake.released().number == 2
        first = release.read(lake.target.files, 1)
        assert lake.released().table("dim_security").snapshot == first.table("dim_security").snapshot
        found = lake.status()["datasets"]["price_eod"]
        assert (found["accepted"], found["unchanged"]) == (accounts["price_eod"]["accepted"] + 1, 195)
        assert prove.rebuild(lake, ["price_eod"]) == {"price_eod": 197}


@pytest.mark.slow
def test_a_failing_test_leaves_the_old_release_served(released: Path) -> None:
    (released / "dbt/tests/no_prices_at_all.sql").write_text("select * from {{ ref('fct_daily_price') }}\n")
    with lakes.open(released) as lake:
        first = lake.released()
        steps = lake.plan()
        assert [(s.id, s.why) for s in steps] == [("build", "the dbt project changed")]
        done = lake.apply(steps)
        assert done.release is None
        assert [type(e) for e in done.errors] == [BuildFailed]
        assert "no_prices_at_all" in str(done.errors[0])
        assert lake.released() == first
        assert lake.read("gold.fct_daily_price").num_rows == 196


@pytest.mark.slow
def test_what_a_changed_contract_plans(released: Path) -> None:
    only = ["price_eod", "splits"]
    contract = released / "contracts/price_eod.yaml"
    original = contract.read_text()

    def planned(changed: str, **how: bool) -> list[str]:
        assert changed != original
        contract.write_text(changed)
        with lakes.open(released) as lake:
            return [s.id for s in lake.plan(only, **how)]

    capture = planned(original.replace("value: P10Y", "value: P5Y"))
    assert capture == ["land price_eod FB 2012-05-18..2013-03-02", "refine price_eod"]
    refine = planned(original.replace('value: {column: date, time: "16:00"', 'value: {column: date, time: "17:00"'))
    assert refine == ["refine price_eod everything"]
    gate = original.replace("quarantinedAtMost: 2", "quarantinedAtMost: 3")
    assert planned(gate) == ["refine price_eod"]  # it judges from here on
    assert planned(gate, regate=True) == ["refine price_eod everything"]
    assert planned(original.replace("name: End-of-day prices", "name: Closing prices")) == ["refine price_eod"]


@pytest.mark.slow
def test_a_checkout_that_is_older_than_the_lake_is_refused(released: Path) -> None:
    contract = released / "contracts/splits.yaml"
    original = contract.read_text()
    contract.write_text(original.replace("version: 1.0.0", "version: 1.0.1"))
    assert contract.read_text() != original
    with lakes.open(released) as lake:
        lake.refine("splits")
    contract.write_text(original)
    with lakes.open(released) as lake, pytest.raises(ContractError, match="this contract was replaced at position"):
        lake.refine("splits")


def test_a_plan_is_empty_after_it_was_applied_and_grows_by_new_days_alone(markets: Path) -> None:
    (markets / "universe_us.csv").write_text("symbol,valid_from,valid_to\nFB,2012-05-18,\n")
    lake = lakes.open(markets)
    span = Window.parse("2012-01-01..2013-03-02")
    assert not lake.apply(lake.plan(["price_eod"], span=span)).errors
    assert lake.plan(["price_eod"], span=span) == []
    wider = Window.parse("2012-01-01..2013-03-05")
    assert [str(s) for s in lake.plan(["price_eod"], span=wider)] == [
        "land price_eod FB 2013-03-02..2013-03-05",
        "refine price_eod",
    ]
    lake.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_faulty_vendor_costs_time_and_loses_nothing(markets: Path, seed: int) -> None:
    plan = assay_sandbox.FaultPlan.seeded(seed, 0.3)
    (markets / "universe_us.csv").write_text(ONE + "AAPL,2000-03-01,2013-03-02\nGOOG,2004-08-19,2013-03-02\n")
    with assay_sandbox.Sandbox(faults=plan).running() as url:
        asks(markets, url, "[source.fmp.options]\nattempts = 4\nbackoff = 0.01\ntimeout = 60\n")
        lake = lakes.open(markets)
        for _ in range(20):
            done = lake.apply([s for s in lake.plan() if not isinstance(s, Build)])
            assert all(isinstance(e, SourceError | GateClosed) for e in done.errors), done.errors
            if not [s for s in lake.plan() if not isinstance(s, Build)]:
                break
        found = lake.status()["datasets"]
        assert {n: d["accepted"] for n, d in found.items()} == {
            "dividends": 3, "price_eod": 5614, "price_eod_adjusted": 5614, "splits": 2, "symbol_list": 10365,
        }  # fmt: skip
        assert prove.counts(lake)["captured"] == sum(d["captured"] for d in found.values())
        lake.close()


@pytest.mark.slow
def test_a_wrong_key_stops_the_run_and_says_who_must_act(markets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_SECRET_FMP_API_KEY", "wrong-canary-key")
    lake = small(markets)
    done = lake.apply(lake.plan())
    assert not any(one.batch for one in done.landed)
    assert all(isinstance(e, SourceRefused) for e in done.errors)
    assert "key" in str(done.errors[0]).lower()
    assert "canary" not in " ".join(map(str, done.errors))
    assert done.release is None
    lake.close()


def test_silence_is_not_no_data(markets: Path) -> None:
    (markets / "universe_us.csv").write_text("symbol,valid_from,valid_to\nGONE,2012-05-18,2013-03-02\n")
    lake = lakes.open(markets)
    done = lake.apply(lake.plan(["price_eod"]))
    assert isinstance(done.errors[0], SourceSuspect)
    assert lake.status()["datasets"]["price_eod"]["batches"] == 0
    lake.close()


@pytest.mark.slow
def test_a_split_rewrites_the_adjusted_series_as_new_versions(markets: Path) -> None:
    sandbox = assay_sandbox.Sandbox()
    with sandbox.running() as url:
        asks(markets, url)
        lake = small(markets)
        only = ["price_eod_adjusted", "splits"]
        assert not lake.apply(lake.plan(only)).errors
        between = clock.now()
        sandbox.records.split("FB", "2013-02-01", 2, 1)
        for dataset in only:
            assert not lake.apply(lake.landings(dataset, again=True)).errors
            lake.refine(dataset)
        found = lake.status()["datasets"]["price_eod_adjusted"]
        assert (found["accepted"], found["unchanged"]) == (196 + 176, 20)  # the days since the split are as they were
        t = lake.target
        made = Made(t.settings.data, t.files, t.catalog, t.ledger, t.engine, t.limits)
        contract = lake.contract("price_eod_adjusted")
        was, now = (
            dict(made.current(contract, "date::VARCHAR, adj_close", recorded_as_of=at)) for at in (between, None)
        )
        assert now["2012-06-01"] * 2 == was["2012-06-01"]
        assert len(was) == len(now) == 196
        assert prove.rebuild(lake, only)["price_eod_adjusted"] == 196 + 176
        lake.close()


def test_a_full_disk_is_named_and_nothing_half_written_is_seen(markets: Path) -> None:
    lake = small(markets)
    lake.refine("symbol_list")  # its contract is promised
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    bronze = lake.target.settings.data / "bronze"
    before = sorted(p for p in bronze.rglob("*") if p.is_file())
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, hard))
    try:
        errors = list(lake.apply(lake.plan(["symbol_list"])).errors)
    except SettingsError as error:  # the ledger's own file is full
        errors = [error]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert errors
    assert all(isinstance(e, SettingsError) for e in errors), errors
    assert sorted(p for p in bronze.rglob("*") if p.is_file()) == before
    assert not lake.apply(lake.plan(["symbol_list"])).errors
    assert prove.counts(lake)["captured"] == 10365
    lake.close()


@pytest.mark.slow
def test_the_key_is_found_nowhere(
    markets: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "canary-7f3a9e-key"
    monkeypatch.setenv("ASSAY_SECRET_FMP_API_KEY", canary)
    caplog.set_level("DEBUG")
    said: list[str] = []
    plan = assay_sandbox.FaultPlan.seeded(11, 0.5)
    with assay_sandbox.Sandbox({canary: assay_sandbox.Plan()}, faults=plan).running() as url:
        asks(markets, url, "[source.fmp.options]\nattempts = 2\nbackoff = 0.01\ntimeout = 60\n")
        lake = small(markets)
        for _ in range(6):
            done = lake.apply([s for s in lake.plan() if not isinstance(s, Build)], say=said.append)
            said += [f"{e!r} {e.__cause__!r}" for e in done.errors]
        lake.close()
    assert any("landed" in line for line in said)
    assert canary not in "\n".join(said) + caplog.text
    for one in markets.rglob("*"):
        if one.is_file():
            data = one.read_bytes()
            assert canary.encode() not in data, one
            if one.suffix == ".gz":
                assert canary.encode() not in gzip.decompress(data), one
