"""Whether a source is asked is a person's decision: it stands in the log, stops asking and nothing else, and says who and why."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from assay.errors import UsageError
from assay.lake import account, bronze
from assay.plan import Build, Land, Refine
from assay.run import Lake, prove
from assay.run import lake as lakes
from tests import forked
from tests.forked import Said
from tests.kept import begun

BY = {"who": "ada", "why": "the broker restates"}
MORE = "T-0011,2024-02-21,IBM,1,1\n"
PROMISED = "\nslaProperties: [{property: latency, value: 1, unit: s}]\ncustomProperties:\n"


@pytest.fixture(autouse=True)
def day() -> Iterator[None]:
    """The same for all."""
    with forked.noon():
        yield


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """A lake of CSV files that promises to be fresh, nothing landed."""
    root = begun(tmp_path / "lake", "csv")
    path = root / "contracts/trades.yaml"
    path.write_text(path.read_text().replace("\ncustomProperties:\n", PROMISED))
    with lakes.open(root) as one:
        yield one


def more(lake: Lake) -> None:
    """The source has more."""
    with (lake.root / "files/trades.csv").open("a") as file:
        file.write(MORE)


@pytest.mark.slow
def test_a_paused_source_is_not_asked_and_what_is_landed_goes_on(lake: Lake, assay: Callable[..., Said]) -> None:
    [landing, *_] = planned = lake.plan()
    assert isinstance(landing, Land)
    lake.apply([landing])
    lake.pause("trades", "pause", **BY)
    more(lake)
    assert [type(step) for step in lake.plan()] == [Refine, Build]
    assert not lake.apply(lake.plan()).errors
    assert lake.plan() == []
    for refused in (
        lambda: lake.landings("trades", again=True),
        lambda: lake.backfill("trades", planned[0].window),  # type: ignore[union-attr,arg-type]
        lambda: lake.apply(planned),
        lambda: lake.pause("trades", "pause", **BY),
    ):
        with pytest.raises(
            UsageError, match=r"trades is paused by ada on \S+: the broker restates; .*decide resume trades"
        ):
            refused()
    prove.counts(lake)
    assert prove.rebuild(lake, ["trades"]) == {"trades": 10}
    said = assay("--lake", lake.root, "plan").out.splitlines()
    assert [line.startswith("trades is paused by ada") for line in said] == [True, False]
    found = json.loads(assay("--lake", lake.root, "--json", "status").out)["datasets"]["trades"]
    assert (found["paused"]["kind"], found["paused"]["who"], len(found["late"])) == ("pause", "ada", 1)
    assert "\n  paused by ada on " in assay("--lake", lake.root, "status").out
    with lake.serving("127.0.0.1", 0) as url:
        page = httpx.get(f"{url}/silver/trades", trust_env=False).text
        assert "paused by ada on " in page
        assert "latency: at most PT1S was promised" in page
        assert ">paused</span>" in httpx.get(url, trust_env=False).text
        lake.pause("trades", "retire", **BY)
        page = httpx.get(f"{url}/silver/trades", trust_env=False).text
        assert "retired by ada on " in page
        assert "latency: at most PT1S was promised" not in page
    lake.pause("trades", "resume", who="bob", why="done")
    assert [type(step) for step in lake.plan()] == [Land, Refine, Build]
    assert not lake.apply(lake.plan()).errors
    assert prove.rebuild(lake, ["trades"]) == {"trades": 11}


def test_a_retired_dataset_is_not_late_and_stays_readable(lake: Lake) -> None:
    assert not lake.apply(lake.plan()).errors
    assert len(lake.status()["datasets"]["trades"]["late"]) == 1
    lake.pause("trades", "pause", **BY)
    lake.pause("trades", "retire", who="bob", why="sold")
    found = lake.status()["datasets"]["trades"]
    assert (found["paused"]["kind"], found["paused"]["who"], found["late"]) == ("retire", "bob", [])
    assert lake.sql("select count(*) from silver.trades").rows == ((10,),)
    for kind in ("pause", "retire"):
        with pytest.raises(UsageError, match=r"trades is retired by bob on \S+: sold"):
            lake.pause("trades", kind, **BY)  # type: ignore[arg-type]
    lake.pause("trades", "resume", **BY)
    with pytest.raises(UsageError, match="trades is neither paused nor retired"):
        lake.pause("trades", "resume", **BY)
    assert [one.kind for one in lake.paused()] == []
    assert len(lake.status()["datasets"]["trades"]["late"]) == 1


@pytest.mark.slow
def test_it_stands_in_the_log_which_gives_it_to_a_new_ledger(lake: Lake) -> None:
    lake.pause("trades", "pause", **BY)  # before anything is landed
    entry = bronze.read(lake.target.files, "trades", 1)
    assert (entry.format, entry.who, entry.why) == (2, "ada", "the broker restates")
    assert [one.kind for one in entry.decisions] == ["pause"]
    assert [type(step) for step in lake.plan()] == [Build]
    lake.pause("trades", "resume", **BY)
    assert not lake.apply(lake.plan()).errors
    lake.pause("trades", "retire", **BY)
    root = lake.root
    lake.close()
    for one in (root / "data/dev").glob("ledger.db*"):
        one.unlink()
    with lakes.open(root) as again:
        assert again.plan() == []
        [found] = again.paused()
        assert (found.kind, found.who, found.why) == ("retire", "ada", "the broker restates")
        assert account.of(again.target.ledger, "trades").sum("waiting") == 0
        prove.counts(again)
        prove.bronze_objects(again)
        assert prove.rebuild(again, ["trades"]) == {"trades": 10}


def test_what_failed_is_not_done_because_nobody_asks_any_more(lake: Lake) -> None:
    source = lake.root / "files/trades.csv"
    source.rename(source.with_suffix(".gone"))
    assert lake.apply(lake.plan()).errors
    lake.pause("trades", "pause", **BY)
    lake.plan()
    assert [one["state"] for one in lake.status()["datasets"]["trades"]["failing"]][:1] == ["failed"]


@pytest.mark.parametrize(
    ("dataset", "who", "why", "said"),
    [
        ("nope", "ada", "x", "no dataset 'nope'"),
        ("trades", " ", "x", "who decided"),
        ("trades", "ada", "", "who decided"),
    ],
)
def test_what_says_nothing_is_refused(lake: Lake, dataset: str, who: str, why: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        lake.pause(dataset, "pause", who=who, why=why)
    assert lake.paused() == []
