"""Landing: a slice of asks, each kept until it is complete, becomes parts and one entry of the log."""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count, repeat
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
from isal import isal_zlib
from ulid import ULID

from assay import clock
from assay.errors import LakeBusy, SourceSuspect
from assay.lake import bronze
from assay.lake.bronze import LEVEL, Asked, Batch, Entry, Part, Raw, Tail
from assay.lake.drift import Look, Shape, sampled
from assay.lake.files import clear_errors
from assay.ports import Files, Ledger, N
from assay.windows import Window

PART = 64 * 2**20  # bytes of a part's lines, at most
LARGE = 4 * 2**20  # bytes of lines above which an ask gets parts of its own
SMALL, TOGETHER = 16 * 2**10, 1000  # small answers are looked at together: bytes of an ask, and records
ENVELOPE = 64  # bytes that a line has at most besides its record
GZIP = 31  # as zlib's wbits: a gzip member, without name and time, so that the same lines give the same bytes

_heads: list[bytes] = []  # b'{"_seq":0', b'{"_seq":1' …: every batch counts from 0, so they are made once
_growing = threading.Lock()  # two threads that made more of them at once would number wrongly


def enveloped(records: Sequence[bytes], n: int, first: int, strange: Mapping[int, str] | None = None) -> bytes:
    """Records as lines of batch `n`, numbered from `first`; SourceSuspect if one holds a raw line break.

    `strange` says of some, by the number of their line, why they are not what was asked for.
    """
    stop = first + len(records)
    if len(_heads) < stop:
        with _growing:
            _heads.extend(map(b'{"_seq":%d'.__mod__, range(len(_heads), 2 * stop + 4096)))
    between: Iterable[bytes] = repeat(b',"_n":%d,"_record":' % n)
    if strange:
        ops = (b'"_op":"%s",' % strange[at].encode() if at in strange else b"" for at in range(first, stop))
        between = (b',"_n":%d,%b"_record":' % (n, op) for op in ops)
    data = b"".join(chain.from_iterable(zip(_heads[first:stop], between, records, repeat(b"}\n"))))
    if data.count(b"\n") != len(records) or b"\r" in data:
        raise SourceSuspect("a record holds a raw line break, which JSON does not allow")
    return data


def _fitting(records: Sequence[bytes], most: int) -> Iterator[Sequence[bytes]]:
    """The records in runs whose lines hold at most so many bytes; one that is larger alone."""
    if sum(map(len, records)) + ENVELOPE * len(records) <= most:
        yield records
        return
    start, size = 0, 0
    for at, record in enumerate(records):
        size += len(record) + ENVELOPE
        if size > most and at > start:
            yield records[start:at]
            start, size = at, len(record) + ENVELOPE
    yield records[start:]


class _Zipped:
    """A gzip file of scratch in the making; `bytes` as they went in."""

    def __init__(self, files: Files) -> None:
        self.path = files.scratch()
        with clear_errors(self.path.parent):
            self._file = self.path.open("wb", buffering=0)
        self._zip = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, GZIP)
        self._hash = hashlib.sha256()
        self.bytes = self.stored = 0

    def write(self, data: bytes) -> None:
        self.bytes += len(data)
        self._store(self._zip.compress(data))

    def close(self) -> str:
        """Finish it; the sha256 of the file."""
        self._store(self._zip.flush())
        self._file.close()
        return self._hash.hexdigest()

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _store(self, data: bytes) -> None:
        self._hash.update(data)
        self.stored += len(data)
        rest = memoryview(data)
        with clear_errors(self.path.parent):
            while rest:
                rest = rest[self._file.write(rest) :]


class _Made(NamedTuple):
    """A finished part in scratch; it gets its name when it is put."""

    path: Path
    part: Part


class _Packer:
    """Lines into parts of at most PART bytes of lines."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.made: list[_Made] = []
        self._open: _Zipped | None = None
        self._rows = 0

    def add(self, lines: bytes, rows: int) -> tuple[int, int, int]:
        """Write whole lines into one part; the piece they are: (part, first line, rows)."""
        if self._open and self._open.bytes + len(lines) > PART:
            self.close()
        if self._open is None:
            self._open, self._rows = _Zipped(self._files), 0
        self._open.write(lines)
        piece = (len(self.made), self._rows, rows)
        self._rows += rows
        return piece

    def close(self) -> None:
        if self._open:
            one, self._open = self._open, None
            try:
                sha256 = one.close()
            except BaseException:
                one.discard()
                raise
            self.made.append(_Made(one.path, Part("", self._rows, one.bytes, one.stored, sha256)))

    def discard(self) -> None:
        """Leave nothing of what was not put."""
        if self._open:
            self._open.discard()
            self._open = None
        for one in self.made:
            one.path.unlink(missing_ok=True)


class Ask:
    """One ask in the making, used as a block: it counts once the block ends well, else nothing of it is left."""

    def __init__(self, landing: "Landing", batch: Batch) -> None:
        self.batch = batch
        self.pieces: list[tuple[int, int, int]] = []
        self.own: _Packer | None = None
        self.raw: list[tuple[Path, Raw]] = []
        self.kept: list[bytes] = []
        self.samples: list[bytes] = []
        self.look: Look | None = None
        self._landing = landing
        self._requests: list[Asked] = []
        self._rows = self._size = 0

    def page(
        self,
        asked: Asked,
        records: Sequence[bytes],
        raw: bytes | Iterable[bytes] | None = None,
        kind: str = "",
        strange: Mapping[int, str] | None = None,
    ) -> None:
        """Append an answer's records, token for token as they came, each in our envelope on a line of its own.

        `raw` is the answer as it came, if that was no JSON, whole or in pieces; it is kept beside the lines as `kind`.
        `strange` says of records, by their number in the page, why they are not what was asked for.
        """
        name = f"{self._landing.dataset} {self.batch.shard!r}"
        if asked.rows != len(records):
            raise SourceSuspect(f"{name}: the source says {asked.rows} records of an answer, and gave {len(records)}")
        odd = {self._rows + at: why for at, why in (strange or {}).items()}
        try:
            for some in _fitting(records, LARGE):
                self._append(enveloped(some, self.batch.n, self._rows, odd), len(some))
        except SourceSuspect as error:
            raise SourceSuspect(f"{name}: {error}") from None
        self._sample(records)
        if raw is not None:
            asked = msgspec.structs.replace(asked, raw=self._keep((raw,) if isinstance(raw, bytes) else raw, kind))
        self._requests.append(self._landing.told(asked))

    def _sample(self, records: Sequence[bytes]) -> None:
        """Keep what is looked at of an answer; much of it is counted at once."""
        self.samples += sampled(records)
        if self._size > SMALL:
            self.look = self.look or Look(self._landing.reads)
            self.look.add(self.samples)
            self.samples = []

    def _append(self, lines: bytes, rows: int) -> None:
        if not rows:
            return
        self._size += len(lines)
        self._landing.bytes += len(lines)
        self._rows += rows
        if self.own is None and self._size > LARGE:
            self.own = _Packer(self._landing.files)
            before = self._rows - rows
            if before:
                self.pieces.append(self.own.add(b"".join(self.kept), before))
            self.kept = []
        if self.own is None:
            self.kept.append(lines)
            return
        piece = self.own.add(lines, rows)
        if self.pieces and self.pieces[-1][0] == piece[0]:
            part, first, had = self.pieces.pop()
            piece = part, first, had + rows
        self.pieces.append(piece)

    def _keep(self, raw: Iterable[bytes], kind: str) -> Raw:
        zipped, content = _Zipped(self._landing.files), hashlib.sha256()
        try:
            for piece in raw:
                zipped.write(piece)
                content.update(piece)
            sha256 = zipped.close()
        except BaseException:
            zipped.discard()
            raise
        name = self._landing.name(f"raw-{next(self._landing.raws)}", sha256, kind)
        self.raw.append((zipped.path, Raw(name, zipped.bytes, zipped.stored, sha256, content.hexdigest())))
        return self.raw[-1][1]

    def discard(self) -> None:
        """Leave nothing of it in scratch."""
        if self.own:
            self.own.discard()
        for path, _ in self.raw:
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._complete()
                return
        except BaseException:
            self._forget()
            raise
        self._forget()

    def _forget(self) -> None:
        self._landing.bytes -= self._size
        self.discard()

    def _complete(self) -> None:
        if not self._requests:
            raise SourceSuspect(f"{self._landing.dataset} {self.batch.shard!r}: the source gave no answer at all")
        if self.own:
            self.own.close()
        elif self._rows:
            self.pieces = [self._landing.small.add(b"".join(self.kept), self._rows)]
        self.kept = []
        self.batch = msgspec.structs.replace(self.batch, rows=self._rows, requests=tuple(self._requests))
        self._landing.asks.append(self)


class Landing:
    """One slice: asks that run together, and with `commit` one entry. As a block, it leaves nothing in scratch.

    Args:
        files: the lake's files.
        ledger: to know whether the log has all that it should have.
        seen: the tail that was read just before its asks began.
        run, source, code, origin, capture, contract: as in `Entry`.
        reads: the paths of records that the contract's columns read.
    """

    def __init__(
        self, files: Files, ledger: Ledger, dataset: str, seen: Tail, *, run: str, source: str, code: str, origin: str,
        capture: str, contract: str, reads: Collection[tuple[str, ...]] = (),
    ) -> None:  # fmt: skip
        self.files, self.dataset, self.seen, self.reads = files, dataset, seen, reads
        self.id = str(ULID())
        self.bytes = 0
        self.asks: list[Ask] = []
        self.small = _Packer(files)
        self.raws = count()
        self._ledger = ledger
        self._day = clock.now().date()
        self._ns = count()
        self._put: set[str] = set()
        self._draft = bronze.draft(
            "landed", run=run, source=source, code=code, origin=origin, capture=capture, contract=contract
        )

    def ask(
        self,
        shard: str,
        window: Window | None,
        *,
        cursor: str | None = None,
        scope: dict[str, tuple[str, str]] | None = None,
    ) -> Ask:
        """Begin an ask: a window's, or without one a cursor's, that goes on from where the last one ended."""
        n = next(self._ns)
        if n >= N:
            raise ValueError(f"a landing holds {N} asks, not more")
        start, end = (window.start, window.end) if window else (None, None)
        return Ask(self, Batch(n, shard, 0, clock.now(), self.seen.position, (), (), start, end, cursor, scope))

    def told(self, asked: Asked) -> Asked:
        """A request as the entry says it: without the address that is the entry's."""
        if asked.url and not self._draft.url:
            self._draft = msgspec.structs.replace(self._draft, url=asked.url)
        return msgspec.structs.replace(asked, url=None) if asked.url == self._draft.url else asked

    def name(self, number: str, sha256: str, kind: str) -> str:
        """Where one of its objects lies."""
        return f"bronze/{self.dataset}/dt={self._day}/{self.id}-{number}-{sha256[:16]}.{kind}.gz"

    def commit(self) -> tuple[Entry, str] | None:
        """Put what is complete: parts, then the entry; it with its sha256. None if nothing is left to be put.

        What entries since `seen` hold already is left out: its windows are theirs. LakeBusy if upkeep took this for
        dead and swept its parts.
        """
        self.small.close()
        batches, made = self._laid_out()
        void: set[int] = set()

        def hear(entry: Entry) -> None:
            if self._put.intersection(entry.swept):
                raise LakeBusy(f"{self.dataset}: this landing slept, and its parts were swept meanwhile; run it again")
            theirs: dict[str, list[Batch]] = defaultdict(list)
            for other in entry.batches:
                theirs[other.shard].append(other)
            void.update(
                mine.n for mine in batches if any(bronze.meet(other, mine) for other in theirs.get(mine.shard, ()))
            )

        def make() -> Entry | None:
            kept = [one for one in batches if one.n not in void]
            if not kept:
                return None
            named = sorted({part for one in kept for part, _, _ in one.pieces})
            for index in named:
                self._store(made[index].path, made[index].part.name)
            for ask in self.asks:
                if ask.batch.n not in void:
                    for path, raw in ask.raw:
                        self._store(path, raw.name)
            draft = msgspec.structs.replace(self._draft, shape=self._shape(void))
            return _entry(draft, batches, kept, [one.part for one in made], named)

        done = bronze.append(self.files, self._ledger, self.dataset, self.seen, self.id, hear, make)
        self.discard()
        return done

    def _shape(self, void: Collection[int]) -> Shape | None:
        """What the records of all asks look like that are put, in the order of their numbers."""
        look, samples = Look(self.reads), list[bytes]()
        for ask in self.asks:
            if ask.batch.n in void:
                continue
            if ask.look or len(samples) > TOGETHER:
                look.add(samples)
                samples = []
            if ask.look:
                look.join(ask.look)
            samples += ask.samples
        look.add(samples)
        return look.shape()

    def _laid_out(self) -> tuple[list[Batch], list[_Made]]:
        """The batches by number, their pieces within all parts that were made, and those."""
        self.asks.sort(key=lambda ask: ask.batch.n)
        made: list[_Made] = []
        begin: dict[int, int] = {}
        for packer in (self.small, *(ask.own for ask in self.asks if ask.own)):
            begin[id(packer)] = len(made)
            for path, part in packer.made:
                name = self.name(str(len(made)), part.sha256, "ndjson")
                made.append(_Made(path, msgspec.structs.replace(part, name=name)))
        return [
            msgspec.structs.replace(
                ask.batch,
                pieces=tuple((begin[id(ask.own or self.small)] + part, line, rows) for part, line, rows in ask.pieces),
            )
            for ask in self.asks
        ], made

    def _store(self, path: Path, name: str) -> None:
        if name not in self._put:
            if not self.files.put_new(name, path, "land.part"):
                raise LakeBusy(f"{name} holds something else already; run it again")
            self._put.add(name)

    def discard(self) -> None:
        """Leave nothing of what was not put."""
        self.small.discard()
        for ask in self.asks:
            ask.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


def _entry(
    draft: Entry, batches: Sequence[Batch], kept: Sequence[Batch], parts: Sequence[Part], named: Sequence[int]
) -> Entry:
    """The draft with the batches that are kept, the parts that these name, and what of those is nobody's."""
    place = {old: new for new, old in enumerate(named)}
    numbers = {one.n for one in kept}
    lost = (
        (one.n, sum(rows for part, _, rows in one.pieces if part in place)) for one in batches if one.n not in numbers
    )
    return msgspec.structs.replace(
        draft,
        parts=tuple(parts[old] for old in named),
        batches=tuple(
            msgspec.structs.replace(one, pieces=tuple((place[part], line, rows) for part, line, rows in one.pieces))
            for one in kept
        ),
        dropped=tuple((n, rows) for n, rows in lost if rows),
    )
