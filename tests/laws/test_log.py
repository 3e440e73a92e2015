"""The log of bronze: whoever lands when, by whatever clock, stopped wherever, it is dense, chained, and each claim is in once."""

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from isal import igzip

from assay import clock
from assay.contract import odcs
from assay.errors import AssayError, LakeBusy, LakeDamaged
from assay.lake import bronze, formats
from assay.lake.bronze import NONE, Asked, Entry, Tail
from assay.lake.landing import Ask, Landing
from assay.ports import Fact, Files, Ledger
from assay.targets.local import DiskFiles
from assay.targets.sqlite import SqliteLedger
from assay.windows import Window
from tests.every.ledgers import PlainLedger, Table
from tests.every.stores import StoreFiles, WorstStore

DATASET = "things"
DAY = date(2024, 1, 1)
CONTRACT = """apiVersion: v3.1.0
kind: DataContract
id: things
version: 1.0.0
status: active
schema:
- name: things
  properties:
  - {name: symbol, logicalType: string, primaryKey: true, primaryKeyPosition: 1, required: true, classification: public}
  - {name: date, logicalType: date, primaryKey: true, primaryKeyPosition: 2, required: true, classification: public}
customProperties:
- {property: source, value: fmp}
- {property: options, value: {path: things, shard_param: symbol, date_field: date}}
- {property: universe, value: us}
- {property: window, value: P1Y}
- {property: start, value: 2024-01-01}
"""


def days(start: int, end: int) -> Window:
    return Window(DAY + timedelta(days=start), DAY + timedelta(days=end))


def record(symbol: str, day: date, **more: object) -> bytes:
    return json.dumps({"symbol": symbol, "date": str(day)} | more).encode()


def page(ask: Ask, records: list[bytes], **more: object) -> None:
    asked = Asked({"symbol": ask.batch.shard}, clock.now(), 1, "0" * 64, len(records), url="https://x.example/y")
    ask.page(asked, records, **more)


def landing(files: Files, ledger: Ledger, seen: Tail) -> Landing:
    return Landing(
        files,
        ledger,
        DATASET,
        seen,
        run="run",
        source="fmp",
        code="0" * 64,
        origin="synthetic",
        capture="c",
        contract="k",
    )


def land(
    files: Files, ledger: Ledger, *asks: tuple[str, int, int], seen: Tail | None = None, rows: int = 3
) -> Entry | None:
    """One landing of windows (symbol, first day, end)."""
    with landing(files, ledger, seen or bronze.adopt(files, ledger, DATASET)) as into:
        for symbol, start, end in asks:
            with into.ask(symbol, days(start, end)) as ask:
                page(ask, [record(symbol, DAY + timedelta(days=start), i=i) for i in range(rows)])
        done = into.commit()
    bronze.adopt(files, ledger, DATASET)
    return done[0] if done else None


class Broken(Exception):
    pass


def broken_at_times(draw: random.Random) -> None:
    if draw.random() < 0.05:
        raise Broken


def lander(files: Files, ledger: Ledger, seed: int, symbols: int, many: int, got: Counter[str]) -> None:
    """Wants each symbol of each day, in an order of its own; what others had by its plan it does not ask."""
    draw = random.Random(seed)
    for day in draw.sample(range(many), many):
        seen = bronze.adopt(files, ledger, DATASET)
        had = {(b.shard, b.start) for e, _ in bronze.since(files, DATASET, 0) for b in e.batches}
        with landing(files, ledger, seen) as into:
            for n in range(symbols):
                if (f"S{n}", DAY + timedelta(days=day)) in had:
                    continue
                try:
                    with into.ask(f"S{n}", days(day, day + 1)) as ask:
                        raw = b"a,b" if draw.random() < 0.1 else None
                        page(ask, [record(f"S{n}", DAY, seed=seed, i=i) for i in range(3)], raw=raw, kind="csv")
                        broken_at_times(draw)
                except Broken:
                    got["broken"] += 1
            done = into.commit()
        got["asked"] += len(into.asks)
        got["landed"] += len(done[0].batches) if done else 0
        bronze.adopt(files, ledger, DATASET)


def whole_log(files: Files, ledger: Ledger) -> list[Entry]:
    """The entries, after everything that must be so of any log was looked at."""
    entries = [entry for entry, _ in bronze.since(files, DATASET, 0)]
    assert entries == [entry for entry, _ in bronze.whole(files, DATASET)]
    assert [e.position for e in entries] == list(range(1, len(entries) + 1))
    assert all(a.captured_at < b.captured_at for a, b in zip(entries, entries[1:], strict=False))
    assert len({e.landing for e in entries}) == len(entries)
    for entry in entries:
        bronze.check(files, entry, whole=True)
        assert sum(p.rows for p in entry.parts) == sum(b.rows for b in entry.batches) + sum(r for _, r in entry.dropped)
        for batch in entry.batches:
            found = [json.loads(line) for line in bronze.lines(files, entry, batch.n)]
            assert [(one["_seq"], one["_n"]) for one in found] == [(seq, batch.n) for seq in range(batch.rows)]
            assert {one["_record"]["symbol"] for one in found} <= {batch.shard}
    tail = bronze.adopt(files, ledger, DATASET)
    assert tail.position == len(entries)
    assert [f.id for f in ledger.since("entry", DATASET)] == [f"{e.position:09}" for e in entries]
    return entries


def no_claim_twice(entries: list[Entry]) -> None:
    """Two batches of a shard whose windows overlap: the later one had read of the earlier one before it asked."""
    for entry in entries:
        for batch in entry.batches:
            for other in entries[batch.seen : entry.position - 1]:
                assert not any(
                    o.shard == batch.shard and o.start < batch.end and batch.start < o.end for o in other.batches
                )


def left_over(scratch: Path) -> list[Path]:
    return (
        [path for path in scratch.rglob("*") if path.is_file() and "copies" not in path.parts]
        if scratch.exists()
        else []
    )


@pytest.mark.parametrize("seed", range(4))
def test_landers_that_race_on_a_store_at_its_worst(tmp_path: Path, seed: int) -> None:
    store, table = WorstStore(tmp_path, seed=seed, worst=0.15), Table(seed)
    got: Counter[str] = Counter()
    failed: list[BaseException] = []

    def one(who: int) -> None:
        try:
            lander(StoreFiles(store), PlainLedger(table), 10 * seed + who, 5, 5, got)
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=one, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    store.calm()
    table.come_through()
    entries = whole_log(StoreFiles(store), PlainLedger(table))
    no_claim_twice(entries)
    claims = Counter((b.shard, b.start) for e in entries for b in e.batches)
    assert set(claims.values()) == {1}
    assert got["landed"] == claims.total()
    named = {o.name for e in entries for o in bronze.objects(e)}
    put = {name for name in store.objects if "/dt=" in name}
    assert named <= put
    assert not left_over(tmp_path)


def process(root: str, seed: str, out: str) -> None:
    got: Counter[str] = Counter()
    ledger = SqliteLedger(Path(root) / "ledger.db")
    lander(DiskFiles(Path(root) / "lake"), ledger, int(seed), 6, 6, got)
    ledger.close()
    Path(out).write_text(json.dumps(got))


def script(call: str, *args: str, **env: str) -> "subprocess.Popen[str]":
    code = f"import sys; from tests.laws import test_log; test_log.{call}(*sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *args], env=os.environ | env, stderr=subprocess.PIPE, text=True
    )


def test_processes_that_race_on_a_disk_and_one_of_their_clocks_is_an_hour_behind(tmp_path: Path) -> None:
    running = [
        script("process", str(tmp_path), str(seed), str(tmp_path / f"out{seed}"), ASSAY_CLOCK_OFFSET=offset)
        for seed, offset in ((1, "0"), (2, "0"), (3, "-3600"))
    ]
    for one in running:
        _, error = one.communicate(timeout=120)
        assert one.returncode == 0, error
    files, ledger = DiskFiles(tmp_path / "lake"), SqliteLedger(tmp_path / "ledger.db")
    entries = whole_log(files, ledger)
    no_claim_twice(entries)
    got = sum((Counter(json.loads((tmp_path / f"out{seed}").read_text())) for seed in (1, 2, 3)), Counter())
    claims = Counter((b.shard, b.start) for e in entries for b in e.batches)
    assert set(claims.values()) == {1}
    assert got["landed"] == claims.total()
    assert not left_over(tmp_path / "lake/_tmp")
    ledger.close()


def test_the_order_is_the_logs_whatever_the_clocks_say() -> None:
    one = script("slow_clock", ASSAY_CLOCK_OFFSET="-3600")
    _, error = one.communicate(timeout=60)
    assert one.returncode == 0, error


def slow_clock() -> None:
    """A machine whose clock is an hour behind lands after one whose clock is right: a microsecond later, says the log."""
    with tempfile.TemporaryDirectory() as folder:
        files, ledger = StoreFiles(WorstStore(Path(folder), worst=0)), PlainLedger(Table())
        right = datetime.now(UTC)
        first, _ = put(files, 1, None, right)
        second = land(files, ledger, ("A", 0, 1))
        assert second
        assert second.captured_at == right + timedelta(microseconds=1)
        assert second.batches[0].asked_at < right - timedelta(minutes=59)
        assert whole_log(files, ledger) == [first, second]


def put(files: Files, position: int, previous: str | None, at: datetime) -> tuple[Entry, str]:
    """An entry as another machine put it."""
    entry = msgspec.structs.replace(
        bronze.draft("swept", swept=("x",)), dataset=DATASET, position=position, previous=previous,
        landing=f"other {position}", captured_at=at,
    )  # fmt: skip
    data = bronze.encode(entry)
    assert files.put_new(bronze.name_of(DATASET, position), data, "land.entry")
    return entry, hashlib.sha256(data).hexdigest()


def places(tmp_path: Path) -> list[tuple[Files, Ledger]]:
    return [
        (DiskFiles(tmp_path / "lake"), SqliteLedger(tmp_path / "ledger.db")),
        (StoreFiles(WorstStore(tmp_path / "store", seed=7)), PlainLedger(Table())),
    ]


@pytest.fixture(params=[0, 1], ids=["disk", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Files, Ledger]]:
    all_places = places(tmp_path)
    files, ledger = all_places[request.param]
    yield files, ledger
    for _, one in all_places:
        one.close()


def test_who_slept_voids_what_was_landed_meanwhile_and_nothing_else(place: tuple[Files, Ledger]) -> None:
    files, ledger = place
    land(files, ledger, ("A", 0, 10))
    seen = bronze.adopt(files, ledger, DATASET)
    with landing(files, ledger, seen) as into:
        for symbol, start, end in [("A", 10, 20), ("B", 0, 10), ("C", 5, 7), ("D", 0, 3), ("E", 0, 1)]:
            with into.ask(symbol, days(start, end)) as ask:
                page(ask, [record(symbol, DAY)] * (end - start))
        with into.ask("F", None, cursor="7") as ask:
            page(ask, [record("F", DAY)])
        land(files, ledger, ("A", 0, 10), ("B", 9, 12))
        land(files, ledger, ("C", 0, 5), ("C", 7, 9), ("D", 2, 3), ("F", 0, 1))
        entry, sha256 = into.commit()
    assert (entry.position, [b.shard for b in entry.batches]) == (4, ["A", "C", "E"])
    assert entry.dropped == ((1, 10), (3, 3), (5, 1))
    assert [b.n for b in entry.batches] == [0, 2, 4]
    assert {b.seen for b in entry.batches} == {seen.position}
    assert bronze.read(files, DATASET, 4, sha256) == entry
    no_claim_twice(whole_log(files, ledger))


def test_who_slept_and_has_nothing_left_puts_nothing(place: tuple[Files, Ledger]) -> None:
    files, ledger = place
    seen = bronze.adopt(files, ledger, DATASET)
    assert land(files, ledger, ("A", 0, 2), ("B", 0, 2))
    before = sorted(files.names("bronze/"))
    assert land(files, ledger, ("A", 1, 3), ("B", 0, 1), seen=seen) is None
    assert set(before) <= set(files.names("bronze/"))
    assert [e.position for e in whole_log(files, ledger)] == [1]


def test_a_cursor_is_void_after_anything_of_its_shard(place: tuple[Files, Ledger]) -> None:
    files, ledger = place
    for claim in (None, days(100, 101)):
        seen = bronze.adopt(files, ledger, DATASET)
        with landing(files, ledger, seen) as late, landing(files, ledger, seen) as quick:
            for into, window in ((late, None), (quick, claim)):
                with into.ask("A", window, cursor=None if window else "7") as ask:
                    page(ask, [record("A", DAY)])
            assert quick.commit()
            assert late.commit() is None


def test_parts_of_dropped_batches_alone_are_neither_put_nor_named(place: tuple[Files, Ledger]) -> None:
    files, ledger = place
    seen = bronze.adopt(files, ledger, DATASET)
    with landing(files, ledger, seen) as into:
        for symbol in ("A", "B"):
            with into.ask(symbol, days(0, 1)) as ask:
                page(ask, [record(symbol, DAY, text="x" * 100_000)] * 50)
        land(files, ledger, ("A", 0, 1))
        entry, _ = into.commit()
    assert [b.shard for b in entry.batches] == ["B"]
    assert (len(entry.parts), entry.dropped) == (1, ())
    assert sum("/dt=" in name for name in files.names("bronze/")) <= 2
    whole_log(files, ledger)


def test_a_put_whose_end_was_not_seen_is_ones_own(tmp_path: Path) -> None:
    class Silent(StoreFiles):
        def put_new(self, name: str, data: bytes | Path, as_effect: str) -> bool:
            done = super().put_new(name, data, as_effect)
            if "/log/" in name and not (tmp_path / "said").exists():
                (tmp_path / "said").touch()
                raise LakeBusy("the store does not answer")
            return done

    files, ledger = Silent(WorstStore(tmp_path, worst=0)), PlainLedger(Table())
    with landing(files, ledger, NONE) as into:
        with into.ask("A", days(0, 1)) as ask:
            page(ask, [record("A", DAY)])
        with pytest.raises(LakeBusy):
            into.commit()
        land(files, ledger, ("B", 0, 1))
        entry, _ = into.commit()
    assert entry.position == 1
    assert [[b.shard for b in e.batches] for e in whole_log(files, ledger)] == [["A"], ["B"]]


def test_who_slept_through_a_sweep_of_its_parts_does_not_name_them(place: tuple[Files, Ledger]) -> None:
    files, ledger = place
    with landing(files, ledger, NONE) as into:
        with into.ask("A", days(0, 1)) as ask:
            page(ask, [record("A", DAY)])
        into.small.close()
        [made] = into._laid_out()[1]
        into._store(made.path, made.part.name)  # it fell asleep between its part and its entry
        tail = bronze.sweep(files, ledger, DATASET, [made.part.name])
        assert bronze.read(files, DATASET, tail.position).swept == (made.part.name,)
        with pytest.raises(LakeBusy, match="its parts were swept meanwhile"):
            into.commit()
    assert [e.kind for e in whole_log(files, ledger)] == ["swept"]


def test_what_an_entry_names_meanwhile_is_not_swept(place: tuple[Files, Ledger]) -> None:
    files, ledger = place
    seen = bronze.adopt(files, ledger, DATASET)
    land(files, ledger, ("A", 0, 1))
    [part] = [one.name for entry, _ in bronze.since(files, DATASET, 0) for one in bronze.objects(entry)]
    with pytest.raises(LakeBusy, match="is named by entry 1 meanwhile"):
        bronze.sweep(files, ledger, DATASET, [part], seen)
    assert len(whole_log(files, ledger)) == 1


def a_log(files: Files, ledger: Ledger, many: int = 5) -> list[Entry]:
    bronze.put_contract(files, ledger, odcs.parse(CONTRACT))
    for day in range(many - 1):
        with landing(files, ledger, bronze.adopt(files, ledger, DATASET)) as into:
            with into.ask("A", days(day, day + 1)) as ask:
                page(ask, [record("A", DAY)], raw=b"a,b\n1,2\n", kind="csv")
            into.commit()
    bronze.adopt(files, ledger, DATASET)
    return [entry for entry, _ in bronze.since(files, DATASET, 0)]


def test_a_hole_is_named_and_nothing_is_put_into_it(tmp_path: Path) -> None:
    for hole in range(1, 8):
        store, table = WorstStore(tmp_path, worst=0), Table()
        files, ledger = StoreFiles(store), PlainLedger(table)
        a_log(files, ledger, 8)
        del store.objects[bronze.name_of(DATASET, hole)]
        with pytest.raises(LakeDamaged, match=f"{hole:09}.json.gz is missing"):
            list(bronze.whole(files, DATASET))
        with pytest.raises(LakeDamaged, match=f"{hole:09}.json.gz is missing"):
            bronze.adopt(files, PlainLedger(Table()), DATASET)
        with landing(files, ledger, NONE) as into:  # one that read the log when it was empty, long ago
            with into.ask("Z", days(0, 1)) as ask:
                page(ask, [record("Z", DAY)])
            with pytest.raises(LakeDamaged, match=f"{hole:09}.json.gz is missing"):
                into.commit()
        assert bronze.name_of(DATASET, hole) not in store.objects
        assert bronze.adopt(files, ledger, DATASET).position == 8  # the tail is there, and going on is sound


def test_a_log_that_ends_before_what_the_ledger_knows_is_refused(tmp_path: Path) -> None:
    store, table = WorstStore(tmp_path, worst=0), Table()
    files, ledger = StoreFiles(store), PlainLedger(table)
    a_log(files, ledger, 5)
    tail = bronze.adopt(files, ledger, DATASET)
    for lost in (5, 4):
        del store.objects[bronze.name_of(DATASET, lost)]
        said = f"the ledger knows position 5 of things \\({tail.sha256}\\), but the log ends at {lost - 1}"
        with pytest.raises(LakeDamaged, match=said):
            bronze.adopt(files, ledger, DATASET)
    land(files, PlainLedger(Table()), ("Q", 0, 1), rows=1)  # the older bronze goes on, with a ledger of its own
    land(files, PlainLedger(Table()), ("R", 0, 1), rows=1)
    with pytest.raises(LakeDamaged, match=f"knows {tail.sha256}"):
        bronze.adopt(files, ledger, DATASET)
    land(files, PlainLedger(Table()), ("S", 0, 1), rows=1)
    with pytest.raises(LakeDamaged, match=f"has {tail.sha256}"):
        bronze.adopt(files, ledger, DATASET)
    with pytest.raises(LakeDamaged, match="restore bronze from one copy"):
        list(bronze.since(files, DATASET, 5, tail.sha256))


def test_a_flipped_bit_of_any_object_is_named(tmp_path: Path) -> None:
    files, ledger = DiskFiles(tmp_path / "lake"), SqliteLedger(tmp_path / "ledger.db")
    a_log(files, ledger, 4)
    tail = bronze.adopt(files, ledger, DATASET)
    draw = random.Random(3)

    def verify() -> None:
        formats.of(files)
        for entry, _ in bronze.since(files, DATASET, 0):
            bronze.check(files, entry)
            if entry.contract != "k":
                bronze.pinned(files, entry.contract)
        bronze.read(files, DATASET, tail.position, tail.sha256)

    verify()
    names = list(files.names(""))
    assert len(names) == 4 + 3 * 2 + 1 + 1
    for name in names:
        path = tmp_path / "lake" / name
        path.chmod(0o600)
        was = path.read_bytes()
        for bit in {
            0,
            7,
            33,
            8 * len(was) - 1,  # 33: of the time in gzip's head, which no sum of its own covers
            *draw.sample(range(8 * len(was)), 12),
        }:
            damaged = bytearray(was)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(LakeDamaged, match=name):
                verify()
        path.write_bytes(was)
    verify()
    ledger.close()


def forked(call: Callable[[], object], **env: str) -> int:
    """How a copy of this process ends that does this and no more."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.environ.update(env)
            call()
            code = 0
        except BaseException:  # noqa: BLE001 - nothing of the test may go on in the copy
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def stopped(root: Path, what: str) -> None:
    files, ledger = DiskFiles(root / "lake"), SqliteLedger(root / "ledger.db")
    if what == "contract":
        bronze.put_contract(files, ledger, odcs.parse(CONTRACT))
    elif what == "decide":
        bronze.decide(files, ledger, DATASET, [bronze.Decision("exclude", (1, 0))], "me", "wrong")
    else:
        land(files, ledger, ("A", 0, 1), ("B", 0, 1))


POINTS = [
    *(("contract", one) for one in ("land.contract", "land.entry", "land.ledger")),
    *(("land", one) for one in ("land.part", "land.entry", "land.ledger")),
    *(("decide", one) for one in ("land.entry", "land.ledger")),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("what", "effect"), POINTS)
def test_whoever_is_stopped_leaves_a_log_that_goes_on(tmp_path: Path, what: str, effect: str, when: str) -> None:
    files, ledger = DiskFiles(tmp_path / "lake"), SqliteLedger(tmp_path / "ledger.db")
    if what == "decide":
        land(files, ledger, ("A", 0, 1))
    begun = bronze.adopt(files, ledger, DATASET).position
    ledger.close()  # a connection may not be there in two processes
    assert forked(lambda: stopped(tmp_path, what), ASSAY_CRASH=f"{effect}:{when}") == 137
    ledger = SqliteLedger(tmp_path / "ledger.db")
    there = f"{effect}:{when}" in ("land.entry:after", "land.ledger:before", "land.ledger:after")
    known = ledger.newest("tail", DATASET, "tail")
    assert (known.version if known else 0) == (begun + 1 if f"{effect}:{when}" == "land.ledger:after" else begun)
    assert len(whole_log(files, ledger)) == begun + there
    if what == "contract":
        bronze.put_contract(files, ledger, odcs.parse(CONTRACT))
        assert len(whole_log(files, ledger)) == begun + 1
    else:
        assert land(files, ledger, ("Z", 0, 1)).position == begun + there + 1
        whole_log(files, ledger)
    ledger.close()


def test_a_ledger_that_is_stopped_between_bunches_holds_a_consistent_prefix(tmp_path: Path) -> None:
    files, ledger = StoreFiles(WorstStore(tmp_path, worst=0)), PlainLedger(Table())
    previous = None
    for position in range(1, 251):
        _, previous = put(files, position, previous, datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=position))

    class Stops(PlainLedger):
        left = 2

        def record(self, facts) -> list[Fact]:
            facts = list(facts)
            assert len(facts) <= 100
            assert facts[-1].kind == "tail"
            if not self.left:
                raise LakeBusy("stopped")
            self.left -= 1
            return super().record(facts)

    with pytest.raises(LakeBusy):
        bronze.adopt(files, Stops(ledger.table), DATASET)
    known = ledger.newest("tail", DATASET, "tail")
    assert [int(f.id) for f in ledger.since("entry", DATASET)] == list(range(1, known.version + 1))
    assert 0 < known.version < 250
    assert bronze.adopt(files, ledger, DATASET) == Tail(250, previous, datetime(2024, 1, 1, 0, 4, 10, tzinfo=UTC))


def test_an_error_of_the_store_is_an_assay_error(tmp_path: Path) -> None:
    files = StoreFiles(WorstStore(tmp_path, worst=0))
    files.put_new(bronze.name_of(DATASET, 1), igzip.compress(b"{}"), "land.entry")
    with pytest.raises(AssayError, match="is no entry of a log"):
        bronze.adopt(files, PlainLedger(Table()), DATASET)
