"""Erasure: the rows of a subject leave every zone of a lake."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from ulid import ULID

from assay.contract.model import Column, Contract
from assay.errors import AssayError, LakeBusy, UsageError
from assay.lake import bronze, erasures, silver
from assay.lake.bronze import Decision, Entry, Erased, Part
from assay.lake.erasures import Journal, Overlaid
from assay.lake.files import scratch_directory
from assay.lake.landing import PART
from assay.lake.release import Column as Shown
from assay.lake.silver import Pair
from assay.ports import Files, N
from assay.refine.history import Timeline, hand_line
from assay.run import hand, prove, search
from assay.run.explain import render
from assay.serve import query
from assay.spoken import is_text, some
from assay.sqltypes import SqlType

if TYPE_CHECKING:
    from assay.run.lake import Lake

TOGETHER = 5_000
"""Lines whose values are computed at once."""
SHOWN = 10
Key = tuple[str, ...]
"""A key's values as texts."""


class _At(NamedTuple):
    """Where a line stands: its number in a part of an entry, or the n of a decision, which is of no part."""

    position: int
    part: int | None
    number: int


@dataclass
class Found:
    """What an erasure takes: lines by position, part and number; acts of decisions by position; answers by position and n, of
    which so many were `kept` as they came.

    `keys` are the subject's, as texts; `places` are (position, n, seq) of all of them, as silver's rows name them.
    """

    dataset: str
    column: str
    keys: set[Key] = field(default_factory=set)
    lines: dict[int, dict[int, list[int]]] = field(default_factory=dict)
    acts: dict[int, set[int]] = field(default_factory=dict)
    answers: dict[int, set[int]] = field(default_factory=dict)
    kept: int = 0
    places: set[tuple[int, int, int]] = field(default_factory=set)
    others: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Lines of bronze."""
        return sum(len(hit) for parts in self.lines.values() for hit in parts.values())

    @property
    def data(self) -> dict[str, Any]:
        """It as plain values."""
        return {
            "dataset": self.dataset, "column": self.column, "keys": len(self.keys), "lines": self.rows,
            "by_hand": sum(map(len, self.acts.values())), "answers": self.kept,
            "entries": len(self.lines.keys() | self.acts.keys() | self.answers.keys()), "others": list(self.others),
        }  # fmt: skip

    @property
    def told(self) -> str:
        """It as a line."""
        of = self.data
        more = [
            some(of[name], what)
            for name, what in (("by_hand", "record by hand"), ("answers", "kept answer"))
            if of[name]
        ]
        return f"{self.dataset}: {', '.join([some(of['keys'], 'key'), some(of['lines'], 'line'), *more])} in {some(of['entries'], 'position')} of the log"


def erase(
    lake: "Lake", dataset: str, column: str, value: str, who: str, why: str, *, dry: bool, although: bool
) -> Found:  # fmt: skip
    """See `Lake.erase`."""
    files, contract = lake.target.files, lake.contract(dataset)
    if erasures.begun(files):
        raise UsageError(f"an erasure has begun here and did not end: `assay decide erase {dataset} --resume` first")
    _sensible(contract, column, value, who, why)
    use = lake.target.use
    if use is None:
        raise UsageError(f"rows cannot be erased on the target {lake.target.name}")
    with use.alone():
        pair, _ = hand.ready(lake, contract)
        found = _Subject(lake, contract, column, value).found()
        if dry:
            return found
        erasures.discard(files)
        with _undone(files):
            journal = _staged(lake, contract, found, value, who, why)
            found.others = _others(lake, contract, pair, found)
            if found.others and not although:
                raise UsageError(
                    f"without these lines, rows of others would be other ones than today: {'; '.join(found.others[:SHOWN])}. Nothing was "
                    "erased; --although-others-change does it all the same"
                )
            _made_anew(lake, dataset)
        erasures.ready(files, journal)
        _finish(lake, journal)
    return found


def _made_anew(lake: "Lake", dataset: str) -> None:
    """UsageError for a dataset whose silver bronze would not give again: all of it is to go."""
    wrong = [
        f"{other}: this checkout has no contract of it"
        for other in sorted({name.split("/")[1] for name in lake.target.files.names("bronze/")} - lake.contracts.keys())
        if not other.startswith("_")
    ]
    for other in lake.contracts:
        if other != dataset:
            try:
                prove.rebuild(lake, [other])
            except AssayError as error:
                wrong.append(f"{other}: {error}")
    if wrong:
        raise UsageError("nothing was erased, since all silver is made anew then, and bronze does not give it", *wrong)


@contextmanager
def _undone(files: Files) -> Iterator[None]:
    """What the block staged is taken away if it does not end well."""
    try:
        yield
    except BaseException:
        erasures.discard(files)
        raise


def resume(lake: "Lake", dataset: str) -> None:
    """Go on with an erasure that was stopped; UsageError if there is none."""
    journal = erasures.begun(lake.target.files)
    if journal is None or journal.dataset != dataset or lake.target.use is None:
        raise UsageError(f"no erasure of {dataset} has begun and not ended")
    with lake.target.use.alone():
        _finish(lake, journal)


def _finish(lake: "Lake", journal: Journal) -> None:
    assert lake.target.use  # noqa: S101 - it was asked for
    lake.target.settle()
    try:
        erasures.finish(lake.target.files, journal, lake.target.use.forget)
    except AssayError as error:
        on = f"the erasure has begun: mend that, and `assay decide erase {journal.dataset} --resume` goes on with it"
        raise type(error)(*error.args, on) from error


def _sensible(contract: Contract, column: str, value: str, who: str, why: str) -> None:
    if column not in (one.name for one in contract.columns):
        raise UsageError(
            f"{contract.dataset} has no column {column!r}; it has {', '.join(c.name for c in contract.columns)}"
        )
    if not value.strip() or not is_text(value):
        raise UsageError(f"say whose rows are erased: {column}=VALUE, a text in UTF-8")
    if not who.strip() or not why.strip():
        raise UsageError("a decision says who decided, and why")
    if not is_text(who) or not is_text(why) or len(who) + len(why) > bronze.LONGEST:
        raise UsageError(f"who decided and why are texts in UTF-8, of {bronze.LONGEST:,} characters together at most")
    if _stands(value, why) or _stands(value, who):
        raise UsageError("who decided and why stay in the log: say them without the value that is erased")


def _stands(value: str, text: str) -> bool:
    """Whether a text holds the value as words of its own."""
    return re.search(rf"(?<!\w)(?<!\d[.]){re.escape(value.strip())}(?!\w|[.]\d)", text, re.IGNORECASE) is not None


# ------------------------------------------------------------------ what is the subject's


class _Subject:
    """Whose rows are erased: all lines of the keys that a line with the value has, and lines that have it and no key."""

    def __init__(self, lake: "Lake", contract: Contract, column: str, value: str) -> None:
        self._files, self._engine, self._contract = lake.target.files, lake.target.engine, contract
        self._column, self._text = contract.column(column), value.strip()
        self._raw = search.spelt(value)
        self._value = _value(self._column, self._text)
        self._lost = bronze.lost(lake.target.files, lake.target.ledger, contract.dataset)
        self._keyed = not any(contract.column(k).ordinal for k in contract.key)
        self._keys: set[Key] = set()
        self._rejected = False

    def found(self) -> Found:
        """All of it. UsageError where there is nothing, or it is what the source is asked for."""
        dataset, out = self._contract.dataset, Found(self._contract.dataset, self._column.name)
        for entry, _ in bronze.since(self._files, dataset, 0):
            self._asked_for(entry)
        for _, line, row in self._rows():
            self._learn(line, row)
        acts: dict[tuple[int, int], tuple[int, int]] = {}
        seqs: dict[tuple[int, int], set[int]] = defaultdict(set)
        for at, line, row in self._rows():
            if not self._is_of(line, row):
                continue
            if at.part is None:
                out.acts.setdefault(at.position, set()).add(at.number)
                seqs[at.position, at.number].add(0)
            else:
                out.lines.setdefault(at.position, {}).setdefault(at.part, []).append(at.number)
                n, seq = _numbers(line)
                seqs[at.position, n].add(seq)
        for entry, _ in bronze.since(self._files, dataset, 0):
            for n, one in enumerate(entry.decisions):
                if one.batch:
                    acts[entry.position, n] = one.batch
            if answers := self._answers(entry, {n for (position, n) in seqs if position == entry.position}):
                out.answers[entry.position] = answers
                out.kept += sum(bool(asked.raw) for b in entry.batches if b.n in answers for asked in b.requests)
        if not (out.lines or out.acts or out.answers):
            raise UsageError(f"nothing in the log of {dataset} has this {self._column.name}")
        out.keys = self._keys
        out.places = {(*place, seq) for place, those in seqs.items() for seq in those}
        out.places |= {(*act, seq) for act, batch in acts.items() for seq in seqs.get(batch, ())}
        return out

    def _asked_for(self, entry: Entry) -> None:
        for batch in entry.batches:
            asked = [text for one in batch.requests for text in one.params.values()]
            if any(_stands(self._text, text) for text in (batch.shard, batch.cursor or "", *asked)):
                raise UsageError(
                    f"the source of {self._contract.dataset} is asked by this {self._column.name}: it names shards of the log, which cannot be "
                    "erased from; take it out of the universe and `assay decide exclude` its batches"
                )

    def _lines(self) -> Iterator[tuple[_At, bytes]]:
        """All lines of the log that are to be read, and those that decisions are."""
        for entry, _ in bronze.since(self._files, self._contract.dataset, 0):
            gone = self._gone(entry)
            for part, one in enumerate(entry.parts):
                if one.name not in gone:
                    for number, line in enumerate(bronze.inflated(self._files, one).split(b"\n")[:-1]):
                        yield _At(entry.position, part, number), line
            for n, act in enumerate(entry.decisions):
                if act.kind in ("upsert", "delete"):
                    yield _At(entry.position, None, n), hand_line(act, n)

    def _gone(self, entry: Entry) -> set[str]:
        """The objects of an entry that were declared lost: nobody reads them."""
        return self._lost[1] | bronze.only_of(entry, self._lost[0])

    def _rows(self) -> Iterator[tuple[_At, bytes, Mapping[str, Any] | None]]:
        """All lines with their values, which an engine computes of many lines in little more time than of one."""
        lines = self._lines()
        while those := list(_some(lines)):
            rows = self._engine.rows(self._contract, [line for _, line in those])
            yield from ((at, line, row) for (at, line), row in zip(those, rows, strict=True))

    def _answers(self, entry: Entry, touched: Collection[int]) -> set[int]:
        """The batches whose answers are not to be kept: of lines that are erased or lost, or the answer itself has the value."""
        gone = self._gone(entry)
        lost = {b.n for b in entry.batches if any(entry.parts[part].name in gone for part, _, _ in b.pieces)}
        out = {b.n for b in entry.batches if b.n in touched or (b.n in lost and any(a.sha256 for a in b.requests))}
        for batch in entry.batches:
            for raw in (asked.raw for asked in batch.requests if asked.raw):
                if batch.n not in out and (
                    raw.name in gone or self._raw.search(search.plain(bronze.inflated(self._files, raw)))
                ):
                    out.add(batch.n)
        return out

    def _has(self, line: bytes, row: Mapping[str, Any] | None) -> bool:
        """Whether a line has the value in the column; one that is no JSON, anywhere."""
        if row is not None and _bare(row[self._column.name]) == self._value:
            return True
        record = _record(line)
        if row is None and record is None:
            return self._raw.search(search.plain(line)) is not None
        return row is None and any(self._text == text for path in self._column.origins for text in _texts(record, path))

    def _learn(self, line: bytes, row: Mapping[str, Any] | None) -> None:
        if not self._keyed or erasures.is_tombstone(line) or not self._has(line, row):
            return
        if row is not None:
            self._keys.add(self._key(row))
        elif said := self._said(line):  # a contract before this one may have let it in
            self._keys.add(said)
            self._rejected = True

    def _is_of(self, line: bytes, row: Mapping[str, Any] | None) -> bool:
        if erasures.is_tombstone(line):
            return False
        if self._has(line, row) or (self._keyed and row is not None and self._key(row) in self._keys):
            return True
        return (row is None or self._rejected) and self._said(line) in self._keys

    def _key(self, row: Mapping[str, Any]) -> Key:
        return tuple(render(row[k]) or "" for k in self._contract.key)

    def _said(self, line: bytes) -> Key:
        """The key of a line as its record spells it; empty if it does not spell all of it."""
        record = _record(line)
        columns = (self._contract.column(k).origins for k in self._contract.key)
        key = [next((text for path in origins for text in _texts(record, path)), None) for origins in columns]
        return () if None in key else tuple(str(one) for one in key)


def _some(lines: Iterator[tuple[_At, bytes]]) -> Iterator[tuple[_At, bytes]]:
    """The next of them: as many as are computed at once, and no more bytes than a part may hold, but for the last line."""
    size = 0
    for at, line in islice(lines, TOGETHER):
        yield at, line
        size += len(line)
        if size >= PART:
            return


def _value(column: Column, text: str) -> Any:
    """A text as a value of the column, exactly; UsageError says what is expected."""
    kind = SqlType.parse(column.type)
    if kind.timed and not kind.zoned and text.upper().endswith("Z"):
        raise UsageError(f"{column.name} is a time of no zone: say it without one")
    try:
        return query.value(Shown(column.name, column.type), text)
    except query.Problem as error:
        raise UsageError(error.detail) from None


def _bare(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _numbers(line: bytes) -> tuple[int, int]:
    """The n and seq that a line says of itself."""
    head = json.loads(line[: line.index(b",", line.index(b',"_n":') + 1)] + b"}")
    return head["_n"], head["_seq"]


def _record(line: bytes) -> Any:
    """The record of a line, objects as pairs and numbers as they are spelt; None if it is no JSON object."""
    try:
        found = json.loads(
            line.split(b'"_record":', 1)[1][:-1],
            object_pairs_hook=_Pairs,
            parse_int=str,
            parse_float=str,
            parse_constant=str,
        )
    except (ValueError, RecursionError, IndexError):
        return None
    return found if isinstance(found, _Pairs) else None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its names, equal ones too."""


def _texts(record: Any, path: Sequence[str]) -> Iterator[str]:
    """All that a record says at a path, as texts."""
    if path:
        for name, value in record if isinstance(record, _Pairs) else ():
            if name == path[0]:
                yield from _texts(value, path[1:])
    elif isinstance(record, str | bool):
        yield str(record).lower() if isinstance(record, bool) else record.strip()


# ------------------------------------------------------------------ the log as it will be


def _staged(lake: "Lake", contract: Contract, found: Found, value: str, who: str, why: str) -> Journal:
    """Lay down all parts and entries that are other ones then, each naming the one before, and the decision as the last."""
    files, dataset = lake.target.files, contract.dataset
    timeline = Timeline.read(files, lake.target.ledger, dataset)
    positions: list[int] = []
    gone: set[str] = set()
    kept: set[str] = set()
    lost, unread = bronze.lost(
        files, lake.target.ledger, dataset
    )  # what lost objects still hold is looked at by nobody
    acts: list[Decision] = []
    tail = bronze.NONE
    for entry, its in bronze.since(files, dataset, 0):
        position = entry.position
        parts: dict[int, Part] = {}
        for number, hit in found.lines.get(position, {}).items():
            parts[number], stored = erasures.buried(files, entry.parts[number], hit)
            if not files.put_new(parts[number].name, stored, "erase.part"):
                raise LakeBusy(f"{parts[number].name} holds something else already")
        erased = _erased(lake, timeline, entry, found.lines.get(position, {}))
        acts += [Decision("erase", batch=(position, n)) for n in erased]
        who_was, why_was = ("erased" if _stands(value, text) else text for text in (entry.who, entry.why))
        new = erasures.rewritten(
            entry, tail.sha256, parts, erased, found.answers.get(position, set()), found.acts.get(position, set()), who_was, why_was
        )  # fmt: skip
        gone |= {one.name for one in bronze.objects(entry)}
        unread |= bronze.only_of(entry, lost)
        kept |= {one.name for one in bronze.objects(new)}
        if new == entry:
            tail = tail.then(entry, its)
        else:
            positions.append(position)
            tail = tail.then(new, erasures.stage(files, new))
    said = bronze.draft("decided", decisions=tuple(acts) or (Decision("erase"),), who=who, why=why, format=3)
    decision = bronze.placed(said, dataset, tail, str(ULID()))
    erasures.stage(files, decision)
    return Journal(dataset, (*positions, decision.position), tuple(sorted((gone - kept) | unread)))


def _erased(lake: "Lake", timeline: Timeline, entry: Entry, parts: Mapping[int, Sequence[int]]) -> dict[int, Erased]:
    """What is erased of each batch by n, as its lines stand in the gate now."""
    files, seqs = lake.target.files, defaultdict[int, set[int]](set)
    numbers = {batch.n for batch in entry.batches}
    for part, hit in parts.items():
        lines = bronze.inflated(files, entry.parts[part]).split(b"\n")
        for n, seq in (_numbers(lines[number]) for number in hit):
            if n in numbers:
                seqs[n].add(seq)
    if not seqs:
        return {}
    contract = timeline.contract(entry.position)[1]
    wanted = {n: entry.position * N + n for n in seqs}
    only = {wanted[n]: those for n, those in seqs.items()}
    with lake.target.engine.group(contract, bronze.parts(files, entry, wanted), only) as group:
        counted = group.judged()
    return {n: bronze.batch_of(entry, n).erased.plus(counted[wanted[n]]) for n in sorted(seqs)}


def _others(lake: "Lake", contract: Contract, pair: Pair, found: Found) -> list[str]:
    """The rows of others that would be other ones: silver as the log gives it now, against what the staged log gives."""
    from assay.refine import anew

    t, head = lake.target, silver.head(pair.current)
    out: list[str] = []
    with scratch_directory(t.files) as scratch:
        draft = anew(
            contract.dataset, pair, head.position, scratch, files=Overlaid(t.files), catalog=t.catalog, ledger=t.ledger,
            engine=t.engine,
        )  # fmt: skip
        made = (draft.current([]), draft.past([]))
        with prove.opened(lake) as con:
            for is_now, will_be in zip(prove.relations(lake, pair), made, strict=True):
                columns, less, more, _ = prove.differs(con, is_now, will_be)
                at = [columns.index(c) for c in ("_position", "_n", "_seq")]
                changed = [row for row in less if tuple(row[i] for i in at) not in found.places] + more
                out += [", ".join(f"{k}={render(row[columns.index(k)])}" for k in contract.key) for row in changed]
    return list(dict.fromkeys(out))
