"""Bronze: raw records in immutable parts, and the manifest that commits them as one batch."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from io import FileIO
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

import msgspec
from isal import igzip, isal_zlib
from ulid import ULID

from assay import windows
from assay.errors import LakeBusy, LakeDamaged, SourceSuspect
from assay.lake.files import Files, clear_errors, safe
from assay.windows import Window

PART_BYTES = 64 * 2**20
LEVEL = 1
GZIP = 31  # as zlib's wbits: a gzip member, without name and time, so the same lines give the same bytes
ENVELOPE = 32  # at most, besides what a page's records have in common


class Part(msgspec.Struct, frozen=True):
    """One stored object: rows `first_seq`..`last_seq`; `sha256` of its lines, `stored_sha256` of its gzip bytes."""

    path: str
    rows: int
    bytes: int
    sha256: str
    stored_sha256: str
    first_seq: int
    last_seq: int


class Asked(msgspec.Struct, frozen=True):
    """One request and its answer: `rows` records, numbered from `first_seq`."""

    url: str
    params: dict[str, str]
    at: datetime
    status: int
    bytes: int
    sha256: str
    rows: int
    first_seq: int
    span: tuple[str, str] | None = None


class Raw(msgspec.Struct, frozen=True):
    """An answer that was no JSON, kept gzipped as it came; `request` counts from 0."""

    path: str
    request: int
    bytes: int
    sha256: str
    stored_sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """One batch: what was captured, by whom, for which shard and window, and from which requests."""

    batch: str
    dataset: str
    run: str
    shard: str
    start: date
    end: date
    generation: int
    source: str
    connector: str
    origin: str
    capture_fingerprint: str
    contract_sha256: str
    captured_at: datetime
    rows: int
    parts: tuple[Part, ...]
    requests: tuple[Asked, ...]
    raw: tuple[Raw, ...] = ()
    kind: str = "landed"

    @property
    def window(self) -> Window:
        """The days this batch claims."""
        return Window(self.start, self.end)

    @property
    def name(self) -> str:
        """Where the manifest lies: its name claims shard, window and generation."""
        return claim(self.dataset, self.shard, self.window, self.generation)


def claim(dataset: str, shard: str, window: Window, generation: int) -> str:
    """The name of the manifest that claims one window of one shard, in its first, second … generation."""
    return f"bronze/{dataset}/_manifests/{window.start}_{window.end}/{safe(shard)}_g{generation}.json"


def generation(files: Files, dataset: str, shard: str, window: Window) -> int:
    """The next free generation of a claim: 1 for what was never landed."""
    return next(n for n in count(1) if not files.exists(claim(dataset, shard, window, n)))


def read_manifest(files: Files, name: str) -> Manifest:
    """A manifest by name; LakeDamaged if it does not read as one."""
    try:
        return msgspec.json.decode(files.read(name), type=Manifest)
    except msgspec.DecodeError as error:
        raise LakeDamaged(f"{name} is not a manifest any more ({error}); restore it from a copy") from error


def manifests(files: Files, dataset: str) -> Iterator[Manifest]:
    """Every batch of a dataset, by listing its manifests: what is not named there does not exist."""
    for name in files.names(f"bronze/{dataset}/_manifests", ".json"):
        yield read_manifest(files, name)


class Writer:
    """Collects the pages of one batch into parts; `commit` makes them a batch, anything else leaves nothing.

    Args:
        files: the lake's files.
        run: the run's ULID; parts lie under it, so two attempts never meet.
        claimed: everything of the manifest that is known before the first answer.
        expected: the generation this batch will be; found now, so that a slower twin loses at `commit`.
    """

    def __init__(
        self, files: Files, run: str, dataset: str, shard: str, window: Window, claimed: Mapping[str, Any]
    ) -> None:
        self.files, self.run, self.dataset, self.shard, self.window = files, run, dataset, shard, window
        self.batch = str(ULID())
        self.claimed = claimed
        self.generation = generation(files, dataset, shard, window)
        self.parts: list[Part] = []
        self.requests: list[Asked] = []
        self.raw: list[Raw] = []
        self.seq = 0
        self.captured_at: datetime | None = None
        self._open: FileIO | None = None
        self._path = Path()
        self._zip = isal_zlib.compressobj()
        self._hash, self._stored = hashlib.sha256(), hashlib.sha256()
        self._bytes = self._first = 0

    def page(self, asked: Mapping[str, Any], records: Sequence[bytes]) -> None:
        """Append one answer's records, token for token as they came, each in our envelope on a line of its own."""
        at = windows.now()
        self.captured_at = self.captured_at or at
        head = b',"_at":"%s","_page":%d,"_record":' % (_text(at).encode(), len(self.requests))
        self.requests.append(Asked(**asked, first_seq=self.seq))
        start = 0
        while start < len(records):
            stop = self._fitting(records, start, len(head) + ENVELOPE)
            if stop == start:
                self._close()
            else:
                self._write(head, records[start:stop])
                start = stop

    def _fitting(self, records: Sequence[bytes], start: int, envelope: int) -> int:
        """How far from `start` records fit into the open part; a record alone fits into an empty one."""
        room = PART_BYTES - self._bytes
        if sum(map(len, records[start:])) + envelope * (len(records) - start) <= room:
            return len(records)
        stop = start
        while stop < len(records) and (room := room - len(records[stop]) - envelope) >= 0:
            stop += 1
        return stop if stop > start or self._bytes else start + 1

    def keep(self, data: bytes, kind: str) -> None:
        """Keep the last page's answer as it came, beside its lines."""
        digest, stored = hashlib.sha256(data).hexdigest(), igzip.compress(data, LEVEL)
        scratch = self.files.scratch()
        with clear_errors(self.files.root):
            scratch.write_bytes(stored)
        name = f"{self._directory()}/{self.batch}-raw-{len(self.raw):05}-{digest[:16]}.{kind}.gz"
        self.files.adopt(scratch, name, "land.part")
        self.raw.append(Raw(name, len(self.requests) - 1, len(data), digest, hashlib.sha256(stored).hexdigest()))

    def _directory(self) -> str:
        day = (self.captured_at or windows.now()).date()
        return f"bronze/{self.dataset}/dt={day}/run={self.run}"

    def commit(self) -> Manifest:
        """Publish the batch: LakeBusy if another batch claimed this window's generation first."""
        self._close()
        if self.captured_at is None:
            raise SourceSuspect(f"{self.dataset} {self.shard} {self.window}: the source gave no answer at all")
        manifest = Manifest(
            batch=self.batch, dataset=self.dataset, run=self.run, shard=self.shard, start=self.window.start, end=self.window.end,
            generation=self.generation, captured_at=self.captured_at, rows=self.seq, parts=tuple(self.parts),
            requests=tuple(self.requests), raw=tuple(self.raw), **self.claimed,
        )  # fmt: skip
        if not self.files.put_new(
            manifest.name, msgspec.json.format(msgspec.json.encode(manifest), indent=1), "land.manifest"
        ):
            raise LakeBusy(
                f"{manifest.name} was written by another run meanwhile; what it landed counts, this attempt does not"
            )
        return manifest

    def discard(self) -> None:
        """Forget an unfinished part."""
        if self._open:
            self._open.close()
            self._path.unlink()
            self._open = None

    def _write(self, head: bytes, records: Sequence[bytes]) -> None:
        pure = b"".join(records)
        if b"\n" in pure or b"\r" in pure:
            raise SourceSuspect(
                f"{self.dataset} {self.shard}: a record holds a raw line break, which JSON does not allow"
            )
        first, self.seq = self.seq, self.seq + len(records)
        opened = map(b'{"_seq":%d'.__mod__, range(first, self.seq))
        data = b"".join(chain.from_iterable(zip(opened, repeat(head), records, repeat(b"}\n"))))
        into = self._open or self._start(first)
        self._hash.update(data)
        self._bytes += len(data)
        self._store(into, self._zip.compress(data))

    def _start(self, first: int) -> FileIO:
        self._path, self._first = self.files.scratch(), first
        with clear_errors(self.files.root):
            self._open = self._path.open("wb", buffering=0)
        self._zip = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, GZIP)
        self._hash, self._stored, self._bytes = hashlib.sha256(), hashlib.sha256(), 0
        return self._open

    def _store(self, into: FileIO, data: bytes) -> None:
        self._stored.update(data)
        rest = memoryview(data)
        with clear_errors(self.files.root):
            while rest:
                rest = rest[into.write(rest) :]

    def _close(self) -> None:
        if self._open is None:
            return
        self._store(self._open, self._zip.flush())
        self._open.close()
        self._open = None
        digest, stored = self._hash.hexdigest(), self._stored.hexdigest()
        name = f"{self._directory()}/{self.batch}-part-{len(self.parts):05}-{digest[:16]}.ndjson.gz"
        self.files.adopt(self._path, name, "land.part")
        self.parts.append(Part(name, self.seq - self._first, self._bytes, digest, stored, self._first, self.seq - 1))
        self._bytes = 0


def _text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def inflate(files: Files, name: str) -> bytes:
    """An object's bytes, inflated; LakeDamaged if it is no gzip any more."""
    try:
        data: bytes = igzip.decompress(files.read(name))
    except (isal_zlib.error, EOFError, OSError) as error:  # type: ignore[misc]  # its stub says instance
        raise LakeDamaged(
            f"{name} does not inflate any more ({type(error).__name__}); restore it from a copy"
        ) from error
    return data


def check(files: Files, manifest: Manifest, *, whole: bool = False) -> None:
    """Compare a batch's objects with its manifest; `whole` also inflates them. LakeDamaged names the object."""
    kept = sum(part.rows for part in manifest.parts)
    if kept != manifest.rows or sum(asked.rows for asked in manifest.requests) != manifest.rows:
        raise LakeDamaged(f"{manifest.name}: parts, requests and rows do not add up; restore it from a copy")
    stored: tuple[Part | Raw, ...] = (*manifest.parts, *manifest.raw)
    for one in stored:
        if hashlib.sha256(files.read(one.path)).hexdigest() != one.stored_sha256:
            raise LakeDamaged(f"{one.path} is not what batch {manifest.batch} wrote; restore it from a copy")
        if whole and hashlib.sha256(inflate(files, one.path)).hexdigest() != one.sha256:
            raise LakeDamaged(f"{one.path} does not hold what batch {manifest.batch} wrote; restore it from a copy")


def line(files: Files, manifest: Manifest, seq: int) -> tuple[Part, int, bytes]:
    """The part, line number (from 1) and exact line of one record of a batch; LakeDamaged if the part is not what it was."""
    for part in manifest.parts:
        if part.first_seq <= seq <= part.last_seq:
            number = seq - part.first_seq + 1
            stored = files.read(part.path)
            if hashlib.sha256(stored).hexdigest() != part.stored_sha256:
                raise LakeDamaged(f"{part.path} is not what batch {manifest.batch} wrote; restore it from a copy")
            lines: list[bytes] = igzip.decompress(stored).split(b"\n")
            return part, number, lines[number - 1]
    raise LakeDamaged(f"batch {manifest.batch} has no record {seq}")
