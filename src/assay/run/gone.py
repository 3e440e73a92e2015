"""Why a key is not current any more: the complete answer that lacked it, or the decision that took it away."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.errors import LakeDamaged
from assay.lake import bronze
from assay.lake.bronze import Batch, Decision, Entry
from assay.lake.release import Silver
from assay.ports import N
from assay.refine.history import History, inside
from assay.run import newer

if TYPE_CHECKING:
    from assay.run.lake import Lake


@dataclass(frozen=True)
class Ended:
    """What took the last version of a key away.

    Attributes:
        place: where it acts.
        origin: where it was said: the batch of the answer that lacks the key, or what its author had seen.
        entry: of that act.
        landed, batch: the complete answer that lacks the key; none where a person deleted it.
        decision: by which the answer acts, or the key was deleted; none where the answer acts by itself.
    """

    place: int
    origin: int
    entry: Entry
    landed: Entry | None
    batch: Batch | None
    decision: Decision | None


def ended(lake: "Lake", read: Silver, history: History, row: Mapping[str, Any]) -> Ended:
    """What took away the key whose last version is `row`; LakeDamaged if nothing in the log did."""
    files, dataset = lake.target.files, read.dataset
    # No two entries have one time, and it grows along the log.
    at = bisect_left(
        range(read.position), row["recorded_to"], row["_position"],
        key=lambda position: bronze.read(files, dataset, position).captured_at,
    )  # fmt: skip
    entry = bronze.read(files, dataset, at)
    key = tuple(row[k] for k in read.key)
    for one in _candidates(lake, history, entry, key) if entry.captured_at == row["recorded_to"] else ():
        if one.place > row["_position"] * N + row["_n"] and not _has(lake, history, one, key):
            return one
    raise LakeDamaged(
        f"{bronze.name_of(dataset, at)} does not say what took away silver.{dataset} "
        f"{', '.join(f'{k}={v}' for k, v in zip(read.key, key, strict=True))}; `assay verify rebuild` finds out"
    )


def _candidates(lake: "Lake", history: History, entry: Entry, key: tuple[Any, ...]) -> Iterator[Ended]:
    """What of an entry may have taken a key away, in the order it acts."""
    contract = history.timeline.contract(entry.position)[1]
    kinds = {k: contract.column(k).kind for k in contract.key}
    chapter = next(history.chapters(entry.position), None)
    absences = chapter.absences if chapter else ()
    absent = sorted({one.origin for one in absences if inside(key, contract.key, kinds, one.scope)})
    for origin in absent:
        if origin // N == entry.position:
            yield Ended(origin, origin, entry, entry, bronze.batch_of(entry, origin % N), None)
    for n, decision in enumerate(entry.decisions):
        place = entry.position * N + n
        if decision.kind == "delete":
            line = b'{"_seq":0,"_n":0,"_record":%s}' % (decision.record or "{}").encode()
            if newer.keys(lake, contract, [line]).get(0) == newer.short(contract, key):
                yield Ended(place, decision.seen * N + N - 1, entry, None, None, decision)
        elif decision.batch and decision.batch[0] * N + decision.batch[1] in absent:
            landed = bronze.read(lake.target.files, entry.dataset, decision.batch[0])
            batch = bronze.batch_of(landed, decision.batch[1])
            yield Ended(place, decision.batch[0] * N + decision.batch[1], entry, landed, batch, decision)


def _has(lake: "Lake", history: History, one: Ended, key: tuple[Any, ...]) -> bool:
    """Whether an answer has a record of the key, be it a bad one."""
    if one.landed is None or one.batch is None:
        return False
    judge = history.judged_by(one.place)
    if judge is None:
        return True
    lines = bronze.parts(lake.target.files, one.landed, {one.batch.n: one.place})
    with lake.target.engine.group(history.timeline.by_position(judge)[1], lines) as group:
        group.judged()
        return bool(group.seen([key]))
