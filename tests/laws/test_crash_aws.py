"""On AWS, emulated: one lake is stopped at each effect in turn, each time with something new to land; the next command finishes the work."""

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.run import emulated, prove
from assay.run import lake as lakes
from assay.settings import CLOUDSIM
from tests import clouds
from tests.forked import Forked
from tests.forked import assay as command
from tests.kept import begun
from tests.laws.test_crash import versions

pytestmark = pytest.mark.slow
HOUR = 3600
HEAD = "trade_id,date,symbol,quantity,price\n"
EFFECTS = [
    "land.part", "land.entry", "land.ledger", "refine.quarantine", "tables.data", "refine.evidence", "tables.metadata", "refine.past",
    "refine.current", "refine.ledger", "release.intent", "release.commit", "release.serving", "release.object", "release.ledger",
]  # fmt: skip
BEFORE = {"refine.evidence", "refine.current"}
POINTS = [
    f"{effect}:{when}" for effect in EFFECTS for when in ("before", "after") if when == "after" or effect in BEFORE
]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake of CSV files in the doubles of AWS."""
    monkeypatch.setenv(CLOUDSIM, str(clouds.shared().directory / "endpoints.json"))
    root = tmp_path / "lake"
    begun(root, "csv")
    with (root / "assay.toml").open("a") as file:
        file.write('\n[aws]\nregion = "ca-central-1"\naccount = "123456789012"\nbucket = "lake"\nprefix = "crash"\n')
    emulated.prepare(root, "dev", {})
    return root


def test_each_effect_is_survived_before_and_after(root: Path) -> None:
    trades = root / "files/trades.csv"

    def say(n: int) -> None:
        """The n-th state of the source: a row that changes each time, one more that stays, one more that cannot be read."""
        good = [f"T-{i},2024-01-02,IBM,10,{i + 1}" for i in range(n + 9)]
        trades.write_text(
            HEAD + "\n".join([*good, f"T-X,2024-01-02,IBM,10,{n + 1}", f"T-B{n},2024-01-02,IBM,x,1"]) + "\n"
        )

    def landed() -> None:
        with lakes.open(root, target="aws") as lake:
            assert not lake.apply(lake.landings("trades", again=True)).errors

    def finished(n: int, point: str) -> None:
        with lakes.open(root, target="aws") as lake:
            if point.startswith("land."):
                lake.apply(lake.landings("trades", again=True))
            select = [] if point.startswith("release.") else ["trades"]
            done = lake.apply(lake.plan(select))
            assert not done.errors, done.errors
            assert lake.plan(select) == []
            found = lake.status()["datasets"]["trades"]
            assert (found["unjudged"], found["failing"]) == (0, []), found
            assert prove.counts(lake)["captured"] == found["captured"]
            says = versions(lake)
            assert {key: price for (is_current, key, price) in says if is_current} == {
                **{f"T-{i}": i + 1 for i in range(n + 9)}, "T-X": n + 1
            }  # fmt: skip
            assert sorted(one for one in says if not one[0]) == [(False, "T-X", i + 1) for i in range(n)]

    def whole() -> None:
        with lakes.open(root, target="aws") as lake:
            prove.bronze_objects(lake)
            prove.silver_objects(lake)
            prove.rebuild(lake, ["trades"])

    say(0)
    _good(lambda: finished(0, "release."), 0)
    for n, point in enumerate(POINTS, 1):
        say(n)
        later = 2 * HOUR * n
        if not point.startswith("land."):
            _good(landed, later)
        does = {
            "land": ("land", "trades", "--again"),
            "refine": ("refine", "trades"),
            "tables": ("refine", "trades"),
            "release": ("apply",),
        }
        with command(
            root, "--target", "aws", *does[point.partition(".")[0]], ASSAY_CRASH=point, ASSAY_CLOCK_OFFSET=str(later)
        ) as one:
            said = one.said()
        assert (said.code, said.err.splitlines()[-1]) == (137, f"stopped at {point}"), (point, said.err)
        _good(lambda n=n, point=point: finished(n, point), later + HOUR)  # when every lease is over
    _good(whole, 2 * HOUR * len(POINTS) + HOUR)


def _good(act: Callable[[], None], later: int) -> None:
    with Forked(act, ASSAY_CLOCK_OFFSET=str(later)) as one:
        said = one.said()
    assert said.code == 0, said.err
