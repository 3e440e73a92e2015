"""The plan is pure: what is missing, and nothing else."""

import dataclasses
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import plan as planning
from assay.contract import odcs
from assay.contract.model import Contract
from assay.errors import UsageError
from assay.lake.coverage import Ageing, Cover, Days, take
from assay.plan import Build, Gold, Land, Looked, Member, Refine, Standing, Step, from_json, missing, promised, to_json
from assay.windows import Duration, Window, cell_of, joined, without

LAKES = Path(__file__).resolve().parents[2] / "lakes"
PRICES = odcs.read(LAKES / "markets/contracts/price_eod.yaml")
SPLITS = odcs.read(LAKES / "markets/contracts/splits.yaml")
NOW = datetime(2013, 6, 5, 12, tzinfo=UTC)
MEMBERS = {"us": [Member("AAPL", date(2000, 3, 1), None)]}
Asked = list[tuple[str, Window, datetime]]


@dataclass(frozen=True)
class Restated(Contract):
    """A contract that says how long a day is asked again."""

    reask: str = ""
    slide: tuple[int, str] | None = None


def restated(reask: str, **more) -> Contract:
    """The contract of prices with that `reask`."""
    said = {f.name: getattr(PRICES, f.name) for f in dataclasses.fields(PRICES)}
    return Restated(**said | more | {"reask": reask})


def covers(asked: Asked, contract: Contract = PRICES, capture: str = "") -> dict[str, Cover]:
    """What asks of shards for windows leave, as the log's coverage has it."""
    out: dict[str, Cover] = {}
    for shard, window, at in asked:
        cover = out.setdefault(shard, Cover(last=1))
        if not capture or capture == contract.capture_fingerprint:
            days = (window.start.toordinal(), window.end.toordinal(), at.date().toordinal())
            cover.days = take(cover.days, *days, Ageing.of(contract))
            cover.batches += 1
            cover.bytes += 100
    return out


def landings(asked: Asked, now: datetime, contract: Contract = PRICES, members=MEMBERS, **more) -> list[Land]:
    found = missing({contract.dataset: contract}, {contract.dataset: covers(asked, contract)}, {}, members, now, **more)
    return [step for step in found if isinstance(step, Land)]


def landed(steps: list[Land], at: datetime) -> Asked:
    return [(step.shard, step.window, at) for step in steps]


def windows(steps: list[Land]) -> list[str]:
    return [str(step.window) for step in steps]


def test_history_is_cut_by_a_grid_that_never_moves() -> None:
    assert windows(landings([], NOW)) == ["2000-03-01..2010-01-01", "2010-01-01..2013-06-05"]


def test_what_is_applied_is_not_planned_again_and_unsettled_days_are_asked_again_later() -> None:
    asked = landed(landings([], NOW), NOW)
    assert landings(asked, NOW) == []
    assert landings(asked, NOW + timedelta(hours=11)) == []
    assert windows(landings(asked, NOW + timedelta(days=1))) == ["2013-06-02..2013-06-06"]
    assert windows(landings(asked, NOW + timedelta(days=10))) == ["2013-06-02..2013-06-15"]


def test_two_gaps_no_wider_apart_than_settle_are_one_ask() -> None:
    old = [
        ("AAPL", Window.parse(w), NOW)
        for w in ("2000-03-01..2013-01-01", "2013-01-02..2013-01-05", "2013-01-06..2013-02-01")
    ]
    asked = [*old, ("AAPL", Window.parse("2013-02-05..2013-06-05"), NOW)]
    assert windows(landings(asked, NOW)) == ["2013-01-01..2013-01-06", "2013-02-01..2013-02-05"]


def test_days_younger_than_reask_are_asked_once_a_day() -> None:
    contract = restated("P10D")
    asked = landed(landings([], NOW, contract), NOW)
    assert landings(asked, NOW + timedelta(hours=11), contract) == []
    assert windows(landings(asked, NOW + timedelta(days=1), contract)) == ["2013-05-27..2013-06-06"]
    assert windows(landings(asked, NOW + timedelta(days=40), contract)) == ["2013-06-02..2013-07-15"]


def test_a_sliding_past_is_asked_again_once_a_slot() -> None:
    contract = restated("P3D", slide=(30, "P7D"))
    asked = landed(landings([], NOW, contract), NOW)  # a Wednesday; a slot begins on Mondays
    per_day = []
    for n in range(1, 20):
        at = NOW + timedelta(days=n)
        found = landings(asked, at, contract)
        asked += landed(found, at)
        assert landings(asked, at, contract) == []
        per_day.append(windows(found))
    assert per_day[0] == ["2013-06-02..2013-06-06"]
    assert per_day[4] == ["2013-05-11..2013-06-10"]  # Monday
    assert per_day[5] == ["2013-06-07..2013-06-11"]
    assert [len(w) for w in per_day] == [1] * 19
    assert [n for n, (w,) in enumerate(per_day) if len(days([Window.parse(w)])) > 7] == [4, 11, 18]


def test_another_question_to_the_source_is_asked_anew() -> None:
    once = covers(landed(landings([], NOW), NOW), capture="another")
    steps = missing({"price_eod": PRICES}, {"price_eod": once}, {}, MEMBERS, NOW)
    assert windows(steps[:2]) == ["2000-03-01..2010-01-01", "2010-01-01..2013-06-05"]
    assert {s.why for s in steps[:2]} == {"the contract asks the source differently now"}


def test_the_whole_is_asked_once_a_slot() -> None:
    first = landings([], NOW, SPLITS)
    assert windows(first) == ["2013-06-03..2013-06-10"]
    assert first[0].days is None
    asked = landed(first, NOW)
    assert landings(asked, NOW + timedelta(days=4), SPLITS) == []
    assert windows(landings(asked, NOW + timedelta(days=5), SPLITS)) == ["2013-06-10..2013-06-17"]


def test_a_whole_that_changed_is_due_whatever_the_slot_and_the_plan_says_what() -> None:
    contract = dataclasses.replace(SPLITS, universe=None)
    asked = landed(landings([], NOW, contract), NOW)

    def why(before: dict[str, str], after: dict[str, str], error: str = "") -> list[str]:
        looked = {contract.dataset: Looked(before, after, error)}
        return [step.why for step in landings(asked, NOW, contract, looked=looked)]

    assert why({"a": "1"}, {"a": "1"}) == why({}, {}) == []
    assert why({"a": "1"}, {"a": "2"}) == ["a changed"]
    assert why({"a": "1"}, {"b": "1"}) == ["a is gone, b is new"]
    assert why({}, {str(n): "" for n in range(7)}) == ["0 is new, 1 is new, 2 is new, 3 is new, 4 is new, and 2 more"]
    assert why({"a": "1"}, {}, "nobody may look") == ["nobody may look"]
    assert [s.why for s in landings([], NOW, contract, looked={contract.dataset: Looked({}, {})})] == ["not landed yet"]


def test_a_calendar_is_asked_for_all_its_days_once_a_slot() -> None:
    contract = dataclasses.replace(SPLITS, start=date(2010, 1, 1))
    (step,) = landings([], NOW, contract)
    assert (str(step.window), str(step.days)) == ("2013-06-03..2013-06-10", "2010-01-01..2013-06-05")
    twice = {"us": [Member("X", date(2011, 1, 1), date(2011, 7, 1)), Member("X", date(2012, 1, 1), date(2012, 7, 1))]}
    (step,) = landings([], NOW, contract, twice)
    assert (step.shard, str(step.days)) == ("X", "2011-01-01..2012-07-01")


def test_a_symbol_is_asked_only_for_days_it_is_listed() -> None:
    members = {"us": [Member("X", date(2012, 1, 1), date(2012, 7, 1)), Member("Y", date(2030, 1, 1), None)]}
    steps = missing({"price_eod": PRICES}, {}, {}, members, NOW)
    assert [step.id for step in steps] == ["land price_eod X 2012-01-01..2012-07-01", "refine price_eod"]


def test_a_symbol_that_is_listed_twice_is_asked_once_a_day() -> None:
    spans = [
        (date(2012, 1, 1), date(2012, 7, 1)),
        (date(2012, 6, 1), date(2012, 9, 1)),
        (date(2013, 1, 1), date(2013, 2, 1)),
    ]
    members = {"us": [Member("X", *span) for span in spans]}
    assert windows(landings([], NOW, members=members)) == ["2012-01-01..2012-09-01", "2013-01-01..2013-02-01"]


def test_days_between_two_listings_are_not_asked_however_few() -> None:
    spans = [(date(2012, 1, 1), date(2012, 1, 5)), (date(2012, 1, 7), date(2012, 1, 10))]
    members = {"us": [Member("X", *span) for span in spans]}
    assert windows(landings([], NOW, members=members)) == ["2012-01-01..2012-01-05", "2012-01-07..2012-01-10"]


def test_a_span_limits_what_is_landed() -> None:
    assert windows(landings([], NOW, span=Window.parse("2009-12-30..2010-01-03"))) == [
        "2009-12-30..2010-01-01",
        "2010-01-01..2010-01-03",
    ]
    assert landings([], NOW, span=Window.parse("1990-01-01..1990-02-01")) == []


def test_an_ask_is_guessed_by_those_before() -> None:
    asked = landed(landings([], NOW), NOW)
    assert [step.bytes for step in landings([], NOW)] == [None, None]
    assert [step.bytes for step in landings(asked, NOW + timedelta(days=1))] == [100]


def test_equal_histories_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a plan of many shards is a look-up each; contracts are hashed once."""
    calls: list[str] = []
    for name in ("_asks", "_days"):
        act = getattr(planning, name)
        monkeypatch.setattr(planning, name, lambda *given, act=act, name=name: calls.append(name) or act(*given))
    members = {"us": [Member(f"S{n}", date(2000, 3, 1), None) for n in range(500)]}
    asked = [(m.shard, w, NOW) for m in members["us"] for w in (Window.parse("2000-03-01..2013-06-05"),)]
    steps = landings(asked, NOW + timedelta(days=1), members=members)
    assert len(steps) == 500
    assert calls.count("_asks") == 1
    assert calls.count("_days") <= 2


# What is judged and built.

HERE = Standing(
    log=7,
    silver=7,
    contract=PRICES.sha256,
    refine=PRICES.refine_fingerprint,
    gates=(PRICES.gate_fingerprint,),
)


def then(standing: Standing, gold: Gold | None = None, **more) -> list[Step]:
    asked = landed(landings([], NOW), NOW)
    given = {"price_eod": covers(asked)}
    return missing({"price_eod": PRICES}, given, {"price_eod": standing}, MEMBERS, NOW, gold=gold, **more)


def test_what_the_log_holds_after_silver_is_refined() -> None:
    assert then(HERE) == []
    (step,) = then(dataclasses.replace(HERE, log=8))
    assert (step.id, step.contract, step.why) == ("refine price_eod", PRICES.sha256, "1 entry is not judged yet")
    assert then(dataclasses.replace(HERE, log=9))[0].why == "2 entries are not judged yet"
    assert then(Standing(log=1))[0].id == "refine price_eod"
    assert then(Standing()) == []  # nothing was landed: nothing is promised yet


def test_a_changed_contract_is_refined_and_one_that_reads_otherwise_folds_everything() -> None:
    (step,) = then(dataclasses.replace(HERE, contract="0" * 64))
    assert (step.id, step.why) == ("refine price_eod", "the contract changed")
    (step,) = then(dataclasses.replace(HERE, contract="0" * 64, refine="other"))
    assert (step.id, step.everything) == ("refine price_eod everything", True)
    gated = dataclasses.replace(HERE, gates=("other", PRICES.gate_fingerprint))
    assert then(gated) == []
    assert then(HERE, regate=True) == []
    assert then(gated, regate=True) == [
        Refine("price_eod", PRICES.sha256, "--regate: the gate changed", everything=True)
    ]


def test_gold_is_built_for_a_reason() -> None:
    whole = Gold(dbt="p", released_dbt="p", released={"price_eod": (7, PRICES.sha256)})
    assert then(HERE, whole) == []
    reasons = {
        "nothing is released yet": dataclasses.replace(whole, released=None),
        "the dbt project changed": dataclasses.replace(whole, dbt="q"),
        "price_eod changed since the last release": dataclasses.replace(
            whole, released={"price_eod": (6, PRICES.sha256)}
        ),
    }
    for why, gold in reasons.items():
        (step,) = then(HERE, gold)
        assert step == Build(promised([PRICES], gold.dbt), why)
    assert [s.id for s in then(dataclasses.replace(HERE, log=8), whole)] == ["refine price_eod", "build"]
    assert then(dataclasses.replace(HERE, log=8), whole)[1].why == "silver changes: price_eod"
    assert then(HERE, dataclasses.replace(whole, released={"price_eod": (7, "older")}))[0].id == "build"
    assert promised([PRICES], "p") != promised([PRICES], "q") != promised([PRICES, SPLITS], "q")


SHARD = st.text(min_size=1, max_size=6)
WINDOW = st.tuples(st.dates(), st.dates()).filter(lambda p: p[0] < p[1]).map(lambda p: Window(*p))
STEPS = st.one_of(
    st.builds(Land, st.just("d"), st.text(), SHARD, st.none() | WINDOW, st.none() | WINDOW, st.text(), st.none() | st.integers(0, 2**60)),
    st.builds(Refine, st.just("d"), st.text(), st.text(), st.booleans()),
    st.builds(Build, st.text(), st.text()),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(STEPS, STEPS)
def test_a_step_is_handed_on_as_json_and_known_by_its_id(one: Step, other: Step) -> None:
    assert from_json(to_json(one)) == one
    assert one.id.isascii()
    assert one.id.isprintable()
    if isinstance(one, Land) and isinstance(other, Land):
        assert (one.id == other.id) == ((one.shard, one.window) == (other.shard, other.window))
        assert one.id.count(" ") == (3 if one.window else 2)


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"step":"land"}', '{"step":"drop","dataset":"d"}', '{"step":"land","dataset":"d","contract":"","shard":"x","window":{"start":"2024-01-02","end":"2024-01-01"}}'],
)  # fmt: skip
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        from_json(text)


# Laws over days.

DAYS = st.integers(0, 400).map(lambda n: date(2020, 1, 1) + timedelta(days=n))
WINDOWS = st.tuples(DAYS, DAYS).filter(lambda p: p[0] < p[1]).map(lambda p: Window(*p))
SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).filter(lambda p: p[0] < p[1]), max_size=6)


def days(found) -> set[date]:
    return {w.start + timedelta(days=i) for w in found for i in range((w.end - w.start).days)}


@settings(max_examples=200, deadline=None)
@given(SPANS, SPANS)
def test_spans_are_sets_of_days(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    def each(spans) -> set[int]:
        return {d for a, b in spans for d in range(a, b)}

    for found, expected in (
        (joined(some), each(some)),
        (without(joined(some), joined(others)), each(some) - each(others)),
    ):
        assert each(found) == expected
        assert all(a[1] < b[0] for a, b in zip(found, found[1:], strict=False))


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
    now, asked = NOW, []
    for gap in gaps:
        now += timedelta(days=gap, hours=1)
        asked += landed(landings(asked, now), now)
        assert landings(asked, now) == []
    final = now + timedelta(days=30)
    asked += landed(landings(asked, final), final)
    assert days([w for _, w, _ in asked]) == days([Window(date(2000, 3, 1), final.date())])


def rule(
    asked: list[tuple[int, int, int]], wanted: set[int], today: int, ages: tuple[int, int, int], slot: int
) -> set[int]:
    """Day by day, what must be asked: never asked; young and not today; less young and not in this slot; too early."""
    settle, reask, slide = ages
    out = set()
    for day in wanted:
        last = max((at for a, b, at in asked if a <= day < b), default=None)
        young = last is not None and day >= today - reask and last < today
        slides = last is not None and today - slide <= day < today - reask and last < slot
        if last is None or young or slides or (day < today - reask and last <= day + settle):
            out.add(day)
    return out


def bridged(asked: set[int], wanted: set[int], settle: int) -> set[int]:
    out = set(asked)
    for day in sorted(asked):
        later = min((d for d in asked if d > day), default=None)
        if later is not None and later - day - 1 <= settle and all(d in wanted for d in range(day, later)):
            out |= set(range(day, later))
    return out


SETTLED = st.integers(0, 5).flatmap(lambda s: st.tuples(st.just(s), st.integers(s, 9)))
SLIDES = st.none() | st.tuples(st.integers(1, 40), st.sampled_from(["P1D", "P3D", "P7D", "P1M"]))
ASKS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20), st.integers(0, 60)), max_size=7)
SPELLS = st.lists(st.tuples(st.integers(-5, 60), st.none() | st.integers(1, 70)), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(SETTLED, SLIDES, ASKS, SPELLS, st.integers(0, 9), st.sampled_from(["P1D", "P7D", "P1M", "P1Y"]))
def test_the_days_asked_are_those_the_rules_say(
    ages: tuple[int, int], slide: tuple[int, str] | None, asks: list, spells: list, later: int, step: str
) -> None:
    settle, reask = ages
    first = date(2020, 1, 1)
    asks = sorted(((a, a + n, at) for a, n, at in asks), key=lambda one: one[2])
    today = max([at for _, _, at in asks], default=30) + later

    contract = restated(f"P{reask}D", settle=f"P{settle}D", window=step, start=first, slide=slide)
    base = first.toordinal()

    def day(n: int) -> date:
        return first + timedelta(days=n)

    cover = Cover(Days(), batches=1)
    for a, b, at in asks:
        cover.days = take(cover.days, base + a, base + b, base + at, Ageing.of(contract))
    members = {"us": [Member("X", day(a), day(a + n) if n else None) for a, n in spells]}
    now = datetime.combine(day(today), datetime.min.time(), UTC)
    steps = missing({"price_eod": contract}, {"price_eod": {"X": cover}}, {}, members, now)
    wanted = {d for a, n in spells for d in range(max(a, 0), min(today, a + n if n else today))}
    back, every = slide or (0, "P1D")
    slot = cell_of(day(today), Duration.parse(every)).start.toordinal() - base
    expected = bridged(rule(asks, wanted, today, (settle, reask, back), slot), wanted, settle)
    found = [s.window for s in steps if isinstance(s, Land)]
    assert days(found) == {day(n) for n in expected}
    assert sum((w.end - w.start).days for w in found) == len(expected)
    assert [s.days for s in steps if isinstance(s, Land)] == found
    assert all(w.overlap(cell_of(w.start, contract.step)) == w for w in found)
    assert not expected or steps[-1].id == "refine price_eod"


def test_days_to_come_and_days_of_nobodys_history_are_refused() -> None:
    contracts = odcs.read_all(LAKES / "markets/contracts")
    universes = {
        "us": [Member("A", date(1990, 1, 1), date(2013, 1, 1)), Member("B", date(2004, 1, 1), date(2012, 1, 1))]
    }
    today = date(2013, 6, 5)
    for span in ("1999-01-01..2000-01-01", "2013-01-01..2013-06-01"):
        with pytest.raises(UsageError, match=r"price_eod: no day of .* its days begin 2000-01-01 and end 2013-01-01"):
            planning.expected([*contracts.values()], universes, Window.parse(span), today)
    planning.expected([*contracts.values()], universes, Window.parse("1999-01-01..2000-01-02"), today)
    planning.expected([contracts["splits"]], universes, Window.parse("1999-01-01..2000-01-01"), today)
    planning.expected([contracts["price_eod"]], universes, Window.parse("2012-01-01..2013-06-06"), today)
    with pytest.raises(UsageError, match="ends in the future; today is 2013-06-05"):
        planning.expected([contracts["price_eod"]], universes, Window.parse("2012-01-01..2013-06-07"), today)


def test_of_what_is_paused_only_what_is_landed_goes_on() -> None:
    two = {PRICES.dataset: PRICES, SPLITS.dataset: SPLITS}
    standing = {PRICES.dataset: Standing(log=3, silver=2)}
    found = missing(two, {}, standing, MEMBERS, NOW, paused={PRICES.dataset}, gold=Gold())
    of = [(type(step), getattr(step, "dataset", "")) for step in found]
    assert (Land, PRICES.dataset) not in of
    assert {(Land, SPLITS.dataset), (Refine, PRICES.dataset), (Refine, SPLITS.dataset), (Build, "")} <= set(of)
