"""Law 10: planning, refining one new day, looking and asking cost what is new: counted in calls, not in seconds."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from assay import run
from assay.lake import bronze
from assay.land.pace import Pace, Shared
from assay.ports import Fact, Files, Ledger
from assay.run import Lake
from assay.windows import Window
from assay_sandbox import Fault, Sandbox
from tests.laws.lakes import Where, new_lake
from tests.making import EVERY_TYPE, Made, make, make_on_aws, make_on_store, record
from tests.rooms.test_pace import Clock


class Counting:
    """`Files` that count what is asked of others."""

    def __init__(self, files: Files, calls: Counter[str]) -> None:
        self._files, self._calls = files, calls

    def put_new(self, name: str, data: bytes | Path, as_effect: str) -> bool:
        self._calls["put"] += 1
        return self._files.put_new(name, data, as_effect)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        self._calls["read"] += 1
        return self._files.read(name, start, end)

    def local(self, name: str, sha256: str) -> Path:
        self._calls["local"] += 1
        return self._files.local(name, sha256)

    def url(self, name: str) -> str:
        return self._files.url(name)

    def exists(self, name: str) -> bool:
        self._calls["exists"] += 1
        return self._files.exists(name)

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        for name in self._files.names(prefix, after):
            self._calls["listed"] += 1
            yield name

    def delete(self, name: str) -> None:
        self._calls["delete"] += 1
        self._files.delete(name)

    def scratch(self) -> Path:
        return self._files.scratch()


class CountingLedger:
    """A `Ledger` that counts the facts that are read and written."""

    def __init__(self, ledger: Ledger, calls: Counter[str]) -> None:
        self._ledger, self._calls = ledger, calls

    def record(self, facts: Iterable[Fact]) -> list[Fact]:
        facts = list(facts)
        self._calls["recorded"] += len(facts)
        return self._ledger.record(facts)

    def newest(self, kind: str, dataset: str, id: str | None = None) -> Fact | None:  # noqa: A002 - the port's name
        self._calls["facts"] += 1
        return self._ledger.newest(kind, dataset, id)

    def since(self, kind: str, dataset: str, after: str = "") -> Iterator[Fact]:
        for fact in self._ledger.since(kind, dataset, after):
            self._calls["facts"] += 1
            yield fact

    def claim(self, name: str, owner: str, until: datetime) -> bool:
        return self._ledger.claim(name, owner, until)

    def claims(self, names: Collection[str], owner: str, until: datetime) -> set[str]:
        return self._ledger.claims(names, owner, until)

    def close(self) -> None:
        self._ledger.close()


def counting(root: Path, where: Where) -> tuple[Lake, Made, Counter[str]]:
    """An empty lake, and what it is asked."""
    lake, made = new_lake(root, where, EVERY_TYPE)
    calls: Counter[str] = Counter()
    t = replace(
        lake.target, files=Counting(lake.target.files, calls),
        open_ledger=lambda: CountingLedger(made.ledger, calls), open_catalog=lambda: made.catalog,
    )  # fmt: skip
    return Lake(t, lake.contracts, lake.universes), replace(made, files=t.files, ledger=t.ledger), calls


def live(lake: Lake, made: Made, days: Iterable[int]) -> None:
    """So many days, each landed and refined by itself, half of them with a row that changes."""
    for day in days:
        new = [record(id=f'"h{day}"'), record(id='"same"', whole=str(day // 2))]
        made.land(lake.contract("things"), new, shard=f"s{day}")
        lake.refine("things")
    lake.plan()


def cost(calls: Counter[str], act: Callable[[], object]) -> Counter[str]:
    """What one act asked for."""
    calls.clear()
    act()
    return Counter(calls)


@pytest.mark.slow
@pytest.mark.parametrize(("where", "few", "many"), [(make, 10, 40), (make_on_store, 4, 12)])
def test_what_is_asked_is_the_same_after_four_times_the_days(tmp_path: Path, where: Where, few: int, many: int) -> None:
    lake, made, calls = counting(tmp_path, where)
    contract = lake.contract("things")

    def asked(shard: str) -> dict[str, Counter[str]]:
        new = [record(id=f'"{shard}"'), record(id='"same"', whole=f"-{len(shard)}")]
        acts: dict[str, Callable[[], object]] = {
            "plan": lake.plan,
            "status": lake.status,
            "land": lambda: made.land(contract, new, shard=shard),
            "plan what is new": lake.plan,
            "refine": lambda: lake.refine("things"),
            "refine nothing": lambda: lake.refine("things"),
        }
        return {name: cost(calls, act) for name, act in acts.items()}

    live(lake, made, range(few))
    early = asked("x")
    live(lake, made, range(few, many))
    late = asked("xy")
    assert lake.status()["datasets"]["things"]["accepted"] == many + many // 2 + 4
    for name, found in early.items():
        assert sum(found.values()) > 0, name
        assert late[name] == found, name
    lake.close()


@pytest.mark.parametrize("where", [make, make_on_store])
def test_whether_a_log_goes_on_is_asked_once(tmp_path: Path, where: Where) -> None:
    lake, made, calls = counting(tmp_path, where)
    made.land(lake.contract("things"), [record(id='"a"')], shard="s")
    tail = bronze.adopt(made.files, made.ledger, "things")
    found = cost(calls, lambda: list(bronze.since(made.files, "things", tail.position)))
    assert (found["read"], found["exists"]) == (1, 0)
    found = cost(calls, lambda: list(bronze.since(made.files, "things", 0)))
    assert (found["read"], found["exists"]) == (tail.position + 1, 0)
    lake.close()


@pytest.mark.slow
def test_what_is_asked_of_aws_is_the_same_after_four_times_the_days(tmp_path: Path) -> None:
    """Calls to S3, Glue and DynamoDB: the bill of a landing, a refine, a plan. Emulated; what is sent is what AWS would count."""
    lake, made = new_lake(tmp_path, make_on_aws, EVERY_TYPE)
    contract = lake.contract("things")
    clients = [made.files.clients, made.ledger._clients]

    def sent(act: Callable[[], object]) -> Counter[str]:
        for one in clients:
            one.calls.clear()
        act()
        return sum((one.calls for one in clients), Counter())

    def asked(shard: str) -> dict[str, Counter[str]]:
        new = [record(id=f'"{shard}"'), record(id='"same"', whole=f"-{len(shard)}")]
        return {
            "land": sent(lambda: made.land(contract, new, shard=shard)),
            "plan": sent(lake.plan),
            "refine": sent(lambda: lake.refine("things")),
            "refine nothing": sent(lambda: lake.refine("things")),
            "status": sent(lake.status),
        }

    live(lake, made, range(3))
    early = asked("x")
    live(lake, made, range(3, 12))
    late = asked("xy")
    for name, found in early.items():
        assert sum(found.values()) > 0, name
        assert late[name] == found, name
    assert sum(early["land"].values()) <= 30, early["land"]
    assert sum(early["refine"].values()) <= 75, early["refine"]
    lake.close()


def test_what_is_asked_of_a_dataset_is_not_asked_for_each_window_of_it(markets: Path) -> None:
    contract = markets / "contracts/price_eod.yaml"
    contract.write_text(contract.read_text().replace("value: P10Y", "value: P1M"))
    with run.open(markets) as opened:
        kinds: Counter[str] = Counter()

        class Kinds(CountingLedger):
            def newest(self, kind: str, dataset: str, id: str | None = None) -> Fact | None:  # noqa: A002 - the port's name
                kinds[kind] += 1
                return super().newest(kind, dataset, id)

        ledger = Kinds(opened.target.ledger, Counter())
        lake = Lake(replace(opened.target, open_ledger=lambda: ledger), opened.contracts, opened.universes)
        for year in (2004, 2005):
            steps = lake.landings("price_eod", span=Window.parse(f"{year}-01-01..{year}-04-01"))
            kinds.clear()
            assert not lake.apply(steps).errors
        assert len(steps) == 12
        assert kinds["shape"] < 12, kinds
        assert kinds["contract"] < 12, kinds


def test_leases_of_asks_that_begin_together_are_taken_together(markets: Path) -> None:
    contract, sandbox, settings = markets / "contracts/price_eod.yaml", Sandbox(), markets / "assay.toml"
    contract.write_text(contract.read_text().replace("value: P10Y", "value: P1M"))
    sandbox.faults.add(Fault("latency", times=None, params={"seconds": 0.2}))
    with sandbox.running() as url:
        said = re.sub(r"http://127\.0\.0\.1:\d+/stable", url, settings.read_text())
        settings.write_text(said.replace("requests = 3000\nper = 60.0", "requests = 1000000\nper = 1.0"))
        opened = run.open(markets)
        claims: list[Collection[str]] = []

        class Claims(CountingLedger):
            def claims(self, names: Collection[str], owner: str, until: datetime) -> set[str]:
                claims.append(names)
                return super().claims(names, owner, until)

        ledger = Claims(opened.target.ledger, Counter())
        lake = Lake(replace(opened.target, open_ledger=lambda: ledger), opened.contracts, opened.universes)
        steps = lake.landings("price_eod", span=Window.parse("2004-01-01..2005-01-01"))
        assert not lake.apply(steps).errors
        lake.close()
    assert len(steps) > 30
    assert len(claims) < 8, (
        "before it is known how long answers take, then all that are left, and as they are let go of"
    )


def test_what_failed_before_is_looked_up_once_for_all_shards(markets: Path) -> None:
    sandbox, settings = Sandbox(), markets / "assay.toml"
    with sandbox.running() as url:
        settings.write_text(re.sub(r"http://127\.0\.0\.1:\d+/stable", url, settings.read_text()))
        opened = run.open(markets)
        calls: Counter[str] = Counter()

        class Failed(CountingLedger):
            def newest(self, kind: str, dataset: str, id: str | None = None) -> Fact | None:  # noqa: A002 - the port's name
                calls["singly"] += kind == "failed"
                return super().newest(kind, dataset, id)

        ledger = Failed(opened.target.ledger, Counter())
        lake = Lake(replace(opened.target, open_ledger=lambda: ledger), opened.contracts, opened.universes)

        def land(end: str) -> list[str]:
            calls.clear()
            steps = lake.landings("price_eod", span=Window.parse(f"2013-01-02..{end}"))
            assert len({step.shard for step in steps}) == 5
            lake.apply(steps)
            return [one["step"] for one in lake.status()["datasets"]["price_eod"]["failing"]]

        sandbox.faults.add(Fault("plain", symbol="IBM", times=None, params={"status": 400, "text": "no"}))
        assert land("2013-01-04") == ["land price_eod IBM"]
        sandbox.faults.clear()
        assert land("2013-01-08") == []
        assert calls["singly"] == 1, "of the one that had failed"
        assert land("2013-01-12") == []
        assert calls["singly"] == 0
        lake.close()


@pytest.mark.parametrize("where", [make, pytest.param(make_on_aws, marks=pytest.mark.slow)])
def test_a_pace_costs_a_write_for_what_is_taken_at_once_and_a_look_where_others_ask_too(
    tmp_path: Path, where: Where
) -> None:
    _, made = new_lake(tmp_path, where, EVERY_TYPE)
    clock, calls = Clock(), Counter[str]()
    places = [Shared(CountingLedger(made.ledger, calls), "a", clock) for _ in range(3)]

    async def work(one: Pace) -> None:
        for _ in range(100):
            await one.acquire()

    def asked(number: int) -> Counter[str]:
        """By so many that ask for a hundred permits each."""
        paces = [Pace(3000, 60.0, place=one, sleep=clock.sleep) for one in places[:number]]
        return cost(calls, lambda: clock.run(*map(work, paces)))

    slices = 100 / 4  # of a tenth of a second at about 48 a second
    alone = asked(1)
    assert alone["recorded"] <= slices + 2, alone
    assert alone["facts"] == 1, alone
    together = asked(3)
    assert together["recorded"] <= 3 * (slices + 2), together
    assert together["facts"] <= 3 * (slices + 2), together


@pytest.mark.slow
def test_old_bronze_need_not_be_there(tmp_path: Path) -> None:
    """A refine of a new day opens no part, no entry and no quarantine of an old one."""
    lake, made, _ = counting(tmp_path, make)
    live(lake, made, range(8))
    tail = bronze.adopt(made.files, made.ledger, "things").position
    kept = {bronze.name_of("things", tail)}
    for name in [*made.files.names("bronze/"), *made.files.names("quarantine/")]:
        if name not in kept:
            made.files.delete(name)
    made.land(lake.contract("things"), [record(id='"new"')], shard="new")
    assert lake.refine("things").counts["accepted"] == 1
    assert made.current(lake.contract("things"), "count(*)") == [(10,)]
    lake.close()
