"""Erasing from a log: lines give way to tombstones, entries to others at the same positions, all of it staged before anything is changed.

Until the journal is put, what is staged is nobody's. From then on the lake is opened by nobody but who goes on with it, and every
step can be done again. Nothing that is kept holds a hash of what was erased: a value that can be guessed could be tried against it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec
from isal import igzip

from assay.crash import effect
from assay.errors import LakeDamaged
from assay.lake import bronze
from assay.lake.bronze import LEVEL, Entry, Erased, Part
from assay.lake.files import read_or_none
from assay.lake.formats import refuse_newer
from assay.ports import Files

STAGED = "erasing/"
READY = f"{STAGED}ready.json"
FORMAT = 1
_HEAD = re.compile(rb'\{"_seq":[0-9]{1,18},"_n":[0-9]{1,9},')
_TOMBSTONE = b'"_op":"erased","_record":null}'


class Journal(msgspec.Struct, frozen=True):
    """An erasure that is ready to be done: entries to be replaced by those that are staged, and objects that none of them names."""

    dataset: str
    entries: tuple[int, ...]
    objects: tuple[str, ...]
    format: int = msgspec.field(default_factory=lambda: FORMAT)  # a plain default would be left out


def begun(files: Files) -> Journal | None:
    """The erasure that has begun in a lake and has not ended."""
    text = read_or_none(files, READY)
    if text is None:
        return None
    try:
        found = msgspec.json.decode(text, type=Journal)
    except msgspec.DecodeError as error:
        refuse_newer(READY, text, FORMAT)
        raise LakeDamaged(
            f"{READY} is no journal of an erasure any more ({error}); restore bronze from a copy, and take {STAGED} away"
        ) from error
    if found.format > FORMAT:
        refuse_newer(READY, text, FORMAT)
    return found


def is_tombstone(line: bytes) -> bool:
    """Whether another line was in the place of this one."""
    return bronze.TOMBSTONE.match(line) is not None


def buried(files: Files, part: Part, hit: Sequence[int]) -> tuple[Part, bytes]:
    """A part with tombstones in place of the lines of these numbers, and its stored bytes; each line stays where it is."""
    lines = bronze.inflated(files, part).split(b"\n")
    for number in hit:
        head = _HEAD.match(lines[number])
        if head is None:
            raise LakeDamaged(f"{part.name}:{number + 1} does not begin as a line of ours")
        lines[number] = head[0] + _TOMBSTONE
    data = b"\n".join(lines)
    stored: bytes = igzip.compress(data, LEVEL, mtime=0)
    its = sha256(stored).hexdigest()
    name = f"{part.name.removesuffix('.ndjson.gz').rpartition('-')[0]}-{its[:16]}.ndjson.gz"
    return Part(name, part.rows, len(data), len(stored), its), stored


def rewritten(
    entry: Entry, previous: str | None, parts: Mapping[int, Part], erased: Mapping[int, Erased], answers: set[int],
    acts: set[int], who: str, why: str,
) -> Entry:  # fmt: skip
    """An entry as it stands after an erasure.

    `parts` by their number; what was `erased` of batches by n, whose `answers` are not kept any more, nor their hashes;
    numbers of `acts` whose record was erased; `who` and `why` without it. Examples of values go wherever anything does.
    """
    if not (parts or answers or acts or (who, why) != (entry.who, entry.why)):
        return msgspec.structs.replace(entry, previous=previous)
    batches = tuple(
        msgspec.structs.replace(
            one,
            erased=erased.get(one.n, one.erased),
            requests=tuple(msgspec.structs.replace(asked, sha256="", span=None, raw=None) for asked in one.requests)
            if one.n in answers
            else one.requests,
        )
        for one in entry.batches
    )
    shape = entry.shape
    if shape:
        fields = tuple(msgspec.structs.replace(one, example="") for one in shape.fields)
        shape = msgspec.structs.replace(shape, fields=fields)
    return msgspec.structs.replace(
        entry, format=3, previous=previous, batches=batches, shape=shape, who=who, why=why,
        parts=tuple(parts.get(number, part) for number, part in enumerate(entry.parts)),
        decisions=tuple(bronze.Decision("erased") if n in acts else one for n, one in enumerate(entry.decisions)),
    )  # fmt: skip


def staged(dataset: str, position: int) -> str:
    """Where an entry lies until it takes its place."""
    return f"{STAGED}{dataset}/{position:09}.json.gz"


def stage(files: Files, entry: Entry) -> str:
    """Lay an entry down where nobody reads it; its sha256."""
    data, name = bronze.encode(entry), staged(entry.dataset, entry.position)
    if not files.put_new(name, data, "erase.stage"):
        raise LakeDamaged(f"{name} is of another erasure; take {STAGED} away")
    return sha256(data).hexdigest()


def discard(files: Files) -> None:
    """Take away what was staged and never came to be ready."""
    for name in list(files.names(STAGED)):
        files.delete(name)


def ready(files: Files, journal: Journal) -> None:
    """From here on it is done, by whoever goes on with it."""
    files.put_new(READY, msgspec.json.encode(journal), "erase.ready")


def finish(files: Files, journal: Journal, forget: Callable[[], None]) -> None:
    """Do what the journal says; `forget` takes away all that follows from the log. It can be stopped anywhere, and done again."""
    dataset = journal.dataset
    for position in journal.entries:
        data, name = read_or_none(files, staged(dataset, position)), bronze.name_of(dataset, position)
        if data is None:  # it was stopped when all was done
            continue
        if read_or_none(files, name) != data:
            with effect("erase.delete"):
                files.delete(name)
            files.put_new(name, data, "erase.entry")
    for name in journal.objects:
        with effect("erase.delete"):
            files.delete(name)
    forget()
    with effect("erase.delete"):
        for name in [*(one for one in files.names(STAGED) if one != READY), READY]:
            files.delete(name)


@dataclass(frozen=True)
class Overlaid:
    """A lake's files as they will be: its staged entries in place of those that are there."""

    files: Files

    def _name(self, name: str) -> str:
        if name.startswith("bronze/"):
            _, dataset, where, *rest = name.split("/")
            if where == "log" and self.files.exists(instead := f"{STAGED}{dataset}/{rest[-1]}"):
                return instead
        return name

    def put_new(self, name: str, data: bytes | Path, as_effect: str) -> bool:
        return self.files.put_new(name, data, as_effect)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        return self.files.read(self._name(name), start, end)

    def local(self, name: str, sha256: str) -> Path:
        return self.files.local(self._name(name), sha256)

    def url(self, name: str) -> str:
        return self.files.url(self._name(name))

    def exists(self, name: str) -> bool:
        return self.files.exists(self._name(name))

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        return self.files.names(prefix, after)

    def delete(self, name: str) -> None:
        self.files.delete(name)

    def scratch(self) -> Path:
        return self.files.scratch()


__all__ = ["Journal", "Overlaid", "begun", "buried", "discard", "finish", "is_tombstone", "ready", "rewritten", "stage"]
