"""`assay backfill`: what a span costs is said first, a quota is kept, and what is missing is asked, whatever came before."""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from assay.errors import SourceRefused, UsageError
from assay.lake import account, bronze
from assay.plan import Land
from assay.run import budget, loop
from assay.run import lake as lakes
from assay.targets.sqlite import SqliteLedger
from assay.windows import Window
from tests.forked import Said

ONE = "symbol,valid_from,valid_to\nAAPL,2000-03-01,2013-03-02\nFB,2012-05-18,2013-03-02\n"
SPAN = "2012-01-01..2013-01-01"


@pytest.fixture
def small(markets: Path) -> Path:
    """The markets lake with two symbols, and a vendor that permits five calls a day."""
    (markets / "universe_us.csv").write_text(ONE)
    path = markets / "assay.toml"
    path.write_text(path.read_text().replace("[source.fmp]", "[source.fmp]\ncalls_per_day = 5"))
    return markets


def windows(root: Path, *names: str) -> int:
    """How many batches of these datasets are landed."""
    with lakes.open(root) as lake:
        return sum(len(one.batches) for name in names for one, _ in bronze.since(lake.target.files, name, 0))


@pytest.mark.slow
def test_a_span_is_landed_refined_and_released_and_then_nothing_is_missing(
    small: Path, assay: Callable[..., Said]
) -> None:
    said = assay("--lake", small, "--json", "backfill", "price_eod", SPAN)
    done = json.loads(said.out)
    assert (done["landed"], done["held"], done["errors"]) == (windows(small, "price_eod"), 0, [])
    assert done["rows"] == 250 + 155, "AAPL all of 2012, FB since its first session"
    assert f"{done['steps']} steps: 2 calls at least" in said.err
    assert "fmp permits 5 calls a day, 0 are used today: 1 day" not in said.err, "the last line of the plan is enough"
    again = json.loads(assay("--lake", small, "--json", "backfill", "price_eod", SPAN).out)
    assert (again["landed"], again["rows"]) == (0, 0)


@pytest.mark.slow
def test_more_than_the_quota_is_refused_before_anything_is_asked_or_asked_in_parts(
    small: Path, assay: Callable[..., Said]
) -> None:
    words = ("backfill", "source:fmp", SPAN)
    said = assay("--lake", small, *words)
    assert said.code == UsageError.exit_code
    assert said.err.startswith("UsageError: nothing was asked: fmp permits 5 calls a day, 0 are used today: "), said.err
    assert said.err.endswith("`--allow-part` asks what today has room for\n")
    with lakes.open(small) as lake:
        names = [*lake.contracts]
        wanted = [s for s in lake.plan([f"{n}+" for n in names], span=Window.parse(SPAN)) if isinstance(s, Land)]
        assert f"{len(wanted)} calls at least take {-(-len(wanted) // 5)} days" in said.err
    assert windows(small, *names) == 0
    said = assay("--lake", small, *words, "--allow-part")
    assert "what the quota has no room for today is left: fmp permits 5 calls a day" in said.err
    assert windows(small, *names) == 5
    told = assay("--lake", small, "plan", "source:fmp", "--span", SPAN).out
    assert "fmp permits 5 calls a day, 5 are used today: " in told
    assert assay("--lake", small, *words, "--allow-part").code == 0
    assert windows(small, *names) == 5, "nothing is left of today"
    more = json.loads(assay("--lake", small, "--json", *words, "--allow-part").out)
    assert (more["steps"], more["release"], len(more["left"])) == (0, None, 1), "and nothing is released again"
    with lakes.open(small) as lake:
        left = [s for s in lake.plan([f"{n}+" for n in names], span=Window.parse(SPAN)) if isinstance(s, Land)]
        share = budget.shares(lake, left)["fmp"]
        assert (share.left, share.today, len(left)) == (0, 5, len(wanted) - 5)
        assert share.days == 1 + -(-len(left) // 5)


@pytest.mark.parametrize(
    ("select", "span", "words"),
    [
        ("price_eod", "2013-01-01..2012-01-01", "holds no day"),
        ("price_eod", "2012-01-01..2012-01-01", "holds no day"),
        ("price_eod", "last year", "is not a window such as"),
        ("price_eod", "1900-01-01..1950-01-01", "no day of 1900-01-01..1950-01-01 is in its history; its days begin "),
        ("price_eod", f"2012-01-01..{datetime.now(UTC).date() + timedelta(days=9)}", "ends in the future; today is "),
        ("prices", SPAN, "no dataset 'prices'"),
        ("source:fnp", SPAN, "no dataset comes from 'source:fnp'"),
    ],
)
def test_a_span_or_name_that_makes_no_sense_is_refused(
    small: Path, assay: Callable[..., Said], select: str, span: str, words: str
) -> None:
    said = assay("--lake", small, "backfill", select, span)
    assert said.code == UsageError.exit_code
    assert words in said.err, said.err


def test_more_bytes_than_the_quota_has_left_are_refused_or_asked_as_far_as_they_go(
    small: Path, assay: Callable[..., Said]
) -> None:
    path = small / "assay.toml"
    text = path.read_text().replace("calls_per_day = 5", 'bytes_per_30_days = "1GB"')
    path.write_text(text)
    with lakes.open(small) as lake:
        assert budget.shares(lake, lake.landings("price_eod"))["fmp"].told("fmp") == (
            "fmp permits 1.0 GB in 30 days, 0.0 MB came: about 0.0 MB more are known to come"
        )
        assert not lake.apply(lake.landings("price_eod")[:2]).errors
        steps = [s for s in lake.plan() if isinstance(s, Land) and s.dataset == "price_eod"]
        share = budget.shares(lake, steps)["fmp"]
        came = sum(part.bytes for one, _ in bronze.since(lake.target.files, "price_eod", 0) for part in one.parts)
        assert (share.lately, share.beyond, share.calls) == (came, False, len(steps))
        assert share.bytes == sum(s.bytes or 0 for s in steps) > 0
        others = [s for s in lake.plan() if isinstance(s, Land)]
        assert None in [s.bytes for s in others]
        mixed = replace(budget.shares(lake, others)["fmp"], bytes_per_30_days=came + share.bytes - 1)
        assert mixed.beyond, "what is known is enough"
        assert len(budget.within(lake, others, {"fmp": mixed})) == len(others) - 1
        with pytest.raises(UsageError, match=r"^land.price_eod.* permits 0\.0 MB in 30 days: raise bytes_per_30_days"):
            budget.fits(lake, steps, {"fmp": replace(share, bytes_per_30_days=1)})
        each = max(s.bytes or 0 for s in steps)
        for room in (0, 1, each, 2 * each, 10**9):
            left = replace(share, bytes_per_30_days=came + room)
            asked = budget.within(lake, steps, {"fmp": left})
            assert sum(s.bytes or 0 for s in asked if isinstance(s, Land)) <= room
            assert left.beyond == (len(asked) < len(steps))
            assert asked or room < each
    path.write_text(text.replace("1GB", "1KB"))
    said = assay("--lake", small, "backfill", "price_eod", SPAN)
    assert said.code == UsageError.exit_code
    assert "raise bytes_per_30_days, or say a shorter window in the contract" in said.err
    path.write_text(text.replace("1GB", f"{came // 1000}KB"))
    said = assay("--lake", small, "backfill", "price_eod", SPAN)
    assert said.code == UsageError.exit_code
    assert "UsageError: nothing was asked: fmp permits " in said.err
    before = windows(small, "price_eod")
    assert " MB in 30 days, " in assay("--lake", small, "plan").out
    assay("--lake", small, "backfill", "price_eod", SPAN, "--allow-part")
    assert windows(small, "price_eod") == before


def test_a_call_costs_what_the_contracts_say(small: Path, assay: Callable[..., Said]) -> None:
    for name, price in (("price_eod", "0.0025"), ("splits", "1")):
        path = small / f"contracts/{name}.yaml"
        said = f"price: {{priceAmount: {price}, priceCurrency: USD, priceUnit: call}}\n"
        path.write_text(path.read_text() + said)
    path = small / "contracts/dividends.yaml"
    path.write_text(path.read_text() + "price: {priceAmount: 99, priceCurrency: USD, priceUnit: megabyte}\n")
    with lakes.open(small) as lake:
        steps = lake.plan()
        calls = {name: sum(isinstance(s, Land) and s.dataset == name for s in steps) for name in lake.contracts}
        money = calls["price_eod"] * Decimal("0.0025") + calls["splits"]
        assert lake.cost(steps)["money"] == {"USD": money}
        assert lake.cost(lake.landings("dividends"))["money"] == {}
    assert assay("--lake", small, "plan").out.splitlines()[-1].endswith(f", {money.normalize():f} USD")


def test_only_the_calls_of_the_day_count(small: Path) -> None:
    with lakes.open(small) as lake:
        assert not lake.apply(lake.landings("price_eod")[:1]).errors
        today = datetime.now(UTC).date()
        assert budget.used(lake, "fmp", today) == 1
        assert budget.used(lake, "fmp", today + timedelta(days=1)) == 0
        assert budget.used(lake, "fmp", date(2000, 1, 1)) == 1
        assert budget.used(lake, "files", today) == 0


def test_a_window_that_failed_stays_failed_until_its_own_days_are_landed(tmp_path: Path) -> None:
    refused = SourceRefused("402")

    def came(window: str, error: SourceRefused | None = None) -> loop.Outcome:
        span = Window.parse(window)
        return loop.Outcome(Land("price_eod", "0", "IBM", span, span), error)

    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:

        def failing() -> list[tuple[list[str], int]]:
            return [(one["windows"], one["attempt"]) for one in account.failing(ledger, "price_eod")]

        loop._failures(ledger, [came("2006-01-01..2006-02-01", refused), came("2006-02-01..2006-03-01")], "a")
        assert failing() == [(["2006-01-01..2006-02-01"], 1)]
        loop._failures(ledger, [came("2006-03-01..2006-04-01")], "a")
        assert failing() == [(["2006-01-01..2006-02-01"], 1)], "another chunk of the shard says nothing of it"
        loop._failures(ledger, [came("2006-04-01..2006-05-01", refused)], "b")
        assert failing() == [(["2006-01-01..2006-02-01", "2006-04-01..2006-05-01"], 2)]
        loop._failures(ledger, [came("2006-01-01..2006-06-01")], "c")
        assert failing() == []


def test_first_days_of_all_shards_are_asked_before_later_ones_where_a_quota_ends(small: Path) -> None:
    (small / "universe_us.csv").write_text(ONE.replace("FB,2012-05-18", "IBM,2000-03-01"))
    with lakes.open(small) as lake:
        steps = lake.plan(["price_eod"], span=Window.parse("2009-01-01..2013-01-01"))
        some = budget.within(lake, steps, {"fmp": budget.Share(9, 1.0, 2, 0)})
        assert [(s.shard, str(s.window)[:4]) for s in some if isinstance(s, Land)] == [
            ("AAPL", "2009"),
            ("IBM", "2009"),
        ]
        assert [type(s) for s in some if not isinstance(s, Land)] == [type(s) for s in steps if not isinstance(s, Land)]
