"""Landing: asks in slices; one that fails does not hinder the others, unless it is the key that is refused."""

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from assay import clock, land
from assay.contract import odcs
from assay.contract.model import Contract
from assay.errors import ContractError, KeyRefused, LakeBusy, LakeDamaged, SettingsError, SourceRefused, SourceSuspect
from assay.lake import bronze, coverage
from assay.land.source import SourceSettings
from assay.targets.local import DiskFiles
from assay.targets.sqlite import SqliteLedger
from assay.windows import Window
from tests.laws.test_log import CONTRACT, left_over

SOURCE = """
import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
import msgspec
from assay.clock import now
from assay.errors import KeyRefused, SourceRefused
from assay.land.source import Page, Request, Source, options_of

class Options(msgspec.Struct):
    path: str

@dataclass(frozen=True)
class Dated(Request):
    date: datetime | None = None

@asynccontextmanager
async def connect(secrets, settings):
    yield None

async def fetch(ask, remote):
    path = ask.options["path"]
    if path == "broken":
        raise KeyError("a secret of its own")
    if path == "refused":
        raise SourceRefused("not for you")
    if path == "key":
        raise KeyRefused("no such key")
    if path == "fields":
        raise SourceRefused(", ".join(ask.fields))
    if ask.shard == "hangs":
        yield Page(Request("http://127.0.0.1/", {}, now(), 200, 1, "0", 1), [b"1"])
        await asyncio.sleep(600)
    if ask.shard == "late":
        await asyncio.sleep(0.2)
    if ask.shard.startswith("large"):
        record = b'"' + b"x" * 2**20 + b'"'
        yield Page(Request("http://127.0.0.1/", {}, now(), 200, 1, "0", 5), [record] * 5)
        if ask.shard == "large breaks":
            raise SourceRefused("in the middle")
        return
    if path.startswith("clock"):
        at = now()
        yield Page(Dated("http://127.0.0.1/", {}, at, 200, 1, "0", 0, date=at - timedelta(minutes=int(path[5:]))), [])
        return
    yield Page(Request("http://127.0.0.1/", {}, now(), 200, 1, "0", 1), [b'{"id":"a"}'], raw=b"as it came")

source = Source(connect, fetch, "1", lambda options: options_of(Options, options))
"""
DAY = Window(date(2024, 1, 1), date(2024, 1, 2))


def contract(path: str, dataset: str = "") -> Contract:
    text = CONTRACT.replace("things", dataset or path).replace("value: fmp", "value: odd.source")
    return odcs.parse(text.replace(f"path: {dataset or path}, shard_param: symbol, date_field: date", f"path: {path}"))


@dataclass
class Lake:
    root: Path
    files: DiskFiles
    ledger: SqliteLedger

    def land(self, *asks: land.Wanted, **more: object) -> list[land.Landed]:
        return land.land(
            asks, settings=SourceSettings("http://127.0.0.1/", "synthetic"), files=self.files, ledger=self.ledger,
            secrets=None, root=self.root, **{"run": "run"} | more,
        )  # fmt: skip

    def batches(self, dataset: str) -> list[list[str]]:
        entries = [entry for entry, _ in bronze.since(self.files, dataset, 0)]
        for entry in entries:
            bronze.check(self.files, entry, whole=True)
        return [[batch.shard for batch in entry.batches] for entry in entries if entry.kind == "landed"]


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/source.py").write_text(SOURCE)
    ledger = SqliteLedger(tmp_path / "ledger.db")
    yield Lake(tmp_path, DiskFiles(tmp_path / "lake"), ledger)
    assert not left_over(tmp_path / "lake/_tmp")
    ledger.close()


def wanted(path: str, *shards: str, dataset: str = "") -> list[land.Wanted]:
    return [land.Wanted(contract(path, dataset), shard, DAY, None) for shard in shards or ("all",)]


def day(number: int) -> Window:
    return Window(DAY.start + timedelta(days=number), DAY.end + timedelta(days=number))


def test_what_is_asked_together_is_one_entry(lake: Lake) -> None:
    heard: list[land.Landed] = []
    found = lake.land(*wanted("fine", "a", "b", "c"), done=heard.append)
    assert heard == found
    assert [(one.shard, one.position, one.batch.n, one.error) for one in found] == [
        ("a", 2, 0, None), ("b", 2, 1, None), ("c", 2, 2, None),
    ]  # fmt: skip
    [first, entry] = [entry for entry, _ in bronze.since(lake.files, "fine", 0)]
    assert (first.kind, first.contract, first.run) == ("contract", contract("fine").sha256, "run")
    assert (entry.source, entry.origin, entry.capture, entry.contract, entry.run) == (
        "odd.source", "synthetic", contract("fine").capture_fingerprint, contract("fine").sha256, "run",
    )  # fmt: skip
    assert len(entry.code) == 64
    assert {batch.seen for batch in entry.batches} == {1}
    assert (entry.batches[0].start, entry.batches[0].end) == (DAY.start, DAY.end)
    assert lake.ledger.newest("tail", "fine", "tail").version == 2


def test_a_source_that_breaks_or_refuses_one_ask_leaves_the_others(lake: Lake) -> None:
    asks = [one for path in ("broken", "fine", "refused", "zlast") for one in wanted(path)]
    found = lake.land(*asks)
    assert {one.dataset: type(one.error) for one in found} == {
        "broken": SourceSuspect, "refused": SourceRefused, "fine": type(None), "zlast": type(None),
    }  # fmt: skip
    assert "secret of its own" not in " ".join(str(one.error) for one in found)
    assert [lake.batches(one) for one in ("broken", "fine", "refused", "zlast")] == [[], [["all"]], [], [["all"]]]


def test_what_is_not_asked_any_more_says_so_in_few_words(lake: Lake) -> None:
    [first, *rest] = lake.land(*(one for path in ("key", "later", "more", "much", "zmore") for one in wanted(path)))
    assert (first.asked, str(first.error)) == (True, "no such key")
    assert [(one.dataset, one.asked, str(one.error)) for one in rest] == [
        (name, False, "not asked: the key was refused") for name in ("later", "more", "much", "zmore")
    ]
    assert {type(one.error) for one in rest} == {KeyRefused}


def test_a_source_is_told_which_fields_the_contract_reads(lake: Lake) -> None:
    assert [str(one.error) for one in lake.land(*wanted("fields"))] == ["symbol, date"]


def test_options_the_source_does_not_know_are_refused_and_nothing_is_asked(lake: Lake) -> None:
    odd = odcs.parse(contract("zodd").text.replace("{path: zodd}", "{pth: key}"))
    found = lake.land(*wanted("fine"), land.Wanted(odd, "all", DAY, None))
    said = "zodd: this source has no option 'pth' (did you mean 'path'?); it knows path"
    assert {one.dataset: one.error and str(one.error) for one in found} == {"fine": None, "zodd": said}
    with pytest.raises(ContractError, match="zodd: this source has no option 'pth'"):
        land.check(odd, lake.root)
    land.check(contract("fine"), lake.root)


def test_a_checkout_with_a_replaced_contract_lands_nothing(lake: Lake) -> None:
    newer = odcs.parse(contract("fine").text.replace("1.0.0", "1.0.1"))
    lake.land(*wanted("fine"), run="1")
    lake.land(land.Wanted(newer, "all", day(1), None))
    [found] = lake.land(*wanted("fine"))
    assert isinstance(found.error, ContractError)
    assert "was replaced at position 3" in str(found.error)


def test_kept_answers_are_checked_too(lake: Lake) -> None:
    lake.land(*wanted("fine"))
    [kept] = [name for name in lake.files.names("bronze") if "-raw-" in name]
    path = lake.files.root / kept
    path.chmod(0o600)
    path.write_bytes(b"x")
    with pytest.raises(LakeDamaged, match=r"-raw-.* is not what was written"):
        lake.batches("fine")


def test_what_another_run_is_landing_is_left_to_it(lake: Lake) -> None:
    [a, b] = wanted("fine", "a", "b")
    until = clock.now() + timedelta(minutes=1)
    assert lake.ledger.claim(land._lease(a), "another", until)
    found = {one.shard: one for one in lake.land(a, b)}
    assert isinstance(found["a"].error, LakeBusy)
    assert "another run is landing it" in str(found["a"].error)
    assert found["b"].position == 2
    assert lake.ledger.claim(land._lease(b), "another", until)  # let go of
    assert lake.ledger.claim(land._lease(a), "another", clock.now())
    assert lake.land(a)[0].position == 3


def test_leases_of_what_failed_are_let_go_of(lake: Lake) -> None:
    lake.land(*wanted("refused"))
    assert lake.ledger.claim(land._lease(wanted("refused")[0]), "another", clock.now() + timedelta(minutes=1))


def test_whom_a_run_waits_for_gets_what_it_has_not_begun(lake: Lake) -> None:
    asks, said = wanted("fine", *"abcdef"), iter(["", "yield"])
    got: list[bool] = []

    def wish() -> str:
        word = next(said, None)
        if word is None and not got:
            got.extend(lake.ledger.claim(land._lease(one), "another", clock.now()) for one in asks)
        return word or ""

    assert all(one.error is None for one in lake.land(*asks, wish=wish))
    assert got == [False, True, True, True, True, True]


@pytest.mark.parametrize(("minutes", "lands"), [(119, True), (-119, True), (121, False), (-121, False)])
def test_a_clock_that_is_hours_off_the_answers_lands_nothing(lake: Lake, minutes: int, lands: bool) -> None:
    asks = [
        land.Wanted(contract("fine"), "early", DAY, None),
        *wanted(f"clock{minutes}", dataset="clock"),
        *wanted("fine", "x", "y", "z"),
    ]
    found = lake.land(*asks)
    assert lake.batches("fine") == ([["early", "x", "y", "z"]] if lands else [])
    if not lands:
        assert all(isinstance(one.error, SettingsError) for one in found)
        assert any("this machine's clock says" in str(one.error) and "the answer's" in str(one.error) for one in found)


def test_slices_are_bounded_by_asks_and_an_entry_holds_a_slice(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(land, "ASKS", 4)
    found = lake.land(*wanted("fine", *"abcdefghi", "late"))
    assert sorted(map(sorted, lake.batches("fine"))) == [list("abcd"), list("efgh"), ["i", "late"]]
    assert all(one.error is None for one in found)
    assert Counter(one.position for one in found) == {2: 4, 3: 4, 4: 2}


def test_slices_are_bounded_by_bytes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(land, "BYTES", 2**20)
    found = lake.land(*wanted("fine", "large 1", "large breaks", "a", "b", "c", "d", "large 2"))
    assert {one.shard for one in found if one.error} == {"large breaks"}
    shards = lake.batches("fine")
    assert len(shards) > 1
    assert sorted(s for one in shards for s in one) == ["a", "b", "c", "d", "large 1", "large 2"]


def test_slices_are_bounded_by_time(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(land, "SECONDS", 0.0)
    lake.land(*wanted("fine", *"abc"))
    assert sorted(lake.batches("fine")) == [["a"], ["b"], ["c"]]


def test_the_next_plan_reads_nothing_of_what_was_landed(lake: Lake) -> None:
    asks, read = wanted("fine", "a", "b"), []
    lake.land(*asks)

    def entries(after: int) -> Iterator[tuple[bronze.Entry, str]]:
        for one in bronze.since(lake.files, "fine", after):
            read.append(one)
            yield one

    assert sorted(coverage.bring(entries, lake.ledger, asks[0].contract).covers) == ["a", "b"]
    assert read == []


def test_a_dataset_is_put_as_soon_as_nothing_of_it_is_left_to_ask(lake: Lake) -> None:
    heard: list[tuple[str, int]] = []

    def done(one: land.Landed) -> None:
        heard.append((one.dataset, len(lake.batches("first"))))

    lake.land(*wanted("fine", "a", "b", dataset="first"), *wanted("fine", "late", dataset="second"), done=done)
    assert heard == [("first", 1), ("first", 1), ("second", 1)]


def test_an_interrupt_puts_what_is_complete_and_nothing_else(lake: Lake) -> None:
    heard: list[land.Landed] = []
    ended = threading.Event()

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not any(lake.root.glob("lake/_tmp/*")) and time.monotonic() < deadline:
            time.sleep(0.01)  # what is complete is in scratch
        time.sleep(0.1)
        if not ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        lake.land(*wanted("fine", "a", "b", "hangs", "c"), done=heard.append)
    ended.set()
    thread.join()
    assert lake.batches("fine") == [["a", "b", "c"]]
    assert sorted(one.shard for one in heard) == ["a", "b", "c"]
    for ask in wanted("fine", "a", "hangs"):
        assert lake.ledger.claim(land._lease(ask), "another", clock.now())


def test_landing_below_a_running_loop(lake: Lake) -> None:
    async def notebook() -> list[land.Landed]:
        return lake.land(*wanted("fine", "a"))

    [found] = asyncio.run(notebook())
    assert found.position == 2


def test_of_two_runs_that_want_the_same_one_lands_it(lake: Lake) -> None:
    found: list[land.Landed] = []
    other = SqliteLedger(lake.root / "another.db")  # its leases are not seen: only the log decides

    def second() -> None:
        two = Lake(lake.root, lake.files, other)
        found.extend(two.land(*wanted("fine", *"abcdef", "late"), run="second"))

    thread = threading.Thread(target=second)
    thread.start()
    found += lake.land(*wanted("fine", *"abcdef", "late"), run="first")
    thread.join()
    other.close()
    seen = Counter(shard for one in lake.batches("fine") for shard in one)
    landed = Counter(one.shard for one in found if one.error is None)
    assert seen == landed
    assert set(landed) == {*"abcdef", "late"}
    assert all("was landed by another run meanwhile" in str(one.error) for one in found if one.error)


def complete(text: str) -> Contract:
    return replace(odcs.parse(text), complete=True)


YEAR = Window(date(2024, 1, 1), date(2025, 1, 1))


def test_a_scope_is_the_shard_and_the_days_that_were_asked_for() -> None:
    one = complete(CONTRACT)
    assert land.scope_of(one, "A", YEAR) == {"symbol": ("A", "A"), "date": ("2024-01-01", "2024-12-31")}
    assert land.scope_of(one, "A", None) == {"symbol": ("A", "A")}
    assert land.scope_of(odcs.parse(CONTRACT), "A", YEAR) is None
    every = CONTRACT.replace("- {property: window, value: P1Y}\n", "- {property: every, value: P1D}\n")
    listed = every.replace("- {property: universe, value: us}\n", "").replace(
        "- {property: start, value: 2024-01-01}\n", ""
    )
    assert land.scope_of(complete(listed), "all", None) == {}
    assert land.scope_of(complete(CONTRACT.replace(", date_field: date", "")), "A", YEAR)["date"][1] == "2024-12-31"


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("shard_param: symbol", "shard_param: ticker", "0 such columns"),
        ("shard_param: symbol", "shard_param: symbol, shard_field: other", "0 such columns"),
        ("path: things, shard_param: symbol", "path: things", "0 such columns"),
        ("date_field: date", "date_field: day", "one day of the key"),
        (
            "logicalType: date, primaryKey: true, primaryKeyPosition: 2, required: true",
            "logicalType: date",
            "one day of the key",
        ),
        ("name: symbol, logicalType: string", "name: symbol, logicalType: integer", "a text of the key"),
    ],
)
def test_a_scope_that_cannot_be_said_is_refused(old: str, new: str, match: str) -> None:
    assert old in CONTRACT
    with pytest.raises(ContractError, match=match):
        land.scope_of(complete(CONTRACT.replace(old, new)), "A", YEAR)
    with pytest.raises(ContractError, match=f"things: complete: .*{match}"):
        land.check(complete(CONTRACT.replace(old, new)))
