"""Bronze: raw records in immutable parts, and one log a dataset whose entries commit them."""

from datetime import date, datetime
from typing import Literal

import msgspec

FORMAT = 1


class Part(msgspec.Struct, frozen=True, gc=False):
    """One stored object of lines: `bytes` of its lines, `stored` of its gzip, which is what `sha256` covers."""

    name: str
    rows: int
    bytes: int
    stored: int
    sha256: str


class Raw(msgspec.Struct, frozen=True, gc=False):
    """An answer that was no JSON, kept gzipped as it came: `bytes` as it came, `sha256` of the stored gzip."""

    name: str
    bytes: int
    stored: int
    sha256: str


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


class Batch(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one ask brought, and what one verdict is about.

    Attributes:
        n: as in its lines; sparse, since asks fail and a race drops some.
        start, end: the days it claims, half-open; none where the source goes on from a cursor.
        asked_at: the day it counts as asked, when its first request left.
        seen: the last position its lander had read before it asked.
        pieces: (part, its first line there from 0, how many), in the order of `_seq`.
        scope: what it is complete about, key column to lowest and highest value as texts; none where it is not.
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


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One act of a decision.

    `release`, `rejudge`, `withdraw` (what it lacks, whatever the limit), `exclude`, `lost` name a `batch` by position
    and n; `upsert` and `delete` hold a `record` as JSON text and the position its author had `seen`; `lost` may name
    an `object` instead.
    """

    kind: Literal["release", "rejudge", "withdraw", "upsert", "delete", "exclude", "lost", "erase"]
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
        dropped: (n, lines) of batches that others had landed meanwhile; their lines lie in shared parts and are nobody's.
        who, why: of a decision.
    """

    kind: Literal["landed", "contract", "decided", "swept"]
    dataset: str
    position: int
    previous: str | None
    landing: str
    captured_at: datetime
    format: int = FORMAT
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


def name_of(dataset: str, position: int) -> str:
    """Where an entry lies; padded, so that a listing is in order."""
    return f"bronze/{dataset}/log/{position:09}.json.gz"
