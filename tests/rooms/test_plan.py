"""The plan is pure: what is missing, and nothing else."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from assay import plan as planning
from assay.contract import odcs
from assay.plan import Batch, Facts, Member, Step
from assay.windows import Duration, Window, cell_of, missing
from tests.conftest import ROOT

PRICES = odcs.read(ROOT / "lakes/markets/contracts/price_eod.yaml")
SPLITS = odcs.read(ROOT / "lakes/markets/contracts/splits.yaml")
NOW = datetime(2013, 6, 5, 12, tzinfo=UTC)
MEMBERS = {"us": [Member("AAPL", date(2000, 3, 1), None)]}


def landed(step: Step, at: datetime, capture: str = PRICES.capture_fingerprint) -> Batch:
    assert step.window
    return Batch(f"b{step.window}{at}", step.shard, step.window, 1, at, capture, 1, 100, 1)


def landings(batches: list[Batch], now: datetime, contract=PRICES) -> list[Step]:
    facts = Facts(batches={contract.dataset: batches})
    return [s for s in planning.plan({contract.dataset: contract}, facts, MEMBERS, now, gold=False) if s.kind == "land"]


def test_history_is_cut_by_a_grid_that_never_moves() -> None:
    assert [str(s.window) for s in landings([], NOW)] == ["2000-03-01..2010-01-01", "2010-01-01..2013-06-05"]


def test_what_is_applied_is_not_planned_again_and_unsettled_days_are_asked_again_later() -> None:
    batches = [landed(s, NOW) for s in landings([], NOW)]
    assert landings(batches, NOW) == []
    assert landings(batches, NOW + timedelta(hours=11)) == []
    assert [str(s.window) for s in landings(batches, NOW + timedelta(days=1))] == [
        "2013-06-02..2013-06-03",
        "2013-06-05..2013-06-06",
    ]
    later = NOW + timedelta(days=10)
    assert [str(s.window) for s in landings(batches, later)] == ["2013-06-02..2013-06-15"]


def test_another_question_to_the_source_is_asked_anew() -> None:
    batches = [landed(s, NOW, capture="another") for s in landings([], NOW)]
    steps = landings(batches, NOW)
    assert len(steps) == 2
    assert {s.why for s in steps} == {"the contract asks the source differently now"}


def test_the_whole_is_asked_once_a_slot() -> None:
    first = landings([], NOW, SPLITS)
    assert [str(s.window) for s in first] == ["2013-06-03..2013-06-10"]
    batches = [landed(first[0], NOW, SPLITS.capture_fingerprint)]
    assert landings(batches, NOW + timedelta(days=4), SPLITS) == []
    assert [str(s.window) for s in landings(batches, NOW + timedelta(days=5), SPLITS)] == ["2013-06-10..2013-06-17"]


def test_a_symbol_is_asked_only_for_days_it_is_listed() -> None:
    members = {"us": [Member("X", date(2012, 1, 1), date(2012, 7, 1)), Member("Y", date(2030, 1, 1), None)]}
    steps = planning.plan({"price_eod": PRICES}, Facts(), members, NOW, gold=False)
    assert [str(s) for s in steps] == ["land price_eod X 2012-01-01..2012-07-01", "refine price_eod"]


DAYS = st.integers(0, 400).map(lambda n: date(2020, 1, 1) + timedelta(days=n))
WINDOWS = st.tuples(DAYS, DAYS).filter(lambda p: p[0] < p[1]).map(lambda p: Window(*p))


def days(windows) -> set[date]:
    return {w.start + timedelta(days=i) for w in windows for i in range((w.end - w.start).days)}


@settings(max_examples=200, deadline=None)
@given(WINDOWS, st.lists(WINDOWS, max_size=6))
def test_missing_is_set_difference(wanted: Window, covered: list[Window]) -> None:
    gaps = missing(wanted, covered)
    assert days(gaps) == days([wanted]) - days(covered)
    assert all(a.end < b.start for a, b in zip(gaps, gaps[1:], strict=False))


@settings(max_examples=200, deadline=None)
@given(WINDOWS, st.sampled_from(["P1D", "P7D", "P30D", "P1M", "P3M", "P1Y", "P10Y"]))
def test_cutting_loses_and_repeats_no_day(window: Window, step: str) -> None:
    cells = list(window.grid(Duration.parse(step)))
    parts = [p for c in cells if (p := c.overlap(window))]
    assert sum((p.end - p.start).days for p in parts) == (window.end - window.start).days
    assert days(parts) == days([window])
    assert all(cell_of(c.start, Duration.parse(step)) == c for c in cells)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_applying_whatever_was_planned_leaves_nothing_to_plan(gaps: list[int]) -> None:
    now, batches = NOW, []
    for gap in gaps:
        now += timedelta(days=gap, hours=1)
        batches += [landed(s, now) for s in landings(batches, now)]
        assert landings(batches, now) == []
    final = now + timedelta(days=30)
    batches += [landed(s, final) for s in landings(batches, final)]
    assert days([b.window for b in batches]) == days([Window(date(2000, 3, 1), final.date())])
