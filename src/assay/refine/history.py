"""What was said before: the contracts along a log, where a batch stands, and when a key was last seen."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from isal import igzip

from assay.contract.model import Contract
from assay.errors import LakeDamaged
from assay.lake import account, bronze, evidence
from assay.lake.account import Judgement
from assay.lake.bronze import Decision
from assay.lake.evidence import Absence, Verdict
from assay.lake.files import scratch_directory
from assay.lake.release import Silver
from assay.ports import Act, Engine, Files, Ledger, Lines, N, Rejected


@dataclass(frozen=True)
class Timeline:
    """A log's contracts by position, and what makes the fold begin anew.

    Attributes:
        contracts: (position, sha256, everything), oldest first.
        lost: places of batches that a decision declared lost or excluded: nothing of them is folded.
        restarts: positions from which on everything before is folded anew.
        gone: names of objects that were declared lost by themselves: nobody looks at them any more.
    """

    contracts: tuple[tuple[int, str, bool], ...]
    lost: frozenset[int]
    restarts: tuple[int, ...]
    parse: Callable[[str], Contract]
    gone: frozenset[str] = frozenset()

    @classmethod
    def read(cls, files: Files, ledger: Ledger, dataset: str, upto: int | None = None) -> "Timeline":
        """As the ledger's facts have it, which the log was adopted into; of a log that ends at `upto`, if given."""
        contracts = [
            (int(f.id), f.body["sha256"], bool(f.body.get("everything")))
            for f in ledger.since("contract", dataset)
            if upto is None or int(f.id) <= upto
        ]
        lost: set[int] = set()
        restarts = [position for position, _, everything in contracts if everything]
        for fact in ledger.since("decided", dataset):
            if fact.body["lost"] and (upto is None or int(fact.id) <= upto):
                lost |= set(fact.body["lost"])
                restarts.append(int(fact.id))
        return cls(
            tuple(contracts), frozenset(lost), tuple(sorted(restarts)),
            lru_cache(None)(lambda sha256: bronze.pinned(files, sha256)), frozenset(bronze.lost(files, ledger, dataset)[1]),
        )  # fmt: skip

    def contract(self, position: int) -> tuple[int, Contract]:
        """The contract that judges what lies at a position, and its own position."""
        forced = max((p for p, _, everything in self.contracts if everything), default=0)
        upto = max(position, forced)
        at, sha256, _ = (
            [one for one in self.contracts if one[0] <= upto][-1]
            if position > forced
            else next(one for one in self.contracts if one[0] == forced)
        )
        return at, self.parse(sha256)

    def by_position(self, position: int) -> tuple[int, Contract]:
        """The contract that was put at a position."""
        found = next((sha256 for p, sha256, _ in self.contracts if p == position), None)
        if found is None:
            raise LakeDamaged(f"evidence names a contract at position {position}, where the log has none")
        return position, self.parse(found)

    def restart(self, after: int) -> int | None:
        """The last position after this one at which the fold begins anew."""
        return max((p for p in self.restarts if p > after), default=None)


@dataclass(frozen=True)
class Chapter:
    verdicts: Sequence[Verdict]
    contracts: Sequence[int]
    absences: Sequence[Absence]
    rejected: Callable[[], Iterator[Rejected]]


@dataclass
class History:
    """The evidence so far, read only where a decision asks; `anew` a fold that begins with nothing.

    `span` are the numbers of the first and last evidence it is about; without, it goes from the last fold anew on.
    """

    files: Files
    ledger: Ledger
    dataset: str
    anew: bool
    timeline: Timeline
    span: tuple[int, int] | None = None
    _made: list[Chapter] = field(default_factory=list)

    @classmethod
    def upto(cls, files: Files, ledger: Ledger, read: Silver) -> "History":
        """What was said up to a release: what came after it, a fold by another contract say, did not make its rows."""
        span = None
        if read.evidence:
            found, _ = evidence.read(files, read.dataset, read.evidence, read.evidence_sha256)
            span = found.began, read.evidence
        timeline = Timeline.read(files, ledger, read.dataset, read.position)
        return cls(files, ledger, read.dataset, False, timeline, span)

    def add(
        self, verdicts: Sequence[Verdict], contract: int, absences: Sequence[Absence],
        rejected: Callable[[], Iterator[Rejected]],
    ) -> None:  # fmt: skip
        """What a unit of the fold in the making said."""
        self._made.append(Chapter(verdicts, [contract], absences, rejected))

    def about(self, place: int) -> Judgement | None:
        """The last judgement of the batch of a place; None if no verdict speaks of it."""
        found: dict[int, Judgement] = {}
        of = divmod(place, N)
        for chapter in self.chapters(of[0]):
            mine = (v for v in chapter.verdicts if of in ((v.position, v.n), v.of))
            account.judge(found, mine, chapter.contracts)
        return found.get(place)

    def judged_by(self, place: int) -> int | None:
        """The position of the contract by which what acts at a place was judged; None if no verdict speaks of it."""
        for chapter in self.chapters(place // N):
            for v in chapter.verdicts:
                if (v.position, v.n) == divmod(place, N):
                    return account.judged_by(v, chapter.contracts)
        return None

    def bad(self, place: int) -> dict[int, tuple[str, ...]]:
        """The numbers of a passed batch's rows that are in quarantine by now, and why."""
        standing = self.about(place)
        if standing is None:
            return {}
        chapters = self.chapters(place // N)
        return {one.seq: one.reasons for c in chapters for one in c.rejected() if one.place == standing.judged_at}

    def observed(self, engine: Engine, late: Sequence[Act]) -> "Seen":
        """When keys were seen, for acts whose rows were first said earlier than they act."""
        return Seen(self, engine, min((a.origin for a in late), default=0))

    def chapters(self, position: int) -> Iterator[Chapter]:
        """From the evidence that took the entry of a position in, in order."""
        if not self.anew:
            began, last = self.span or (account.began(self.ledger, self.dataset), 10**9)
            for fact in self.ledger.since("evidence", self.dataset, f"{began - 1:09}"):
                if int(fact.id) > last:
                    break
                if fact.body["position"] < position or fact.body["kind"] != "refined":
                    continue
                found, _ = evidence.read(self.files, self.dataset, int(fact.id), fact.body["sha256"])
                yield Chapter(
                    found.verdicts, [p for p, _ in found.contracts], found.absences,
                    lambda found=found: evidence.rejected(self.files, found.quarantine),  # type: ignore[misc]
                )  # fmt: skip
        yield from self._made


class Seen:
    """See `assay.ports.Observed`: batches whose bounds meet the keys are read again, and absences compared."""

    def __init__(self, history: History, engine: Engine, after: int) -> None:
        self._history, self._engine, self._after = history, engine, after

    def newest(self, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
        out: dict[tuple[Any, ...], int] = {}
        if not keys:
            return out
        h = self._history
        wanted: dict[int, list[Lines]] = {}
        # The key of a dataset never changes.
        newest = h.timeline.by_position(h.timeline.contracts[-1][0])[1]
        names, kinds = newest.key, {k: newest.column(k).kind for k in newest.key}
        with scratch_directory(h.files) as scratch:
            for chapter in h.chapters(self._after // N):
                for v in chapter.verdicts:
                    origin = v.origin or v.position * N + v.n
                    if v.state != "passed" or origin <= self._after or v.bounds is None:
                        continue
                    if any(inside(key, names, kinds, v.bounds) for key in keys):
                        wanted.setdefault(account.judged_by(v, chapter.contracts), []).extend(
                            lines_of(h.files, h.dataset, v, origin, scratch)
                        )
                for absence in chapter.absences:
                    if absence.origin > self._after:
                        for key in keys:
                            if inside(key, names, kinds, absence.scope):
                                out[key] = max(out.get(key, 0), absence.origin)
            for at, lines in wanted.items():
                with self._engine.group(h.timeline.by_position(at)[1], lines) as group:
                    group.judged()
                    for key, origin in group.seen(keys).items():
                        out[key] = max(out.get(key, 0), origin)
        return out


def inside(
    key: Sequence[Any], names: Sequence[str], kinds: Mapping[str, str], box: Mapping[str, tuple[str, str]]
) -> bool:
    """Whether a key lies within bounds that are kept as texts."""
    for name, value in zip(names, key, strict=True):
        if name in box:
            low, high = (_value(kinds[name], text) for text in box[name])
            if not low <= _value(kinds[name], str(value)) <= high:
                return False
    return True


def _value(kind: str, text: str) -> Any:
    if kind == "integer":
        return int(text)
    if kind == "number":
        return Decimal(text)
    if kind == "date":
        return date.fromisoformat(text)
    if kind == "timestamp":
        return datetime.fromisoformat(text)
    return text


def lines_of(files: Files, dataset: str, v: Verdict, origin: int, scratch: Path) -> Collection[Lines]:
    """The lines a verdict was about, their batch taken for its origin."""
    position, n = v.of or (v.position, v.n)
    entry = bronze.read(files, dataset, position)
    if entry.kind == "decided":
        return [by_hand(entry.decisions[n], position * N + n, origin, scratch)]
    return bronze.parts(files, entry, {n: origin})


def by_hand(decision: Decision, place: int, acts: int, scratch: Path) -> Lines:
    """The record of a decision that stands at `place`, as a line that acts at another; it is written into `scratch`."""
    path = scratch / f"hand-{place}.ndjson.gz"
    line = hand_line(decision, place % N) + b"\n"
    path.write_bytes(igzip.compress(line, 1, mtime=0))
    return Lines(str(path), 1, len(line), {place % N: acts})


def hand_line(decision: Decision, n: int) -> bytes:
    """The record of a decision as the line of act `n`, without its line break."""
    op = b'"_op":"delete",' if decision.kind == "delete" else b""
    return b'{"_seq":0,"_n":%d,%s"_record":%s}' % (n, op, (decision.record or "{}").encode())
