"""What every ledger must do: on SQLite, and on a table with DynamoDB's limits whose queries read late."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from assay import clock
from assay.errors import LakeBusy, LakeDamaged, SettingsError
from assay.ports import BODY, FACTS, RECORD, Fact, Ledger, in_hundreds
from assay.targets.sqlite import SqliteLedger
from tests import clouds
from tests.every.ledgers import PlainLedger, Table

AT = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KINDS, DATASETS, IDS = ["entry", "coverage"], ["x", "y", ""], ["a", "ab", "b", "é", "z/01"]
FACTS_OF = st.builds(
    Fact, st.sampled_from(KINDS), st.sampled_from(DATASETS), st.sampled_from(IDS),
    st.integers(0, 9).map(lambda n: AT + timedelta(microseconds=n)), st.dictionaries(st.text(max_size=3), st.integers(-9, 9)),
    st.integers(0, 3),
)  # fmt: skip


def _name(fact: Fact) -> tuple[str, str, str]:
    return fact.kind, fact.dataset, fact.id


@dataclass
class Kept:
    """Where facts are kept: `open` is one more user of the same ledger, `come_through` ends a query's lateness."""

    open: Callable[[], Ledger]
    come_through: Callable[[], None]


def sqlite(folder: Path) -> Kept:
    return Kept(lambda: SqliteLedger(folder / "ledger.db"), lambda: None)


def plain(_: Path) -> Kept:
    table = Table(seed=1)
    return Kept(lambda: PlainLedger(table), table.come_through)


def dynamodb(folder: Path) -> Kept:
    made = clouds.settings(folder)
    return Kept(lambda: clouds.ledger(made), lambda: None)


@pytest.fixture(params=[sqlite, plain, dynamodb])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    return request.param(tmp_path)


@pytest.fixture
def ledger(kept: Kept) -> Iterator[Ledger]:
    found = kept.open()
    yield found
    found.close()


class Model(RuleBasedStateMachine):
    """A dict says what is kept and who holds what."""

    make: Callable[[Path], Kept]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.kept = type(self).make(self.folder)
        self.ledgers = [self.kept.open(), self.kept.open()]
        self.facts: dict[tuple[str, str, str], Fact] = {}
        self.ever: list[Fact] = []
        self.owners: dict[str, str] = {}

    @rule(facts=st.lists(FACTS_OF, max_size=6), by=st.sampled_from([0, 1]))
    def record(self, facts: list[Fact], by: int) -> None:
        newest: dict[tuple[str, str, str], Fact] = {}
        for fact in facts:
            name = (fact.kind, fact.dataset, fact.id)
            if name not in newest or fact.version > newest[name].version:
                newest[name] = fact
        stand = [self.facts[n] for n, f in newest.items() if n in self.facts and self.facts[n].version >= f.version]
        found = self.ledgers[by].record(iter(facts))
        assert sorted(found, key=_name) == sorted(stand, key=_name)
        self.ever += facts
        for fact in facts:
            name = (fact.kind, fact.dataset, fact.id)
            if name not in self.facts or fact.version > self.facts[name].version:
                self.facts[name] = fact

    @rule(name=st.sampled_from("ab"), owner=st.sampled_from("pqr"), ends=st.booleans(), by=st.sampled_from([0, 1]))
    def claim(self, name: str, owner: str, ends: bool, by: int) -> None:
        mine = self.owners.get(name, owner) == owner
        assert self.ledgers[by].claim(name, owner, clock.now() + (-HOUR if ends else HOUR)) == mine
        if mine:
            self.owners.pop(name, None)
            if not ends:
                self.owners[name] = owner

    @invariant()
    def a_fact_asked_by_its_id_is_the_models(self) -> None:
        for ledger in self.ledgers:
            for kind in KINDS:
                for dataset in DATASETS:
                    for id_ in IDS:
                        assert ledger.newest(kind, dataset, id_) == self.facts.get((kind, dataset, id_))

    @rule(kind=st.sampled_from(KINDS), dataset=st.sampled_from(DATASETS), after=st.sampled_from(["", *IDS]))
    def since_gives_in_order_what_was_once_there(self, kind: str, dataset: str, after: str) -> None:
        found = list(self.ledgers[0].since(kind, dataset, after))
        assert [f.id for f in found] == sorted({f.id for f in found if f.id > after})
        assert all(f in self.ever and (f.kind, f.dataset) == (kind, dataset) for f in found)
        newest = self.ledgers[0].newest(kind, dataset)
        assert newest is None or newest in self.ever

    def teardown(self) -> None:
        self.kept.come_through()
        for kind in KINDS:
            for dataset in DATASETS:
                there = [f for (k, d, _), f in sorted(self.facts.items()) if (k, d) == (kind, dataset)]
                assert self.ledgers[0].newest(kind, dataset) == (there[-1] if there else None)
                for after in ["", *IDS]:
                    assert list(self.ledgers[1].since(kind, dataset, after)) == [f for f in there if f.id > after]
        for ledger in self.ledgers:
            ledger.close()
        shutil.rmtree(self.folder)


class OnSqlite(Model):
    make = staticmethod(sqlite)


class OnPlain(Model):
    make = staticmethod(plain)


class OnDynamodb(Model):
    make = staticmethod(dynamodb)


RUNS = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestOnSqlite, TestOnPlain = OnSqlite.TestCase, OnPlain.TestCase
TestOnSqlite.settings = TestOnPlain.settings = RUNS
TestOnDynamodb = pytest.mark.slow(OnDynamodb.TestCase)
TestOnDynamodb.settings = settings(RUNS, max_examples=3)


def fact(id_: str, body: dict | None = None, version: int = 0) -> Fact:
    return Fact("k", "d", id_, AT, body or {}, version)


def test_nothing_recorded_is_nothing_found(ledger: Ledger) -> None:
    ledger.record([])
    assert list(ledger.since("k", "d")) == []
    assert ledger.newest("k", "d") is None
    assert ledger.newest("k", "d", "a") is None


@pytest.mark.parametrize(
    "refused",
    [
        [fact(f"{n:03}") for n in range(FACTS + 1)],
        [fact("a"), fact("b", {"text": "x" * BODY})],
        [fact(str(n), {"text": "x" * (BODY - 20)}) for n in range(RECORD // BODY + 1)],
        [fact("a"), fact("")],
        [fact("a"), fact("é" * 501)],
    ],
    ids=["many", "large", "large together", "no id", "long id"],
)
def test_what_one_ledger_cannot_take_none_does(ledger: Ledger, kept: Kept, refused: list[Fact]) -> None:
    with pytest.raises(ValueError):
        ledger.record(refused)
    kept.come_through()
    assert list(ledger.since("k", "d")) == []


def test_what_is_too_much_at_once_is_cut(ledger: Ledger, kept: Kept) -> None:
    facts = [fact(f"{n:04}", {"text": "x" * (BODY - 20)} if n % 20 == 0 else None) for n in range(450)]
    pieces = list(in_hundreds(iter(facts)))
    assert [one for piece in pieces for one in piece] == facts
    for piece in pieces:
        ledger.record(piece)
    kept.come_through()
    assert list(ledger.since("k", "d")) == facts
    assert [f.id for f in ledger.since("k", "d", "0448")] == ["0449"]
    assert ledger.newest("k", "d") == facts[-1]


def test_since_reads_as_it_is_asked(ledger: Ledger, kept: Kept) -> None:
    for piece in in_hundreds(fact(f"{n:04}") for n in range(250)):
        ledger.record(piece)
    kept.come_through()
    reading = ledger.since("k", "d")
    assert next(reading).id == "0000"
    ledger.record([fact("9999")])  # nothing is held open meanwhile
    assert "0249" in [f.id for f in reading]


def test_an_older_version_changes_nothing_and_neither_does_another_of_the_same(ledger: Ledger) -> None:
    ledger.record([fact("one", {"is": "second"}, 2)])
    for late, version in (("first", 1), ("another second", 2)):
        ledger.record([fact("one", {"is": late}, version)])
        assert ledger.newest("k", "d", "one") == fact("one", {"is": "second"}, 2)
    ledger.record([fact("one", {"is": "third"}, 3)])
    assert ledger.newest("k", "d", "one") == fact("one", {"is": "third"}, 3)


def test_of_versions_recorded_at_once_the_greatest_stays(kept: Kept) -> None:
    def work(owner: int) -> None:
        ledger = kept.open()
        for version in range(1, 31):
            own = version if owner % 2 else 31 - version
            ledger.record([fact("one", {"is": own}, own), fact(f"{owner}-{version}")])
        ledger.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    kept.come_through()
    ledger = kept.open()
    assert ledger.newest("k", "d", "one") == fact("one", {"is": 30}, 30)
    assert len(list(ledger.since("k", "d"))) == 121
    ledger.close()


def test_threads_share_one_ledger(ledger: Ledger, kept: Kept) -> None:
    def work(owner: int) -> None:
        for n in range(30):
            ledger.record([fact(f"{owner}-{n:02}-a"), fact(f"{owner}-{n:02}-b")])
            assert ledger.newest("k", "d", f"{owner}-{n:02}-b")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    kept.come_through()
    assert len(list(ledger.since("k", "d"))) == 240


def test_a_lease_is_one_owners_until_it_is_over_or_let_go(ledger: Ledger, kept: Kept) -> None:
    other = kept.open()
    assert ledger.claim("land x", "a", clock.now() + HOUR)
    assert not other.claim("land x", "b", clock.now() + HOUR)
    assert not other.claim("land x", "b", clock.now())  # who does not hold it cannot let go of it
    assert other.claim("land y", "b", clock.now() + HOUR)
    assert ledger.claim("land x", "a", clock.now() + HOUR)
    assert ledger.claim("land x", "a", clock.now())
    assert other.claim("land x", "b", clock.now() + timedelta(milliseconds=20))
    time.sleep(0.03)
    assert ledger.claim("land x", "a", clock.now() + HOUR)
    other.close()


def test_of_many_leases_those_are_told_that_are_the_owners(ledger: Ledger, kept: Kept) -> None:
    other = kept.open()
    assert ledger.claim("land x", "a", clock.now() + HOUR)
    assert other.claims(["land x", "land y", "land z"], "b", clock.now() + HOUR) == {"land y", "land z"}
    assert ledger.claims(["land x", "land y"], "a", clock.now()) == {"land x"}
    assert other.claims(["land x", "land y"], "b", clock.now() + HOUR) == {"land x", "land y"}
    assert not ledger.claims([], "a", clock.now())
    other.close()


def test_of_many_who_claim_at_once_one_gets_it(kept: Kept) -> None:
    start = threading.Barrier(4)

    def work(owner: int) -> list[bool]:
        ledger = kept.open()
        start.wait(60)
        won = [ledger.claim(f"lease {n}", str(owner), clock.now() + HOUR) for n in range(20)]
        ledger.close()
        return won

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(work, range(4)))
    assert [sum(each) for each in zip(*won, strict=True)] == [1] * 20


# What only a file on a disk can do.

PROCESS = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from assay import clock
from assay.ports import Fact
from assay.targets.sqlite import SqliteLedger
ledger, me = SqliteLedger(Path(sys.argv[1])), sys.argv[2]
for n in range(25):
    ledger.record([Fact("k", "d", f"{me}-{n:02}", clock.now()), Fact("k", "d", "one", clock.now(), {}, 100 * n + int(me))])
    print(int(ledger.claim(f"lease {n}", me, clock.now() + timedelta(hours=1))))
ledger.close()
"""


def test_processes_begin_record_and_claim_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    running = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(path), str(n)], stdout=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    said = [one.communicate(timeout=300)[0].split() for one in running]
    assert [one.returncode for one in running] == [0] * 3
    assert [sum(map(int, each)) for each in zip(*said, strict=True)] == [1] * 25
    ledger = SqliteLedger(path)
    assert len(list(ledger.since("k", "d"))) == 76
    assert ledger.newest("k", "d", "one").version == 2402
    ledger.close()


OPENED_AT_ONCE = """
import os, sys
from pathlib import Path
from assay.targets.sqlite import SqliteLedger
for n in range(60):
    there = Path(sys.argv[1]) / f"{n}.db"
    ready = [os.pipe() for _ in range(4)]
    children = []
    for read, write in ready:
        if not (pid := os.fork()):
            os.read(read, 1)
            SqliteLedger(there).close()
            os._exit(0)
        children.append(pid)
    for _, write in ready:
        os.write(write, b"x")
    if any([os.waitpid(pid, 0)[1] for pid in children]):
        sys.exit(f"{there} was refused to one of four")
    for pair in ready:
        os.close(pair[0]), os.close(pair[1])
"""


def test_a_new_ledger_is_opened_by_several_at_once(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", OPENED_AT_ONCE, str(tmp_path)], check=True, timeout=300)


def test_a_ledger_that_somebody_holds_is_busy_and_says_which(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", wait=0.05)
    holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for act in (lambda: ledger.record([fact("a")]), lambda: ledger.claim("a", "b", clock.now())):
        with pytest.raises(LakeBusy, match=r"ledger\.db: another process has held it"):
            act()
    assert ledger.newest("k", "d", "a") is None  # reading waits for nobody
    holder.execute("ROLLBACK")
    ledger.record([fact("a")])
    holder.close()
    ledger.close()


def test_a_full_disk_is_told_and_leaves_what_was(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    ledger.record([fact("a")])
    ledger._con.execute("PRAGMA max_page_count = 10")
    with pytest.raises(SettingsError, match="the disk is full"):
        ledger.record([fact("b"), fact("c", {"text": "x" * 100_000})])
    ledger._con.execute("PRAGMA max_page_count = 10000")
    assert [f.id for f in ledger.since("k", "d")] == ["a"]
    ledger.record([fact("b")])
    ledger.close()


def test_all_or_none_is_kept_when_one_cannot_be(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    with pytest.raises(OverflowError):
        ledger.record([fact("a"), fact("b", version=2**63)])
    assert list(ledger.since("k", "d")) == []
    ledger.record([fact("a")])
    ledger.close()


def test_what_is_no_ledger_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"no database" * 1000)
    with sqlite3.connect(tmp_path / "b.db") as con:
        con.execute("CREATE TABLE facts (kind TEXT, id TEXT)")
        con.execute("PRAGMA user_version = 7")
    con.close()
    with sqlite3.connect(tmp_path / "c.db") as con:
        con.execute("CREATE TABLE facts (kind TEXT, id TEXT)")
    con.close()
    for name in "abc":
        with pytest.raises(LakeDamaged, match="move it away: it is an index and is rebuilt from the lake"):
            SqliteLedger(tmp_path / f"{name}.db")


@pytest.mark.parametrize("left", ["closed", "stopped"])
def test_where_nothing_can_be_written_the_ledger_is_read(left: str) -> None:
    folder = Path(tempfile.mkdtemp())
    ledger = SqliteLedger(folder / "ledger.db")
    for n in range(3):
        ledger.record([fact(str(n))])
    if left == "stopped":  # the newest facts lie beside the file, as after a kill
        aside = folder / "aside"
        aside.mkdir()
        for name in ("ledger.db", "ledger.db-wal"):
            shutil.copyfile(folder / name, aside / name)
    ledger.close()
    if left == "stopped":
        for one in aside.iterdir():
            shutil.move(one, folder / one.name)
        aside.rmdir()
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    try:
        assert _as_nobody(_reads, folder) == 0
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def _reads(folder: Path) -> None:
    ledger = SqliteLedger(folder / "ledger.db")
    assert [f.id for f in ledger.since("k", "d")] == ["0", "1", "2"]
    for act in (lambda: ledger.record([fact("a")]), lambda: ledger.claim("a", "b", clock.now())):
        with pytest.raises(SettingsError, match=r"ledger\.db cannot be used"):
            act()
    ledger.close()
    with pytest.raises(SettingsError, match="cannot be written"):
        SqliteLedger(folder / "other.db")


def _as_nobody(act: Callable[[Path], None], folder: Path) -> int:
    """Run it in a child that may not write everywhere: root may."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        if os.getuid() == 0:
            os.setuid(65534)
        act(folder)
    except BaseException:  # noqa: BLE001 - told by the exit code
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)
