"""Evidence: what one refine saw, decided and wrote; put before anything is visible, numbered, each naming the one before."""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal

import msgspec
from isal import igzip, isal_zlib

from assay.errors import LakeBusy, LakeDamaged
from assay.lake.files import clear_errors, read_or_none
from assay.lake.formats import refuse_newer
from assay.ports import Files, N, Rejected

FORMAT = 1
TOGETHER = 2_000
GZIP = 31  # as zlib's wbits: a gzip member without name and time, so the same lines give the same bytes


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One act's account: rows = accepted + unchanged + superseded + duplicate + quarantined + held + erased.

    Each term is counted from its own output. `withdrawn` keys are counted beside it, and so are those of the accepted
    rows that `changed` another version; evidence of before it was counted says 0.

    Attributes:
        position, n: the batch, or the act of a decision.
        of, was: the batch a decision is about, and where it stood before: its rows here were `held` or `quarantined`.
        origin: of a decision's act, the place its rows were first said at; 0 elsewhere, where that is its own.
        judged_by: of a decision about a batch, the position of the contract it was judged by; 0 elsewhere: see
            `account.judged_by`.
        state: passed, held, void (its window was landed again before it was put; it is outside the account).
        pending: complete, in, and its withdrawals are held.
        keyless: quarantined rows without a readable key.
        freed: reasons of the rows that were in quarantine and were judged again here, so that they count no more.
        why: the limits that closed its gate.
        bounds: lowest and highest value of each key column among its rows, as texts; none where it has no rows.
    """

    position: int
    n: int
    state: Literal["passed", "held", "void"]
    rows: int
    of: tuple[int, int] | None = None
    was: Literal["", "held", "quarantined"] = ""
    origin: int = 0
    judged_by: int = 0
    shard: str = ""
    start: str = ""
    end: str = ""
    accepted: int = 0
    unchanged: int = 0
    superseded: int = 0
    duplicate: int = 0
    quarantined: int = 0
    held: int = 0
    erased: int = 0
    withdrawn: int = 0
    changed: int = 0
    keyless: int = 0
    pending: bool = False
    reasons: dict[str, int] = {}
    warnings: dict[str, int] = {}
    freed: dict[str, int] = {}
    why: tuple[str, ...] = ()
    bounds: dict[str, tuple[str, str]] | None = None


class DataFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One parquet object that a table gets: its name, sha256, and the value of the partition it belongs to."""

    name: str
    sha256: str
    bytes: int
    rows: int
    partition: tuple[Any, ...] = ()


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one of the two tables gets and loses: `everything` takes away all files it had."""

    add: tuple[DataFile, ...] = ()
    remove: tuple[str, ...] = ()
    everything: bool = False


class Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object beside the evidence: the quarantine."""

    name: str
    sha256: str
    rows: int


class Absence(msgspec.Struct, frozen=True, omit_defaults=True):
    """A withdrawal that took place: keys within `scope` were found absent at `origin` (a place as a number)."""

    origin: int
    scope: dict[str, tuple[str, str]]


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one refine did with the entries after `after` up to `position`, or (kind compacted) what upkeep rewrote.

    Attributes:
        number: from 1 without a gap; putting it, only if absent, is the moment of decision.
        parent: sha256 of the evidence before, as stored; none for the first.
        position, position_sha256: the last entry folded, and its hash.
        contracts: (position, sha256) of each contract by which its batches were judged.
        began: the number of the evidence that last folded the whole log anew, 1 if none did: those before it are of
            no account any more.
    """

    number: int
    parent: str | None
    dataset: str
    kind: Literal["refined", "compacted"]
    run: str
    at: datetime
    after: int
    position: int
    position_sha256: str
    format: int = msgspec.field(default_factory=lambda: FORMAT)  # a plain default would be left out
    began: int = 1
    contracts: tuple[tuple[int, str], ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    absences: tuple[Absence, ...] = ()
    current: Change = Change()
    past: Change = Change()
    quarantine: Stored | None = None


@dataclass(frozen=True)
class Head:
    """What the newest commit of current names: the evidence it comes from, and how far the log is folded in.

    Number and position are 0 before the first.
    """

    number: int = 0
    sha256: str | None = None
    position: int = 0
    position_sha256: str | None = None


def name_of(dataset: str, number: int) -> str:
    """Where an evidence object lies; padded, so that a listing is in order."""
    return f"evidence/{dataset}/{number:09}.json.gz"


def encode(evidence: Evidence) -> bytes:
    """The object's bytes as stored; their sha256 stands in the commit and in the next evidence."""
    return bytes(igzip.compress(msgspec.json.encode(evidence), 1, mtime=0))


def read(files: Files, dataset: str, number: int, sha256: str | None = None) -> tuple[Evidence, str]:
    """One evidence object and its sha256; LakeDamaged if it is lost, or not the one that is named by `sha256`."""
    name = name_of(dataset, number)
    data = files.read(name)
    found = hashlib.sha256(data).hexdigest()
    if sha256 and found != sha256:
        raise LakeDamaged(f"{name} is not the evidence that its commit named; {_REMEDY.format(dataset)}")
    return _decoded(name, dataset, data), found


@contextmanager
def awake(files: Files, dataset: str, head: Head) -> Iterator[None]:
    """LakeBusy for a file that is gone because others committed after `head`, and upkeep took away what they replaced."""
    try:
        yield
    except LakeDamaged as error:
        if files.exists(name_of(dataset, head.number + 1)):
            raise LakeBusy(f"{dataset}: another process committed meanwhile ({error})") from error
        raise


def since(files: Files, dataset: str, number: int, sha256: str | None) -> Iterator[tuple[Evidence, str]]:
    """The evidence after a number, each with its sha256 and checked to follow the one before, whose sha256 is given."""
    for n in count(number + 1):
        name = name_of(dataset, n)
        data = read_or_none(files, name)
        if data is None:
            return
        found, before = _decoded(name, dataset, data), sha256
        sha256 = hashlib.sha256(data).hexdigest()
        if found.number != n or (before and found.parent != before):
            raise LakeDamaged(
                f"{name} does not follow evidence {n - 1}: it was put back or altered; {_REMEDY.format(dataset)}"
            )
        yield found, sha256


def for_new_tables(files: Files, dataset: str) -> list[tuple[Evidence, str]]:
    """All the evidence that tables are made of which have none yet: from where the log was last folded anew; none at first.

    LakeDamaged where a part of it is lost: what is decided now would be put before what followed from that.
    """
    names = list(files.names(f"evidence/{dataset}/"))
    if not names:
        return []
    newest, _ = read(files, dataset, int(names[-1].rpartition("/")[2].partition(".")[0]))
    found = list(since(files, dataset, newest.began - 1, None))
    if len(found) <= newest.number - newest.began:
        raise LakeDamaged(
            f"{name_of(dataset, newest.began + len(found))} is lost, and what was decided since follows from it; restore "
            "it from a copy. Or take away all of the lake's data but bronze and contracts, then `assay apply` makes the "
            "rest from them"
        )
    return found


_REMEDY = "restore it from a copy, or `assay refine {} --rebuild` folds the log anew"


def _decoded(name: str, dataset: str, data: bytes) -> Evidence:
    try:
        text = igzip.decompress(data)
        refuse_newer(name, text, FORMAT)
        return msgspec.json.decode(text, type=Evidence)
    except (msgspec.DecodeError, isal_zlib.error, EOFError, OSError) as error:  # type: ignore[misc]  # its stub says instance
        raise LakeDamaged(f"{name} is not evidence any more; {_REMEDY.format(dataset)}") from error


def keep_rejected(files: Files, dataset: str, number: int, rejected: Iterable[Rejected]) -> Stored | None:
    """Write the rejected lines of one refine as one object, before its evidence; None if there are none."""
    scratch = files.scratch()
    rows = _written(rejected, scratch)
    if not rows:
        return None
    with scratch.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = f"quarantine/{dataset}/{number:09}-{digest[:16]}.ndjson.gz"
    files.put_new(name, scratch, "refine.quarantine")
    return Stored(name, digest, rows)


def spool(rejected: Iterable[Rejected], path: Path) -> Callable[[], Iterator[Rejected]]:
    """Keep rejected lines in a file until their evidence is written; what gives them again, as often as it is asked."""
    if not _written(rejected, path):
        return lambda: iter(())
    return lambda: _read(path.read_bytes())


def _written(rejected: Iterable[Rejected], path: Path) -> int:
    """How many lines there are; without any there is no file either."""
    rows, waiting = 0, iter(rejected)
    if not (some := list(islice(waiting, TOGETHER))):
        return 0
    with clear_errors(path), path.open("wb") as file:
        zip_ = isal_zlib.compressobj(1, isal_zlib.DEFLATED, GZIP)
        while some:
            file.write(zip_.compress(b"".join(map(_line, some))))
            rows += len(some)
            some = list(islice(waiting, TOGETHER))
        file.write(zip_.flush())
    return rows


def _line(one: Rejected) -> bytes:
    body: dict[str, Any] = {
        "_position": one.place // N, "_n": one.place % N, "_seq": one.seq, "reasons": one.reasons,
    }  # fmt: skip
    try:
        body["line"] = one.line.decode()
    except UnicodeDecodeError:
        body["line_base64"] = one.line
    return msgspec.json.encode(body) + b"\n"


def rejected(files: Files, stored: Stored | None) -> Iterator[Rejected]:
    """The lines of a quarantine object, each exactly as it lies in bronze; LakeDamaged if it is not what was written."""
    if stored is None:
        return
    data = files.read(stored.name)
    if hashlib.sha256(data).hexdigest() != stored.sha256:
        raise LakeDamaged(f"{stored.name} is not what the refine wrote; restore it from a copy")
    yield from _read(data)


def _read(data: bytes) -> Iterator[Rejected]:
    for line in igzip.decompress(data).splitlines():
        got = msgspec.json.decode(line)
        raw = got["line"].encode() if "line" in got else base64.b64decode(got["line_base64"])
        yield Rejected(got["_position"] * N + got["_n"], got["_seq"], tuple(got["reasons"]), raw)
