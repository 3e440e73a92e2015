"""Evidence: what one refine saw, decided and wrote; put before anything is visible, numbered, each naming the one before."""

from datetime import datetime
from typing import Any, Literal

import msgspec

FORMAT = 1


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One act's account: rows = accepted + unchanged + superseded + duplicate + quarantined + held.

    Each term is counted from its own output. `withdrawn` keys are counted beside it.

    Attributes:
        position, n: the batch, or the act of a decision.
        of: the batch a decision is about.
        state: passed, held, void (its window was landed again before it was put; it is outside the account).
        pending: complete, in, and its withdrawals are held.
        keyless: quarantined rows without a readable key.
        why: the limits that closed its gate.
        bounds: lowest and highest value of each key column among its rows, as texts; none where it has no rows.
    """

    position: int
    n: int
    state: Literal["passed", "held", "void"]
    rows: int
    of: tuple[int, int] | None = None
    shard: str = ""
    start: str = ""
    end: str = ""
    accepted: int = 0
    unchanged: int = 0
    superseded: int = 0
    duplicate: int = 0
    quarantined: int = 0
    held: int = 0
    withdrawn: int = 0
    keyless: int = 0
    pending: bool = False
    reasons: dict[str, int] = {}
    warnings: dict[str, int] = {}
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
        since: the position of the last contract `everything` that is folded in, 0 if none.
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
    format: int = FORMAT
    since: int = 0
    contracts: tuple[tuple[int, str], ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    absences: tuple[Absence, ...] = ()
    current: Change = Change()
    past: Change = Change()
    quarantine: Stored | None = None


def name_of(dataset: str, number: int) -> str:
    """Where an evidence object lies; padded, so that a listing is in order."""
    return f"evidence/{dataset}/{number:09}.json.gz"
