"""What was said of a key later than its row and did not become one: it lies in quarantine, or in a held batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from assay.contract.model import Contract
from assay.errors import UsageError
from assay.lake import account, bronze
from assay.lake.account import Judgement
from assay.lake.evidence import Verdict
from assay.lake.files import scratch_directory
from assay.ports import Lines, N
from assay.refine.history import Chapter, History, inside, lines_of

if TYPE_CHECKING:
    from assay.run.lake import Lake

Key = tuple[Any, ...]
TOGETHER = 20
Record = tuple[int, int, bool, tuple[str, ...]]
"""Of a rejected record: where it was said, the place of its batch, whether that is held, and the reasons."""


@dataclass(frozen=True)
class Newer:
    """The newest rejected record of a key: its batch, which may be held, when that was captured, and the reasons."""

    place: int
    held: bool
    captured_at: datetime
    reasons: tuple[str, ...]


def newer(lake: "Lake", history: History, said: Mapping[Key, int]) -> dict[Key, Newer]:
    """Of keys, each with the place its row was said at: the newest record said since and rejected, if no good one followed.

    Where a column of the key counts the records of a batch, a rejected record is one of all that share the rest of it.
    """
    if not said or nothing_rejected(history):
        return {}
    about = _About.read(history, min(said.values()) // N)
    found = _in_quarantine(lake, about, said)
    for key, one in _in_held(lake, about, said).items():
        if key not in found or one[0] > found[key][0]:
            found[key] = one
    for key, origin in repeated(lake, history, {key: one[0] for key, one in found.items()}).items():
        if origin > found[key][0]:
            del found[key]
    out = {}
    for key, (_, place, held, reasons) in found.items():
        captured_at = bronze.read(history.files, history.dataset, place // N).captured_at
        out[key] = Newer(place, held, captured_at, reasons)
    return out


def repeated(lake: "Lake", history: History, said: Mapping[Key, int]) -> dict[Key, int]:
    """Of keys, each with a place: a later place at which a passed batch said again what is current of it, if one did.

    The newest batches are read first, and no more of them once each key was found.
    """
    if not said:
        return {}
    about = _About.read(history, min(said.values()) // N)
    repeats = sorted(
        ((v.origin or place, v, by) for place, (v, by) in about.verdicts.items() if v.state == "passed" and v.unchanged),
        key=lambda one: one[0], reverse=True,
    )  # fmt: skip
    out: dict[Key, int] = {}
    waiting = [(origin, v, by) for origin, v, by in repeats if about.may_hold(said, v, origin)]
    while waiting and len(out) < len(said):
        some, waiting = waiting[:TOGETHER], waiting[TOGETHER:]
        with scratch_directory(history.files) as scratch:
            for at in sorted({by for _, _, by in some}):
                lines: list[Lines] = []
                for origin, v, by in some:
                    lines += lines_of(history.files, history.dataset, v, origin, scratch) if by == at else ()
                for key, place in _seen(lake, history, at, lines, said).items():
                    if place > said[key]:
                        out[key] = max(place, out.get(key, 0))
    return out


def nothing_rejected(history: History) -> bool:
    """Whether the sums of the ledger, if they are of these very evidence, have no row in quarantine and none held."""
    sums = account.of(history.ledger, history.dataset)
    whole = history.span is None or history.span[1] == sums.evidence
    return whole and not sums.sum("quarantined") and not sums.sum("held")


def every(lake: "Lake", history: History, most: int) -> dict[Key, Record]:
    """By key, without what a rejected line does not say of it: the newest record in quarantine, or of an open held batch.

    UsageError where there are more than `most` such records.
    """
    if nothing_rejected(history):
        return {}
    about = _About.read(history, 0)
    rejected = sum(one.quarantined for one in about.last.values())
    held = about.held()
    if rejected + sum(about.verdicts[place][0].rows for place in held) > most:
        raise UsageError(f"more than {most:,} rejected records of {history.dataset}: `assay explain` looks at one row")
    out: dict[Key, Record] = {}
    for key, record in _quarantined(lake, about, about.wanted(lambda *_: True)):
        if key not in out or record[0] > out[key][0]:
            out[key] = record
    for place, at in held.items():
        verdict = about.verdicts[place][0]
        entry = bronze.read(history.files, history.dataset, place // N)
        lines = bronze.lines_of(history.files, entry, {(place % N, seq) for seq in range(verdict.rows)})
        contract = history.timeline.by_position(at)[1]
        for key in keys(lake, contract, [text for _, _, text in lines.values()]).values():
            if key not in out or place > out[key][0]:
                out[key] = place, place, True, verdict.why
    return out


@dataclass(frozen=True)
class _About:
    """What the evidence from a position on says.

    `last` are the newest judgements by place, `verdicts` by the place of the judgement, each with the position of the
    contract it was found by; `chapters` what lies beside them.
    """

    history: History
    last: Mapping[int, Judgement]
    verdicts: Mapping[int, tuple[Verdict, int]]
    chapters: Sequence[Chapter]

    @classmethod
    def read(cls, history: History, since: int) -> "_About":
        last: dict[int, Judgement] = {}
        verdicts: dict[int, tuple[Verdict, int]] = {}
        chapters = list(history.chapters(since))
        for chapter in chapters:
            account.judge(last, chapter.verdicts, chapter.contracts)
            verdicts |= {v.position * N + v.n: (v, account.judged_by(v, chapter.contracts)) for v in chapter.verdicts}
        return cls(history, last, verdicts, chapters)

    def may_hold(self, said: Mapping[Key, int], v: Verdict, origin: int) -> bool:
        """Whether rows of a verdict that were said at `origin` may be later ones of a key."""
        contract = self.history.timeline.contract(v.position)[1]
        names = contract.rest
        kinds = {k: contract.column(k).kind for k in names}
        return v.bounds is not None and any(
            at < origin and inside(self.short(key), names, kinds, v.bounds) for key, at in said.items()
        )

    def short(self, key: Key) -> Key:
        """A key without what a rejected line does not say of it."""
        contract = self.history.timeline.by_position(self.history.timeline.contracts[-1][0])[1]
        return short(contract, key)

    def wanted(self, may_hold: Callable[[Verdict, int], bool]) -> dict[int, tuple[int, int, int]]:
        """By the place at which rows lie in quarantine: where they were said, their batch, the contract's position."""
        out = {}
        for place, one in self.last.items():
            if one.state == "passed" and one.quarantined and place in self.verdicts:
                origin = self.verdicts[place][0].origin or place
                if may_hold(self.verdicts[one.judged_at][0], origin):
                    out[one.judged_at] = origin, place, one.judged_by
        return out

    def held(self) -> dict[int, int]:
        """The places of held batches that nothing newer stands in for, each with the position of its contract."""
        return {
            place: one.judged_by
            for place, one in self.last.items()
            if one.state == "held" and place in self.verdicts and not _replaced(self, place)
        }


def _quarantined(
    lake: "Lake", about: _About, wanted: Mapping[int, tuple[int, int, int]]
) -> Iterator[tuple[Key, Record]]:
    """The records that lie in quarantine at these places, with their keys; nothing else of quarantine is read."""
    for chapter in about.chapters:
        if not any(v.position * N + v.n in wanted for v in chapter.verdicts):
            continue
        mine = [one for one in chapter.rejected() if one.place in wanted]
        for at in sorted({wanted[one.place][2] for one in mine}):
            some = [one for one in mine if wanted[one.place][2] == at]
            contract = about.history.timeline.by_position(at)[1]
            for n, key in keys(lake, contract, [one.line for one in some]).items():
                origin, place, _ = wanted[some[n].place]
                yield key, (origin, place, False, some[n].reasons)


def _in_quarantine(lake: "Lake", about: _About, said: Mapping[Key, int]) -> dict[Key, Record]:
    """The newest record of each key in quarantine."""
    mine: dict[Key, list[Key]] = {}
    for key in said:
        mine.setdefault(about.short(key), []).append(key)
    out: dict[Key, Record] = {}
    for found, record in _quarantined(lake, about, about.wanted(lambda v, origin: about.may_hold(said, v, origin))):
        for key in mine.get(found, ()):
            if record[0] > max(said[key], out[key][0] if key in out else 0):
                out[key] = record
    return out


def _in_held(lake: "Lake", about: _About, said: Mapping[Key, int]) -> dict[Key, Record]:
    """The newest record of each key in a held batch that nothing newer stands in for."""
    by_contract: dict[int, list[int]] = {}
    for place, at in about.held().items():
        if place > min(said.values()):
            by_contract.setdefault(at, []).append(place)
    out: dict[Key, Record] = {}
    for at, places in by_contract.items():
        lines: list[Lines] = []
        for place in places:
            entry = bronze.read(about.history.files, about.history.dataset, place // N)
            lines += bronze.parts(about.history.files, entry, {place % N: place})
        for key, place in _seen(lake, about.history, at, lines, said).items():
            if place > max(said[key], out[key][0] if key in out else 0):
                out[key] = place, place, True, about.verdicts[place][0].why
    return out


def _replaced(about: _About, place: int) -> bool:
    """Whether the days of a held batch were landed again since, and passed."""
    one = about.verdicts[place][0]
    return any(
        other > place and v.of is None and v.state == "passed" and v.shard == one.shard and v.start <= one.start and one.end <= v.end
        for other, (v, _) in about.verdicts.items()
    )  # fmt: skip


def _seen(
    lake: "Lake", history: History, at: int, lines: Sequence[Lines], keys: Mapping[Key, int]
) -> Mapping[Key, int]:
    """Of keys, the newest place at which lines have a record of it, by the contract of a position."""
    with lake.target.engine.group(history.timeline.by_position(at)[1], lines) as group:
        group.judged()
        return group.seen(list(keys))


def short(contract: Contract, key: tuple[Any, ...]) -> tuple[Any, ...]:
    """A key without what a line by itself does not say of it."""
    return tuple(value for k, value in zip(contract.key, key, strict=True) if k in contract.rest)


def keys(lake: "Lake", contract: Contract, lines: Sequence[bytes]) -> dict[int, tuple[Any, ...]]:
    """The keys (`Contract.rest`) of those lines that have a readable one: each is read as if the key were all that is promised."""
    of_key = tuple(column for column in contract.columns if column.name in contract.key)
    alone = replace(contract, columns=of_key, rules=(), unique=(), known_at=None, sequence=None, partition=None)
    found = lake.target.engine.rows(alone, lines)
    return {n: tuple(one[k] for k in contract.rest) for n, one in enumerate(found) if one}
