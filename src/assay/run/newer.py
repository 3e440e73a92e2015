"""What was said of a key later than its row and did not become one: it lies in quarantine, or in a held batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from assay.lake import account, bronze
from assay.lake.account import Judgement
from assay.lake.evidence import Verdict
from assay.lake.files import scratch_directory
from assay.ports import Lines, N
from assay.refine.history import Chapter, History, inside, lines_of
from assay.run import mended

if TYPE_CHECKING:
    from assay.run.lake import Lake

Key = tuple[Any, ...]
TOGETHER = 20


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
    if not said or _nothing_rejected(history):
        return {}
    about = _About.read(history, said)
    found = _in_quarantine(lake, about)
    for key, one in _in_held(lake, about).items():
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
    about = _About.read(history, said)
    repeats = sorted(
        ((v.origin or place, v, by) for place, (v, by) in about.verdicts.items() if v.state == "passed" and v.unchanged),
        key=lambda one: one[0], reverse=True,
    )  # fmt: skip
    out: dict[Key, int] = {}
    waiting = [(origin, v, by) for origin, v, by in repeats if about.may_hold(v, origin)]
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


def _nothing_rejected(history: History) -> bool:
    """Whether the sums of the ledger, if they are of these very evidence, have no row in quarantine and none held."""
    sums = account.of(history.ledger, history.dataset)
    whole = history.span is None or history.span[1] == sums.evidence
    return whole and not sums.sum("quarantined") and not sums.sum("held")


@dataclass(frozen=True)
class _About:
    """What the evidence since the oldest of some keys' rows says.

    `last` are the newest judgements by place, `verdicts` by the place of the judgement, each with the position of the
    contract it was found by; `chapters` what lies beside them.
    """

    history: History
    said: Mapping[Key, int]
    last: Mapping[int, Judgement]
    verdicts: Mapping[int, tuple[Verdict, int]]
    chapters: Sequence[Chapter]

    @classmethod
    def read(cls, history: History, said: Mapping[Key, int]) -> "_About":
        last: dict[int, Judgement] = {}
        verdicts: dict[int, tuple[Verdict, int]] = {}
        chapters = list(history.chapters(min(said.values()) // N))
        for chapter in chapters:
            account.judge(last, chapter.verdicts, chapter.contracts)
            verdicts |= {v.position * N + v.n: (v, account.judged_by(v, chapter.contracts)) for v in chapter.verdicts}
        return cls(history, said, last, verdicts, chapters)

    def may_hold(self, v: Verdict, origin: int) -> bool:
        """Whether rows of a verdict that were said at `origin` may be later ones of a key."""
        contract = self.history.timeline.contract(v.position)[1]
        names = contract.rest
        kinds = {k: contract.column(k).kind for k in names}
        return v.bounds is not None and any(
            at < origin and inside(self.short(key), names, kinds, v.bounds) for key, at in self.said.items()
        )

    def short(self, key: Key) -> Key:
        """A key without what a rejected line does not say of it."""
        contract = self.history.timeline.by_position(self.history.timeline.contracts[-1][0])[1]
        return mended.short(contract, key)


_Found = dict[Key, tuple[int, int, bool, tuple[str, ...]]]
"""By key: where the record was said, the place of its batch, whether that is held, and the reasons."""


def _in_quarantine(lake: "Lake", about: _About) -> _Found:
    """The newest record of each key in quarantine; of quarantine, only what may hold one is read."""
    wanted: dict[int, tuple[int, int, int]] = {}
    for place, one in about.last.items():
        if one.state == "passed" and one.quarantined and place in about.verdicts:
            origin = about.verdicts[place][0].origin or place
            if about.may_hold(about.verdicts[one.judged_at][0], origin):
                wanted[one.judged_at] = origin, place, one.judged_by
    out: _Found = {}
    for chapter in about.chapters:
        if not any(v.position * N + v.n in wanted for v in chapter.verdicts):
            continue
        mine = [one for one in chapter.rejected() if one.place in wanted]
        for at in sorted({wanted[one.place][2] for one in mine}):
            some = [one for one in mine if wanted[one.place][2] == at]
            read = mended.keys(lake, about.history.timeline.by_position(at)[1], [one.line for one in some])
            for key, since in about.said.items():
                for n, short in read.items():
                    origin, place, _ = wanted[some[n].place]
                    if short == about.short(key) and origin > max(since, out.get(key, (0,))[0]):
                        out[key] = origin, place, False, some[n].reasons
    return out


def _in_held(lake: "Lake", about: _About) -> _Found:
    """The newest record of each key in a held batch that nothing newer stands in for."""
    held: dict[int, list[int]] = {}
    for place, one in about.last.items():
        if one.state == "held" and place > min(about.said.values()) and not _replaced(about, place):
            held.setdefault(one.judged_by, []).append(place)
    out: _Found = {}
    for at, places in held.items():
        lines: list[Lines] = []
        for place in places:
            entry = bronze.read(about.history.files, about.history.dataset, place // N)
            lines += bronze.parts(about.history.files, entry, {place % N: place})
        for key, place in _seen(lake, about.history, at, lines, about.said).items():
            if place > max(about.said[key], out.get(key, (0,))[0]):
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
