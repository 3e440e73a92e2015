"""A second engine, slow and in plain Python: it reads gz lines, judges and folds them by the oracle's words."""

import gzip
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from assay.contract.model import Contract
from assay.contract.tree import Holds, Session, Tree, tree
from assay.ports import (
    CONFLICT,
    Act,
    Counted,
    Folded,
    Layout,
    Lines,
    Observed,
    Parquet,
    Rejected,
    Relation,
    Scope,
)
from tests.laws import oracle, rules, slow_fold
from tests.laws.slow_fold import Key, Said, SlowFold

ENVELOPE = re.compile(rb'\{"_seq":(\d{1,18}),"_n":(\d{1,9}),')


@dataclass
class Line:
    """A line of a wanted batch and what it is."""

    place: int
    seq: int
    raw: bytes
    values: dict[str, Any]
    reasons: set[str]
    warnings: set[str] = field(default_factory=set)
    deletes: bool = False
    repeats: bool = False
    hash: str = ""
    known_at: Any = None

    def said(self, contract: Contract) -> Said:
        """As the fold takes it."""
        op = "q" if self.reasons else "d" if self.deletes else "u"
        told = self.values | {"known_at": self.known_at, "_hash": self.hash}
        return Said(op, slow_fold.key(contract, self.values), self.seq, told)


@dataclass
class SlowGroup:
    """See `assay.ports.Group`."""

    contract: Contract
    lines: list[Line]
    places: list[int]
    _fold: SlowFold | None = None

    def judged(self) -> dict[int, Counted]:
        out = {}
        of: dict[int, list[Line]] = {place: [] for place in self.places}
        for one in self.lines:
            of[one.place].append(one)
        for place, mine in of.items():
            bad = [one for one in mine if one.reasons]
            out[place] = Counted(
                rows=len(mine),
                good=sum(not one.reasons and not one.repeats for one in mine),
                duplicate=sum(one.repeats for one in mine),
                quarantined=len(bad),
                keyless=sum(keyless(self.contract, one) for one in bad),
                reasons=Counter(reason for one in bad for reason in one.reasons),
                warnings=Counter(warning for one in mine for warning in one.warnings),
            )
        return out

    def rejected(self, places: Collection[int]) -> Iterator[Rejected]:
        for one in sorted(self.lines, key=lambda one: (one.place, one.seq)):
            if one.reasons and one.place in places:
                yield Rejected(one.place, one.seq, tuple(sorted(one.reasons)), one.raw)

    def keyed(self, places: Collection[int]) -> Iterator[tuple[int, Line, Key]]:
        """The lines of some batches that have a readable key."""
        for one in self.lines:
            if one.place in places and not (one.reasons and keyless(self.contract, one)):
                yield one.place, one, slow_fold.key(self.contract, one.values)

    def bounds(self, places: Collection[int]) -> dict[int, Scope]:
        keys: dict[int, list[Key]] = {}
        for place, _, key in self.keyed(places):
            keys.setdefault(place, []).append(key)
        return {place: self._box(found) for place, found in keys.items()}

    def boxes(self, places: Collection[int], partition: tuple[str, str] | None) -> list[Scope]:
        told = sorted((slow_fold.partition(partition, one.values), key) for _, one, key in self.keyed(places))
        return [self._box([key for _, key in some]) for _, some in groupby(told, lambda one: one[0])]

    def _box(self, keys: Sequence[Key]) -> Scope:
        columns = zip(*keys, strict=True)
        return {c: (min(told), max(told)) for c, told in zip(self.contract.key, map(list, columns), strict=True)}

    def seen(self, keys: Sequence[Key]) -> dict[Key, int]:
        out: dict[Key, int] = {}
        for place, _, key in self.keyed(self.places):
            if key in keys:
                out[key] = max(out.get(key, -1), place)
        return out

    def fold(self, acts: Sequence[Act], current: Relation, past: Relation, observed: Observed) -> dict[int, Folded]:
        self._fold = SlowFold.of(self.contract, current, past)
        rows: dict[int, list[Said]] = {}
        for place, one, _ in self.keyed([act.place for act in acts]):
            if not one.repeats:
                rows.setdefault(place, []).append(one.said(self.contract))
        return {act.place: self._fold.act(act, rows.get(act.place, []), observed) for act in acts}

    def leaving(self) -> list[str]:
        return self._fold.leaving() if self._fold else []

    def write(self, what: str, layout: Layout, leaving: Relation | None, scratch: Path) -> list[Parquet]:
        assert sorted(leaving.files if leaving else ()) == self.leaving()
        return slow_fold.write(layout, self._fold.rows(what) if self._fold else [], scratch)


class SlowEngine:
    """See `assay.ports.Engine`."""

    @contextmanager
    def group(
        self, contract: Contract, lines: Sequence[Lines], only: Mapping[int, Collection[int]] | None = None
    ) -> Iterator[SlowGroup]:
        promised = tree(contract)
        found = [judge(contract, promised, place, seq, raw) for part in lines for place, seq, raw in of(part)]
        number(contract, found)
        compare(contract, found)
        share(promised, found)
        if only is not None:
            found = [one for one in found if one.place not in only or one.seq in only[one.place]]
        yield SlowGroup(contract, found, sorted({place for part in lines for place in part.batches.values()}))

    def rows(self, contract: Contract, lines: Sequence[bytes]) -> list[dict[str, Any] | None]:
        promised = tree(contract)
        found = [judge(contract, promised, 0, 0, line) for line in lines]
        return [None if o.reasons else o.values | {"known_at": o.known_at, "_hash": o.hash} for o in found]


def of(part: Lines) -> Iterator[tuple[int, int, bytes]]:
    for raw in gzip.decompress(Path(part.url).read_bytes()).split(b"\n"):
        envelope = ENVELOPE.match(raw)
        if envelope and int(envelope[2]) in part.batches and not raw[envelope.end() :].startswith(b'"_op":"erased",'):
            yield part.batches[int(envelope[2])], int(envelope[1]), raw


def judge(contract: Contract, promised: Tree, place: int, seq: int, raw: bytes) -> Line:
    values, reasons = oracle.read(contract, raw)
    line = Line(place, seq, raw, values, reasons)
    line.deletes = bool(values) and oracle.enveloped(raw)[0] == "delete"
    if line.deletes:  # its key alone is read
        line.reasons = {one for one in reasons if one.split(":")[0] in contract.key}
    elif values:
        line.warnings = broken(promised.warnings, values)
        line.reasons = reasons | broken(promised.rules, values)
        if (op := oracle.enveloped(raw)[0]) in ("shard", "window"):
            line.reasons = line.reasons | {f"record:{op}"}
    if not line.reasons:
        line.hash, line.known_at = oracle.digest(contract, values), oracle.known_at(contract, values)
    return line


def broken(promised: Sequence[Holds | Session], values: Mapping[str, Any]) -> set[str]:
    """The rules that are false of a row."""
    return {rule.name for rule in promised if _says(rule, values) is False}


def _says(rule: Holds | Session, values: Mapping[str, Any]) -> Any:
    if isinstance(rule, Session):
        return oracle.session(rule.calendar, values[rule.column])
    return rules.value(rule.expression, values)


def number(contract: Contract, lines: Sequence[Line]) -> None:
    """Count the different records of a batch that share the rest of the key, where the contract has a column for that."""
    nth = next((c.name for c in contract.columns if c.ordinal), None)
    told: dict[Any, list[Any]] = {}
    for one in sorted(lines, key=lambda one: one.seq):
        if nth and not keyless(contract, one):
            rest = (one.place, *(one.values[c] for c in contract.key if c != nth))
            mine = told.setdefault(rest, [])
            what = one.seq if one.reasons or one.deletes else one.hash
            mine += [] if what in mine else [what]
            one.values[nth] = mine.index(what) + 1


def compare(contract: Contract, lines: Sequence[Line]) -> None:
    """Of a batch's good rows of one identity all are conflicts, or all but the first are duplicates."""
    identity = (*contract.key, *([contract.sequence] if contract.sequence else []))
    same: dict[Any, list[Line]] = {}
    for one in sorted(lines, key=lambda one: one.seq):
        if not one.reasons and not one.deletes:
            same.setdefault((one.place, *(one.values[c] for c in identity)), []).append(one)
    for group in same.values():
        if len({one.hash for one in group}) > 1:
            for one in group:
                one.reasons = {CONFLICT}
        else:
            for one in group[1:]:
                one.repeats = True


def share(promised: Tree, lines: Sequence[Line]) -> None:
    """Of a batch's good rows those that share what only one may have are bad."""
    good = [one for one in lines if not (one.reasons or one.repeats or one.deletes)]
    for unique in promised.unique:
        same: dict[Any, list[Line]] = {}
        for one in good:
            told = [one.values[c] for c in unique.columns]
            if None not in told:
                same.setdefault((one.place, *told), []).append(one)
        for group in same.values():
            for one in group if len(group) > 1 else ():
                one.reasons = one.reasons | {unique.name}


def keyless(contract: Contract, line: Line) -> bool:
    """Whether a bad line has no readable key: a value that breaks a rule was read all the same."""
    read = {CONFLICT, *(rule.name for rule in contract.rules), *(one.name for one in contract.unique)}
    bad = {reason.split(":")[0] for reason in line.reasons - read} if line.values else set(contract.key)
    return bool(bad & set(contract.key))
