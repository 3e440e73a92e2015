"""Coverage is a function of the log: by a slow model that keeps every day, and however it is brought on."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.contract import odcs
from assay.errors import LakeDamaged
from assay.lake import coverage
from assay.lake.bronze import Asked, Batch, Decision, Entry
from assay.lake.coverage import CHUNKS, Ageing, Cover, Days, bring, key
from assay.ports import BODY, Fact
from tests.every.ledgers import PlainLedger, Table

LAKES = Path(__file__).resolve().parents[2] / "lakes"
PRICES = odcs.read(LAKES / "markets/contracts/price_eod.yaml")
SPLITS = odcs.read(LAKES / "markets/contracts/splits.yaml")
FIRST = date(2024, 1, 1).toordinal()
SHARDS = ["a", "b", "ü"]


@dataclasses.dataclass(frozen=True)
class Promise:
    """What coverage asks of a contract, with `reask`."""

    dataset: str = "d"
    capture_fingerprint: str = "now"
    window: str | None = "P1Y"
    settle: str = "P3D"
    reask: str | None = None


def entry(position: int, *batches: Batch, capture: str = "now", decisions: tuple[Decision, ...] = ()) -> Entry:
    at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=position)
    kind = "decided" if decisions else "landed"
    return Entry(kind, "d", position, None, str(position), at, capture=capture, batches=batches, decisions=decisions)


def batch(n: int, shard: str, start: int | None, end: int | None, asked: int, seen: int, **more) -> Batch:
    at = datetime.combine(date.fromordinal(FIRST + asked), datetime.min.time(), UTC)
    start_, end_ = (date.fromordinal(FIRST + d) if d is not None else None for d in (start, end))
    asks = (Asked({}, at, 10, "", 2), Asked({}, at, 5, "", 1))
    return Batch(n, shard, 3, at, seen, asks, (), start_, end_, **more)


def log(entries: list[Entry]):
    return lambda position: iter([(e, f"sha {e.position}") for e in entries if e.position > position])


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    out: list[Entry] = []
    today = 0
    for position in range(1, draw(st.integers(1, 9)) + 1):
        today += draw(st.integers(0, 6))
        if out and draw(st.integers(0, 4)) == 0:
            at = draw(st.integers(1, position - 1))
            act = Decision(draw(st.sampled_from(["lost", "exclude", "release"])), (at, draw(st.integers(0, 3))))
            out.append(entry(position, decisions=(act,)))
            continue
        batches = []
        for n in draw(st.lists(st.integers(0, 3), unique=True, max_size=3)):
            seen = max(0, position - draw(st.sampled_from([1, 1, 1, 2, 3, 9])))
            asked = today - draw(st.sampled_from([0, 0, 0, 1, 5]))  # another machine's clock, or a slow ask
            if draw(st.integers(0, 5)) == 0:
                batches.append(
                    batch(n, draw(st.sampled_from(SHARDS)), None, None, asked, seen, cursor=f"{position}.{n}")
                )
                continue
            start = draw(st.integers(-10, 30))
            end = start + draw(st.integers(1, 15))
            batches.append(batch(n, draw(st.sampled_from(SHARDS)), start, end, asked, seen))
        out.append(entry(position, *batches, capture=draw(st.sampled_from(["now", "now", "now", "once"]))))
    return out


class Model:
    """Day by day: `settled` and `asked` per shard, by the words of the rule."""

    def __init__(self, entries: list[Entry], ageing: Ageing) -> None:
        self.settled: dict[str, set[int]] = {s: set() for s in SHARDS}
        self.asked: dict[str, dict[int, int]] = {s: {} for s in SHARDS}
        self.sums = {s: [0, 0, 0, 0] for s in SHARDS}
        self.cursor: dict[str, str | None] = dict.fromkeys(SHARDS)
        self.newest = dict.fromkeys(SHARDS, 0)
        for e in entries:
            for b in e.batches:
                if e.capture == ageing.capture and not self.void(entries, e, b):
                    self.take(b, ageing)
            for d in e.decisions:
                if d.kind in ("lost", "exclude"):
                    landed = entries[d.batch[0] - 1]
                    for b in landed.batches:
                        if (
                            b.n == d.batch[1]
                            and b.start
                            and landed.capture == ageing.capture
                            and not self.void(entries, landed, b)
                        ):
                            for day in range(b.start.toordinal(), b.end.toordinal()):
                                self.settled[b.shard].discard(day)
                                self.asked[b.shard].pop(day, None)

    def void(self, entries: list[Entry], e: Entry, b: Batch) -> bool:
        for other in entries[: e.position - 1]:
            for o in other.batches if other.position > b.seen else ():
                if o.shard == b.shard and (not (o.start and b.start) or (o.start < b.end and b.start < o.end)):
                    return True
        return False

    def take(self, b: Batch, ageing: Ageing) -> None:
        for i, more in enumerate((1, 3, 15, 2)):
            self.sums[b.shard][i] += more
        if b.cursor:
            self.cursor[b.shard] = b.cursor
            return
        asked, settled = self.asked[b.shard], self.settled[b.shard]
        at = b.asked_at.date().toordinal()
        newest = self.newest[b.shard] = max(self.newest[b.shard], at)
        for day in range(b.start.toordinal(), b.end.toordinal()):
            if day not in settled:
                asked[day] = max(asked.get(day, 0), at)
        for day, last in list(asked.items()):
            if ageing.settle is None or (day < last - ageing.settle and day < newest - ageing.reask):
                settled.add(day)
                del asked[day]


def days(spans) -> set[int]:
    return {d for a, b, *_ in spans for d in range(a, b)}


PROMISES = st.sampled_from(
    [Promise(), Promise(settle="P0D"), Promise(reask="P9D"), Promise(window=None), Promise(settle="P5D", reask="P5D")]
)


def agree(covers: dict[str, Cover], model: Model) -> None:
    for shard in SHARDS:
        cover = covers.get(shard, Cover())
        assert days(cover.settled) == model.settled[shard]
        assert {d: at for a, b, at in cover.open for d in range(a, b)} == model.asked[shard]
        assert [cover.batches, cover.rows, cover.bytes, cover.calls] == model.sums[shard]
        assert cover.cursor == model.cursor[shard]
        assert all(a[1] < b[0] for a, b in zip(cover.settled, cover.settled[1:], strict=False))
        assert all(
            a[1] < b[0] or (a[1] == b[0] and a[2] != b[2]) for a, b in zip(cover.open, cover.open[1:], strict=False)
        )


@settings(max_examples=150, deadline=None)
@given(logs(), PROMISES)
def test_each_day_is_as_the_rules_say(entries: list[Entry], promise: Promise) -> None:
    found = bring(log(entries), PlainLedger(Table()), promise)
    assert found.through == len(entries)
    agree(found.covers, Model(entries, Ageing.of(promise)))


@settings(max_examples=60, deadline=None)
@given(logs(), PROMISES, st.data())
def test_however_it_is_brought_on_it_is_the_same(entries: list[Entry], promise: Promise, data: st.DataObject) -> None:
    """In pieces, by two who overtake each other, from chunks that stand at different positions, read late."""
    table = Table(seed=data.draw(st.integers(0, 9)))
    one, other = PlainLedger(table), PlainLedger(table)
    kept: list[Fact] = []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(entries)), max_size=3)))
    for cut in [*cuts, len(entries)]:
        ledger = data.draw(st.sampled_from([one, other]))
        assert bring(log(entries[:cut]), ledger, promise, keep=data.draw(st.booleans())).through <= cut
        kept += [f for f in ledger.since("coverage", "d") if f not in kept]
    agree(bring(log(entries), one, promise).covers, Model(entries, Ageing.of(promise)))
    mixed = PlainLedger(Table())
    mixed.record({f.id: f for f in data.draw(st.permutations(kept))}.values())
    agree(bring(log(entries), mixed, promise).covers, Model(entries, Ageing.of(promise)))
    whole = {f.id: f.body for f in mixed.since("coverage", "d")}
    again = PlainLedger(Table())
    bring(log(entries), again, promise)
    assert {f.id: f.body for f in again.since("coverage", "d")} == whole


def test_what_is_brought_on_is_not_read_again() -> None:
    entries = [entry(p, batch(0, "a", p, p + 1, p, p - 1)) for p in range(1, 40)]
    read: list[int] = []

    def since(position: int) -> Iterator[tuple[Entry, str]]:
        for one in log(entries)(position):
            read.append(one[0].position)
            yield one

    ledger = PlainLedger(Table())
    bring(since, ledger, Promise())
    assert read == list(range(1, 40))
    read.clear()
    bring(since, ledger, Promise())
    assert read == []
    entries.append(entry(40, batch(0, "b", 0, 1, 40, 3)))
    bring(since, ledger, Promise())
    assert read == [40]  # no shard of it was landed since: what lies between is not looked through
    entries.append(entry(41, batch(0, "b", 0, 1, 40, 39)))
    bring(since, ledger, Promise())
    assert read == [40, 41, 40, 41]


def test_what_a_reader_may_not_write_it_counts_for_itself() -> None:
    ledger = PlainLedger(Table())
    entries = [entry(1, batch(0, "a", 0, 9, 9, 0))]
    assert bring(log(entries), ledger, Promise(), keep=False).covers["a"].batches == 1
    assert ledger.newest("coverage", "d") is None


@pytest.mark.parametrize("reask", [None, "P20D"])
def test_a_daily_history_stays_small(reask: str | None) -> None:
    ageing = Ageing.of(Promise(reask=reask))
    found = Days()
    for today in range(FIRST, FIRST + 400):
        found = coverage.take(found, max(FIRST, today - max(4, ageing.reask)), today, today, ageing)
        assert len(found.settled) <= 1
        assert len(found.open) <= 2
    every = Ageing.of(Promise(window=None))
    found = Days()
    for week in range(200):
        found = coverage.take(found, FIRST + 7 * week, FIRST + 7 * week + 7, FIRST + 7 * week + 2, every)
    assert found == Days(((FIRST, FIRST + 1400),), (), FIRST + 199 * 7 + 2)


def test_another_question_has_another_coverage() -> None:
    keys = [key(p) for p in (Promise(), Promise(capture_fingerprint="x"), Promise(settle="P4D"), Promise(reask="P9D"))]
    assert len(set(keys)) == 4
    assert key(Promise(reask="P3D")) == key(Promise())
    assert key(PRICES) != key(SPLITS)


def test_a_shard_landed_by_another_question_is_known_of() -> None:
    found = bring(log([entry(1, batch(0, "a", 0, 5, 9, 0), capture="once")]), PlainLedger(Table()), Promise()).covers
    assert (found["a"].batches, found["a"].last, found["a"].settled) == (0, 1, ())


def test_ten_thousand_ragged_shards_stay_far_below_a_facts_limit() -> None:
    covers = {
        f"SYM{n:05}": Cover(
            Days(tuple((728_000 + n % 977 + 25 * i, 728_000 + n % 977 + 25 * i + 3 + (n * 7 + i * i) % 20) for i in range(50)), (), 740_000 + n % 50),
            n, None, 1_200 + n % 60, 5_000 + n, 600_000 + 37 * n, 1_200 + n % 60,
        )
        for n in range(10_000)
    }  # fmt: skip
    parts: dict[int, dict[str, Cover]] = {}
    for shard, cover in covers.items():
        parts.setdefault(coverage.chunk_of(shard), {})[shard] = cover
    texts = [coverage.packed(part) for part in parts.values()]
    assert len(texts) == CHUNKS
    assert max(map(len, texts)) < BODY / 2
    assert {s: c for text in texts for s, c in coverage.unpacked(text).items()} == covers


def test_an_entry_is_read_by_what_coverage_needs_of_it() -> None:
    whole = [
        entry(1, batch(0, "a", 0, 9, 9, 0), batch(1, "b", None, None, 9, 0, cursor="c")),
        entry(2, decisions=(Decision("lost", (1, 0)),)),
    ]
    seen = [msgspec.json.decode(msgspec.json.encode(one), type=coverage.Seen) for one in whole]
    a, b = (bring(log(some), PlainLedger(Table()), Promise()) for some in (whole, seen))
    assert a == b
    assert a.covers["a"].days == Days((), (), FIRST + 9)


def test_a_torn_chunk_is_told() -> None:
    ledger = PlainLedger(Table())
    for body in ({"through": 1, "shards": "AAAA"}, {"through": 1}, {"through": 1, "shards": 3}):
        ledger.record(
            [Fact("coverage", "d", f"{key(Promise())}/00", datetime(2024, 1, 1, tzinfo=UTC), body, len(str(body)))]
        )
        with pytest.raises(LakeDamaged, match="move the ledger away"):
            bring(log([]), ledger, Promise())
