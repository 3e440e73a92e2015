"""Coverage: which days of each shard are landed, folded from a dataset's log and kept in the ledger.

It knows nothing of verdicts: what is held or quarantined is landed. Void batches are not, lost and excluded ones no more.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

import msgspec
from isal import igzip

from assay.contract.model import Contract
from assay.errors import LakeDamaged
from assay.lake.bronze import Batch, Decision, Entry, meet
from assay.ports import Fact, Ledger, in_hundreds
from assay.windows import Duration, Spans, joined, without

CHUNKS = 16
"""In so many facts a dataset's shards are kept: at 10,000 shards with 50 gaps of their own, each is far below its limit."""


class SeenAsk(msgspec.Struct, frozen=True, gc=False):
    """Of one request: what came, in bytes."""

    bytes: int


class SeenBatch(msgspec.Struct, frozen=True, gc=False):
    """Of one batch: what it claims, when it was asked for, and how much it brought."""

    n: int
    shard: str
    rows: int
    asked_at: datetime
    seen: int
    requests: tuple[SeenAsk, ...]
    start: date | None = None
    end: date | None = None
    cursor: str | None = None


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What coverage needs of an entry: decoding into it skips the rest, which is most."""

    position: int
    captured_at: datetime
    capture: str = ""
    batches: tuple[SeenBatch, ...] = ()
    decisions: tuple[Decision, ...] = ()


Entries = Callable[[int], Iterator[tuple[Entry | Seen, str]]]
"""The entries after a position, in order, each with its sha256: `bronze.since`."""


class Days(NamedTuple):
    """What was asked of one shard, in ordinals of days: most shards have an equal one.

    `settled` are never asked again. `open` are younger: (start, end, the day last asked). `asked` is the newest day asked.
    """

    settled: Spans = ()
    open: tuple[tuple[int, int, int], ...] = ()
    asked: int = 0


_NOTHING = Days()


@dataclass(slots=True)
class Cover:
    """One shard: its days or its cursor, the position of its last entry, and sums over its batches, void ones left out."""

    days: Days = _NOTHING
    last: int = 0
    cursor: str | None = None
    batches: int = 0
    rows: int = 0
    bytes: int = 0
    calls: int = 0

    @property
    def settled(self) -> Spans:
        """The days never asked again."""
        return self.days.settled

    @property
    def open(self) -> tuple[tuple[int, int, int], ...]:
        """Younger days: (start, end, the day last asked)."""
        return self.days.open


@dataclass(frozen=True)
class Coverage:
    """The covers of a dataset's shards after the entry at `through`."""

    through: int
    covers: dict[str, Cover]


@dataclass(frozen=True)
class Ageing:
    """How days age: they may be asked again for `reask` days, and last when they are `settle` days old or older.

    Without `settle`, what was asked is never asked again: a whole that is asked once a slot.
    """

    capture: str
    settle: int | None
    reask: int

    @classmethod
    def of(cls, contract: Contract) -> "Ageing":
        """As the contract says it."""
        if not contract.window:
            return cls(contract.capture_fingerprint, None, 0)
        settle = Duration.parse(contract.settle).exact.days
        reask = Duration.parse(getattr(contract, "reask", None) or contract.settle).exact.days
        slide, _ = getattr(contract, "slide", None) or (0, "")
        return cls(contract.capture_fingerprint, settle, max(settle, reask, slide))


def key(contract: Contract) -> str:
    """What coverage is kept by: a contract that asks otherwise, or whose days age otherwise, has another."""
    ageing = Ageing.of(contract)
    said = json.dumps([ageing.capture, ageing.settle, ageing.reask])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def chunk_of(shard: str) -> int:
    """Which of the `CHUNKS` facts holds the shard."""
    return zlib.crc32(shard.encode()) % CHUNKS


def take(days: Days, start: int, end: int, asked: int, ageing: Ageing) -> Days:
    """The days after those from `start` up to `end` were asked on `asked`."""
    newest = max(days.asked, asked)
    if ageing.settle is None:
        return Days(joined((*days.settled, (start, end))), days.open, newest)
    later = [run for run in days.open if run[2] > asked]
    runs = [(a, b, at) for a, b, at in days.open if at <= asked and (b <= start or a >= end)]
    for a, b, at in days.open:
        if at <= asked and b > start and a < end:
            runs += [(c, d, at) for c, d in without(((a, b),), ((start, end),))]
    less = joined((*days.settled, *((a, b) for a, b, _ in later)))
    runs += [(a, b, asked) for a, b in without(((start, end),), less)]
    settled = list(days.settled)
    still: list[tuple[int, int, int]] = []
    for a, b, at in sorted(runs + later):
        final = min(b, at - ageing.settle, newest - ageing.reask)
        if final > a:
            settled.append((a, final))
        young = max(a, final)
        if young < b:
            if still and still[-1][1] == young and still[-1][2] == at:
                still[-1] = (still[-1][0], b, at)
            else:
                still.append((young, b, at))
    return Days(joined(settled), tuple(still), newest)


def uncover(days: Days, start: int, end: int) -> Days:
    """The days without those from `start` up to `end`."""
    less = ((start, end),)
    still = tuple((c, d, at) for a, b, at in days.open for c, d in without(((a, b),), less))
    return Days(without(days.settled, less), still, days.asked)


def fold(
    covers: dict[str, Cover],
    entry: Entry | Seen,
    ageing: Ageing,
    entries: Entries,
    mine: Callable[[str], bool] = lambda _: True,
) -> None:
    """Take one entry into the covers of the shards that are `mine`; entries come in the order of their positions.

    `entries` reads again what lies between an entry and what its lander had seen, which is rarely anything.
    """
    batches = [b for b in entry.batches if mine(b.shard)]
    void = _void(batches, entry.position, entries, covers)
    known: dict[tuple[int, date, date, int], tuple[Days, Days]] = {}
    for batch in batches:
        cover = covers.get(batch.shard)
        if cover is None:
            cover = covers[batch.shard] = Cover()
        cover.last = entry.position
        if entry.capture != ageing.capture or batch.n in void:
            continue
        cover.batches += 1
        cover.rows += batch.rows
        for request in batch.requests:
            cover.bytes += request.bytes
        cover.calls += len(batch.requests)
        if batch.cursor is not None:
            cover.cursor = batch.cursor
        start, end, asked = batch.start, batch.end, batch.asked_at.toordinal()
        if start and end:
            # Most shards have the same history, in the same object: one computation for all of them.
            one = (id(cover.days), start, end, asked)
            if one not in known:
                taken = take(cover.days, start.toordinal(), end.toordinal(), asked, ageing)
                known[one] = (cover.days, taken)  # what is kept here is not freed, so its id stays its own
            cover.days = known[one][1]
    for decision in entry.decisions:
        if decision.kind in {"lost", "exclude"} and decision.batch:
            _uncover(covers, decision.batch, ageing, entries, mine)


def _uncover(
    covers: dict[str, Cover], name: tuple[int, int], ageing: Ageing, entries: Entries, mine: Callable[[str], bool]
) -> None:
    position, n = name
    landed = next((entry for entry, _ in entries(position - 1)), None)
    if landed is None or landed.position != position or landed.capture != ageing.capture:
        return
    for batch in landed.batches:
        if batch.n == n and batch.start and batch.end and mine(batch.shard):
            cover = covers.get(batch.shard)
            if cover and not _void([batch], position, entries):
                cover.days = uncover(cover.days, batch.start.toordinal(), batch.end.toordinal())


def _void(
    batches: Collection[Batch | SeenBatch], position: int, entries: Entries, covers: dict[str, Cover] | None = None
) -> set[int]:
    """The numbers of those batches whose window was landed after what their lander had seen, and before them."""
    doubtful = [b for b in batches if b.seen < position - 1]
    if covers is not None:  # the entry comes next: a shard's last one says whether there is anything between
        doubtful = [b for b in doubtful if b.shard in covers and covers[b.shard].last > b.seen]
    out: set[int] = set()
    if not doubtful:
        return out
    shards = {b.shard for b in doubtful}
    between: dict[str, list[tuple[int, Batch | SeenBatch]]] = {}
    for entry, _ in entries(min(b.seen for b in doubtful)):
        if entry.position >= position:
            break
        for other in entry.batches:
            if other.shard in shards:
                between.setdefault(other.shard, []).append((entry.position, other))
    for batch in doubtful:
        if any(at > batch.seen and meet(batch, other) for at, other in between.get(batch.shard, ())):
            out.add(batch.n)
    return out


class _Group(msgspec.Struct, array_like=True, gc=False):
    """Shards with equal days and last entry: shard, batches, rows, bytes, calls, cursor.

    `settled` is the first day, then by how many days each end and start is later than the number before.
    """

    settled: tuple[int, ...]
    open: tuple[tuple[int, int, int], ...]
    asked: int
    last: int
    shards: list[tuple[str, int, int, int, int, str | None]]


_groups = msgspec.json.Decoder(list[_Group])


def packed(covers: dict[str, Cover]) -> str:
    """Covers as text: JSON grouped by equal days, gzip, base64."""
    groups: dict[tuple[Days, int], _Group] = {}
    for shard, c in sorted(covers.items()):
        group = groups.get((c.days, c.last))
        if group is None:
            ends = list(chain.from_iterable(c.settled))
            steps = tuple(b - a for a, b in pairwise([0, *ends]))
            group = groups[c.days, c.last] = _Group(steps, c.open, c.days.asked, c.last, [])
        group.shards.append((shard, c.batches, c.rows, c.bytes, c.calls, c.cursor))
    return base64.b64encode(igzip.compress(msgspec.json.encode(list(groups.values())), 1, mtime=0)).decode()


def unpacked(text: str) -> dict[str, Cover]:
    """The covers of such a text."""
    out: dict[str, Cover] = {}
    for group in _groups.decode(igzip.decompress(base64.b64decode(text))):
        ends = accumulate(group.settled)
        days = Days(tuple(zip(ends, ends, strict=True)), group.open, group.asked)
        for shard, batches, rows, size, calls, cursor in group.shards:
            out[shard] = Cover(days, group.last, cursor, batches, rows, size, calls)
    return out


def bring(entries: Entries, ledger: Ledger, contract: Contract, *, keep: bool = True) -> Coverage:
    """A dataset's coverage after the newest entry: what the ledger keeps, and the entries after it.

    Each chunk goes on from its own position, and all that went on are recorded, unless the lake is only read (`keep`).
    Whether ledger and log are of one lake is the caller's to ask first. LakeDamaged if a chunk cannot be read.
    """
    ageing, asked = Ageing.of(contract), key(contract)
    covers, through = _kept(ledger, contract.dataset, asked)
    position, at = min(through), None
    chunks: dict[str, int] = {}

    def mine(shard: str) -> bool:
        chunk = chunks.get(shard)
        if chunk is None:
            chunk = chunks[shard] = chunk_of(shard)
        return through[chunk] < position

    for entry, _ in entries(position):
        position, at = entry.position, entry.captured_at
        fold(covers, entry, ageing, entries, mine)
    behind = [chunk for chunk in range(CHUNKS) if through[chunk] < position]
    if at and behind and keep:
        parts: list[dict[str, Cover]] = [{} for _ in range(CHUNKS)]
        for shard, cover in covers.items():
            parts[chunk_of(shard)][shard] = cover
        facts = (
            Fact(
                "coverage", contract.dataset, f"{asked}/{chunk:02}", at,
                {"through": position, "shards": packed(parts[chunk])}, position,
            )
            for chunk in behind
        )  # fmt: skip
        for some in in_hundreds(facts):
            ledger.record(some)
    return Coverage(max(position, *through), covers)


def _kept(ledger: Ledger, dataset: str, asked: str) -> tuple[dict[str, Cover], list[int]]:
    covers: dict[str, Cover] = {}
    through = [0] * CHUNKS
    for fact in ledger.since("coverage", dataset, f"{asked}/"):
        if not fact.id.startswith(f"{asked}/"):
            break
        try:
            covers |= unpacked(fact.body["shards"])
            through[int(fact.id.rpartition("/")[2])] = fact.body["through"]
        except (ValueError, LookupError, TypeError, OSError, EOFError, zlib.error, msgspec.MsgspecError) as error:
            raise LakeDamaged(
                f"the ledger's coverage {dataset} {fact.id} cannot be read ({error}); move the ledger away: it is an "
                "index and is rebuilt from the lake"
            ) from error
    return covers, through
