"""Bronze: raw records in immutable parts, and one log a dataset whose entries commit them."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any, Literal, Protocol

import msgspec
from isal import igzip, isal_zlib
from ulid import ULID

from assay import clock
from assay.contract import odcs
from assay.contract.model import Contract
from assay.crash import effect
from assay.errors import ContractError, LakeBusy, LakeDamaged, UsageError
from assay.lake import drift, formats
from assay.lake.drift import Shape
from assay.lake.files import read_or_none
from assay.lake.formats import refuse_newer
from assay.ports import Counted, Fact, Files, Ledger, Lines, N
from assay.spoken import is_text

FORMAT = 3
"""The newest format of an entry that is read; each is written with the smallest that can hold it."""
LEVEL = 1
TOMBSTONE = re.compile(rb'^\{"_seq":[0-9]{1,18},"_n":([0-9]{1,9}),"_op":"erased",', re.MULTILINE)
"""A line in whose place another was."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BUNCH = 100  # facts that are recorded together, at most
AHEAD = timedelta(minutes=5)
LARGEST = 64 * 2**20  # bytes of a decision's entry before it is zipped
LONGEST = 10_000  # characters that say who decided and why: the ledger keeps them with its facts


class Part(msgspec.Struct, frozen=True, gc=False):
    """One stored object of lines: `bytes` of its lines, `stored` of its gzip, which is what `sha256` covers."""

    name: str
    rows: int
    bytes: int
    stored: int
    sha256: str


class Raw(msgspec.Struct, frozen=True, gc=False):
    """An answer that was no JSON, kept gzipped as it came.

    `bytes` and `content` (SHA-256; none in entries of before it was written) as it came, `sha256` of the stored gzip.
    """

    name: str
    bytes: int
    stored: int
    sha256: str
    content: str = ""


class Asked(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One request and its answer: `rows` records; `url` where it is not the entry's. `at` plans, it never orders."""

    params: dict[str, str]
    at: datetime
    bytes: int
    sha256: str
    rows: int
    span: tuple[str, str] | None = None
    status: int = 200
    url: str | None = None
    raw: Raw | None = None


class Erased(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The lines of a batch that were erased, as they stood in its gate: how many, and what was wrong with those that were bad.

    `rows` is all of them, `quarantined` the rejected ones, `keyless` those of these without a readable key.
    """

    rows: int = 0
    quarantined: int = 0
    keyless: int = 0
    reasons: dict[str, int] = {}
    warnings: dict[str, int] = {}

    def plus(self, more: Counted) -> "Erased":
        """It with the lines of another erasure."""
        reasons, warnings = Counter(self.reasons), Counter(self.warnings)
        reasons.update(more.reasons)
        warnings.update(more.warnings)
        return Erased(
            self.rows + more.rows, self.quarantined + more.quarantined, self.keyless + more.keyless, dict(reasons), dict(warnings)
        )  # fmt: skip

    def stood(self, left: Counted) -> Counted:
        """What the gate judges: what is left of the batch, and the erased lines as they were."""
        sums = [
            dict(Counter(one) + Counter(two))
            for one, two in ((left.reasons, self.reasons), (left.warnings, self.warnings))
        ]
        return Counted(
            left.rows + self.rows, left.good + self.rows - self.quarantined, left.duplicate,
            left.quarantined + self.quarantined, left.keyless + self.keyless, *sums,
        )  # fmt: skip


NONE_ERASED = Erased()


class Batch(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one ask brought, and what one verdict is about.

    Attributes:
        n: as in its lines; sparse, since asks fail and a race drops some.
        start, end: the days it claims, half-open; none where the source goes on from a cursor.
        asked_at: the day it counts as asked, when its first request left.
        seen: the last position its lander had read before it asked.
        pieces: (part, its first line there from 0, how many), in the order of `_seq`.
        scope: what it is complete about, key column to lowest and highest value as texts; none where it is not.
        erased: of its lines, those in whose place a tombstone lies by now: they are counted in `rows` still.
    """

    n: int
    shard: str
    rows: int
    asked_at: datetime
    seen: int
    requests: tuple[Asked, ...]
    pieces: tuple[tuple[int, int, int], ...]
    start: date | None = None
    end: date | None = None
    cursor: str | None = None
    scope: dict[str, tuple[str, str]] | None = None
    erased: Erased = NONE_ERASED


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One act of a decision.

    `release`, `rejudge`, `withdraw` (what it lacks, whatever the limit), `exclude`, `lost` name a `batch` by position
    and n; `upsert` and `delete` hold a `record` as JSON text and the position its author had `seen`; `lost` may name
    an `object` instead. `pause`, `retire` and `resume` are about the dataset: whether its source is asked. `erase` says
    that lines of a `batch` were erased, `erased` stands where a record by hand was.
    """

    kind: Literal[
        "release", "rejudge", "withdraw", "upsert", "delete", "exclude", "lost", "erase", "erased", "pause", "retire", "resume"
    ]  # fmt: skip
    batch: tuple[int, int] | None = None
    record: str | None = None
    seen: int = 0
    object: str | None = None


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One entry of a dataset's log; what no entry names does not exist.

    Attributes:
        kind: landed (batches), contract (in force from here, or `all`), decided (`decisions`), swept (`swept` names).
        position: its place in the log, from 1 without a gap.
        previous: sha256 of the entry before, as stored; none for the first.
        landing: a ULID by which one knows one's own entry after a put that was answered by silence.
        captured_at: never earlier than, nor the same as, the entry's before.
        run, source, code, origin, capture, url: of a landing: its run, the source and its code's sha256, whose records
            these are, the contract's capture fingerprint, and the address asked.
        contract: sha256 of the contract that is promised (kind contract), or was known to the lander.
        everything: of kind contract: fold the whole log anew by it.
        replaces: sha256 of the contract in force before.
        shape: what the records of a landing look like; none in entries of before it was written.
        dropped: (n, lines) of batches that others had landed meanwhile; their lines lie in shared parts and are nobody's.
        who, why: of a decision.
    """

    kind: Literal["landed", "contract", "decided", "swept"]
    dataset: str
    position: int
    previous: str | None
    landing: str
    captured_at: datetime
    format: int = msgspec.field(default_factory=lambda: 1)  # a plain default would be left out
    run: str = ""
    source: str = ""
    code: str = ""
    origin: str = ""
    capture: str = ""
    contract: str = ""
    url: str = ""
    everything: bool = False
    replaces: str | None = None
    parts: tuple[Part, ...] = ()
    batches: tuple[Batch, ...] = ()
    dropped: tuple[tuple[int, int], ...] = ()
    decisions: tuple[Decision, ...] = ()
    swept: tuple[str, ...] = ()
    who: str = ""
    why: str = ""
    shape: Shape | None = None


def name_of(dataset: str, position: int) -> str:
    """Where an entry lies; padded, so that a listing is in order."""
    return f"bronze/{dataset}/log/{position:09}.json.gz"


@dataclass(frozen=True)
class Tail:
    """The last entry of a log that somebody has read, and the position of the last contract up to it; 0 where there is none."""

    position: int
    sha256: str | None
    captured_at: datetime | None
    contract: int = 0

    def then(self, entry: Entry, sha256: str) -> "Tail":
        """The tail once this entry has been read."""
        contract = entry.position if entry.kind == "contract" else self.contract
        return Tail(entry.position, sha256, entry.captured_at, contract)


NONE = Tail(0, None, None)


def encode(entry: Entry) -> bytes:
    """An entry as it is stored."""
    stored: bytes = igzip.compress(msgspec.json.encode(entry), LEVEL, mtime=0)
    return stored


def decode(data: bytes, name: str = "the entry") -> Entry:
    """A stored entry; LakeDamaged, with `name`, if it is none, or one that only a newer assay can read."""
    try:
        text = igzip.decompress(data)
        entry = msgspec.json.decode(text, type=Entry)
    except (isal_zlib.error, EOFError, OSError) as error:  # type: ignore[misc]  # its stub says instance
        raise LakeDamaged(
            f"{name} does not inflate any more ({type(error).__name__}); restore it from a copy"
        ) from error
    except msgspec.DecodeError as error:
        refuse_newer(name, text, FORMAT)
        raise LakeDamaged(f"{name} is no entry of a log any more ({error}); restore it from a copy") from error
    if entry.format > FORMAT:
        refuse_newer(name, text, FORMAT)
    return entry


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read(files: Files, dataset: str, position: int, sha256: str | None = None) -> Entry:
    """One entry; LakeDamaged if it is gone, or not the one whose hash is given."""
    name = name_of(dataset, position)
    data = files.read(name)
    if sha256 is not None and _sha256(data) != sha256:
        raise LakeDamaged(f"{name} has sha256 {_sha256(data)}, but {sha256} was written; restore it from a copy")
    return _placed(decode(data, name), dataset, position)


def since(files: Files, dataset: str, position: int, sha256: str | None = None) -> Iterator[tuple[Entry, str]]:
    """The entries after a position, each with its own sha256, read upward to the first that is not there.

    Each must name the hash of the one before. Where `sha256` is given, it is that of the entry at `position`: the first
    must follow it, and if nothing follows, it must be there still. LakeDamaged names both hashes.
    """
    return _since(files, dataset, position, sha256, "the lake")


def whole(files: Files, dataset: str) -> Iterator[tuple[Entry, str]]:
    """All entries, for a ledger that is new: the log is listed, and no position below the last may be missing.

    Then it goes on upward, since a store may list an object later than it gives it.
    """
    before = 0
    for position in _listed(files, dataset):
        for hole in range(before + 1, position):
            if not files.exists(name_of(dataset, hole)):
                raise LakeDamaged(
                    f"{name_of(dataset, hole)} is missing, but there is an entry {position}: restore it from a copy; "
                    f"the log of {dataset} cannot be read over a hole"
                )
        before = position
    read_up_to = 0
    for entry, sha256 in _following(files, dataset, 0, None):
        read_up_to = entry.position
        yield entry, sha256
    if read_up_to < before:
        raise LakeDamaged(
            f"{name_of(dataset, read_up_to + 1)} went away while the log was read; restore it from a copy"
        )


def _listed(files: Files, dataset: str) -> Iterator[int]:
    """The positions of a log as its listing has them."""
    directory = f"bronze/{dataset}/log/"
    for name in files.names(directory):
        number = name.removeprefix(directory).removesuffix(".json.gz")
        if not number.isascii() or not number.isdecimal() or name != name_of(dataset, int(number)):
            raise LakeDamaged(f"{name} is the name of no entry; take it away if it is not ours")
        yield int(number)


def _since(files: Files, dataset: str, position: int, sha256: str | None, knower: str) -> Iterator[tuple[Entry, str]]:
    empty = True
    for one in _following(files, dataset, position, sha256):
        empty = False
        yield one
    if empty and position and sha256:
        data = read_or_none(files, name_of(dataset, position))
        if data is None:
            last = max(_listed(files, dataset), default=0)
            raise LakeDamaged(
                f"{knower} knows position {position} of {dataset} ({sha256}), but the log ends at {last}: an older bronze "
                "was restored, or entries were lost; restore bronze from the copy that has them"
            )
        if _sha256(data) != sha256:
            raise LakeDamaged(
                f"{name_of(dataset, position)} has sha256 {_sha256(data)}, but {knower} knows {sha256}: an older bronze was "
                "restored and written to, or the entry was altered; restore bronze from one copy"
            )


def _following(files: Files, dataset: str, position: int, sha256: str | None) -> Iterator[tuple[Entry, str]]:
    before = sha256
    for at in count(position + 1):
        name = name_of(dataset, at)
        data = read_or_none(files, name)
        if data is None:
            return
        entry = _placed(decode(data, name), dataset, at)
        if entry.previous != before and (before is not None or at == 1):
            raise LakeDamaged(
                f"{name} follows sha256 {entry.previous}, but {name_of(dataset, at - 1)} has {before}: an older bronze was "
                "restored and written to, or an entry was altered; restore bronze from one copy"
            )
        before = _sha256(data)
        yield entry, before


def _placed(entry: Entry, dataset: str, position: int) -> Entry:
    if (entry.dataset, entry.position) != (dataset, position):
        raise LakeDamaged(
            f"{name_of(dataset, position)} holds entry {entry.position} of {entry.dataset}; restore it from a copy"
        )
    return entry


def batch_of(entry: Entry, n: int) -> Batch:
    """A batch by its number in the entry; LakeDamaged if the entry has none such."""
    for batch in entry.batches:
        if batch.n == n:
            return batch
    raise LakeDamaged(f"{name_of(entry.dataset, entry.position)} has no batch {n}")


def void(files: Files, dataset: str, entry: Entry) -> set[int]:
    """The batches of an entry whose shard was landed, for a day of theirs, after their lander had looked: read by nobody.

    Only where somebody was faster is anything read for it.
    """
    out: set[int] = set()
    late = [batch for batch in entry.batches if batch.seen < entry.position - 1]
    for position in range(min((b.seen for b in late), default=entry.position) + 1, entry.position):
        before = read(files, dataset, position)
        for batch in late:
            if batch.seen < position and any(meet(batch, other) for other in before.batches):
                out.add(batch.n)
    return out


class Claim(Protocol):
    """What a batch claims: days of a shard, or without days all of it."""

    @property
    def shard(self) -> str: ...
    @property
    def start(self) -> date | None: ...
    @property
    def end(self) -> date | None: ...


def meet(one: Claim, other: Claim) -> bool:
    """Whether two batches claim a day of the same shard; where one goes on from a cursor, the two follow each other."""
    if one.shard != other.shard:
        return False
    if one.start is None or one.end is None or other.start is None or other.end is None:
        return True
    return one.start < other.end and other.start < one.end


def parts(files: Files, entry: Entry, wanted: Mapping[int, int]) -> list[Lines]:
    """An entry's parts as an engine reads them, each with those of the wanted batches (n to place) that lie in it."""
    mine: list[dict[int, int]] = [{} for _ in entry.parts]
    for batch in entry.batches:
        if batch.n in wanted:
            for part, _, _ in batch.pieces:
                mine[part][batch.n] = wanted[batch.n]
    return [
        Lines(files.url(part.name), part.rows, part.bytes, batches)
        for part, batches in zip(entry.parts, mine, strict=True)
        if batches
    ]


def lines(files: Files, entry: Entry, n: int) -> Iterator[bytes]:
    """The lines of a batch in the order of `_seq`, without line breaks; the parts' hashes are checked."""
    held: tuple[int, list[bytes]] = (-1, [])
    for part, first, rows in batch_of(entry, n).pieces:
        if part != held[0]:
            held = part, _lines(files, entry, part)
        yield from _cut(entry, part, held[1], first, rows)


def line(files: Files, entry: Entry, n: int, seq: int) -> tuple[Part, int, bytes]:
    """The part of one line, its number there from 1, and its bytes without the line break."""
    return lines_of(files, entry, [(n, seq)])[n, seq]


def lines_of(
    files: Files, entry: Entry, wanted: Collection[tuple[int, int]]
) -> dict[tuple[int, int], tuple[Part, int, bytes]]:
    """What `line` says of many, by (n, seq); each part is read, checked and inflated once."""
    places: dict[int, list[tuple[int, tuple[int, int]]]] = defaultdict(list)
    for n, seq in wanted:
        rest = seq
        for part, first, rows in batch_of(entry, n).pieces:
            if 0 <= rest < rows:
                places[part].append((first + rest, (n, seq)))
                break
            rest -= rows
        else:
            raise LakeDamaged(f"{name_of(entry.dataset, entry.position)} has no line {seq} in batch {n}")
    found = {}
    for part, those in places.items():
        all_lines = _lines(files, entry, part)
        for number, one in those:
            [text] = _cut(entry, part, all_lines, number, 1)
            found[one] = entry.parts[part], number + 1, text
    return found


def _lines(files: Files, entry: Entry, part: int) -> list[bytes]:
    """All lines of a part, its hash checked."""
    if not 0 <= part < len(entry.parts):
        raise LakeDamaged(f"{name_of(entry.dataset, entry.position)} has no part {part}")
    return inflated(files, entry.parts[part]).split(b"\n")[:-1]


def _cut(entry: Entry, part: int, all_lines: Sequence[bytes], first: int, rows: int) -> Sequence[bytes]:
    found = all_lines[first : first + rows]
    if len(found) != rows:
        raise LakeDamaged(
            f"{entry.parts[part].name} has {len(all_lines)} lines, fewer than its entry says; restore it from a copy"
        )
    return found


def inflated(files: Files, one: Part | Raw) -> bytes:
    """What a part or a kept answer holds; LakeDamaged, with its name, if its stored bytes are not what was written."""
    data = files.read(one.name)
    if _sha256(data) != one.sha256:
        raise LakeDamaged(f"{one.name} is not what was written; restore it from a copy")
    try:
        found: bytes = igzip.decompress(data)
    except (isal_zlib.error, EOFError, OSError) as error:  # type: ignore[misc]  # its stub says instance
        raise LakeDamaged(f"{one.name} does not inflate ({type(error).__name__}); restore it from a copy") from error
    return found


def objects(entry: Entry) -> tuple[Part | Raw, ...]:
    """All that an entry names besides contracts: its parts, and the answers that are kept beside them."""
    return *entry.parts, *(asked.raw for batch in entry.batches for asked in batch.requests if asked.raw)


def only_of(entry: Entry, places: Collection[int]) -> set[str]:
    """The objects that an entry names for these batches (as numbers) and for no other."""
    mine = {batch.n for batch in entry.batches if entry.position * N + batch.n in places}
    if not mine:
        return set()
    others = {part for batch in entry.batches if batch.n not in mine for part, _, _ in batch.pieces}
    parts = {part for batch in entry.batches if batch.n in mine for part, _, _ in batch.pieces}
    raw = {asked.raw.name for batch in entry.batches if batch.n in mine for asked in batch.requests if asked.raw}
    return {entry.parts[part].name for part in parts - others} | raw


def lost(files: Files, ledger: Ledger, dataset: str) -> tuple[set[int], set[str]]:
    """What decisions declared lost: batches as numbers, and objects by their names."""
    batches: set[int] = set()
    names: set[str] = set()
    for fact in ledger.since("decided", dataset):
        if fact.body.get("declared"):
            acts = read(files, dataset, int(fact.id), None).decisions
            batches.update(one.batch[0] * N + one.batch[1] for one in acts if one.kind == "lost" and one.batch)
            names.update(one.object for one in acts if one.kind == "lost" and one.object)
    return batches, names


def check(files: Files, entry: Entry, *, whole: bool = False, lost: Collection[str] = ()) -> None:
    """Hold an entry's objects against it: their hashes and the counts; `whole` also inflates them and reads each line.

    `lost` are names that were declared lost: they are not looked at. LakeDamaged names the object.
    """
    _counts(entry)
    buried: Counter[int] = Counter()
    for one in objects(entry):
        if one.name in lost:
            continue
        if whole:
            data = inflated(files, one)
            if len(data) != one.bytes or (isinstance(one, Part) and data.count(b"\n") != one.rows):
                raise LakeDamaged(f"{one.name} holds other counts than its entry says; restore it from a copy")
            if isinstance(one, Part):
                _heads(entry, one, data.split(b"\n"))
                buried.update(int(found[1]) for found in TOMBSTONE.finditer(data))
        elif _sha256(files.read(one.name)) != one.sha256:
            raise LakeDamaged(f"{one.name} is not what was written; restore it from a copy")
    for batch in entry.batches if whole and not lost else ():
        if buried[batch.n] != batch.erased.rows:
            raise LakeDamaged(
                f"{name_of(entry.dataset, entry.position)} says that {batch.erased.rows} lines of batch {batch.n} were erased, its parts "
                f"hold {buried[batch.n]} tombstones; restore them from a copy"
            )


def _counts(entry: Entry) -> None:
    """The entry by itself: every line of its parts belongs to one batch, or to one that was dropped."""
    name = name_of(entry.dataset, entry.position)
    taken = defaultdict(list)
    for batch in entry.batches:
        if batch.rows != sum(asked.rows for asked in batch.requests) or batch.rows != sum(p[2] for p in batch.pieces):
            raise LakeDamaged(f"{name}: requests, pieces and rows of batch {batch.n} do not add up")
        for part, first, rows in batch.pieces:
            taken[part].append((first, first + rows))
    for part, pieces in taken.items():
        ends = [0, *(end for _, end in sorted(pieces))]
        free = all(start >= end for (start, _), end in zip(sorted(pieces), ends, strict=False))
        if not 0 <= part < len(entry.parts) or not free or ends[-1] > entry.parts[part].rows:
            raise LakeDamaged(f"{name}: pieces of part {part} overlap, or lie outside of it")
    dropped = sum(rows for _, rows in entry.dropped)
    numbers = [batch.n for batch in entry.batches] + [n for n, _ in entry.dropped]
    if sum(p.rows for p in entry.parts) != sum(b.rows for b in entry.batches) + dropped or len(set(numbers)) != len(
        numbers
    ):
        raise LakeDamaged(f"{name}: parts, batches and dropped batches do not add up")


def _heads(entry: Entry, part: Part, found: Sequence[bytes]) -> None:
    """The lines of a part say of themselves what the entry says of them."""
    index = entry.parts.index(part)
    for batch in entry.batches:
        seq = 0
        for at, first, rows in batch.pieces:
            if at == index:
                for offset in range(rows):
                    if not found[first + offset].startswith(b'{"_seq":%d,"_n":%d,' % (seq + offset, batch.n)):
                        raise LakeDamaged(
                            f"{part.name}:{first + offset + 1} is not line {seq + offset} of batch {batch.n}"
                        )
            seq += rows


def facts_of(entry: Entry, sha256: str) -> Iterator[Fact]:
    """What the ledger keeps of an entry: enough to plan without reading it."""
    dataset, key = entry.dataset, f"{entry.position:09}"
    body: dict[str, Any] = {
        "sha256": sha256, "kind": entry.kind, "captured_at": entry.captured_at.isoformat(), "run": entry.run,
        "origin": entry.origin, "batches": len(entry.batches), "rows": sum(batch.rows for batch in entry.batches),
        "bytes": sum(part.bytes for part in entry.parts), "calls": sum(len(batch.requests) for batch in entry.batches),
    }  # fmt: skip
    if entry.contract:
        body["contract"] = entry.contract
    if entry.everything:
        body["everything"] = True
    yield Fact("entry", dataset, key, entry.captured_at, body)
    if entry.kind == "contract":
        said = {"sha256": entry.contract, "everything": entry.everything, "replaces": entry.replaces}
        yield Fact("contract", dataset, key, entry.captured_at, said)
    if entry.kind == "decided":
        lost = [d.batch[0] * N + d.batch[1] for d in entry.decisions if d.batch and d.kind in ("lost", "exclude")]
        said = {"lost": lost, "declared": _declared(entry), "who": entry.who, "why": entry.why}
        yield Fact("decided", dataset, key, entry.captured_at, said)
        if asking := [one.kind for one in entry.decisions if one.kind in ASKING]:
            said = {"kind": asking[-1], "who": entry.who, "why": entry.why}
            yield Fact("paused", dataset, "now", entry.captured_at, said, entry.position)


def folded(entry: Entry) -> bool:
    """Whether a refine takes something from an entry."""
    return entry.kind != "swept" and (entry.kind != "decided" or any(d.kind not in ASKING for d in entry.decisions))


def _declared(entry: Entry) -> int:
    """How many acts of a decision declare a batch or an object lost."""
    return sum(one.kind == "lost" for one in entry.decisions)


def _landed(before: Fact | None, entry: Entry) -> Fact:
    """Running sums of a log: what was landed so far, whose it is, and where a clock ran backwards."""
    body: dict[str, Any] = (
        dict(before.body) if before else {"batches": 0, "rows": 0, "bytes": 0, "calls": 0, "origins": [], "to_fold": 0}
    )
    body["position"] = entry.position
    if folded(entry):
        body["to_fold"] = entry.position
    if entry.kind == "landed":
        body["captured_at"] = entry.captured_at.isoformat()
        body["batches"] += len(entry.batches)
        body["rows"] += sum(batch.rows for batch in entry.batches)
        body["bytes"] += sum(part.bytes for part in entry.parts)
        body["calls"] += sum(len(batch.requests) for batch in entry.batches)
        body["origins"] = sorted({*body["origins"], entry.origin})
        if entry.batches:
            body.pop("clock", None)  # the newest landing says whether clocks agree
        if entry.batches and (late := entry.captured_at - max(b.asked_at for b in entry.batches)) > AHEAD:
            body["clock"] = (
                f"entry {entry.position} was put {late} after its last ask by the lander's own clock: that clock is "
                "behind another lander's; the log's order counts, mend the clock"
            )
    if lost := sum(one.kind == "lost" and one.batch is not None for one in entry.decisions):
        body["lost"] = body.get("lost", 0) + lost
    return Fact("landed", entry.dataset, "now", entry.captured_at, body, entry.position)


def _shape(before: Fact | None, entry: Entry) -> Fact | None:
    """What the records of a log look like so far."""
    if entry.shape is None:
        return before
    at = entry.captured_at.isoformat()
    body = drift.fold(before.body if before else None, entry.shape, entry.capture, entry.position, at)
    return Fact("shape", entry.dataset, "now", entry.captured_at, body, entry.position)


def _tail_fact(dataset: str, tail: Tail) -> Fact:
    assert tail.captured_at  # noqa: S101 - it is an entry's
    body = {
        "position": tail.position, "sha256": tail.sha256, "captured_at": tail.captured_at.isoformat(),
        "contract": tail.contract,
    }  # fmt: skip
    return Fact("tail", dataset, "tail", tail.captured_at, body, tail.position)


def adopt(files: Files, ledger: Ledger, dataset: str) -> Tail:
    """Record what the log has and the ledger lacks, upward from the ledger's tail; the tail after that.

    A ledger that is new reads the whole log. LakeDamaged where the log does not continue what the ledger knows.
    """
    known = ledger.newest("tail", dataset, "tail")
    if known:
        at = datetime.fromisoformat(known.body["captured_at"])
        tail = Tail(known.version, known.body["sha256"], at, known.body["contract"])
        entries = _since(files, dataset, tail.position, tail.sha256, "the ledger")
    else:
        tail, entries = NONE, whole(files, dataset)
    # Read after the tail: what another process adopted meanwhile is in these sums already.
    landed, shape = (ledger.newest(kind, dataset, "now") for kind in ("landed", "shape"))
    facts: list[Fact] = []
    for entry, sha256 in entries:
        fresh = list(facts_of(entry, sha256))
        if len(facts) + len(fresh) >= BUNCH - 2:  # sums, shape and tail come with them
            _record(ledger, dataset, [*facts, *(one for one in (landed, shape) if one)], tail)
            facts = []
        facts += fresh
        if landed is None or landed.version < entry.position:
            landed = _landed(landed, entry)
        if shape is None or shape.version < entry.position:
            shape = _shape(shape, entry)
        tail = tail.then(entry, sha256)
    if facts:
        _record(ledger, dataset, [*facts, *(one for one in (landed, shape) if one)], tail)
    return tail


def _record(ledger: Ledger, dataset: str, facts: Sequence[Fact], tail: Tail) -> None:
    with effect("land.ledger"):
        ledger.record([*facts, _tail_fact(dataset, tail)])


def append(
    files: Files,
    ledger: Ledger,
    dataset: str,
    seen: Tail,
    landing: str,
    hear: Callable[[Entry], None],
    make: Callable[[], Entry | None],
) -> tuple[Entry, str] | None:
    """Put an entry at the next free position: it with its sha256, or None where `make` has nothing to say any more.

    `hear` is told of every entry after `seen`, and then `make` gives the entry, to which its place is added; again and
    again, until no other was faster. An entry of the same `landing` is one's own, put by a call whose end was not seen.
    LakeDamaged where the ledger knows of more than the log has.
    """
    known = ledger.newest("tail", dataset, "tail")  # before the log is read: what it knows must be there
    tail = seen
    while True:
        for entry, sha256 in _following(files, dataset, tail.position, tail.sha256):
            if entry.landing == landing:
                return entry, sha256
            hear(entry)
            tail = tail.then(entry, sha256)
        if known and known.version > tail.position:
            raise LakeDamaged(
                f"{name_of(dataset, tail.position + 1)} is missing, but the ledger knows position {known.version}: restore "
                "it from a copy; nothing was written, since the log would go on from two places"
            )
        draft = make()
        if draft is None:
            return None
        mine = placed(draft, dataset, tail, landing)
        data = encode(mine)
        if files.put_new(name_of(dataset, mine.position), data, "land.entry"):
            return mine, _sha256(data)


def draft(kind: Literal["landed", "contract", "decided", "swept"], **said: Any) -> Entry:
    """An entry that has no place yet; `append` gives it one."""
    return Entry(kind=kind, dataset="", position=0, previous=None, landing="", captured_at=EPOCH, **said)


def placed(draft: Entry, dataset: str, tail: Tail, landing: str) -> Entry:
    """A draft as the entry that follows a tail, now."""
    at = clock.now()
    return msgspec.structs.replace(
        draft,
        dataset=dataset,
        landing=landing,
        position=tail.position + 1,
        previous=tail.sha256,
        captured_at=max(at, tail.captured_at + timedelta(microseconds=1)) if tail.captured_at else at,
    )


def pin(files: Files, contract: Contract) -> str:
    """Store the contract's text under its hash, once; return the hash."""
    name = f"contracts/{contract.sha256}.yaml"
    if not files.exists(name) and not files.put_new(name, contract.text.encode(), "land.contract"):
        raise LakeDamaged(f"{name} was altered; restore it from a copy")
    return contract.sha256


def pinned(files: Files, sha256: str) -> Contract:
    """The contract stored under a hash."""
    name = f"contracts/{sha256}.yaml"
    data = files.read(name)
    if _sha256(data) != sha256:
        raise LakeDamaged(f"{name} was altered; restore it from a copy")
    return odcs.parse(data.decode(), name)


def put_contract(files: Files, ledger: Ledger, contract: Contract, *, everything: bool = False, run: str = "") -> Tail:
    """Make this contract the one in force, unless it is; the tail then.

    Where the same records give other rows by it, or if `everything` is asked for, the whole log is to be folded anew.
    ContractError if it was in force before and was replaced: this checkout is older than the lake.
    """
    dataset, mine = contract.dataset, contract.sha256
    seen = adopt(files, ledger, dataset)
    facts = list(ledger.since("contract", dataset))
    if seen.contract and (newest := ledger.newest("contract", dataset, f"{seen.contract:09}")):
        facts.append(newest)  # a listing may be late, this is not
    said = sorted({int(fact.id): str(fact.body["sha256"]) for fact in facts}.items())

    def hear(entry: Entry) -> None:
        if entry.kind == "contract":
            said.append((entry.position, entry.contract))

    def make() -> Entry | None:
        before = said[-1][1] if said else None
        if before == mine and not everything:
            return None
        if before != mine and mine in (sha256 for _, sha256 in said):
            last = max(index for index, (_, sha256) in enumerate(said) if sha256 == mine)
            raise ContractError(
                f"{contract.path or dataset}: this contract was replaced at position {said[last + 1][0]} of {dataset}; "
                "take the newer contract, or say it anew (raise its version)"
            )
        if not said:
            formats.begin(files)
        pin(files, contract)
        anew = everything or (before is not None and _refines_otherwise(files, before, contract))
        return draft("contract", contract=mine, everything=anew, replaces=before, run=run)

    done = append(files, ledger, dataset, seen, str(ULID()), hear, make)
    return adopt(files, ledger, dataset) if done else seen


def _refines_otherwise(files: Files, before: str, contract: Contract) -> bool:
    try:
        return pinned(files, before).refine_fingerprint != contract.refine_fingerprint
    except ContractError:  # the parser has learnt to refuse it since: nobody can say that it gave the same rows
        return True


ASKING = frozenset({"pause", "retire", "resume"})
"""The acts that say whether a dataset's source is asked; entries with one of them have format 2."""

# What each kind of act names, one of these; nothing where it is about the dataset.
NAMES: Mapping[str, tuple[str, ...]] = {
    "lost": ("batch", "object"),
    "release": ("batch",),
    "rejudge": ("batch",),
    "withdraw": ("batch",),
    "exclude": ("batch",),
    "upsert": ("record",),
    "delete": ("record",),
    **dict.fromkeys(sorted(ASKING), ()),
}


def decide(
    files: Files, ledger: Ledger, dataset: str, decisions: Sequence[Decision], who: str, why: str, *,
    hear: Callable[[Entry], None] | None = None,
) -> Tail:  # fmt: skip
    """Put a decision with its acts, all in one entry; the tail then.

    `hear` is told of every entry that its author has not `seen`; what it raises keeps the decision from being put.
    UsageError where it names no one, no reason, or what is not there; nothing is put then.
    """
    if not decisions or not who.strip() or not why.strip():
        raise UsageError("a decision says who decided, why, and at least one act")
    if not is_text(who) or not is_text(why) or len(who) + len(why) > LONGEST:
        raise UsageError(f"who decided and why are texts in UTF-8, of {LONGEST:,} characters together at most")
    if len(decisions) > N or sum(len(one.record or "") for one in decisions) > LARGEST:
        raise UsageError(f"a decision of {len(decisions)} acts does not fit one entry; say it in several")
    seen = adopt(files, ledger, dataset)
    numbers: dict[int, set[int]] = {}
    for number, one in enumerate(decisions, 1):
        _check_act(one, f"act {number}", seen)
        if one.batch:
            position, n = one.batch
            if position not in numbers:
                there = 0 < position <= seen.position
                numbers[position] = {b.n for b in read(files, dataset, position).batches} if there else set()
            if n not in numbers[position]:
                raise UsageError(f"act {number}: {dataset} has no batch {position}.{n}")
    newer = any(one.kind in ASKING for one in decisions)
    entry = draft("decided", decisions=tuple(decisions), who=who, why=why, format=2 if newer else 1)
    told = hear or (lambda _: None)
    if hear:
        for position in range(max(one.seen for one in decisions) + 1, seen.position + 1):
            told(read(files, dataset, position))
    append(files, ledger, dataset, seen, str(ULID()), told, lambda: entry)
    return adopt(files, ledger, dataset)


def _check_act(one: Decision, what: str, seen: Tail) -> None:
    if one.kind not in NAMES:
        raise UsageError(f"{what}: {one.kind} cannot be decided; there are {', '.join(NAMES)}")
    given = [name for name in ("batch", "record", "object") if getattr(one, name) is not None]
    if len(given) != bool(NAMES[one.kind]) or not set(given) <= set(NAMES[one.kind]):
        named = f"one {' or '.join(NAMES[one.kind])}, and nothing else" if NAMES[one.kind] else "nothing"
        raise UsageError(f"{what}: {one.kind} names {named}")
    if not 0 <= one.seen <= seen.position:
        raise UsageError(f"{what}: its author cannot have seen position {one.seen}, the log ends at {seen.position}")
    if one.record is not None:
        try:
            msgspec.json.decode(one.record, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise UsageError(f"{what}: its record is no JSON object ({error})") from None
        if "\n" in one.record or "\r" in one.record:
            raise UsageError(f"{what}: its record must stand on one line")


def sweep(files: Files, ledger: Ledger, dataset: str, names: Collection[str], seen: Tail | None = None) -> Tail:
    """Put that these objects, which no entry names, are to be deleted: whoever put them and slept must read it.

    `seen` is the tail at which the caller found that nobody names them. LakeBusy if an entry since names one; nothing is
    put then.
    """
    wanted = sorted(set(names))
    inside = f"bronze/{dataset}/dt="
    if not wanted or not all(name.startswith(inside) for name in wanted):
        raise UsageError(f"only objects below {inside}… can be swept from {dataset}")
    now = adopt(files, ledger, dataset)

    def hear(entry: Entry) -> None:
        if named := {one.name for one in objects(entry)}.intersection(wanted):
            raise LakeBusy(
                f"{min(named)} is named by entry {entry.position} meanwhile; look again for what nothing names"
            )

    entry = draft("swept", swept=tuple(wanted))
    append(files, ledger, dataset, seen or now, str(ULID()), hear, lambda: entry)
    return adopt(files, ledger, dataset)
