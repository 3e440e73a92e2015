"""Every named effect is stopped before and after; what follows finds a lake that is whole, and finishes the work."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401 - what is imported here, no fork has to import
import pytest

import assay.build
import assay.engines.duckdb
import assay.land
import assay.run
from assay import crash
from assay.lake import silver
from assay.run import Lake, prove
from assay.run import lake as lakes
from tests.forked import Forked, after_noon, noon
from tests.forked import assay as command
from tests.kept import Kept, begun

HEAD = "trade_id,date,symbol,quantity,price\n"
FIRST = "".join(f"T-{n},2024-01-0{n},IBM,10,{n}\n" for n in range(1, 10))
# A row that changed, one that is new, one that cannot be read; all others are as they were.
SECOND = (
    FIRST.replace("T-3,2024-01-03,IBM,10,3", "T-3,2024-01-03,IBM,10,30")
    + "T-A,2024-01-09,IBM,5,1\nT-B,2024-01-09,IBM,x,1\n"
)


class Trades(Kept):
    """The lake of CSV files."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "lake")
        self.contract = self.root / "contracts/trades.yaml"
        begun(self.root, "csv")
        self.trades(FIRST)

    def trades(self, rows: str) -> None:
        """What the source has."""
        (self.root / "files/trades.csv").write_text(HEAD + rows)

    def run(self, *args: str, **environment: str) -> None:
        """A command that is to go well."""
        with command(self.root, *args, **environment) as one:
            said = one.said()
        assert said.code == 0, said.err

    def stopped(self, *args: str, at: str) -> None:
        """A command that dies at an effect."""
        with command(self.root, *args, ASSAY_CRASH=at) as one:
            said = one.said()
        assert (said.code, said.err.splitlines()[-1]) == (137, f"stopped at {at}"), said.err


@pytest.fixture(scope="module", autouse=True)
def day() -> Iterator[None]:
    """The same for all."""
    with noon():
        yield


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Trades:
    """States: nothing; the contract promised; two landings, the second one not refined, its contract wider."""
    one = Trades(tmp_path_factory.mktemp("crash"))
    one.keep("nothing")
    one.run("refine", "trades")
    one.keep("promised")
    one.run("apply", "trades")
    one.run("check")  # what dbt reads of the project is kept
    one.keep("refined")
    one.trades(SECOND)
    one.run("land", "trades", "--again")
    wider = one.contract.read_text().replace(
        "      - name: price\n",
        "      - {name: note, logicalType: string, classification: internal}\n      - name: price\n",
    )
    one.contract.write_text(wider)
    one.keep("landed")
    return one


def finish(kept: Trades, right: Counter[tuple[Any, ...]]) -> None:
    """Apply what is missing, an hour later, when every lease is over; then all proofs there are, and the versions."""

    def act() -> None:
        with lakes.open(kept.root) as lake:
            done = lake.apply(lake.plan(["trades"]))
            assert not done.errors, done.errors
            assert lake.plan(["trades"]) == []
            found = lake.status()["datasets"]["trades"]
            assert (found["unjudged"], found["failing"]) == (0, []), found
            assert prove.counts(lake)["captured"] == found["captured"]
            assert prove.rebuild(lake, ["trades"]) == {"trades": found["accepted"]}
            prove.bronze_objects(lake)
            prove.silver_objects(lake)
            assert versions(lake) == right

    with Forked(act, ASSAY_CLOCK_OFFSET=after_noon(3600)) as one:
        said = one.said()
    assert said.code == 0, said.err


def versions(lake: Lake) -> Counter[tuple[Any, ...]]:
    """What silver says: key, price, and whether it is current."""
    pair = silver.load(lake.target.catalog, "trades")
    assert pair
    out: Counter[tuple[Any, ...]] = Counter()
    for is_current, relation in zip((True, False), prove.relations(lake, pair), strict=True):
        with prove.opened(lake) as con:
            rows = con.execute(
                f"SELECT trade_id, price::INTEGER FROM ({assay.lake.duck.relation(relation)})"
            ).fetchall()
        out.update((is_current, *row) for row in rows)
    return out


ONCE = Counter({(True, f"T-{n}", n): 1 for n in range(1, 10)})
TWICE = Counter({**ONCE, (True, "T-3", 30): 1, (False, "T-3", 3): 1, (True, "T-A", 1): 1}) - Counter(
    {(True, "T-3", 3): 1}
)
CASES = [
    ("nothing", "apply", ONCE, ["lake.format", "land.contract", "land.entry", "land.ledger"]),
    ("promised", "apply", ONCE, ["land.part", "land.entry", "land.ledger", "tables.data", "refine.evidence", "tables.metadata", "refine.current", "refine.ledger"]),
    ("landed", "apply", TWICE, ["refine.schema", "refine.quarantine", "tables.data", "refine.evidence", "tables.metadata", "refine.past", "refine.current", "refine.ledger"]),
]  # fmt: skip


@pytest.mark.parametrize("when", ["before", pytest.param("after", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("state", "does", "right", "effect"),
    [
        pytest.param(*one, effect, marks=[] if one[0] == "landed" else pytest.mark.slow)
        for *one, effects in CASES
        for effect in effects
    ],
)
def test_landing_and_refining_survive(
    kept: Trades, state: str, does: str, right: Counter[tuple[Any, ...]], effect: str, when: str
) -> None:
    kept.begin(state)
    kept.stopped(does, "trades", at=f"{effect}:{when}")
    finish(kept, right)


def test_a_new_table_survives(kept: Trades) -> None:
    for when in ("before", "after"):
        kept.begin("nothing")
        kept.stopped("apply", "trades", at=f"refine.schema:{when}")
        finish(kept, ONCE)


def test_every_effect_but_those_with_tests_of_their_own_is_stopped() -> None:
    tried = {effect for _, _, _, effects in CASES for effect in effects}
    others = ("release.", "upkeep.", "erase.", "keys.", "alert.", "upgrade.")
    assert tried == {e for e in crash.EFFECTS if not e.startswith(others)}


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", [e for e in crash.EFFECTS if e.startswith("release.")])
def test_releasing_survives(kept: Trades, effect: str, when: str) -> None:
    kept.begin("refined")
    kept.stopped("build", at=f"{effect}:{when}")
    there = f"{effect}:{when}" in ("release.object:after", "release.ledger:before", "release.ledger:after")
    with lakes.open(kept.root) as lake:
        newest = lake.status()["release"]
        assert (newest is not None) == there
        if there:
            assert lake.read("gold.mart_position").num_rows == 1
    with lakes.open(kept.root) as lake:
        assert not lake.apply(lake.plan()).errors
        assert lake.plan() == []
        assert lake.released().number == 1
        assert lake.read("gold.mart_position").to_pylist()[0]["symbol"] == "IBM"
        assert prove.serving(lake)["release"] == 1
