"""An object store as bad as S3 may be, and `Files` over it: what must hold on a disk must hold on this."""

import hashlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ulid import ULID

from assay.crash import effect
from assay.errors import LakeBusy, LakeDamaged
from assay.lake.files import SCRATCH, checked, lost

PAGE = 5  # names a listing gives at once; S3 gives 1,000
LATE = 12  # calls after which the latest listing knows an object
TROUBLES = 4  # refusals of one name in a row, at most
TRIES = 8
PAUSE = 0.001  # seconds before the second try, doubled before each later one
TIMEOUT = 0  # a status: no answer came


class Answer(Exception):
    """What the store says instead of doing what was asked: an HTTP status, or TIMEOUT."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class WorstStore:
    """Whole objects by name, in memory: put only if absent, strong reads, no rename, no directories, listings in order.

    At its worst, by `seed`: it refuses with 500, 503 or silence, before or after it did what was asked; it gets a
    request twice and answers the second one (412 to one's own put); it answers 409 to puts of one name at once; and
    a listing lacks recent objects for a while. `calm` ends all that. `scratch` is where its client keeps copies.

    `put_order` are the names in the order in which they came to be; tests may change `objects` to damage them.
    """

    def __init__(self, scratch: Path, seed: int = 0, worst: float = 0.25) -> None:
        self.scratch, self.worst = scratch, worst
        self.objects: dict[str, bytes] = {}
        self.put_order: list[str] = []
        self.calls: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._tick = 0
        self._listed_at: dict[str, int] = {}
        self._under_way: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def put(self, name: str, data: bytes) -> None:
        """Make the object if there is none of that name; 412 if there is."""
        with self._lock:
            self._begin("put")
            if self._under_way[name]:
                self._refused[name] += 1
                raise Answer(409)
            self._under_way[name] += 1
        try:
            if threading.active_count() > 1:
                time.sleep(0.0005)  # another thread's put of the name comes in between
            with self._lock:
                self._trouble(name, 409, 500, 503, TIMEOUT)
                if name in self.objects:
                    raise Answer(412)
                self.objects[name] = bytes(data)
                self.put_order.append(name)
                self._listed_at[name] = self._tick + (self._random.randrange(LATE) if self.worst else 0)
                self._trouble(name, 412, 500, 503, TIMEOUT)  # it is done, and a repeated request is answered
                self._refused[name] = 0
        finally:
            with self._lock:
                self._under_way[name] -= 1

    def get(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes, or those from `start` up to `end`; 404 if there is no such object."""
        with self._lock:
            self._begin("get")
            self._trouble(name, 500, 503, TIMEOUT)
            self._refused[name] = 0
            if name not in self.objects:
                raise Answer(404)
            return self.objects[name][start:end]

    def head(self, name: str) -> int:
        """The object's size; 404 if there is none."""
        with self._lock:
            self._begin("head")
            self._trouble(name, 500, 503, TIMEOUT)
            self._refused[name] = 0
            if name not in self.objects:
                raise Answer(404)
            return len(self.objects[name])

    def delete(self, name: str) -> None:
        """Take it away; one that is not there is no error."""
        with self._lock:
            self._begin("delete")
            self._trouble(name, 500, 503, TIMEOUT)
            self.objects.pop(name, None)
            self._trouble(name, 500, 503, TIMEOUT)
            self._refused[name] = 0

    def list(self, prefix: str, after: str) -> list[str]:
        """The next names of a listing, in order; an empty page is its end."""
        with self._lock:
            self._begin("list")
            self._trouble(f"list {prefix}", 500, 503, TIMEOUT)
            self._refused[f"list {prefix}"] = 0
            seen = (n for n in self.objects if self._listed_at.get(n, 0) <= self._tick)
            return sorted(n for n in seen if n.startswith(prefix) and n > after)[:PAGE]

    def calm(self) -> None:
        """From here on nothing is refused, and listings know everything."""
        with self._lock:
            self.worst = 0
            self._listed_at.clear()

    def _begin(self, call: str) -> None:
        self._tick += 1
        self.calls[call] += 1

    def _trouble(self, name: str, *statuses: int) -> None:
        if self._refused[name] < TROUBLES and self._random.random() < self.worst:
            self._refused[name] += 1
            raise Answer(self._random.choice(statuses))


@dataclass(frozen=True)
class StoreFiles:
    """See `assay.ports.Files`: objects of a store that can put only if absent.

    Whatever a put is answered but success, the object is read: reads are strong, so it says what happened. `names`
    may lack recent objects (in order all the same): who must be certain asks `exists` or reads. Copies for DuckDB lie
    in scratch: `local` proves them by their hash; `url` knows none, and trusts that objects never change.
    """

    store: WorstStore
    _proved: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def put_new(self, name: str, data: bytes | Path, as_effect: str) -> bool:
        try:
            whole = data.read_bytes() if isinstance(data, Path) else data
            with effect(as_effect):
                return self._put(checked(name), whole)
        finally:
            if isinstance(data, Path):
                data.unlink(missing_ok=True)

    def _put(self, name: str, data: bytes) -> bool:
        for pause in _pauses(name):
            try:
                self.store.put(name, data)
            except Answer as error:
                if error.status not in (409, 412) and not _transient(error):
                    raise
                found = self._get(name)
                if found is not None:
                    return found == data
                time.sleep(pause)
            else:
                return True
        raise AssertionError  # _pauses ends in LakeBusy

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        found = self._get(checked(name), start, None if end is None else max(start, end))
        if found is None:
            raise lost(name)
        return found

    def _get(self, name: str, start: int = 0, end: int | None = None) -> bytes | None:
        for pause in _pauses(name):
            try:
                return self.store.get(name, start, end)
            except Answer as error:
                if error.status == 404:
                    return None
                if not _transient(error):
                    raise
                time.sleep(pause)
        raise AssertionError

    def local(self, name: str, sha256: str) -> Path:
        copy = self._copies() / f"{sha256}-{name.rpartition('/')[2]}"
        if sha256 not in self._proved or not copy.exists():
            if not copy.exists():
                self._keep(copy, self.read(name))
            if hashlib.sha256(copy.read_bytes()).hexdigest() != sha256:
                copy.unlink()
                raise LakeDamaged(f"{name} does not have the bytes that were written; restore it from a copy")
            self._proved.add(sha256)
        return copy

    def url(self, name: str) -> str:
        copy = self._copies() / f"{hashlib.sha256(name.encode()).hexdigest()}-{name.rpartition('/')[2]}"
        if not copy.exists():
            self._keep(copy, self.read(name))
        return str(copy)

    def exists(self, name: str) -> bool:
        for pause in _pauses(name):
            try:
                self.store.head(checked(name))
            except Answer as error:
                if error.status == 404:
                    return False
                if not _transient(error):
                    raise
                time.sleep(pause)
            else:
                return True
        raise AssertionError

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        while page := self._page(prefix, after):
            yield from page
            after = page[-1]

    def _page(self, prefix: str, after: str) -> list[str]:
        for pause in _pauses(prefix):
            try:
                return self.store.list(prefix, after)
            except Answer as error:
                if not _transient(error):
                    raise
                time.sleep(pause)
        raise AssertionError

    def delete(self, name: str) -> None:
        for pause in _pauses(name):
            try:
                return self.store.delete(checked(name))
            except Answer as error:
                if not _transient(error):
                    raise
                time.sleep(pause)
        raise AssertionError

    def scratch(self) -> Path:
        where = self.store.scratch / SCRATCH
        where.mkdir(parents=True, exist_ok=True)
        return where / str(ULID())

    def _copies(self) -> Path:
        where = self.store.scratch / SCRATCH / "copies"
        where.mkdir(parents=True, exist_ok=True)
        return where

    def _keep(self, copy: Path, data: bytes) -> None:
        temporary = self.scratch()
        temporary.write_bytes(data)
        os.replace(temporary, copy)  # noqa: PTH105 - of two that fetch it, both have the same bytes


def _transient(error: Answer) -> bool:
    return error.status >= 500 or error.status == TIMEOUT


def _pauses(name: str) -> Iterator[float]:
    """How long to wait before each next try; LakeBusy when there were enough."""
    for attempt in range(TRIES):
        yield PAUSE * 2**attempt
    raise LakeBusy(f"the store does not answer for {name}; run it again")
